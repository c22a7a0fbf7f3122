"""The spool: what a session was sent and what it said, append-only, on disk.

Writes are collected and synced together, so that a disk that takes 20 ms for an fsync serves any number
of sessions. A position is reported as safe only after the fsync that covers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from live_asr.core.types import Turn, samples, seconds
from live_asr.errors import StorageError

log = logging.getLogger(__name__)

SHORTEST_INTERVAL = 0.01
"""Seconds between two looks for something to write, however eager the setting."""
LONGEST_ID = 64
"""Session ids are shorter; a longer name is nobody's, and too long for a file system."""
AUDIO_FILE = "audio.bin"
MESSAGES_FILE = "messages.jsonl"
ABOUT_FILE = "session.json"
TURNS_FILE = "turns.json"
LIVE_TURNS_FILE = "turns-live.json"
CONDEMNED = ".erased-"
"""Before the id of a session, the name of a folder that is to be erased."""


class Spool:
    """The files of one session. Appending only collects; `SpoolStore` writes.

    `on_safe` is told how many audio bytes are on disk, `on_failed` that the disk refused, `hurry` is
    called when somebody waits for what was appended.
    """

    def __init__(
        self,
        folder: Path,
        on_safe: Callable[[int], None],
        on_failed: Callable[[StorageError], None],
        hurry: Callable[[], None] = lambda: None,
    ):
        self.folder = folder
        self._on_safe = on_safe
        self._on_failed = on_failed
        self._hurry = hurry
        self._audio: list[bytes] = []
        self._messages: list[bytes] = []
        self._writing = False
        self._settled = asyncio.Event()
        self.appended_bytes = 0
        """Audio bytes handed over so far."""
        self.safe_bytes = 0
        """Audio bytes that are on disk."""
        self.error: StorageError | None = None
        """Why the disk refused; None while it takes everything."""

    def append_audio(self, data: bytes) -> None:
        """Add the client's audio bytes, as they came."""
        if self.error is None:
            self._audio.append(data)
            self.appended_bytes += len(data)

    def append_message(self, message: bytes) -> None:
        """Add one kept message, as it goes over the wire."""
        if self.error is None:
            self._messages.append(message + b"\n")

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._audio or self._messages) and self.error is None

    async def settled(self) -> None:
        """Wait until all that was appended is on disk, or the disk has refused."""
        while self.is_dirty or self._writing:
            self._settled.clear()
            self._hurry()
            await self._settled.wait()

    def take(self) -> tuple[bytes, bytes, int]:
        """Take out what waits: audio, messages, and the position that is safe once they are on disk."""
        audio, self._audio = b"".join(self._audio), []
        messages, self._messages = b"".join(self._messages), []
        self._writing = True
        return audio, messages, self.appended_bytes

    def mark_safe(self, position_bytes: int) -> None:
        """Take note that everything before `position_bytes` is on disk."""
        self._writing = False
        self._settled.set()
        if position_bytes > self.safe_bytes:
            self.safe_bytes = position_bytes
            self._on_safe(position_bytes)

    def mark_failed(self, error: StorageError) -> None:
        """Take note that the disk refused; nothing more is written or collected."""
        self.error = error
        self._audio, self._messages = [], []
        self._writing = False
        self._settled.set()
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
        self._syncing: set[asyncio.Task[None]] = set()
        self._wanted = asyncio.Event()
        self._closing = False

    async def start(self) -> None:
        """Make the folder and begin to write. Raises StorageError when the folder cannot be written."""
        await asyncio.to_thread(prepare, self.folder)
        self._writer = asyncio.create_task(self._write_forever(), name="spool writer")

    async def close(self) -> None:
        """Write what waits, and end. Idempotent."""
        if self._writer is not None:
            # Not cancelled: a write that is under way in its thread would then race with the last one.
            self._closing = True
            self._wanted.set()
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
            try:
                # The files exist from the start, so that appending never has to sync the folder again.
                (folder / AUDIO_FILE).touch()
                (folder / MESSAGES_FILE).touch()
                _append_synced(folder / ABOUT_FILE, orjson.dumps(about))
                _sync_folder(folder)
                _sync_folder(self.folder)
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise

        try:
            await asyncio.to_thread(make)
        except OSError as error:
            raise _storage_error(error) from error
        spool = Spool(folder, on_safe, on_failed, self._wanted.set)
        self._spools.add(spool)
        return spool

    async def reopen(self, session_id: str, on_failed: Callable[[StorageError], None]) -> Spool:
        """Open the files of a session of an earlier run, to add to them.

        Raises KeyError when there is no such session, StorageError when the disk refuses.
        """
        folder = self._folder_of(session_id)

        def mend() -> None:
            path = folder / MESSAGES_FILE
            kept = path.read_bytes() if path.exists() else b""
            whole_bytes = kept.rfind(b"\n") + 1
            if whole_bytes < len(kept):  # a torn tail: what follows must not become a part of it
                os.truncate(path, whole_bytes)

        try:
            await asyncio.to_thread(mend)
        except OSError as error:
            raise _storage_error(error) from error
        spool = Spool(folder, lambda _: None, on_failed, self._wanted.set)
        self._spools.add(spool)
        return spool

    async def finish(self, spool: Spool, *, keep_audio: bool) -> None:
        """Write the rest of a session that is over, and erase its audio unless that is kept. Idempotent."""
        try:
            await self.sync()
        finally:
            self._spools.discard(spool)
        if not keep_audio:
            try:
                await asyncio.to_thread((spool.folder / AUDIO_FILE).unlink, missing_ok=True)
            except OSError as error:
                log.warning("the audio in %s could not be erased: %s", spool.folder, error)

    async def sync(self) -> None:
        """Write and sync all that waits, in one go. A caller that is cancelled leaves the write whole."""
        task = asyncio.create_task(self._sync(), name="spool sync")
        self._syncing.add(task)
        task.add_done_callback(self._syncing.discard)
        await asyncio.shield(task)

    async def _sync(self) -> None:
        async with self._writing:
            work = [(spool, *spool.take()) for spool in self._spools if spool.is_dirty]
            if not work:
                return
            results: list[Exception | None]
            try:
                results = await asyncio.to_thread(
                    lambda: [_write(spool.folder, audio, messages) for spool, audio, messages, _ in work]
                )
            except Exception as error:  # threads or memory ran out: to the sessions, the same as the disk
                results = [error] * len(work)
            for (spool, _, _, position_bytes), fault in zip(work, results, strict=True):
                try:
                    if fault is None:
                        spool.mark_safe(position_bytes)
                    else:
                        log.error("%s cannot be written: %s", spool.folder, fault)
                        spool.mark_failed(_storage_error(fault))
                except Exception:  # one session's trouble is not that of the others in this batch
                    log.exception("a session could not be told of its files")

    async def _write_forever(self) -> None:
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(self._interval, SHORTEST_INTERVAL)):
                    await self._wanted.wait()
            self._wanted.clear()
            await self.sync()

    # Sessions that are over --------------------------------------------------------------------------

    def messages(self, session_id: str) -> Iterator[bytes]:
        """Yield the kept messages of a session, oldest first. Raises KeyError when there is no such one.

        Blocks: call it off the event loop.
        """
        folder = self._folder_of(session_id)
        with contextlib.suppress(FileNotFoundError):
            for line in (folder / MESSAGES_FILE).read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):  # a torn tail is not a message
                    yield line

    def write_turns(self, spool: Spool, turns: Iterable[Turn], file: str = TURNS_FILE) -> None:
        """Keep who spoke when: all of it, on disk, or nothing. Blocks. Raises StorageError."""
        rows = [
            {"start": seconds(turn.start_sample), "end": seconds(turn.end_sample), "speaker": turn.speaker}
            for turn in turns
        ]
        path = spool.folder / file
        unfinished = path.with_suffix(".new")
        try:
            unfinished.unlink(missing_ok=True)
            _append_synced(unfinished, orjson.dumps(rows))
            unfinished.replace(path)
            _sync_folder(spool.folder)
        except OSError as error:
            raise _storage_error(error) from error

    def turns(self, session_id: str, file: str = TURNS_FILE) -> tuple[Turn, ...]:
        """Return who spoke when; nothing where that is not kept. Blocks.

        Raises KeyError when there is no such session.
        """
        path = self._folder_of(session_id) / file
        try:
            rows = orjson.loads(path.read_bytes())
            return tuple(Turn(samples(row["start"]), samples(row["end"]), row["speaker"]) for row in rows)
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read: %s", path, error)
            return ()

    def condemn(self, session_id: str) -> bool:
        """Take a session out of sight, to be erased; return False when there is none.

        From here on it is unknown, and whatever kills the server, the next run erases it. Blocks. Raises
        StorageError when the disk refuses.
        """
        if not is_session_id(session_id) or not (self.folder / session_id).is_dir():
            return False
        try:
            (self.folder / session_id).rename(self.folder / (CONDEMNED + session_id))
            _sync_folder(self.folder)
        except OSError as error:
            raise _storage_error(error) from error
        return True

    def condemned(self) -> list[str]:
        """Return the sessions that are to be erased and are not yet. Blocks."""
        return [path.name.removeprefix(CONDEMNED) for path in self.folder.glob(f"{CONDEMNED}*")]

    def erase(self, session_id: str) -> None:
        """Erase all that is kept of a condemned session, if anything is. Blocks. Raises StorageError."""
        try:
            shutil.rmtree(self.folder / (CONDEMNED + session_id))
        except FileNotFoundError:
            return
        except OSError as error:
            raise _storage_error(error) from error

    def _folder_of(self, session_id: str) -> Path:
        folder = self.folder / session_id
        if not is_session_id(session_id) or not (folder / ABOUT_FILE).is_file():
            raise KeyError(session_id)
        return folder

    def free_bytes(self) -> int:
        """Return the free space below the folder. Blocks. Raises StorageError when that is not known."""
        try:
            return shutil.disk_usage(self.folder).free
        except OSError as error:
            raise _storage_error(error) from error


def is_session_id(session_id: str) -> bool:
    """Tell whether a session may have this id, which is all that is ever looked up."""
    return session_id.isascii() and session_id.isalnum() and len(session_id) <= LONGEST_ID


def prepare(folder: Path) -> None:
    """Make the folder and try to write in it. Blocks. Raises StorageError when that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"live-asr")
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"Nothing can be written in {folder}: {error.strerror or error}.",
            "Name a folder that this user may write, on a disk that has room, with --data.",
        ) from error


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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storage_error(error: Exception) -> StorageError:
    reason = getattr(error, "strerror", None) or str(error)
    return StorageError(
        f"The server cannot write its files: {reason}.",
        "The operator has to make room or give the server a folder that it may write (--data).",
    )
