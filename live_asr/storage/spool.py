"""The spool: what a session was sent and what it said, append-only, on disk.

Writes are collected and synced together, so that a disk that takes 20 ms for an fsync serves any number
of sessions. A position is reported as safe only after the fsync that covers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from live_asr.errors import StorageError

AUDIO_FILE = "audio.bin"
MESSAGES_FILE = "messages.jsonl"
ABOUT_FILE = "session.json"


class Spool:
    """The files of one session. Appending only collects; `SpoolStore` writes."""

    def __init__(
        self, folder: Path, on_safe: Callable[[int], None], on_failed: Callable[[StorageError], None]
    ):
        self.folder = folder
        self._on_safe = on_safe
        self._on_failed = on_failed
        self._audio: list[bytes] = []
        self._messages: list[bytes] = []
        self.appended_bytes = 0
        """Audio bytes handed over so far."""
        self.safe_bytes = 0
        """Audio bytes that are on disk."""
        self._failed = False

    def append_audio(self, data: bytes) -> None:
        """Add the client's audio bytes, as they came."""
        self._audio.append(data)
        self.appended_bytes += len(data)

    def append_message(self, message: bytes) -> None:
        """Add one kept message, as it goes over the wire."""
        self._messages.append(message + b"\n")

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._audio or self._messages) and not self._failed

    def take(self) -> tuple[bytes, bytes, int]:
        """Take out what waits: audio, messages, and the position that is safe once they are on disk."""
        audio, self._audio = b"".join(self._audio), []
        messages, self._messages = b"".join(self._messages), []
        return audio, messages, self.appended_bytes

    def mark_safe(self, position_bytes: int) -> None:
        """Take note that everything before `position_bytes` is on disk."""
        if position_bytes > self.safe_bytes:
            self.safe_bytes = position_bytes
            self._on_safe(position_bytes)

    def mark_failed(self, error: StorageError) -> None:
        """Take note that the disk refused; nothing more is written."""
        self._failed = True
        self._on_failed(error)


class SpoolStore:
    """All spools below one folder, and the task that writes them."""

    def __init__(self, folder: Path, *, interval: float = 0.2) -> None:
        self.folder = folder
        """Holds a folder for each session."""
        self._interval = interval
        self._spools: set[Spool] = set()
        self._writer: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def start(self) -> None:
        """Make the folder and begin to write. Raises StorageError when the folder cannot be written."""
        try:
            await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise _storage_error(self.folder, error) from error
        self._writer = asyncio.create_task(self._write_forever(), name="spool writer")

    async def close(self) -> None:
        """Write what waits, and end. Idempotent."""
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
            self._writer = None
        await self.sync()

    async def open(
        self,
        session_id: str,
        about: dict[str, Any],
        on_safe: Callable[[int], None],
        on_failed: Callable[[StorageError], None],
    ) -> Spool:
        """Make the folder of a new session; `about` is what is to be remembered of it.

        Raises StorageError when the disk refuses.
        """
        folder = self.folder / session_id

        def make() -> None:
            folder.mkdir(parents=True)
            _write_synced(folder / ABOUT_FILE, orjson.dumps(about))

        try:
            await asyncio.to_thread(make)
        except OSError as error:
            raise _storage_error(folder, error) from error
        spool = Spool(folder, on_safe, on_failed)
        self._spools.add(spool)
        return spool

    async def finish(self, spool: Spool, *, keep_audio: bool) -> None:
        """Write the rest of a session that is over; its audio is erased unless it is to be kept."""
        await self.sync()
        self._spools.discard(spool)
        if not keep_audio:
            await asyncio.to_thread((spool.folder / AUDIO_FILE).unlink, missing_ok=True)

    async def sync(self) -> None:
        """Write and sync all that waits, in one go."""
        async with self._writing:
            work = [(spool, *spool.take()) for spool in self._spools if spool.is_dirty]
            if not work:
                return
            results = await asyncio.to_thread(
                lambda: [_write(spool.folder, audio, messages) for spool, audio, messages, _ in work]
            )
        for (spool, _, _, position_bytes), error in zip(work, results, strict=True):
            if error is None:
                spool.mark_safe(position_bytes)
            else:
                spool.mark_failed(_storage_error(spool.folder, error))

    async def _write_forever(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.sync()

    # Sessions that are over --------------------------------------------------------------------------

    def messages(self, session_id: str) -> Iterator[bytes]:
        """Yield the kept messages of a session, oldest first. Raises KeyError when there is no such one.

        Blocks: call it off the event loop.
        """
        if not session_id.isalnum() or not (self.folder / session_id / ABOUT_FILE).is_file():
            raise KeyError(session_id)
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / session_id / MESSAGES_FILE).read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):  # a torn tail is not a message
                    yield line

    def free_bytes(self) -> int:
        """Return the free space below the folder. Blocks."""
        return shutil.disk_usage(self.folder).free


def _write(folder: Path, audio: bytes, messages: bytes) -> OSError | None:
    try:
        if audio:
            _append_synced(folder / AUDIO_FILE, audio)
        if messages:
            _append_synced(folder / MESSAGES_FILE, messages)
    except OSError as error:
        return error
    return None


def _append_synced(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The server cannot write its files: {error.strerror or error}.",
        "The operator has to make room or give the server a folder that it may write (--data).",
    )
