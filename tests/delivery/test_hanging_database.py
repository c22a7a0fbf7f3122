"""The sender beside a database, or other work, that hangs."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from live_asr.delivery import webhook
from live_asr.storage.database import Database, Delivery
from tests.delivery.receiver import answer, receiving
from tests.delivery.running_sender import sending


async def test_deliveries_go_on_while_other_work_has_taken_all_threads(database: Database) -> None:
    hanging = threading.Event()
    async with receiving(answer(200)) as receiver, sending(database) as run:
        taken = [asyncio.get_running_loop().run_in_executor(None, hanging.wait) for _ in range(64)]
        try:
            assert (await run.tell(receiver.url)).state == "delivered"
        finally:
            hanging.set()
            await asyncio.gather(*taken)


async def test_a_sender_whose_database_hangs_can_be_closed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "GRACE", 0.01)
    hanging, asked = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> list[Delivery]:
        asked.set()
        hanging.wait()
        return []

    monkeypatch.setattr(database, "due", hang)
    try:
        async with asyncio.timeout(30), sending(database):
            assert await asyncio.to_thread(asked.wait, 20)
    finally:
        hanging.set()
