"""The spool: what a session was sent and what it said, append-only, on disk.

Writes are collected and synced side by side, so that a disk that takes 20 ms for an fsync serves any number
of sessions. A position is reported as safe only after the fsync that covers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from live_asr.core.errors import StorageError
from live_asr.core.types import Turn
from live_asr.storage.compression import Compressor
from live_asr.storage.files import (
    ABOUT_FILE,
    AUDIO_FILE,
    CHECKS_FILE,
    DECODED_FILE,
    MESSAGES_FILE,
    STATE_FILE,
    TURNS_FILE,
    Batch,
    append_synced,
    erase_audio,
    prepare,
    read_object,
    read_turns,
    storage_error,
    sync_folder,
    unsealed,
    with_checksum,
    write_turns,
)
from live_asr.storage.repair import IntactPrefix, repair

log = logging.getLogger(__name__)

MAX_WRITERS = 8
"""Sessions that are synced side by side: a journal's disk takes hardly longer for all than for one."""
SHORTEST_INTERVAL = 0.01
"""Seconds between two looks for something to write, however eager the setting."""
MAX_ID = 64
"""Session ids are shorter; a longer name is nobody's, and too long for a file system."""
CONDEMNED = ".erased-"
"""Before the id of a session, the name of a folder that is to be erased."""


