"""Deliveries whose times were written while the server's clock was ahead, once it is right again."""

from __future__ import annotations

import time

import pytest

from live_asr.storage.database import Database, NewDelivery
from tests.delivery.receiver import answer, receiving
from tests.delivery.running_sender import BODY, sending

HOUR = 3600.0
DAY = 24 * HOUR


async def test_a_session_that_ended_by_a_clock_that_was_ahead_is_told_of_at_once(database: Database) -> None:
    async with receiving(answer(500), answer(200)) as receiver:
        ahead = time.time() + HOUR
        database.add_session("a1", {}, created_at=ahead)
        database.finish_session("a1", state="done", ended_at=ahead, delivery=NewDelivery(receiver.url, BODY))
        async with sending(database) as run:
            first = await run.next_try()
            assert first.next_at == pytest.approx(run.clock.now + 5)
            assert database.due(run.clock.now, limit=1) == [], "the second try has its time as ever"
            run.clock.now = first.next_at
            run.sender.wake()
            assert (await run.next_try()).state == "delivered"


async def test_a_try_that_was_put_off_by_a_clock_that_was_far_ahead_is_made_at_once(
    database: Database,
) -> None:
    async with receiving(answer(500), answer(200)) as receiver, sending(database) as run:
        run.clock.now += 30 * DAY
        assert (await run.tell(receiver.url)).state == "pending"
        run.clock.now -= 30 * DAY
        run.sender.wake()
        assert (await run.next_try()).state == "delivered"


async def test_the_longest_wait_there_is_stands_though_the_clock_is_set_back_a_little(
    database: Database,
) -> None:
    async with receiving(answer(503, "Retry-After: 999999999")) as receiver, sending(database) as run:
        delivery = await run.tell(receiver.url)
        assert delivery.next_at == pytest.approx(run.clock.now + DAY)
        for now in (run.clock.now, run.clock.now - HOUR):
            assert database.due(now, limit=1) == []
