"""Recordings brought to the disk: streamed, bounded in bytes and time, resumed where the line was cut.

What a URL of the web leads to is guarded as deliveries are: the address that was looked at is the one that is
connected to. Redirects are followed, each as guarded as the first.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urljoin

import httpcore

from live_asr.core.errors import ClientError, LiveAsrError
from live_asr.delivery.post import ForbiddenTarget, Target, tls_context
from live_asr.jobs.places import OnDisk, OnTheWeb, Place, Stored
from live_asr.storage.files import check_room, storage_error

log = logging.getLogger(__name__)

PIECE_BYTES = 1024 * 1024
CHECK_BYTES = 32 * 1024 * 1024
"""After so much it is looked whether the disk has room for more."""
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 30.0
"""Seconds until a host answers, and between two pieces of its answer."""
MAX_CUTS = 5
"""So often in a row a line may be cut before anything has come over it."""
MAX_PAUSE = 10.0
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of hosts that may do better in a moment."""
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
CUTS = (TimeoutError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


class Unfetched(LiveAsrError):
    """A recording could not be brought, and another try may bring it."""

    code = "download"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a download may take."""

    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """A recording on the disk."""

    path: Path
    name: str
    size_bytes: int
    digest: str
    """SHA-256 in hex of what it holds."""


class _Cut(Exception):
    """The line was cut; what is there is kept."""


class Sink:
    """The file that a recording goes to, with its length and its digest so far. Methods block."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._checked_bytes = -CHECK_BYTES
        self.size_bytes = 0
        self.stopped = threading.Event()
        """Set where nobody wants the rest any more: whatever thread writes ends."""

    def __enter__(self) -> Self:
        """Open the file. Raises StorageError."""
        try:
            self._file = self._path.open("wb")
        except OSError as error:
            raise storage_error(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.stopped.set()
        if self._file is not None:
            self._file.close()

    @property
    def digest(self) -> str:
        """SHA-256 in hex of all so far."""
        return self._hash.hexdigest()

    def write(self, piece: bytes) -> None:
        """Add a piece. Raises ClientError `too_large`, StorageError, and _Cut where it is not wanted."""
        if self.stopped.is_set():
            raise _Cut
        self.expect(self.size_bytes + len(piece))
        assert self._file is not None
        try:
            if self.size_bytes >= self._checked_bytes + CHECK_BYTES:
                self._checked_bytes = self.size_bytes
                check_room(self._path.parent, CHECK_BYTES)
            self._file.write(piece)
        except OSError as error:
            raise storage_error(error) from error
        self._hash.update(piece)
        self.size_bytes += len(piece)

    def expect(self, total_bytes: int) -> None:
        """Refuse what is going to be too large. Raises ClientError `too_large`."""
        if total_bytes > self._most_bytes:
            raise ClientError(
                "too_large",
                f"The recording is larger than {self._most_bytes} bytes.",
                "Send a compressed one; the operator can allow more by jobs.max_bytes.",
            )

    def begin_again(self) -> None:
        """Forget all so far. Raises StorageError."""
        assert self._file is not None
        try:
            self._file.seek(0)
            self._file.truncate()
        except OSError as error:
            raise storage_error(error) from error
        self._hash = hashlib.sha256()
        self.size_bytes = 0


class Downloader:
    """Brings recordings from wherever they are.

    `s3` is boto3's client of S3, None where there is none; its calls block and run in `threads`. `network` is
    guarded; without `tls` the usual authorities are trusted.
    """

    def __init__(
        self,
        bounds: Bounds,
        *,
        network: httpcore.AsyncNetworkBackend,
        tls: ssl.SSLContext | None = None,
        s3: Any | None = None,
        threads: Executor | None = None,
        pause: float = 1.0,
    ) -> None:
        self._bounds = bounds
        self._network = network
        self._tls = tls
        self._s3 = s3
        self._threads = threads
        self._pause = pause

    async def bring(self, place: Place, target: Path) -> Fetched:
        """Bring a recording to a file, from its first byte to its last.

        Raises ClientError `too_large`, `not_found`, `denied`, `too_slow` or `remote_content`,
        ForbiddenTarget, StorageError, and Unfetched where another try may succeed. A cancelled call stops the
        work.
        """
        with Sink(target, self._bounds.bytes) as sink:
            try:
                async with asyncio.timeout(self._bounds.seconds):
                    await self._bring(place, sink)
            except TimeoutError:
                raise ClientError(
                    "too_slow",
                    f"The recording was not there after {self._bounds.seconds:.0f} s: "
                    f"{sink.size_bytes} bytes "
                    "had come.",
                    "The operator can allow more by jobs.download_timeout.",
                ) from None
            return Fetched(target, place.name, sink.size_bytes, sink.digest)

    async def _bring(self, place: Place, sink: Sink) -> None:
        if isinstance(place, OnDisk):
            await asyncio.to_thread(_copy, place.path, sink)
            return
        if self._tls is None:
            self._tls = await asyncio.to_thread(tls_context)
        cuts, source = 0, self._source_of(place, self._tls)
        while True:
            before = sink.size_bytes
            try:
                if await source.pull(sink):
                    return
            except Unfetched as error:
                cuts = 0 if sink.size_bytes > before else cuts + 1
                if cuts >= MAX_CUTS:
                    raise
                log.info("%s was cut after %d bytes: %s", place.name, sink.size_bytes, error.message)
                await asyncio.sleep(min(self._pause * 2 ** max(0, cuts - 1), MAX_PAUSE))

    def _source_of(self, place: OnTheWeb | Stored, tls: ssl.SSLContext) -> _Web | _S3:
        if isinstance(place, OnTheWeb):
            return _Web(place.url, self._network, tls)
        if place.url is not None and (place.is_presigned or self._s3 is None):
            return _Web(place.url, self._network, tls)
        if self._s3 is None:
            raise ClientError(
                "forbidden_target",
                "Nothing is read from S3 by its name here.",
                "Use an https URL, a presigned one perhaps.",
            )
        return _S3(place, self._s3, self._threads)


def _copy(path: Path, sink: Sink) -> None:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                sink.write(piece)
    except FileNotFoundError:
        raise ClientError("not_found", "There is no such file.") from None
    except OSError as error:
        raise ClientError("denied", f"The file cannot be read: {error.strerror or error}.") from error


class _Web:
    """A file of the web, from where the last answer was cut."""

    def __init__(self, url: str, network: httpcore.AsyncNetworkBackend, tls: ssl.SSLContext) -> None:
        self._url = url
        self._network = network
        self._tls = tls
        self._state: str | None = None
        """What names the state of the file that the first bytes came of: its ETag, else its date."""

    async def pull(self, sink: Sink) -> bool:
        """Take what there is into the sink; return True.

        Raises Unfetched where the line is cut before that.
        """
        url = self._url
        for _ in range(MAX_REDIRECTS):
            elsewhere = await self._get(url, sink)
            if elsewhere is None:
                return True
            try:
                url = urljoin(url, elsewhere)
            except ValueError:  # an unclosed bracket
                raise _refused("redirects to what is no URL") from None
            if not url.startswith("https://") and self._url.startswith("https://"):
                raise ForbiddenTarget("The recording's host redirects to what is not https.")
        raise _refused("redirects without end")

    async def _get(self, url: str, sink: Sink) -> str | None:
        """Ask once; return where else to ask, None where all of it has come."""
        target = Target.of(url)
        headers = {"Host": target.host, "Connection": "close", "Accept": "*/*", "Accept-Encoding": "identity"}
        if target.authorization is not None:
            headers["Authorization"] = target.authorization
        if sink.size_bytes and self._state is not None:
            headers |= {"Range": f"bytes={sink.size_bytes}-", "If-Range": self._state}
        timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT}
        request = httpcore.Request(
            "GET", target.url, headers=list(headers.items()), extensions={"timeout": timeouts}
        )
        try:
            async with httpcore.AsyncHTTPConnection(
                target.url.origin, ssl_context=self._tls, network_backend=self._network
            ) as connection:
                response = await connection.handle_async_request(request)
                try:
                    return await self._take(response, sink)
                finally:
                    await response.aclose()
        except CUTS as error:
            raise Unfetched(f"The host of the recording broke off: {type(error).__name__}.") from error

    async def _take(self, response: httpcore.Response, sink: Sink) -> str | None:
        found = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        status = response.status
        if status in REDIRECTS and "location" in found:
            return found["location"]
        if status in PASSING:
            raise Unfetched(f"The host of the recording answered {status}.")
        if status == 416 and sink.size_bytes and found.get("content-range") == f"bytes */{sink.size_bytes}":
            return None  # all of it had come when the line was cut
        if status not in (200, 206):
            code = {404: "not_found", 410: "not_found", 401: "denied", 403: "denied"}.get(status)
            raise _refused(f"answered {status}", code or "remote_content")
        begins, total = 0, None
        if status == 206:
            told = CONTENT_RANGE.fullmatch(found.get("content-range", ""))
            if told is None or int(told[1]) != sink.size_bytes:
                raise _refused("answered another part than was asked for")
            begins = sink.size_bytes
            total = int(told[2]) if told[2].isdecimal() else None
        elif sink.size_bytes:  # it has changed, or the host knows no parts
            await asyncio.to_thread(sink.begin_again)
        self._state = _state_of(found)
        length = found.get("content-length", "")
        if total is None and length.isdecimal():
            total = begins + int(length)
        if total is not None:
            sink.expect(total)
        pieces, size_bytes = [], 0
        try:
            async for piece in response.aiter_stream():
                pieces.append(piece)
                size_bytes += len(piece)
                if size_bytes >= PIECE_BYTES:
                    await asyncio.to_thread(sink.write, b"".join(pieces))
                    pieces, size_bytes = [], 0
        except CUTS:
            await asyncio.to_thread(sink.write, b"".join(pieces))  # what has come need not come again
            raise
        await asyncio.to_thread(sink.write, b"".join(pieces))
        if total is not None and sink.size_bytes != total:
            raise Unfetched(f"The host of the recording gave {sink.size_bytes} of {total} bytes.")
        return None


def _state_of(headers: Mapping[str, str]) -> str | None:
    tag = headers.get("etag")
    if tag is not None and not tag.startswith("W/"):
        return tag
    return headers.get("last-modified")


class _S3:
    """A file in S3, from where the last answer was cut."""

    def __init__(self, place: Stored, s3: Any, threads: Executor | None) -> None:
        self._place = place
        self._s3 = s3
        self._threads = threads
        self._tag: str | None = None

    async def pull(self, sink: Sink) -> bool:
        """Take what there is into the sink; return True.

        Raises Unfetched where the line is cut before that.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._pull, sink)
        except asyncio.CancelledError:
            sink.stopped.set()
            raise
        return True

    def _pull(self, sink: Sink) -> None:
        from botocore.exceptions import BotoCoreError
        from botocore.exceptions import ClientError as AnsweredError

        asked: dict[str, str] = {"Bucket": self._place.bucket, "Key": self._place.key}
        if self._place.version is not None:
            asked["VersionId"] = self._place.version
        if sink.size_bytes and self._tag is not None:
            asked |= {"Range": f"bytes={sink.size_bytes}-", "IfMatch": self._tag}
        try:
            answer = self._s3.get_object(**asked)
            self._tag = answer.get("ETag")
            sink.expect(sink.size_bytes + int(answer.get("ContentLength") or 0))
            with answer["Body"] as body:
                while piece := body.read(PIECE_BYTES):
                    sink.write(piece)
        except AnsweredError as error:
            self._explain(error, sink)
        except (BotoCoreError, OSError) as error:  # a connection that breaks, an answer that ends too early
            if isinstance(error, BotoCoreError) and type(error).__name__ in NO_RIGHTS:
                raise ClientError("denied", f"There are no credentials for S3: {error}") from error
            raise Unfetched(f"S3 broke off: {type(error).__name__}.") from error

    def _explain(self, error: Any, sink: Sink) -> None:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        code = str(error.response.get("Error", {}).get("Code", ""))
        if status == 412:  # another file lies there by now
            sink.begin_again()
            self._tag = None
            raise Unfetched("The file in S3 has changed meanwhile.") from error
        if status == 416 and sink.size_bytes:
            return  # all of it had come when the line was cut
        if status == 404 or code in ("NoSuchKey", "NoSuchBucket", "NoSuchVersion", "404"):
            raise ClientError(
                "not_found", f"S3 has no {self._place.key!r} in {self._place.bucket!r}.", "Check `audioUrl`."
            ) from error
        if status in (401, 403):
            raise ClientError(
                "denied",
                f"S3 does not let the worker read {self._place.key!r} in {self._place.bucket!r}: {code}.",
                "Allow s3:GetObject; without s3:ListBucket a file that is missing looks like this, too.",
            ) from error
        if status in (301, 400) and code in ("PermanentRedirect", "InvalidObjectState", "InvalidBucketName"):
            raise ClientError("denied", f"S3 does not give the file: {code}.") from error
        raise Unfetched(f"S3 answered {status}: {code}.") from error


NO_RIGHTS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError")


def _refused(fault: str, code: str = "remote_content") -> ClientError:
    return ClientError(
        code, f"The host of the recording {fault}.", "Give a URL that answers with the file itself."
    )


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in numbers. Raises OSError where there are none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
