"""Whether the disk has room for sessions, seen before anything acknowledged is at risk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from live_asr.core.errors import DiskFull, StorageError, Unavailable
from live_asr.storage.files import check_write
from live_asr.storage.journal import Journal

log = logging.getLogger(__name__)

LOOK_INTERVAL = 1.0
"""Seconds between two looks: in that time all sessions together write a fraction of what is kept free."""
MIN_FREE_BYTES = 64 * 1024 * 1024
"""With less room on the disk no session goes on: it could not be kept."""
PROBE_BYTES = 1024 * 1024
"""What a disk that refused has to take before it counts as having room again."""


class Room:
    """The room on the disk below a store's folder."""

    def __init__(self, store: Journal) -> None:
        self._store = store
        self._is_there = asyncio.Event()
        self._is_there.set()
        self._has_refused = False

    async def look(self) -> bool:
        """Tell whether the disk has room for a session. Raises StorageError when that is not known."""
        if await asyncio.to_thread(self._store.free_bytes) < MIN_FREE_BYTES:
            return False
        if self._has_refused:
            try:
                await asyncio.to_thread(check_write, self._store.folder, PROBE_BYTES)
            except DiskFull:
                return False
            self._has_refused = False
        return True

    def refuse(self) -> None:
        """Take note that the disk did not take something, whatever is free: quotas and inodes end, too."""
        if not self._has_refused:
            log.error("the disk accepts no more data: sessions are waiting")
        self._has_refused = True
        self._is_there.clear()

    async def wait(self) -> None:
        """Wait until there is room."""
        await self._is_there.wait()

    async def watch(self, on_full: Callable[[], None]) -> None:
        """Look again and again until cancelled; call `on_full` at each look that finds no room."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            try:
                is_there = await self.look()
            except StorageError:
                continue  # a disk that does not tell refuses what is written soon enough
            if is_there:
                self._is_there.set()
                continue
            if self._is_there.is_set():
                log.error("less than %d MB are free: sessions are waiting", MIN_FREE_BYTES // 1024**2)
            self._is_there.clear()
            on_full()


def disk_full() -> Unavailable:
    """Return the refusal of a server whose disk is full."""
    return Unavailable(
        "storage_full",
        "The server's disk is full.",
        "The operator has to free some space; come back later, with `resume` for a session that was open.",
        retry_after=60.0,
        close_code=1011,
    )
