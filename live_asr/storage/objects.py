"""An object store: a bucket that is reached by S3's protocol, or a folder, by obstore.

What is put there is there as a whole or not at all, and whoever deletes another copy afterwards may rely on
it: `put` returns once the store has said itself what it has.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from live_asr.core.errors import ConfigError, StorageError
from live_asr.storage.files import made, sync_file, sync_folder

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

PIECE_BYTES = 1024 * 1024
"""Objects are read in pieces of this size, each asked for by itself: no slow reader holds a request open."""
CODE = "objects"
"""Of errors of the store."""
READERS = 3
"""Threads that wait for an object at a time: all else that blocks goes on where the store hangs."""
READER_PATIENCE = 0.5
"""Seconds that another one waits for one of these to be done, which takes hundredths of one."""


class ObjectStore:
    """Puts, reads, erases and signs objects below a URL, `s3://bucket/prefix` or `file:///folder`.

    Credentials and endpoint of S3 are found by obstore: environment, web identity, container, machine. All
    methods raise StorageError with the code `objects` where the store does not do what it is asked. Raises
    ConfigError where obstore is not installed or cannot read the URL, StorageError where the folder cannot be
    made.
    """

    def __init__(self, url: str) -> None:
        try:
            from obstore.exceptions import BaseError
            from obstore.store import LocalStore, S3Store
        except ImportError:
            raise ConfigError(
                "storage.objects is set, and obstore is not installed.",
                "pip install 'live-asr[objects]' has it.",
            ) from None
        self.url = url
        self._folder: Path | None = None
        self._readers = threading.BoundedSemaphore(READERS)
        self._store: LocalStore | S3Store
        if url.startswith("file:"):
            self._folder = made(Path(unquote(urlsplit(url).path)))
            self._store = LocalStore(self._folder, automatic_cleanup=True)
            return
        try:
            self._store = S3Store.from_url(
                url,
                config={"disable_bulk_delete": True},  # which not all know that speak S3's protocol
                client_options={
                    "allow_http": True,  # where an endpoint is named that has no TLS
                    "connect_timeout": timedelta(seconds=5),
                    "timeout": timedelta(seconds=60),
                },
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
            )
        except (BaseError, ValueError) as error:
            raise ConfigError(
                f"storage.objects cannot be used: {_first_line(error)}.", "Write it as s3://bucket/prefix."
            ) from error

    @property
    def can_sign(self) -> bool:
        """Whether it makes links that are good for a while for whoever has them."""
        return self._folder is None

    async def check(self) -> None:
        """Put an object, read it and erase it: all that will be asked of it."""
        key, content = f"check-{secrets.token_hex(8)}", b"live-asr"
        await self.put(key, content, "text/plain")
        kept = b"".join([piece async for piece in self.read(key, 0, len(content))])
        await self.erase(key)
        if kept != content:
            raise self._error("gave back something else than was put there")

    async def put(self, key: str, source: Path | bytes, media_type: str) -> int:
        """Put an object there, in place of one that is; return its size once the store has told it.

        Raises OSError, too, where a file cannot be read.
        """
        expected = len(source) if isinstance(source, bytes) else (await _stat(source)).st_size
        attributes = {} if self._folder is not None else {"Content-Type": media_type}
        with self._told():
            said = await self._store.put_async(key, source, attributes=attributes or None)
            found = await self._store.head_async(key)
            if self._folder is not None:
                await asyncio.to_thread(self._sync, self._folder / key)
        if found["size"] != expected or found["e_tag"] != said["e_tag"]:
            raise self._error(f"has {found['size']} bytes of {key}, which has {expected}")
        return expected

    async def size_of(self, key: str) -> int | None:
        """Return the size of an object; None where there is none."""
        with self._told(), suppress(FileNotFoundError):
            return int((await self._store.head_async(key))["size"])
        return None

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield what lies between two positions of an object, in pieces."""
        while start < end:
            with self._told():
                piece = await self._store.get_range_async(key, start=start, end=min(start + PIECE_BYTES, end))
            if not len(piece):
                return
            start += len(piece)
            yield bytes(piece)

    def content(self, key: str) -> bytes:
        """Return all of an object. Blocks."""
        if not self._readers.acquire(timeout=READER_PATIENCE):
            raise self._error(f"is slow: {READERS} others wait for what is there")
        try:
            with self._told():
                return bytes(self._store.get(key).bytes())
        finally:
            self._readers.release()

    async def erase(self, key: str) -> None:
        """Erase an object; that it is not there is fine."""
        with self._told():
            try:
                await self._store.delete_async(key)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):  # which is no proof that it is gone
                    raise
            if self._folder is not None:
                await asyncio.to_thread(self._sync_above, self._folder / key)

    async def link(self, key: str, lifetime: float) -> str | None:
        """Return an address under which an object can be read for so many seconds; None where it has none."""
        from obstore import sign_async
        from obstore.store import S3Store

        if not isinstance(self._store, S3Store):
            return None
        with self._told():
            return await sign_async(self._store, "GET", key, timedelta(seconds=lifetime))

    def _sync(self, path: Path) -> None:
        sync_file(path)
        self._sync_above(path)

    def _sync_above(self, path: Path) -> None:
        """Sync which files there are between an object and the store's folder. Raises StorageError."""
        assert self._folder is not None
        for folder in path.parents:
            with suppress(FileNotFoundError):  # it was the last object there
                sync_folder(folder)
            if folder == self._folder:
                return

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what obstore raises into StorageError."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except FileNotFoundError as error:
            raise self._error(
                f"has no such bucket or object: {_first_line(error)}",
                "Make the bucket, or name one that is there in storage.objects.",
            ) from error
        except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
            raise self._error(
                f"refuses this server: {_first_line(error)}",
                "Its credentials have to be allowed to put, get and delete objects there.",
            ) from error
        except (BaseError, OSError, ValueError) as error:
            raise self._error(f"cannot be used: {_first_line(error)}") from error

    def _error(self, what: str, hint: str = "") -> StorageError:
        where = (
            "that there is room, and that this user may write there"
            if self._folder is not None
            else "that it can be reached (AWS_ENDPOINT_URL, AWS_REGION) and that there are credentials "
            "(AWS_ACCESS_KEY_ID, or the machine's role)"
        )
        return StorageError(f"The object store {self.url} {what}.", hint or f"Check {where}.", code=CODE)


async def _stat(path: Path) -> Any:
    return await asyncio.to_thread(path.stat)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