class Spool:
    """The files of one session. Appending only collects; `SpoolStore` writes.

    `on_safe` is told how many audio bytes are on disk, `on_kept` how many messages, `on_failed` that the
    disk refused; `hurry` is called when somebody waits for what was appended.
    """

    def __init__(
        self,
        folder: Path,
        on_safe: Callable[[int], None],
        on_failed: Callable[[StorageError], None],
        hurry: Callable[[], None] = lambda: None,
        on_kept: Callable[[int], None] = lambda _: None,
    ):
        self.folder = folder
        self._on_safe = on_safe
        self._on_kept = on_kept
        self._on_failed = on_failed
        self._hurry = hurry
        self._audio: list[bytes] = []
        self._messages: list[bytes] = []
        self._state: bytes | None = None
        self._writing = False
        self._settled = asyncio.Event()
        self.is_urgent = False
        """Whether somebody waits for what was appended."""
        self.appended_bytes = 0
        """Audio bytes handed over so far."""
        self.safe_bytes = 0
        """Audio bytes that are on disk."""
        self.appended_count = 0
        """Messages handed over so far."""
        self.kept_count = 0
        """Messages that are on disk."""
        self.error: StorageError | None = None
        """Why the disk refused; None while it takes everything."""

    def tell(
        self,
        on_safe: Callable[[int], None],
        on_failed: Callable[[StorageError], None],
        on_kept: Callable[[int], None],
    ) -> None:
        """Tell others from now on than those that it was opened for."""
        self._on_safe, self._on_failed, self._on_kept = on_safe, on_failed, on_kept

    def begin_with(self, intact: IntactPrefix) -> None:
        """Take note of what an earlier run has written."""
        self.appended_bytes = self.safe_bytes = intact.audio_bytes
        self.appended_count = self.kept_count = intact.message_count

    def append_audio(self, data: bytes) -> None:
        """Add the client's audio bytes, as they came."""
        if self.error is None:
            self._audio.append(data)
            self.appended_bytes += len(data)

    def append_message(self, message: bytes) -> None:
        """Add one kept message, as it goes over the wire; it is written as soon as the disk is free."""
        if self.error is None:
            self._messages.append(with_checksum(message))
            self.appended_count += 1
            self._urge()

    def set_state(self, state: bytes) -> None:
        """Have `STATE_FILE` hold this once the messages appended so far are on disk."""
        self._state = state

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._audio or self._messages) and self.error is None

    async def settled(self) -> None:
        """Wait until all that was appended is on disk, or the disk has refused."""
        while self.is_dirty or self._writing:
            self._settled.clear()
            self._urge()
            await self._settled.wait()

    async def kept(self, count: int) -> None:
        """Wait until `count` messages are on disk. Raises StorageError when the disk has refused."""
        await self._wait_until(lambda: self.kept_count >= count)

    async def safe(self, position_bytes: int) -> None:
        """Wait until the audio before a position is on disk. Raises StorageError as `kept` does."""
        await self._wait_until(lambda: self.safe_bytes >= position_bytes)

    async def _wait_until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            if self.error is not None:
                raise self.error
            self._settled.clear()
            self._urge()
            await self._settled.wait()

    def _urge(self) -> None:
        self.is_urgent = True
        self._hurry()

    def take(self) -> Batch:
        """Take out what waits."""
        batch = Batch(
            self.folder,
            b"".join(self._audio),
            b"".join(self._messages),
            self._state,
            self.appended_bytes,
            self.appended_count,
        )
        self._audio, self._messages, self._state = [], [], None
        self._writing, self.is_urgent = True, False
        return batch

    def mark_safe(self, position_bytes: int, count: int) -> None:
        """Take note that everything before `position_bytes`, and `count` messages, are on disk."""
        self._writing = False
        self._settled.set()
        if count > self.kept_count:
            self.kept_count = count
            self._on_kept(count)
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
        self._threads = ThreadPoolExecutor(MAX_WRITERS, "spool")
        """Its idle threads end with it."""
        self._wanted = asyncio.Event()
        self._closing = False
        self._compressor = Compressor(folder)

    async def start(self) -> None:
        """Make the folder and begin to write. Raises StorageError when the folder cannot be written."""
        await asyncio.to_thread(prepare, self.folder)
        self._writer = asyncio.create_task(self._write_forever(), name="spool writer")
        self._compressor.start()

    async def close(self) -> None:
        """Write what waits, and end. Idempotent."""
        await self._compressor.close()
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
        on_kept: Callable[[int], None] = lambda _: None,
    ) -> Spool:
        """Make the folder of a new session; `about` is what is to be remembered of it.

        Raises StorageError when the disk refuses.
        """
        folder = self.folder / session_id

        def make() -> None:
            folder.mkdir(mode=0o700, parents=True)  # it holds what people said
            try:
                # The files exist from the start, so that appending never has to sync the folder again.
                for name in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE):
                    (folder / name).touch()
                append_synced(folder / ABOUT_FILE, orjson.dumps(about))
                sync_folder(folder)
                sync_folder(self.folder)
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise

        try:
            await asyncio.to_thread(make)
        except OSError as error:
            raise storage_error(error) from error
        spool = Spool(folder, on_safe, on_failed, self._wanted.set, on_kept)
        self._spools.add(spool)
        return spool

    async def reopen(
        self, session_id: str, on_failed: Callable[[StorageError], None] = lambda _: None
    ) -> Spool:
        """Open the files of a session of an earlier run, to add to what of them is intact.

        Raises KeyError when there is no such session, StorageError when the disk refuses.
        """
        folder = self._folder_of(session_id)

        def make_intact() -> IntactPrefix:
            (folder / DECODED_FILE).unlink(missing_ok=True)  # of a pass that a crash interrupted
            return repair(folder)

        try:
            intact = await asyncio.to_thread(make_intact)
        except OSError as error:
            raise storage_error(error) from error
        spool = Spool(folder, lambda _: None, on_failed, self._wanted.set)
        spool.begin_with(intact)
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
                await asyncio.to_thread(erase_audio, spool.folder)
            except OSError as error:
                log.warning("the audio in %s could not be erased: %s", spool.folder, error)

    async def mark_for_compression(self, spool: Spool) -> None:
        """Have the next run compress the audio of a finished session, unless `compress` comes before that.

        Call it before the session is said to be done: nobody looks at it from then on.
        """
        await self._compressor.mark(spool.folder)

    async def compress(self, spool: Spool) -> None:
        """Have the audio that is kept of a finished session compressed in time, by this run or the next."""
        await self._compressor.add(spool.folder)

    async def sync(self, *, urgent: bool = False) -> None:
        """Write and sync all that waits, in one go; with `urgent`, only what somebody waits for.

        A caller that is cancelled leaves the write whole.
        """
        task = asyncio.create_task(self._sync(urgent), name="spool sync")
        self._syncing.add(task)
        task.add_done_callback(self._syncing.discard)
        await asyncio.shield(task)

    async def _sync(self, urgent: bool) -> None:
        async with self._writing:
            dirty = [spool for spool in self._spools if spool.is_dirty and (spool.is_urgent or not urgent)]
            await asyncio.gather(*(self._write(spool, spool.take()) for spool in dirty))

    async def _write(self, spool: Spool, batch: Batch) -> None:
        """Write one session's batch and tell the session. Never raises: others are written beside it."""
        fault: Exception | None
        try:
            fault = await asyncio.get_running_loop().run_in_executor(self._threads, batch.write)
        except Exception as error:  # threads or memory ran out: to the session, the same as the disk
            fault = error
        try:
            if fault is None:
                spool.mark_safe(batch.position_bytes, batch.count)
            else:
                log.error("%s cannot be written: %s", spool.folder, fault)
                spool.mark_failed(storage_error(fault))
        except Exception:
            log.exception("a session could not be told of its files")

    async def _write_forever(self) -> None:
        """Write what is urgent at once, and everything at each interval."""
        now = asyncio.get_running_loop().time
        interval = max(self._interval, SHORTEST_INTERVAL)
        due = now() + interval
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wanted.wait()
            self._wanted.clear()
            is_due = now() >= due
            await self.sync(urgent=not is_due)
            if is_due:
                due = now() + interval

    # Sessions that are over --------------------------------------------------------------------------

    def messages(self, session_id: str) -> Iterator[bytes]:
        """Yield the kept messages of a session, oldest first, as far as they are intact.

        Blocks: call it off the event loop. Raises KeyError when there is no such session.
        """
        folder = self._folder_of(session_id)
        with contextlib.suppress(FileNotFoundError):
            for line in (folder / MESSAGES_FILE).read_bytes().splitlines(keepends=True):
                message = unsealed(line)
                if message is None:
                    return
                yield message

    def about(self, session_id: str) -> dict[str, Any]:
        """Return what is remembered of a session. Blocks. Raises KeyError when there is no such one."""
        return read_object(self._folder_of(session_id) / ABOUT_FILE)

    def state(self, session_id: str) -> dict[str, Any]:
        """Return what was last put down beside the messages; nothing where it cannot be read.

        Blocks. Raises KeyError when there is no such session.
        """
        return read_object(self._folder_of(session_id) / STATE_FILE)

    def write_turns(self, spool: Spool, turns: Iterable[Turn], file: str = TURNS_FILE) -> None:
        """Keep who spoke when: all of it, on disk, or nothing. Blocks. Raises StorageError."""
        try:
            write_turns(spool.folder / file, turns)
        except OSError as error:
            raise storage_error(error) from error

    def turns(self, session_id: str, file: str = TURNS_FILE) -> tuple[Turn, ...]:
        """Return who spoke when; nothing where that is not kept. Blocks.

        Raises KeyError when there is no such session.
        """
        return read_turns(self._folder_of(session_id) / file)

    def erase_audio(self, session_id: str) -> bool:
        """Erase the audio of a session that is over; return whether there was any. Blocks.

        Raises StorageError when the disk refuses.
        """
        try:
            return erase_audio(self._folder_of(session_id))
        except KeyError:
            return False  # erased meanwhile, or in another server's folder
        except OSError as error:
            raise storage_error(error) from error

    def mark_deleted(self, session_id: str) -> bool:
        """Take a session out of sight, to be erased; return False when there is none.

        From here on it is unknown, and whatever kills the server, the next run erases it. Blocks. Raises
        StorageError when the disk refuses.
        """
        if not is_session_id(session_id) or not (self.folder / session_id).is_dir():
            return False
        try:
            (self.folder / session_id).rename(self.folder / (CONDEMNED + session_id))
            sync_folder(self.folder)
        except OSError as error:
            raise storage_error(error) from error
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
            raise storage_error(error) from error

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
            raise storage_error(error) from error


def is_session_id(session_id: str) -> bool:
    """Tell whether a session may have this id, which is all that is ever looked up."""
    return session_id.isascii() and session_id.isalnum() and len(session_id) <= MAX_ID
