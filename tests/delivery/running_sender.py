"""A sender that runs, on a clock that stands, and what it has tried."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from live_asr.config.settings import WebhookSettings
from live_asr.delivery.webhook import WebhookSender
from live_asr.storage.database import Database, Delivery, NewDelivery

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = json.dumps({"sessionId": "a1", "transcript": "Xin chào"}, ensure_ascii=False).encode()


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Sending:
    """A running sender, its clock, and what it has tried."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Clock()
        self.tried: asyncio.Queue[Delivery] = asyncio.Queue()
        self.sender: WebhookSender

    def add(self, url: str, session_id: str = "a1", body: bytes = BODY) -> None:
        """Have a session end that somebody is to be told of."""
        self.database.add_session(session_id, {}, created_at=self.clock.now)
        self.database.finish_session(
            session_id, state="done", ended_at=self.clock.now, delivery=NewDelivery(url, body)
        )
        self.sender.wake()

    async def next_try(self) -> Delivery:
        """Wait until the next try is over, and return the delivery as it is then."""
        return await asyncio.wait_for(self.tried.get(), 60)

    async def tell(self, url: str) -> Delivery:
        """Add a delivery and wait for its first try."""
        self.add(url)
        return await self.next_try()


@asynccontextmanager
async def sending(
    database: Database, *, allow_private: bool = True, **options: Any
) -> AsyncIterator[Sending]:
    run = Sending(database)
    run.sender = WebhookSender(
        database,
        WebhookSettings(allow_private=allow_private),
        SECRET,
        on_tried=run.tried.put_nowait,
        clock=run.clock,
        chance=lambda: 0.5,
        **options,
    )
    await run.sender.start()
    try:
        yield run
    finally:
        await run.sender.close()
