"""No receiver, and no fault of ours, has the sender call anybody without end.

A try that is not kept in the database is due again at once: what is not foreseen must cost a try.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from live_asr.delivery import webhook
from live_asr.delivery.schedule import DELAYS
from live_asr.storage.database import Database, Delivery
from tests.delivery.receiver import Receiver, answer, receiving
from tests.delivery.running_sender import Sending, sending

HUGE = "9" * 20
HOSTILE = [
    f"Mon, 01 Jan {HUGE} 00:00:00 GMT",
    f"Mon, {HUGE} Jan 2027 00:00:00 GMT",
    f"Mon, 01 Jan 2027 {HUGE}:00:00 GMT",
    f"Mon, 01 Jan 2027 00:00:00 +{HUGE}",
    f"Mon, 01 Jan 2027 00:00:00 -{HUGE}",
    f"Monday, 01-Jan-{HUGE} 00:00:00 GMT",
    f"Mon Jan 01 00:00:00 {HUGE}",
    f"-{HUGE}",
    "Mon, 01 Jan 0000 00:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    ",",
    "inf",
    "nan",
    "1e400",
]
DAY = 24 * 3600.0


async def waits_to_the_end(run: Sending, receiver: Receiver) -> list[float]:
    """Add a delivery and let the clock go from try to try until it is given up; return the waits."""
    delivery = await run.tell(receiver.url)
    waits: list[float] = []
    while delivery.state == "pending":
        assert len(receiver.requests) == delivery.attempts == len(waits) + 1
        waits.append(delivery.next_at - run.clock.now)
        run.clock.now = delivery.next_at
        run.sender.wake()
        delivery = await run.next_try()
    assert (delivery.state, delivery.attempts) == ("dead", len(receiver.requests))
    return waits


@pytest.mark.parametrize("value", HOSTILE)
async def test_whatever_retry_after_says_there_are_seven_tries_at_their_times(
    database: Database, value: str
) -> None:
    async with (
        receiving(answer(503, f"Retry-After: {value}")) as receiver,
        sending(database) as run,
    ):
        waits = await waits_to_the_end(run, receiver)
        assert len(receiver.requests) == 7
        assert all(wait <= DAY for wait in waits)
        assert all(wait >= delay for wait, delay in zip(waits, DELAYS, strict=True))


def broken(*_: object, **__: object) -> Any:
    raise ArithmeticError("a bug of ours")


@pytest.mark.parametrize(
    "name", ["read_answer", "read_retry_after", "delay_before_next", "signed_headers", "post"]
)
async def test_a_fault_of_ours_costs_each_time_a_try_and_is_logged(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(webhook, name, broken)
    async with receiving(answer(503, "Retry-After: 1")) as receiver, sending(database) as run:
        delivery = await run.tell(receiver.url)
        waits: list[float] = []
        while delivery.state == "pending":
            assert (delivery.attempts, delivery.last_error) == (len(waits) + 1, webhook.OUR_FAULT)
            waits.append(delivery.next_at - run.clock.now)
            run.clock.now = delivery.next_at
            run.sender.wake()
            delivery = await run.next_try()
        assert waits == pytest.approx(DELAYS)
        assert delivery.attempts == 7
        assert len(receiver.requests) <= 7
    assert caplog.text.count("ArithmeticError: a bug of ours") == 7


async def test_what_the_database_cannot_keep_of_a_try_is_kept_in_our_own_words(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "POLL", 0.01)
    record = database.record_try

    def refuse_strange_words(*arguments: Any, **named: Any) -> Delivery | None:
        if named["last_error"] != webhook.OUR_FAULT:
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        return record(*arguments, **named)

    monkeypatch.setattr(database, "record_try", refuse_strange_words)
    async with receiving(answer(500)) as receiver, sending(database) as run:
        assert await waits_to_the_end(run, receiver) == pytest.approx(DELAYS)
        assert len(receiver.requests) == 7
    assert "surrogates not allowed" in caplog.text


async def test_a_fault_at_the_outbox_is_said_once_and_ends_no_sender(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "POLL", 0.01)
    due: Callable[..., list[Delivery]] = database.due
    faults = [1, 2, 3]

    def fail_at_first(*arguments: Any, **named: Any) -> list[Delivery]:
        return broken(faults.pop()) if faults else due(*arguments, **named)

    monkeypatch.setattr(database, "due", fail_at_first)
    async with receiving(answer(200)) as receiver, sending(database) as run:
        assert (await run.tell(receiver.url)).state == "delivered"
    assert caplog.text.count("ArithmeticError: a bug of ours") == 1
