"""Erases what is older than the operator wants it kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from live_asr.config.settings import StorageSettings
from live_asr.core.errors import StorageError
from live_asr.sessions.registry import SessionRegistry
from live_asr.storage.database import Database
from live_asr.storage.journal import Journal
from live_asr.storage.object_rows import doom_audio_before

log = logging.getLogger(__name__)

SWEEP_INTERVAL = 3600.0
"""Seconds between two looks: nothing is kept longer than its age and an hour."""
DAY = 86_400.0
LONG_OFF = 7.0
"""Days without a session behind which a first sweep does not trust the clock."""
JUMP = 3600.0
"""Seconds by which a clock may go ahead between two sweeps; clocks are set by less."""
PAGE = 100
"""Sessions that are looked up at once."""


class Retention:
    """Erase transcripts and audio once they have reached their ages; nothing where no age is set.

    `clock` gives Unix time in seconds, `steady` seconds that nobody sets; `erased` is called with the id of
    each session that is gone.
    """

    def __init__(
        self,
        settings: StorageSettings,
        registry: SessionRegistry,
        store: Journal,
        database: Database,
        *,
        erased: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._store = store
        self._database = database
        self._erased = erased
        self._clock = clock
        self._steady = steady
        self._seen: tuple[float, float] | None = None
        """What both clocks said at the last sweep."""
        self._wait_until = float("-inf")
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep, now and every hour, where there is anything to do."""
        if self._settings.keep_transcripts_days is not None or self._settings.keep_audio_days is not None:
            self._sweeping = asyncio.create_task(self._sweep_forever(), name="retention")

    async def close(self) -> None:
        """Sweep no more. Idempotent."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
            self._sweeping = None

    async def sweep(self) -> None:
        """Erase what is too old now. Raises StorageError; what is left is erased by the next sweep.

        A clock that has jumped ahead makes everything old at once: then nothing is erased for a day, in which
        people or the network may put it right. So it is where the first sweep finds that nothing at all is
        young enough.
        """
        if await self._has_jumped():
            return
        if self._settings.keep_transcripts_days is not None:
            before = self._clock() - DAY * self._settings.keep_transcripts_days
            for session_id in await self._ended(before):
                if await self._registry.erase(session_id):
                    self._erased(session_id)
                    log.info("session %s has expired and was erased", session_id)
        if self._settings.keep_audio_days is not None:
            before = self._clock() - DAY * self._settings.keep_audio_days
            for session_id in await self._ended(before):
                if await asyncio.to_thread(self._store.erase_audio, session_id):
                    log.info("the audio of session %s has expired and was erased", session_id)
            # Last: what is about to be moved is looked for here once more before it is.
            count = await self._database.call(doom_audio_before, self._database, before)
            if count:
                log.info("the audio of %d sessions in the object store has expired", count)

    async def _has_jumped(self) -> bool:
        """Tell whether the clock went ahead of the time that has passed, now or in the last day."""
        now, passed = self._clock(), self._steady()
        if self._seen is not None:
            ahead = (now - self._seen[0]) - (passed - self._seen[1])
            is_ahead = ahead > JUMP
        else:
            ages = (self._settings.keep_transcripts_days, self._settings.keep_audio_days)
            newest = await self._database.call(self._database.newest)
            ahead = now - newest if newest is not None else 0.0
            shortest = min((age for age in ages if age is not None), default=0.0)
            is_ahead = ahead > DAY * max(shortest, LONG_OFF)
        self._seen = now, passed
        if is_ahead:
            log.error(
                "nothing is erased for a day: by the clock, %.0f hours have passed at once", ahead / 3600
            )
            self._wait_until = passed + DAY
        return passed < self._wait_until

    async def _ended(self, before: float) -> list[str]:
        """Return the sessions that ended before a time, in pages: off the event loop none takes long."""
        found: list[str] = []
        after: tuple[float, str] | None = None
        while True:
            page = await self._database.call(self._database.ended, before=before, after=after, limit=PAGE)
            found += [session_id for session_id, _ in page]
            if len(page) < PAGE:
                return found
            after = (page[-1][1], page[-1][0])

    async def _sweep_forever(self) -> None:
        while True:
            try:
                await self.sweep()
            except StorageError as error:
                log.warning("expired sessions could not be erased: %s", error)
            except Exception:  # nobody awaits this task, and the next sweep may do better
                log.exception("expired sessions could not be erased")
            await asyncio.sleep(SWEEP_INTERVAL)
