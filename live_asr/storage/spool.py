"""The spool: what waits to be written of one session, and what of it is safe by now.

A journal opens it, takes out what waits, writes it, and says so. A position is reported as safe only after
the write that covers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from live_asr.core.errors import StorageError

log = logging.getLogger(__name__)

SHORTEST_INTERVAL = 0.01
"""Seconds between two looks for something to write, however eager the setting."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is written of one session in one go."""

    audio: bytes
    messages: tuple[bytes, ...]
    """As they go over the wire."""
    state: bytes | None
    """What is to stand beside the messages from now on; None where that stays as it is."""
    position_bytes: int
    """Audio that is safe once this is written."""
    count: int
    """Messages that are kept then."""


class Listener(Protocol):
    """Who is told what became of what a spool was given."""

    def acknowledge(self, safe_bytes: int) -> None:
        """Take note that so much audio is kept."""

    def release(self, count: int) -> None:
        """Take note that so many messages are."""

    def refuse(self, error: StorageError) -> None:
        """Take note that nothing more is: the disk refused, or another writer has the session."""


class Spool:
    """One writer of one session. Appending only collects; the journal writes.

    `folder` is the session's on this machine's disk, `epoch` which of its writers this one is, counted from
    1, `read` gives its audio between two positions, and `hurry` is called when somebody waits for what was
    appended.
    """

    def __init__(
        self,
        session_id: str,
        folder: Path,
        epoch: int,
        read: Callable[[int, int], AsyncIterator[bytes]],
        hurry: Callable[[], None],
    ) -> None:
        self.session_id = session_id
        self.folder = folder
        self.epoch = epoch
        self._read = read
        self._listener: Listener | None = None
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

    def listen(self, listener: Listener) -> None:
        """Tell somebody from now on, at once where nothing is kept any more."""
        self._listener = listener
        if self.error is not None:
            listener.refuse(self.error)

    def begin_with(self, audio_bytes: int, message_count: int) -> None:
        """Take note of what an earlier writer has written."""
        self.appended_bytes = self.safe_bytes = audio_bytes
        self.appended_count = self.kept_count = message_count

    def append_audio(self, data: bytes) -> None:
        """Add the client's audio bytes, as they came."""
        if self.error is None:
            self._audio.append(data)
            self.appended_bytes += len(data)

    def append_message(self, message: bytes) -> None:
        """Add one kept message, as it goes over the wire; it is written as soon as the disk is free."""
        self.appended_count += 1  # of a disk that has refused it is never said to be kept
        if self.error is None:
            self._messages.append(message)
            self._urge()

    def set_state(self, state: bytes) -> None:
        """Have this stand beside the messages once the messages appended so far are on disk."""
        self._state = state

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._audio or self._messages) and self.error is None

    def read_audio(self, start_bytes: int, end_bytes: int) -> AsyncIterator[bytes]:
        """Yield the audio between two positions that are safe, in pieces. Raises StorageError."""
        return self._read(start_bytes, end_bytes)

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
            b"".join(self._audio),
            tuple(self._messages),
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
            if self._listener is not None:
                self._listener.release(count)
        if position_bytes > self.safe_bytes:
            self.safe_bytes = position_bytes
            if self._listener is not None:
                self._listener.acknowledge(position_bytes)

    def mark_failed(self, error: StorageError) -> None:
        """Take note that the disk refused; nothing more is written or collected."""
        is_news, self.error = self.error is None, self.error or error
        self._audio, self._messages = [], []
        self._writing = False
        self._settled.set()
        if is_news and self._listener is not None:
            self._listener.refuse(error)


class SpoolWriter:
    """Has the spools written that a journal has open: what is urgent at once, everything at each interval.

    `write` writes all that it is given, and tells each spool; it never raises.
    """

    def __init__(self, write: Callable[[Sequence[Spool]], Awaitable[None]], interval: float) -> None:
        self._write = write
        self._interval = max(interval, SHORTEST_INTERVAL)
        self._spools: set[Spool] = set()
        self._writer: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._syncing: set[asyncio.Task[None]] = set()
        self._wanted = asyncio.Event()
        self._closing = False

    @property
    def spools(self) -> frozenset[Spool]:
        """Those that are open."""
        return frozenset(self._spools)

    def add(self, spool: Spool) -> None:
        """Have a spool written from now on."""
        self._spools.add(spool)

    def discard(self, spool: Spool) -> None:
        """Have it written no more."""
        self._spools.discard(spool)

    def hurry(self) -> None:
        """Take note that somebody waits for what was appended."""
        self._wanted.set()

    def start(self) -> None:
        """Begin to write."""
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
            if dirty:
                await self._write(dirty)

    async def _write_forever(self) -> None:
        """Write what is urgent at once, and everything at each interval."""
        now = asyncio.get_running_loop().time
        due = now() + self._interval
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wanted.wait()
            self._wanted.clear()
            is_due = now() >= due
            await self.sync(urgent=not is_due)
            if is_due:
                due = now() + self._interval
