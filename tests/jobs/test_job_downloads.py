"""Downloads over real sockets: cut, resumed, bounded, and guarded."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from benchmarks.aws import BUCKET, Aws
from live_asr.core.errors import ClientError, LiveAsrError
from live_asr.delivery.addresses import guard
from live_asr.delivery.post import ForbiddenTarget, GuardedNetwork
from live_asr.jobs.downloads import MAX_CUTS, Bounds, Downloader, Fetched, Unfetched, resolve
from live_asr.jobs.places import OnDisk, OnTheWeb, Stored

CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Host:
    """A host that gives a file, cut after so many bytes of each answer, and knows parts or does not."""

    cuts: list[int] = field(default_factory=list)
    content: bytes = CONTENT
    knows_parts: bool = True
    tags: list[str] = field(default_factory=lambda: ['"a"'])
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    hangs: Event | None = None
    largest_part: int = len(CONTENT)
    """Bytes of one answer to who asks for the rest."""
    ends_badly: bool = False
    """Whether its answer of unknown length lacks the end alone."""
    asked: list[str | None] = field(default_factory=list)
    port: int = 0

    @property
    def place(self) -> OnTheWeb:
        """Where its file is."""
        return OnTheWeb(f"http://127.0.0.1:{self.port}/talk.mp3?secret=1")


@contextmanager
def hosting(host: Host) -> Iterator[Host]:
    """Listen for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            host.asked.append(asked)
            tag = host.tags.pop(0) if len(host.tags) > 1 else host.tags[0]
            status = host.statuses.pop(0) if host.statuses else 200
            if status != 200:
                self.send_response(status)
                if host.location:
                    self.send_header("Location", host.location)
                self.end_headers()
                return
            begins, ends = 0, len(host.content)
            if asked and host.knows_parts and self.headers.get("If-Range") == tag:
                found = re.fullmatch(r"bytes=(\d+)-", asked)
                assert found is not None
                begins = int(found[1])
                if begins == len(host.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{begins}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                ends = min(len(host.content), begins + host.largest_part)
                last = ends - 1
                self.send_header("Content-Range", f"bytes {begins}-{last}/{len(host.content)}")
            else:
                self.send_response(200)
            self.send_header("ETag", tag)
            if host.ends_badly:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(host.content), host.content))
                return
            self.send_header("Content-Length", str(ends - begins))
            self.end_headers()
            cut = host.cuts.pop(0) if host.cuts else len(host.content)
            self.wfile.write(host.content[begins : min(ends, begins + cut)])
            if host.hangs is not None:
                host.hangs.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.port = server.server_address[1]
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()


def downloader(
    *, most_bytes: int = 10**8, seconds: float = 60, allow_private: bool = True, **more: object
) -> Downloader:
    network = GuardedNetwork(resolve, why_not=guard(allow_private=allow_private))
    return Downloader(Bounds(most_bytes, seconds), network=network, pause=0.01, **more)  # type: ignore[arg-type]


async def brought(host: Host, folder: Path, **bounds: object) -> Fetched:
    return await downloader(**bounds).bring(host.place, folder / "recording")  # type: ignore[arg-type]


async def refused(host: Host, folder: Path, **bounds: object) -> LiveAsrError:
    with pytest.raises(LiveAsrError) as caught:
        await brought(host, folder, **bounds)
    return caught.value


async def test_a_cut_line_is_taken_up_where_it_was_cut(tmp_path: Path) -> None:
    with hosting(Host(cuts=[1_000_000, 2_000_000])) as host:
        found = await brought(host, tmp_path)
    assert (found.size_bytes, found.digest, found.name) == (len(CONTENT), DIGEST, "talk.mp3")
    assert found.path.read_bytes() == CONTENT
    first, second, third = host.asked
    assert first is None and second is not None and third is not None
    begins = [int(part.removeprefix("bytes=").removesuffix("-")) for part in (second, third)]
    assert 0 < begins[0] <= 1_000_000 and begins[0] < begins[1] <= 3_000_000


async def test_a_host_that_gives_less_than_the_rest_is_asked_for_what_lacks(tmp_path: Path) -> None:
    with hosting(Host(cuts=[1_000_000], largest_part=2_500_000)) as host:
        found = await brought(host, tmp_path)
    assert (found.size_bytes, found.digest) == (len(CONTENT), DIGEST)
    assert len(host.asked) == 3


async def test_a_line_that_is_cut_after_the_last_byte_is_no_fault(tmp_path: Path) -> None:
    with hosting(Host(ends_badly=True)) as host:
        found = await brought(host, tmp_path)
    assert (found.size_bytes, found.digest) == (len(CONTENT), DIGEST)
    assert host.asked == [None, f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize(
    "host",
    [Host(cuts=[3_000_000], knows_parts=False), Host(cuts=[3_000_000], tags=['"a"', '"b"'])],
    ids=["knows no parts", "has changed"],
)
async def test_a_file_of_which_no_part_is_to_be_had_is_brought_from_its_beginning(
    host: Host, tmp_path: Path
) -> None:
    with hosting(host):
        found = await brought(host, tmp_path)
    assert (found.size_bytes, found.digest) == (len(CONTENT), DIGEST)
    assert found.path.read_bytes() == CONTENT


async def test_a_host_that_has_trouble_is_asked_again_and_not_for_ever(tmp_path: Path) -> None:
    with hosting(Host(statuses=[503, 429])) as host:
        assert (await brought(host, tmp_path)).digest == DIGEST
    with hosting(Host(statuses=[500] * 100)) as host:
        error = await refused(host, tmp_path)
    assert isinstance(error, Unfetched)
    assert len(host.asked) == MAX_CUTS


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "not_found"), (403, "denied"), (400, "remote_content"), (304, "remote_content")],
)
async def test_what_a_host_refuses_is_not_asked_for_again(status: int, code: str, tmp_path: Path) -> None:
    with hosting(Host(statuses=[status])) as host:
        error = await refused(host, tmp_path)
    assert (error.code, len(host.asked)) == (code, 1)
    assert "secret" not in str(error)


