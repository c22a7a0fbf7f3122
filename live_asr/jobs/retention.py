"""Erases jobs once they have reached the age that the operator has set, where no server does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from live_asr.core.errors import StorageError
from live_asr.sessions.retention import DAY, PAGE, SWEEP_INTERVAL
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.jobs import JobDatabase

log = logging.getLogger(__name__)


async def sweep_forever(database: JobDatabase, sessions: Path, days: float) -> None:
    """Erase what is older, now and every hour, until cancelled."""
    while True:
        try:
            count = await sweep(database, sessions, days)
            if count:
                log.info("%d jobs have expired and were erased", count)
        except StorageError as error:
            log.warning("expired jobs could not be erased: %s", error)
        await asyncio.sleep(SWEEP_INTERVAL)


async def sweep(
    database: JobDatabase, sessions: Path, days: float, clock: Callable[[], float] = time.time
) -> int:
    """Erase sessions that ended so many days ago, with their results and deliveries; return how many.

    Whatever ends it between, the next one goes on. Raises StorageError.
    """
    store = FileJournal(sessions)
    before, count = clock() - DAY * days, 0
    for session_id in await asyncio.to_thread(store.condemned):  # of a sweep that was ended
        await database.call(database.delete_session, session_id)
        await asyncio.to_thread(store.erase, session_id)
    while found := await database.call(database.ended, before=before, limit=PAGE):
        for session_id, _ in found:
            await asyncio.to_thread(store.mark_deleted, session_id)
            await database.call(database.delete_session, session_id)
            await asyncio.to_thread(store.erase, session_id)
            count += 1
    return count
