"""Recordings that came with jobs to one of several servers: the others have them, and none is left behind."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from live_asr.core.errors import DiskFull
from live_asr.jobs import uploads
from live_asr.jobs.uploads import DatabaseUploads
from live_asr.storage.jobs import JobDatabase
from live_asr.storage.postgres_journal import PostgresJournal
from tests.postgres import new_database, postgres

RECORDING = bytes(range(256)) * 9


class Torn(io.BytesIO):
    """A file whose disk fails behind its first pieces."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 2000:
            raise OSError("it broke")
        return super().read(size)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
async def pair(server: str, tmp_path: Path) -> AsyncIterator[list[JobDatabase]]:
    """Two servers on one database."""
    url = new_database(server)
    databases = [JobDatabase(url) for _ in range(2)]
    journals = [PostgresJournal(database, tmp_path / "sessions") for database in databases]
    databases[0].prepare()
    for journal in journals:
        await journal.start()
    yield databases
    for journal, database in zip(journals, databases, strict=True):
        await journal.close()
        database.close()


def count(database: JobDatabase) -> int:
    with database.transaction(writes=False) as connection:
        return connection.scalar(text("SELECT count(*) FROM job_uploads")) or 0


async def test_a_recording_that_came_to_one_server_is_whole_at_the_other_until_it_is_forgotten(
    pair: list[JobDatabase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "COPIED_BYTES", 1000)
    monkeypatch.setattr("live_asr.storage.jobs.PIECES_AT_ONCE", 2)
    one, other = (DatabaseUploads(database) for database in pair)
    names = [await one.keep("a1", io.BytesIO(RECORDING)), await other.keep("a1", io.BytesIO(RECORDING[::-1]))]
    assert count(pair[0]) == 6
    for name, held in zip(names, (RECORDING, RECORDING[::-1]), strict=True):
        assert (await other.bring(name, tmp_path)).read_bytes() == held
    await other.forget(names[0])
    assert count(pair[0]) == 3
    with pytest.raises(FileNotFoundError):
        await one.bring(names[0], tmp_path)
    assert (await one.bring(names[1], tmp_path)).read_bytes() == RECORDING[::-1]


async def test_of_a_recording_that_cannot_be_kept_nothing_is(
    pair: list[JobDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "COPIED_BYTES", 1000)
    with pytest.raises(OSError, match="it broke"):
        await DatabaseUploads(pair[0]).keep("a1", Torn(RECORDING))
    assert count(pair[0]) == 0


async def test_a_recording_for_which_the_disk_has_no_room_stays_in_the_database(
    pair: list[JobDatabase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = DatabaseUploads(pair[0])
    name = await kept.keep("a1", io.BytesIO(RECORDING))
    with monkeypatch.context() as full:
        full.setattr("live_asr.storage.files.RESERVE_BYTES", 2**60)
        with pytest.raises(DiskFull):
            await kept.bring(name, tmp_path)
    assert (await kept.bring(name, tmp_path)).read_bytes() == RECORDING


async def test_what_servers_left_that_died_is_erased_and_what_jobs_wait_with_or_has_just_come_is_not(
    pair: list[JobDatabase],
) -> None:
    kept = DatabaseUploads(pair[0])
    wanted, left, coming = [await kept.keep("a1", io.BytesIO(RECORDING)) for _ in range(3)]
    pair[0].add_job("a1", {}, upload=wanted, created_at=1.0)
    with pair[0].transaction(writes=True) as connection:
        aged = "UPDATE job_uploads SET kept_at = now() - interval '61 minutes' WHERE upload <> :coming"
        connection.execute(text(aged), {"coming": coming})
    await DatabaseUploads(pair[1]).clear()
    for name, pieces in ((wanted, 1), (left, 0), (coming, 1)):
        assert pair[0].size_of_upload(name) == (pieces, pieces * len(RECORDING))
