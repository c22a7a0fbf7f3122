"""Deliveries by one of those that share a data folder or a database: a server, or one of its workers.

All others put theirs into the outbox; when the one that delivers ends, another goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from live_asr.delivery.webhook import WebhookSender
from live_asr.errors import StorageError
from live_asr.storage.database import Database
from live_asr.storage.holding import try_held

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks whether nobody delivers any more."""


class Delivering:
    """Starts a sender once nobody else delivers from the same outbox."""

    def __init__(self, sender: WebhookSender, database: Database, data: Path) -> None:
        self._sender = sender
        self._database = database
        self._data = data
        self._release: Callable[[], None] | None = None
        self._trying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Deliver, now or as soon as nobody else does."""
        self._trying = asyncio.create_task(self._try_forever(), name="delivering")

    async def close(self) -> None:
        """Deliver no more, and let another do it. Idempotent."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)
            self._trying = None
        await self._sender.close()
        if self._release is not None:
            self._release()
            self._release = None

    async def _try_forever(self) -> None:
        is_told = False
        while not await self._is_ours():
            if not is_told:
                log.info("another live-asr delivers webhooks from this outbox")
            is_told = True
            await asyncio.sleep(INTERVAL)
        await self._sender.start()

    async def _is_ours(self) -> bool:
        try:
            if self._release is None:
                self._release = await asyncio.to_thread(try_held, self._data)
            return self._release is not None and await self._database.call(self._database.try_hold)
        except StorageError as error:
            log.warning("nobody knows yet who delivers webhooks: %s", error)
            return False