async def test_what_is_too_large_is_refused_before_it_comes_and_while_it_comes(tmp_path: Path) -> None:
    with hosting(Host()) as host:
        error = await refused(host, tmp_path, most_bytes=1_000_000)
    assert error.code == "too_large"
    assert (tmp_path / "recording").stat().st_size == 0


async def test_a_download_that_lasts_too_long_is_given_up(tmp_path: Path) -> None:
    release = Event()
    with hosting(Host(cuts=[1000], hangs=release)) as host:
        began = time.monotonic()
        error = await refused(host, tmp_path, seconds=0.5)
        release.set()
    assert error.code == "too_slow"
    assert time.monotonic() - began < 30


async def test_redirects_are_followed_and_each_is_guarded(tmp_path: Path) -> None:
    with hosting(Host()) as there, hosting(Host(statuses=[302])) as host:
        host.location = there.place.url
        assert (await brought(host, tmp_path)).digest == DIGEST
        host.statuses, host.location = [302] * 10, host.place.url
        assert (await refused(host, tmp_path)).code == "remote_content"
        host.statuses, host.location = [302], "ftp://example.com/"
        assert isinstance(await refused(host, tmp_path), ForbiddenTarget)
        host.statuses, host.location = [302], "http://[::1"
        assert (await refused(host, tmp_path)).code == "remote_content"


async def test_private_addresses_are_refused_whatever_names_lead_there(tmp_path: Path) -> None:
    with hosting(Host()) as host:
        for name in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "[::ffff:127.0.0.1]"):
            place = OnTheWeb(f"https://{name}:{host.port}/talk.mp3")
            with pytest.raises(ForbiddenTarget):
                await downloader(allow_private=False).bring(place, tmp_path / "recording")
    assert host.asked == []


async def test_files_of_the_store_come_whole_and_are_taken_up_where_they_were_cut(
    cloud: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.put("a talk.mp3", CONTENT)
    place = Stored(BUCKET, "a talk.mp3")
    s3 = Cutting(cloud.s3, [1_500_000])
    found = await downloader(s3=s3).bring(place, tmp_path / "recording")
    assert (found.size_bytes, found.digest, found.name) == (len(CONTENT), DIGEST, "a talk.mp3")
    assert s3.asked == [None, "bytes=1048576-"]

    for missing in (Stored(BUCKET, "none"), Stored("no-such-bucket", "none")):
        with pytest.raises(ClientError) as caught:
            await downloader(s3=cloud.s3).bring(missing, tmp_path / "recording")
        assert caught.value.code == "not_found"
    with pytest.raises(ClientError) as caught:
        await downloader(s3=cloud.s3, most_bytes=1_000_000).bring(place, tmp_path / "recording")
    assert caught.value.code == "too_large"
    with pytest.raises(ClientError) as caught:
        await downloader().bring(place, tmp_path / "recording")
    assert caught.value.code == "forbidden_target"


class Cutting:
    """boto3's client, whose answers break off after so many bytes."""

    def __init__(self, s3: object, cuts: list[int]) -> None:
        self._get: Callable[..., dict[str, object]] = s3.get_object  # type: ignore[attr-defined]
        self._cuts = cuts
        self.asked: list[str | None] = []

    def get_object(self, **asked: str) -> dict[str, object]:
        self.asked.append(asked.get("Range"))
        answer = self._get(**asked)
        if self._cuts:
            answer["Body"] = _CutBody(answer["Body"], self._cuts.pop(0))
        return answer


class _CutBody:
    def __init__(self, body: object, left: int) -> None:
        self._body, self._left = body, left

    def __enter__(self) -> _CutBody:
        return self

    def __exit__(self, *_: object) -> None:
        self._body.close()  # type: ignore[attr-defined]

    def read(self, size: int) -> bytes:
        if size > self._left:
            raise ConnectionResetError("cut")
        self._left -= size
        piece: bytes = self._body.read(size)  # type: ignore[attr-defined]
        return piece


async def test_a_file_of_this_machine_is_copied(tmp_path: Path) -> None:
    (tmp_path / "talk.mp3").write_bytes(CONTENT)
    found = await downloader().bring(OnDisk(tmp_path / "talk.mp3"), tmp_path / "recording")
    assert (found.digest, found.path.read_bytes()) == (DIGEST, CONTENT)
    with pytest.raises(ClientError) as caught:
        await downloader().bring(OnDisk(tmp_path / "none.mp3"), tmp_path / "recording")
    assert caught.value.code == "not_found"
