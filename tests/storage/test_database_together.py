"""The database used by several at once: the server, and `live-asr webhooks` beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import event

from live_asr.core.errors import StorageError
from live_asr.storage import tables
from live_asr.storage.database import Database, Delivery
from live_asr.storage.tables import deliveries
from tests.storage.stored import START, delivery_of, finish

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


# A database that hangs --------------------------------------------------------------------------------


def test_a_statement_waits_for_another_process_no_longer_than_its_patience(
    url: str, database: Database, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TIMEOUT", 1)
    finish(database, "a1")
    begun = delivery_of(database, "a1")
    hurried = Database(url)
    with database._writing() as connection:
        connection.execute(deliveries.update().values(state="pending"))  # and the row stays locked
        recording = pool.submit(record_failure, hurried, begun)
        with pytest.raises(StorageError) as caught:
            recording.result(30)
    assert "timeout" in caught.value.message or "locked" in caught.value.message
    assert record_failure(hurried, begun) is not None, "and the next one goes on"
    hurried.close()


def connecting(url: str) -> dict[str, Any]:
    """Return what libpq is told when a connection to this database is opened; it reads it, too."""
    told: dict[str, Any] = {}

    class Enough(Exception):
        """Nothing need be connected to."""

    def intercept(_: Any, __: Any, ___: Any, parameters: dict[str, Any]) -> None:
        told.update(parameters)
        raise Enough

    engine = tables.open_engine(url)
    event.listen(engine, "do_connect", intercept)
    with pytest.raises(Enough):
        engine.connect()
    read = conninfo_to_dict(make_conninfo(**{key: told[key] for key in told if key != "context"}))
    return {key: str(value) for key, value in read.items()}


def test_a_server_that_vanishes_is_noticed_on_every_connection() -> None:
    told = connecting("postgresql://someone:hunter2@db.example/captions")
    assert (told["connect_timeout"], told["tcp_user_timeout"]) == ("10", "10000")
    probing = int(told["keepalives_idle"]) + int(told["keepalives_interval"]) * int(told["keepalives_count"])
    assert probing <= 20


def test_what_the_url_of_the_database_says_itself_stays_as_it_is() -> None:
    told = connecting(
        "postgresql://db.example/captions?connect_timeout=3&tcp_user_timeout=4000&options=-c%20x"
    )
    assert (told["connect_timeout"], told["tcp_user_timeout"], told["options"]) == ("3", "4000", "-c x")
    assert told["keepalives_idle"] == "10"


@pytest.fixture
async def nothing_free() -> AsyncIterator[None]:
    """Take all threads that asyncio has."""
    hanging = threading.Event()
    loop = asyncio.get_running_loop()
    taken = [loop.run_in_executor(None, hanging.wait) for _ in range(64)]
    yield
    hanging.set()
    await asyncio.gather(*taken)


@pytest.mark.usefixtures("nothing_free")
async def test_the_database_is_called_in_threads_of_its_own(database: Database) -> None:
    async with asyncio.timeout(30):
        await database.call(database.add_session, "a1", START, created_at=1.0)
        found = await database.call(database.session, "a1")
    assert found is not None and found.start == START


async def test_calls_that_hang_take_no_thread_of_others(database: Database) -> None:
    hanging = threading.Event()
    calls = [asyncio.create_task(database.call(hanging.wait)) for _ in range(64)]
    try:
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(lambda: "audio is written") == "audio is written"
    finally:
        hanging.set()
        await asyncio.gather(*calls)


async def test_an_error_of_a_call_is_the_callers(url: str) -> None:
    database = Database(url)
    with pytest.raises(StorageError):
        await database.call(database.add_session, "a1", START, created_at=1.0)
    database.close()
