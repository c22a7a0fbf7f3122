"""What a server sees of its database while it runs: whether it answers, is its own, and has forgotten."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy

from live_asr.core.errors import StorageError
from live_asr.storage.database import Database, sqlite_url


async def test_a_database_that_is_locked_does_not_answer(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "a.db"))
    database.prepare()
    assert await database.answers(10.0)
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(8):  # more than there are threads: one waits for all
        assert not await database.answers(0.05)
    other.execute("ROLLBACK")
    assert await database.answers(60.0)
    other.close()
    database.close()


async def test_one_that_is_gone_does_not_answer(tmp_path: Path) -> None:
    database = Database("postgresql+psycopg://nobody@/nothing?host=" + str(tmp_path))
    assert not await database.answers(30.0)
    database.close()


def test_text_that_was_erased_beside_a_reader_is_gone_once_that_has_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database(sqlite_url(path))
    database.prepare()
    database.add_session("one", {"title": "swordfish"}, created_at=1.0)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sessions").fetchall()
    database.delete_session("one")
    log = path.with_name("a.db-wal")
    assert b"swordfish" in log.read_bytes()
    assert database.log_holds_erased
    database.truncate_wal()
    assert database.log_holds_erased, "somebody still reads"
    reader.execute("COMMIT")
    database.truncate_wal()
    assert not database.log_holds_erased
    assert b"swordfish" not in log.read_bytes() + path.read_bytes()
    reader.close()
    database.close()


@pytest.fixture
def postgres_url(server: str) -> str:
    name = f"test_{uuid4().hex}"
    admin = sqlalchemy.create_engine(server.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return server.format(name=name)


def end_all_connections(url: str) -> None:
    """Do to the server's connections what a restart of PostgreSQL does."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid != pg_backend_pid() AND datname = current_database()"
        )
    engine.dispose()


def test_a_lock_that_postgresql_forgot_is_taken_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_asr.storage.tables.TIMEOUT", 1)
    first, second = Database(postgres_url), Database(postgres_url)
    first.prepare()
    first.hold()
    first.keep_hold()
    end_all_connections(postgres_url)
    first.keep_hold()
    with pytest.raises(StorageError, match="Another live-asr uses"):
        second.hold()
    first.close()
    second.close()


def test_where_another_server_was_faster_the_first_one_hears_of_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_asr.storage.tables.TIMEOUT", 1)
    first, second = Database(postgres_url), Database(postgres_url)
    first.prepare()
    first.hold()
    end_all_connections(postgres_url)
    second.hold()
    with pytest.raises(StorageError) as lost:
        first.keep_hold()
    assert lost.value.code == "database_taken"
    with pytest.raises(StorageError, match="Another live-asr uses"):
        first.keep_hold()
    second.close()
    first.keep_hold()
    third = Database(postgres_url)
    with pytest.raises(StorageError, match="Another live-asr uses"):
        third.hold()
    third.close()
    first.close()
