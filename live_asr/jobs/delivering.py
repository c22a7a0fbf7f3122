"""Deliveries by one of those that share a data folder or a database: a server, or one of its workers.

All others put theirs into the outbox; when the one that delivers ends, another goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from live_asr.core.errors import StorageError
from live_asr.delivery.webhook import WebhookSender
from live_asr.storage.database import Database
from live_asr.storage.lock import try_held

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks at who delivers."""


class Delivering:
    """Has a sender deliver while nobody else does from the same outbox."""

    def __init__(self, sender: WebhookSender, database: Database, data: Path) -> None:
        self._sender = sender
        self._database = database
        self._data = data
        self._release: Callable[[], None] | None = None
        self._working: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Deliver, now or as soon as nobody else does."""
        self._working = asyncio.create_task(self._deliver_forever(), name="delivering")

    async def close(self) -> None:
        """Deliver no more, and let another do it. Idempotent."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
            self._working = None
        await self._sender.close()
        if self._release is not None:
            self._release()
            self._release = None

    async def _deliver_forever(self) -> None:
        while True:
            await self._wait_until_ours()
            await self._sender.start()
            await self._wait_until_lost()
            await self._sender.pause()

    async def _wait_until_ours(self) -> None:
        is_told = False
        while not await self._is_ours():
            if not is_told:
                log.info("another live-asr delivers webhooks from this outbox")
            is_told = True
            await asyncio.sleep(INTERVAL)

    async def _wait_until_lost(self) -> None:
        """Hold the database for as long as nobody else has taken it, which they can where it began anew."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self._database.call(self._database.keep_hold)
            except StorageError as error:
                if error.code == "database_taken":
                    log.warning("another live-asr has taken over the outbox: %s", error)
                    return
                log.debug("nobody knows who holds the outbox: %s", error)

    async def _is_ours(self) -> bool:
        try:
            if self._release is None:
                self._release = await asyncio.to_thread(try_held, self._data)
            return self._release is not None and await self._database.call(self._database.try_hold)
        except StorageError as error:
            log.warning("nobody knows yet who delivers webhooks: %s", error)
            return False
