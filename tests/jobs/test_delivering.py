"""Who delivers where several share a PostgreSQL that begins anew."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy

from live_asr.config.settings import WebhookSettings
from live_asr.delivery.webhook import WebhookSender
from live_asr.jobs.delivering import Delivering
from live_asr.storage.database import Database, NewDelivery
from tests.delivery.receiver import answer, receiving
from tests.postgres import postgres

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
TIMEOUT = 120.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of an empty database of PostgreSQL."""
    with postgres() as server:
        name = f"test_{uuid4().hex}"
        admin = sqlalchemy.create_engine(server.format(name="postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        admin.dispose()
        yield server.format(name=name)


def end_all_connections(url: str) -> None:
    """Do to the server's connections what a restart of PostgreSQL does."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid != pg_backend_pid() AND datname = current_database()"
        )
    engine.dispose()


async def test_one_that_has_lost_its_outbox_stops_and_goes_on_once_it_has_it_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("live_asr.storage.tables.TIMEOUT", 1)
    caplog.set_level("INFO")
    database, other = Database(url), Database(url)
    database.prepare()
    async with receiving(answer(200)) as receiver, asyncio.timeout(TIMEOUT):

        async def tell(session_id: str) -> None:
            news = NewDelivery(receiver.url, b"{}")
            await asyncio.to_thread(database.add_session, session_id, {}, created_at=1.0)
            await asyncio.to_thread(
                database.finish_session, session_id, state="done", ended_at=time.time(), delivery=news
            )

        sender = WebhookSender(database, WebhookSettings(url=receiver.url), SECRET, trusts_own=True)
        delivering = Delivering(sender, database, tmp_path)
        await delivering.start()
        try:
            await tell("first")
            await receiver.received(1)
            end_all_connections(url)
            other.hold()
            while "another live-asr delivers webhooks" not in caplog.text:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0.02)
            await tell("second")
            assert len(receiver.requests) == 1
            other.close()
            await receiver.received(2)
        finally:
            await delivering.close()
    database.close()
