"""Viewers of a session that failed, and of one whose database does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from live_asr.core.errors import StorageError
from live_asr.core.messages import Commit, encode
from live_asr.sessions.audience import Audience, Viewer, Viewers
from live_asr.storage.database import Database
from live_asr.storage.file_journal import FileJournal

TIMEOUT = 10.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/live-asr.db")
    database.prepare()
    yield database
    database.close()


async def all_of(viewer: Viewer | None) -> bytes:
    assert viewer is not None, "told to come no more"
    got = b""
    async with asyncio.timeout(TIMEOUT):
        while (chunk := await viewer.get()) is not None:
            got += chunk
    return got


@pytest.mark.parametrize("kept_count", [0, 2])
async def test_who_watches_a_session_that_failed_is_told_why_once_and_then_to_come_no_more(
    database: Database, tmp_path: Path, kept_count: int
) -> None:
    store = FileJournal(tmp_path)
    await store.start()
    spool = await store.open("a1", {})
    for seq in range(1, kept_count + 1):
        spool.append_message(encode(Commit(seq, (), f" word {seq}", 0)))
    await store.close()
    database.add_session("a1", {"type": "start"}, created_at=0.0)
    error = {"code": "not_audio", "message": "It is no sound."}
    database.finish_session("a1", state="failed", ended_at=1.0, error=error)
    desk = Viewers(lambda _: None, store, database, most=10)
    missed = await all_of(await desk.watch("a1", kept_count))
    assert missed.startswith(b"id: %d\n" % (kept_count + 1))
    assert missed.count(b"id: ") == missed.count(b'"code":"not_audio"') == 1
    assert (await all_of(await desk.watch("a1", 0))).count(b"id: ") == kept_count + 1
    assert await desk.watch("a1", kept_count + 1) is None


async def test_a_database_that_does_not_answer_costs_viewers_of_a_live_session_the_names_alone(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> NoReturn:
        raise StorageError("The database cannot be reached.")

    audience = Audience()
    desk = Viewers(lambda _: audience, FileJournal(tmp_path), database, most=10)
    monkeypatch.setattr(database, "session", fail)
    watching = await desk.watch("a1", 0)
    audience.publish(Commit(1, (), " word", 0), b"{}")
    audience.close()
    assert await all_of(watching) == b"id: 1\ndata: {}\n\n"
    monkeypatch.undo()
    database.add_session("a1", {"type": "start"}, created_at=0.0)
    database.set_names("a1", {"S1": "Ada"})
    assert b'"names":{"S1":"Ada"}' in await all_of(await desk.watch("a1", 0))
