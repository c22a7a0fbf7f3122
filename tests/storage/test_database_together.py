"""The database used by several at once: the server, and `live-asr webhooks` beside it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from sqlalchemy import event

from live_asr.storage.database import Database, Delivery
from live_asr.storage.tables import deliveries
from tests.storage.stored import delivery_of, finish

LONG_ENOUGH = 1.0
"""Seconds in which another transaction would have ended if nothing held it; a longer wait proves no more."""


@pytest.fixture
def other(url: str, database: Database) -> Iterator[Database]:
    """The same database, as another process has it."""
    other = Database(url)
    yield other
    other.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A thread for what happens meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def record_failure(database: Database, begun: Delivery) -> Delivery | None:
    """Keep that the last try of all has failed."""
    return database.record_try(
        begun.id, state="dead", next_at=9e9, last_status=500, last_error="no", due_at=begun.next_at
    )


def is_due_anew(delivery: Delivery, at: float) -> bool:
    return (delivery.state, delivery.tries, delivery.next_at) == ("pending", 0, at)


def test_a_retry_while_a_failure_is_being_kept_is_not_lost(
    database: Database, other: Database, pool: ThreadPoolExecutor
) -> None:
    finish(database, "a1")
    begun = delivery_of(database, "a1")
    retrying: list[Future[Any]] = []

    def retry_in_between(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("SELECT") and not retrying:
            retrying.append(pool.submit(other.retry, begun.id, now=70.0))
            wait(retrying, LONG_ENOUGH)

    event.listen(database._engine, "after_cursor_execute", retry_in_between)
    record_failure(database, begun)
    event.remove(database._engine, "after_cursor_execute", retry_in_between)
    assert retrying[0].result(60) is not None
    assert is_due_anew(delivery_of(database, "a1"), 70.0)
    assert delivery_of(database, "a1").attempts == 1


def test_a_retry_that_is_under_way_when_a_failure_is_kept_is_not_lost(
    database: Database, other: Database, pool: ThreadPoolExecutor
) -> None:
    finish(database, "a1")
    begun = delivery_of(database, "a1")
    with other._writing() as connection:
        retried = deliveries.update().where(deliveries.c.id == begun.id)
        connection.execute(retried.values(state="pending", tries=0, next_at=70.0))
        recording = pool.submit(record_failure, database, begun)
        wait([recording], LONG_ENOUGH)
    assert recording.result(60) is not None
    assert is_due_anew(delivery_of(database, "a1"), 70.0)


def test_retrying_all_that_is_dead_while_one_is_delivered_does_not_send_it_again(
    database: Database, other: Database, pool: ThreadPoolExecutor
) -> None:
    finish(database, "a1")
    begun = delivery_of(database, "a1")
    record_failure(database, begun)
    with other._writing() as connection:
        taken = deliveries.update().where(deliveries.c.id == begun.id)
        connection.execute(taken.values(state="delivered"))
        retrying = pool.submit(database.retry_dead, now=70.0)
        wait([retrying], LONG_ENOUGH)
    assert retrying.result(60) == 0
    assert delivery_of(database, "a1").state == "delivered"
