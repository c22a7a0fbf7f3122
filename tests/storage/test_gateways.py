"""Servers that share a database: what one is at no other takes, until that one is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy
from pydantic import SecretStr

from live_asr.config.settings import StorageSettings
from live_asr.core.errors import ConfigError, StorageError, Superseded
from live_asr.storage.database import Database, database_url
from live_asr.storage.gateways import LEASE_AFTER_OUTAGE
from live_asr.storage.journal import Ending
from live_asr.storage.spool import Spool
from tests.storage.sharing import Server
from tests.storage.stored import NEWS, START, finish


async def opened(server: Server, session_id: str) -> None:
    spool = await server.journal.open(session_id, {})
    spool.append_audio(b"abc")
    await spool.settled()
    server.database.add_session(session_id, START, created_at=1.0)


async def test_sessions_of_a_server_that_is_gone_go_to_one_other_and_those_that_are_over_to_none(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    for name in ("a1", "b2", "c3"):
        await opened(one, name)
    one.database.finish_session("b2", state="done", ended_at=5.0)
    assert other.journal.claim(8) == [], "it is there"
    await one.die()
    assert other.journal.claim(1) == ["a1"]
    assert other.journal.claim(8) == ["c3"]
    assert other.journal.claim(8) == []
    spool = await other.journal.reopen("a1")
    assert (spool.epoch, spool.safe_bytes) == (2, 3)


async def test_a_server_that_ends_leaves_its_sessions_at_once(pair: tuple[Server, Server]) -> None:
    one, other = pair
    await opened(one, "a1")
    await one.journal.close()
    assert other.journal.claim(8) == ["a1"]


async def test_who_was_not_there_itself_takes_nothing_before_it_has_been_for_a_while(
    pair: tuple[Server, Server],
) -> None:
    """The database was away: all servers were silent for too long, and none of them is gone."""
    one, other = pair
    await opened(one, "a1")
    await one.die()
    await other.die()
    other.journal._beat()
    assert other.journal.claim(8) == []
    other.now += LEASE_AFTER_OUTAGE - 0.1
    assert other.journal.claim(8) == []
    one.journal._beat()
    other.now += 0.1
    assert other.journal.claim(8) == [], "the other one has come back meanwhile"
    await one.die()
    assert other.journal.claim(8) == ["a1"]


async def test_a_server_sees_that_its_session_is_gone_though_it_writes_nothing(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    spool = await one.journal.open("a1", {})
    erased = await one.journal.open("b2", {})
    kept = await one.journal.open("c3", {})
    await other.journal.reopen("a1")
    other.journal.mark_deleted("b2")
    await one.journal.let_go_of_lost()
    assert isinstance(spool.error, Superseded) and isinstance(erased.error, Superseded)
    assert kept.error is None


async def test_a_database_that_crashes_and_starts_again_loses_nothing_and_nobody_is_gone(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    spool = await one.journal.open("a1", {})
    one.database.add_session("a1", START, created_at=1.0)
    spool.append_audio(b"before;")
    spool.append_message(b'{"seq":1}')
    await spool.settled()
    assert one.journal._connection is not None
    os.kill(one.journal._connection._driver.info.backend_pid, signal.SIGKILL)  # all of it starts again then
    spool.append_audio(b"after")
    spool.append_message(b'{"seq":2}')
    async with asyncio.timeout(60):
        await spool.settled()
    assert spool.error is None
    assert b"".join([piece async for piece in other.journal.read_audio("a1", 0, 100)]) == b"before;after"
    assert list(other.journal.messages("a1")) == [b'{"seq":1}', b'{"seq":2}']
    assert other.journal.claim(8) == []


async def test_the_end_of_a_session_is_kept_by_its_newest_writer_alone(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    await opened(one, "a1")
    old = next(iter(one.journal._writer.spools))
    new = await other.journal.reopen("a1")

    async def end(server: Server, spool: Spool, ending: Ending | None) -> None:
        check = await server.journal.conclude(spool, ending)
        server.database.finish_session("a1", state="done", ended_at=5.0, delivery=NEWS, check=check)

    for ending in (Ending(b'{"seq":1}', (), keep_audio=False), None):
        with pytest.raises(Superseded):
            await end(one, old, ending)
    stored = one.database.session("a1")
    assert stored is not None and stored.state == "open" and one.database.deliveries() == []
    assert (list(one.journal.messages("a1")), one.journal.kept_audio("a1") is None) == ([], False)
    await end(other, new, Ending(b'{"seq":1}', (), keep_audio=False))
    assert len(one.database.deliveries()) == 1
    assert (list(one.journal.messages("a1")), one.journal.kept_audio("a1")) == ([b'{"seq":1}'], None)


async def test_a_session_whose_audio_cannot_be_erased_in_time_ends_all_the_same(
    pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = pair
    await opened(one, "a1")
    spool = next(iter(one.journal._writer.spools))
    check = await one.journal.conclude(spool, Ending(b'{"seq":1}', (), keep_audio=False))
    monkeypatch.setattr("live_asr.storage.tables.TIMEOUT", 1)
    with other.database.transaction(writes=True) as connection:
        connection.execute(sqlalchemy.text("LOCK TABLE journal_audio IN SHARE MODE"))
        finish = partial(one.database.finish_session, "a1", state="done", ended_at=5.0, check=check)
        await asyncio.to_thread(finish)
    stored = one.database.session("a1")
    assert stored is not None and stored.state == "done"
    assert list(one.journal.messages("a1")) == [b'{"seq":1}']
    assert one.journal.kept_audio("a1") is not None
    assert "the audio of session a1 could not be erased" in caplog.text


async def test_a_delivery_is_sent_by_one_server_and_by_another_once_that_one_is_gone(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    for number in range(6):
        finish(one.database, f"s{number}")
    first = {delivery.id for delivery in one.database.due(100.0, limit=2)}
    second = {delivery.id for delivery in other.database.due(100.0, limit=100)}
    assert (len(first), len(second)) == (2, 4) and not first & second
    assert {delivery.id for delivery in one.database.due(100.0, limit=100)} == first, "they stay its own"
    await one.die()
    assert len(other.database.due(100.0, limit=100)) == 6


async def test_servers_that_look_together_never_take_the_same_delivery(pair: tuple[Server, Server]) -> None:
    for number in range(40):
        finish(pair[0].database, f"s{number}")
    taken: list[list[str]] = [[], []]

    async def take(which: int) -> None:
        database = pair[which].database
        while found := await database.call(database.due, 100.0, limit=3, without=tuple(taken[which])):
            taken[which] += [delivery.id for delivery in found]

    await asyncio.gather(take(0), take(1))
    assert len({*taken[0], *taken[1]}) == len(taken[0]) + len(taken[1]) == 40


async def test_servers_that_share_a_database_hold_it_together_and_nobody_else_does(
    pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    one.database.hold(shared=True)
    other.database.hold(shared=True)
    other.database.keep_hold()
    monkeypatch.setattr("live_asr.storage.tables.TIMEOUT", 1)
    alone = Database(one.database._engine.url.render_as_string(hide_password=False))
    with pytest.raises(StorageError, match="Another live-asr uses the database"):
        alone.hold()
    alone.close()


def test_the_journal_s_database_is_the_only_one(tmp_path: Path) -> None:
    url = SecretStr("postgresql+psycopg://db.example/captions")
    assert database_url(StorageSettings(data=tmp_path, journal=url)) == url.get_secret_value()
    assert database_url(StorageSettings(data=tmp_path, journal=url, database=url)) == url.get_secret_value()
    other = SecretStr("postgresql+psycopg://db.example/other")
    with pytest.raises(ConfigError, match="two databases"):
        database_url(StorageSettings(data=tmp_path, journal=url, database=other))


def test_a_server_with_files_imports_nothing_of_this() -> None:
    program = """
import sys
import live_asr.server.run
theirs = {"psycopg", "obstore", "live_asr.storage.postgres_journal", "sqlalchemy.dialects.postgresql"}
assert not theirs & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
