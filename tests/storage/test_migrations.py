"""Revisions of the tables: they make what the code has, of whatever there was, while others use it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, create_engine, inspect, text

from live_asr.core.errors import StorageError
from live_asr.storage import gateways, migrations, postgres_journal, tables
from live_asr.storage.database import Database, sqlite_url
from tests.postgres import new_database
from tests.storage.sharing import Server
from tests.storage.stored import START

FOLDER = Path(__file__).parents[1] / "sessions" / "folder-of-0.1.0.tar.xz"
BEFORE = ("gateways", "delivery_claims")
"""Of what servers share, the tables that there were before revisions, beside the journal's."""
LATER = ("objects",)
"""Of all others those that came with a revision."""


def wanted(dialect: str) -> MetaData:
    """Return all tables that the code has for a kind of database."""
    kinds = [tables.metadata]
    if dialect == "postgresql":
        kinds += [gateways.metadata, postgres_journal.metadata]
    found = MetaData()
    for kind in kinds:
        for table in kind.tables.values():
            if table.name not in found.tables:
                table.to_metadata(found)
    return found


def check(url: str) -> None:
    """See that a database's tables are those that the code has, of the newest revision."""
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, wanted(connection.dialect.name)) == []
        assert context.get_current_revision() == migrations.REVISIONS[-1]
        assert connection.execute(text("SELECT version FROM live_asr_schema")).all() == [
            (tables.SCHEMA_VERSION,)
        ]
        if connection.dialect.name == "postgresql":
            external = "SELECT relname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
            external += "WHERE attname = 'data' AND attstorage = 'e' ORDER BY relname"
            assert list(connection.scalars(text(external))) == ["job_uploads", "journal_audio"]
            options = connection.scalar(
                text("SELECT reloptions FROM pg_class WHERE relname = 'journal_sessions'")
            )
            assert options == ["fillfactor=50"]
    engine.dispose()


def make_as_before(url: str) -> None:
    """Make the tables as the version before revisions did."""
    engine = create_engine(url)
    with engine.begin() as connection:
        kept = [table for table in tables.metadata.sorted_tables if table.name not in LATER]
        tables.metadata.create_all(connection, tables=kept)
        if connection.dialect.name == "postgresql":
            shared = gateways.metadata.tables
            gateways.metadata.create_all(connection, tables=[shared[name] for name in BEFORE])
            postgres_journal.metadata.create_all(connection)
        connection.execute(tables.schema.insert().values(version=1))
    engine.dispose()


def test_an_empty_database_gets_the_tables_that_the_code_has(url: str) -> None:
    for _ in range(2):
        database = Database(url)
        database.prepare()
        database.close()
        check(url)


def test_a_database_of_the_version_before_revisions_is_brought_up_to_date_with_what_it_holds(
    url: str,
) -> None:
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    make_as_before(url)
    database = Database(url)
    database.add_session("a1", START, created_at=1.0)
    database.prepare()
    stored = database.session("a1")
    assert stored is not None and stored.state == "open"
    database.close()
    check(url)


def test_a_database_of_0_1_0_is_brought_up_to_date_with_what_it_holds(tmp_path: Path) -> None:
    with tarfile.open(FOLDER) as archive:
        archive.extractall(tmp_path, filter="data")
    url = sqlite_url(next(tmp_path.rglob("live-asr.db")))
    database = Database(url)
    database.prepare()
    assert [stored.state for stored in database.sessions()] == ["open", "done"]
    database.close()
    check(url)


def test_tables_of_a_newer_version_that_this_one_can_live_with_stay_as_they_are(url: str) -> None:
    newer = Database(url)
    newer.prepare()
    with newer.transaction(writes=True) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text("ALTER TABLE sessions ADD COLUMN mood TEXT"))
    older = Database(url)
    older.prepare()
    older.add_session("a1", START, created_at=1.0)
    assert older.session("a1") is not None
    with newer.transaction(writes=False) as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    for database in (newer, older):
        database.close()


def test_tables_that_this_version_cannot_live_with_are_left_alone(url: str) -> None:
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    engine = create_engine(url)
    with engine.begin() as connection:
        tables.schema.create(connection)
        connection.execute(tables.schema.insert().values(version=2))
    database = Database(url)
    with pytest.raises(StorageError, match="have version 2; this live-asr knows 1"):
        database.prepare()
    database.close()
    assert names(engine) == ["live_asr_schema"]


async def test_a_server_goes_on_while_a_newer_one_brings_the_tables_up_to_date(
    server: str, tmp_path: Path
) -> None:
    url = new_database(server)
    make_as_before(url)
    old = Server(url, tmp_path)
    await old.journal.start()
    spool = await old.journal.open("a1", {})
    newer = Database(url)
    preparing = asyncio.create_task(newer.call(newer.prepare))
    count = 0
    while not preparing.done() or count < 10:
        count += 1
        spool.append_message(b"%d" % count)
        await spool.settled()
    await preparing
    assert spool.error is None
    assert list(old.journal.messages("a1")) == [b"%d" % number for number in range(1, count + 1)]
    newer.close()
    await old.close()
    check(url)


def test_tables_that_others_hold_are_not_waited_for_without_end_and_nothing_is_changed(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "50ms")
    url = new_database(server)
    make_as_before(url)
    engine = create_engine(url)
    before = names(engine)
    database = Database(url)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE sessions IN ROW EXCLUSIVE MODE"))
        with pytest.raises(StorageError, match="others use them"):
            database.prepare()
    assert names(engine) == before
    database.prepare()
    database.close()
    check(url)


def names(engine: Engine) -> list[str]:
    found = sorted(inspect(engine).get_table_names())
    engine.dispose()
    return found


def test_the_revisions_are_those_that_are_named() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(migrations.REVISIONS)


def test_a_server_with_sqlite_imports_alembic_where_there_are_older_tables_alone(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "old.db")
    make_as_before(url)

    def imports_alembic(url: str) -> bool:
        program = f"""
import sys
from live_asr.storage.database import Database
database = Database({url!r})
database.prepare()
print("alembic" in sys.modules)
"""
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        return done.stdout == "True\n"

    assert [imports_alembic(url) for _ in range(2)] == [True, False]
    assert not imports_alembic(sqlite_url(tmp_path / "new.db"))
