"""What has reached its age is erased, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from live_asr.config.settings import StorageSettings
from live_asr.sessions.retention import DAY, Retention
from live_asr.storage.database import Database, sqlite_url
from live_asr.storage.file_journal import FileJournal

NOW = 100 * DAY
AGES = {"young": 1.0, "middle": 10.0, "old": 40.0}


class Registry:
    """Erases as the real one does where nothing is at work."""

    def __init__(self, store: FileJournal, database: Database) -> None:
        self._store = store
        self._database = database

    async def erase(self, session_id: str) -> bool:
        self._store.mark_deleted(session_id)
        self._store.erase(session_id)
        return self._database.delete_session(session_id)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(sqlite_url(tmp_path / "test.db"))
    made.prepare()
    for name, age in AGES.items():
        made.add_session(name, {}, created_at=NOW - age * DAY)
        made.finish_session(name, state="done", ended_at=NOW - age * DAY)
    made.add_session("going on", {}, created_at=NOW - 90 * DAY)
    return made


@pytest.fixture
def store(tmp_path: Path) -> FileJournal:
    for name in AGES:
        folder = tmp_path / "sessions" / name
        folder.mkdir(parents=True)
        for file in ("session.json", "messages.jsonl", "audio.bin"):
            (folder / file).write_bytes(b"{}")
    return FileJournal(tmp_path / "sessions")


async def sweep(store: FileJournal, database: Database, **ages: float) -> list[str]:
    gone: list[str] = []
    retention = Retention(
        StorageSettings(**ages),
        Registry(store, database),  # type: ignore[arg-type]
        store,
        database,
        erased=gone.append,
        clock=lambda: NOW,
    )
    await retention.sweep()
    return gone


def left(store: FileJournal, file: str) -> set[str]:
    return {path.parent.name for path in store.folder.glob(f"*/{file}")}


async def test_without_an_age_nothing_is_erased(store: FileJournal, database: Database) -> None:
    assert await sweep(store, database) == []
    assert left(store, "audio.bin") == set(AGES)


async def test_transcripts_that_reach_their_age_are_erased_with_files_and_rows(
    store: FileJournal, database: Database
) -> None:
    assert await sweep(store, database, keep_transcripts_days=30) == ["old"]
    assert left(store, "messages.jsonl") == {"young", "middle"}
    assert {session.id for session in database.sessions()} == {"young", "middle", "going on"}


async def test_audio_that_reaches_its_age_is_erased_and_its_transcript_stays(
    store: FileJournal, database: Database
) -> None:
    assert await sweep(store, database, keep_audio_days=5) == []
    assert left(store, "audio.bin") == {"young"}
    assert left(store, "messages.jsonl") == set(AGES)


async def test_more_sessions_than_are_looked_up_at_once_are_all_erased(
    store: FileJournal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_asr.sessions.retention.PAGE", 1)
    assert await sweep(store, database, keep_transcripts_days=0.5) == ["old", "middle", "young"]


async def test_a_clock_that_jumps_ahead_erases_nothing_for_a_day(
    store: FileJournal, database: Database
) -> None:
    now, passed = NOW, 0.0
    retention = Retention(
        StorageSettings(keep_transcripts_days=1000),
        Registry(store, database),  # type: ignore[arg-type]
        store,
        database,
        clock=lambda: now,
        steady=lambda: passed,
    )
    await retention.sweep()
    now, passed = now + 2000 * DAY, passed + 3600.0
    for _ in range(24):
        await retention.sweep()
        now, passed = now + 3600.0, passed + 3600.0
    assert set(AGES) == left(store, "session.json")
    await retention.sweep()
    assert left(store, "session.json") == set(), "it has gone on like that for a day: so late it is"


async def test_neither_does_one_that_was_set_while_the_server_was_off(
    store: FileJournal, database: Database
) -> None:
    now, passed = NOW + 2000 * DAY, 0.0
    retention = Retention(
        StorageSettings(keep_transcripts_days=1000),
        Registry(store, database),  # type: ignore[arg-type]
        store,
        database,
        clock=lambda: now,
        steady=lambda: passed,
    )
    await retention.sweep()
    assert set(AGES) == left(store, "session.json")
    now, passed = now + DAY, passed + DAY
    await retention.sweep()
    assert left(store, "session.json") == set()
