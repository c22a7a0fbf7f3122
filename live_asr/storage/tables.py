"""The tables of the database, how it is reached, and what its failures are called.

Two dialects, one schema: SQLite in the data folder by default, PostgreSQL by URL. What differs between
them stands here and nowhere else.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Column,
    Connection,
    Double,
    Engine,
    ForeignKey,
    Function,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

from live_asr.core.errors import ConfigError, StorageError
from live_asr.storage import migrations

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

SCHEMA_VERSION = 1
"""Raised with every change that an older version cannot live with; the database says which one it has.
What an older version can live with is a revision in `migrations`."""
TIMEOUT = 10
"""Seconds that a statement takes at most, with the wait for another process to finish its own; also those
after which a server that is not to be reached counts as gone."""
PREPARING = 0x11FE_A5B
"""Key of the lock under which PostgreSQL's tables are made: two servers may start together."""

SERVING = 0x11FE_A5C
"""Key of the lock that a server holds on its database for as long as it runs."""
LOCK_NOT_AVAILABLE = "55P03"
"""PostgreSQL's `sqlstate` where a lock was waited for in vain."""

metadata = MetaData()

schema = Table("live_asr_schema", metadata, Column("version", Integer, primary_key=True))

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("created_at", Double, nullable=False),  # Unix seconds, here and below
    Column("ended_at", Double),
    Column("duration", Double),
    Column("language", Text),
    Column("revision", Integer, nullable=False, default=0),
    Column("labels", Text),
    Column("speakers", JSON, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("start", JSON, nullable=False),
    Column("names", JSON, nullable=False),
    Index("sessions_by_age", "created_at", "id"),
)

texts = Table(  # what sessions are called and found by; not each has a row
    "texts",
    metadata,
    Column("session_id", Text, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("title", Text),
    Column("heading", Text, nullable=False, default=""),  # title and names, folded
    Column("text", Text),  # what was said; null where that has not been put here yet
    Column("folded", Text),  # the same, folded
)

editions = Table(  # what people made of a transcript by hand
    "editions",
    metadata,
    Column("session_id", Text, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, nullable=False),  # raised with every change, also when all is taken back
    Column("final", LargeBinary),  # as the message; null where all was taken back
    Column("turns", JSON(none_as_null=True)),
)

tokens = Table(  # whom the server lets in besides who has its own token
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),  # of the secret, which is kept nowhere
    Column("scopes", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)

owners = Table(  # by which token sessions were opened; those of nobody have no row
    "owners",
    metadata,
    Column("session_id", Text, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", Text, nullable=False, index=True),
)

erased = Table(  # what sessions cost their tokens that were erased before their day was over
    "erased",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("owner", Text, nullable=False, index=True),
    Column("ended_at", Double, nullable=False),
    Column("duration", Double, nullable=False),
)

links = Table(  # how often the links for an audience were revoked; of most sessions never
    "links",
    metadata,
    Column("session_id", Text, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("revoked", Integer, nullable=False),
)

objects = Table(  # what is in the object store, and what is to go there; rows outlive their session
    "objects",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("store", Text),  # its URL; null where no object was begun
    Column("name", Text),  # of the object, likewise
    Column("media_type", Text),
    Column("size_bytes", BigInteger),
    Column("next_at", Double, nullable=False),  # of the next try, where one is due
    Column("gateway", Text),  # who is at it; void where that one is gone
    Index("objects_by_time", "state", "next_at"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),  # the `webhook-id`
    # Unique: a session is told once, however often the end of it is written.
    Column("session_id", Text, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("receiver", Text, nullable=False),  # the URL's origin: what is shared by those that wait
    Column("body", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),  # ever
    Column("tries", Integer, nullable=False, default=0),  # since it was last told to begin anew
    Column("next_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_status", Integer),
    Column("last_error", Text),
    Index("deliveries_by_time", "state", "next_at"),
)


kept_results = Table(  # of jobs: what the same bytes came to with the same options
    "kept_results",
    metadata,
    Column("key", Text, primary_key=True),
    Column("session_id", Text, nullable=False),  # erased with that one
    Column("result", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("kept_results_by_session", "session_id"),
)

jobs = Table(  # those that came over HTTP, until they are over; each is a session of the same id then
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", JSON, nullable=False),  # as it was asked for
    Column("upload", Text),  # name of the file that came with it
    Column("owner", Text),  # the token that it came with; null where that is nobody's
    Column("attempts", Integer, nullable=False, default=0),  # runs that began
    Column("created_at", Double, nullable=False),
    Index("jobs_by_age", "created_at", "id"),
)


def open_engine(url: str) -> Engine:
    """Return the engine for a URL; nothing is connected yet.

    Raises ConfigError for a URL that names no database we know, without repeating it: it may hold a
    password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "The URL of the database cannot be read.",
            "Write it as postgresql+psycopg://user:password@host/name, or leave storage.database unset.",
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(
            f"A database of the kind {parsed.drivername} is not supported.",
            "Name PostgreSQL by its URL, or leave storage.database unset for SQLite.",
        )
    if parsed.get_backend_name() == "sqlite":
        arguments: dict[str, Any] = {"connect_args": {"timeout": TIMEOUT}}
    else:
        # What the URL says itself stays as it is.
        limits = {name: value for name, value in _libpq_limits().items() if name not in parsed.query}
        arguments = {"pool_pre_ping": True, "connect_args": limits}
    try:
        engine = create_engine(parsed, hide_parameters=True, **arguments)
    except (ImportError, NoSuchModuleError):
        raise ConfigError(
            f"The driver of {parsed.drivername} is not installed.", "pip install 'live-asr[postgres]' has it."
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "begin", _begin_postgresql)
    return engine


def _libpq_limits() -> dict[str, int]:
    """Return after what time libpq gives up a server that it cannot reach, and one that has vanished."""
    return {
        "connect_timeout": TIMEOUT,
        "tcp_user_timeout": TIMEOUT * 1000,  # milliseconds; for what was sent
        "keepalives_idle": TIMEOUT,  # for what is waited for
        "keepalives_interval": 2,
        "keepalives_count": 3,
    }


def prepare(writing: Engine) -> None:
    """See that the tables' version is ours, and bring them up to date.

    Raises StorageError when it is not.
    """
    if writing.dialect.name == "sqlite":
        _make_file(writing.url)
    with writing.begin() as connection:
        if writing.dialect.name == "postgresql":
            _lock_tables(connection)
        found = None
        if inspect(connection).has_table(schema.name):
            found = connection.scalar(select(schema.c.version))
        if found not in (None, SCHEMA_VERSION):
            raise StorageError(
                f"The tables of the database have version {found}; this live-asr knows {SCHEMA_VERSION}.",
                "Run the version of live-asr that made them, or a newer one, or name another database.",
                code="database",
            )
        if writing.dialect.name == "sqlite" and not inspect(connection).get_table_names():
            metadata.create_all(connection)
            migrations.stamp(connection)
        try:
            migrations.upgrade(connection)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            raise StorageError(
                "The tables of the database cannot be brought up to date now: others use them.",
                "Start the server again in a moment; nothing was changed.",
                code="database",
            ) from None
        if found is None:
            connection.execute(schema.insert().values(version=SCHEMA_VERSION))


def _lock_tables(connection: Connection) -> None:
    """Keep other servers from making tables in PostgreSQL until the transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": PREPARING})


def hold(engine: Engine, *, shared: bool = False) -> Connection | None:
    """Take a database for one server alone, as long as the connection that is returned stays open.

    With `shared` it is taken for all those together that share it so, and for no other.

    None for SQLite, whose file lies in a data folder that is held. Raises StorageError where another server
    holds it: two would take each other's sessions for those of a run that died.
    """
    if engine.dialect.name == "sqlite":
        return None
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        # One that was killed a moment ago lets go when the database notices.
        connection.execute(text(f"SET lock_timeout = '{TIMEOUT}s'"))
        kind = "_shared" if shared else ""
        connection.execute(text(f"SELECT pg_advisory_lock{kind}(:key)"), {"key": SERVING})
    except OperationalError as error:
        connection.close()
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise StorageError(
            f"Another live-asr uses the database {_shown(engine.url)}.",
            "Give each server a database of its own by storage.database, or all of them storage.journal.",
            code="database",
        ) from None
    return connection


def try_hold(engine: Engine) -> tuple[Connection | None, bool]:
    """Do the same without waiting; return the connection, if there has to be one, and whether it is held."""
    if engine.dialect.name == "sqlite":
        return None, True
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    if connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": SERVING}):
        return connection, True
    connection.close()
    return None, False


def is_prepared(engine: Engine) -> bool:
    """Tell whether the tables are there. Makes nothing, not even SQLite's file."""
    name = engine.url.database
    if engine.dialect.name == "sqlite" and not (name and Path(name).is_file()):
        return False
    return inspect(engine).has_table(schema.name)


@contextmanager
def translate_errors(engine: Engine) -> Iterator[None]:
    """Turn SQLAlchemy's errors into StorageError, whose text holds no statement, value or password."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _storage_error(error, engine.url) from error
    except OSError as error:  # of the file or its folder
        raise StorageError(
            f"The database {_shown(engine.url)} cannot be opened: {error.strerror or error}.",
            "Use --data to name a folder that this user can write to, on a disk with free space.",
            code="database",
        ) from error


@contextmanager
def translate_driver_errors(engine: Engine) -> Iterator[None]:
    """Turn errors of the database's driver that are no fault of the statement into StorageError, likewise."""
    driver = engine.dialect.loaded_dbapi
    assert driver is not None, "it has been connected to"
    try:
        yield
    except (driver.OperationalError, driver.InterfaceError) as error:
        raise _reported(str(error) or type(error).__name__, engine.url) from error


def _storage_error(error: SQLAlchemyError, url: URL) -> StorageError:
    origin = getattr(error, "orig", None)
    if getattr(origin, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StorageError("The database's disk is full.", "The operator has to free some space.")
    return _reported(str(origin or "").strip() or type(error).__name__, url)


def _reported(reason: str, url: URL) -> StorageError:
    return StorageError(
        f"The database {_shown(url)} reports an error: {reason.splitlines()[0]}",
        "Check that it runs, that storage.database names it, and that this user may write there.",
        code="database",
    )


def _shown(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return url.database or "in memory"
    return f"{url.database or ''} at {url.host or url.query.get('host', 'its socket')}"


def _make_file(url: URL) -> None:
    """Make SQLite's file readable for its owner alone: it holds what people said."""
    if not url.database or url.database == ":memory:":
        return
    path = Path(url.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says so
    for pragma in (
        "journal_mode=WAL",  # the command line reads while the server writes
        "synchronous=FULL",  # what was committed survives a power cut
        "foreign_keys=ON",
        "secure_delete=ON",  # erased text is overwritten
    ):
        connection.execute(f"PRAGMA {pragma}")


def position_of(engine: Engine, column: Column[str], part: str) -> Function[int]:
    """Return at which character of a column a text begins, counted from 1; 0 where it is not in it."""
    find = func.instr if engine.dialect.name == "sqlite" else func.strpos
    return find(column, part)


def insert_new(connection: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Add a row; return False where one with its key is there, which stays as it is."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else insert_shared
    adding = insert(table).values(**values).on_conflict_do_nothing().returning(*table.primary_key)
    return connection.execute(adding).first() is not None


def insert_shared(table: Table) -> postgresql.Insert:
    """Return an insert as PostgreSQL has it, with `on_conflict_do_update`."""
    from sqlalchemy.dialects import postgresql  # not at the top: with SQLite nobody needs its 3 MB

    return postgresql.insert(table)


def truncate_wal(engine: Engine) -> bool:
    """Take out of SQLite's log what the database has by now: text that was erased is still written there.

    Returns False where somebody reads at this moment: then it stays, and has to be tried again.
    """
    if engine.dialect.name != "sqlite":
        return True
    connection = engine.raw_connection()
    try:
        ((is_busy, _, _),) = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
    return not is_busy


def is_held(connection: Connection) -> bool:
    """Tell whether a connection still holds its database for one server. Raises SQLAlchemyError."""
    held = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() "
        "AND granted AND ((classid::bigint << 32) | objid::bigint) = :key"
    )
    return bool(connection.scalar(held, {"key": SERVING}))


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that will write takes the lock first: one that reads first and writes later cannot
    # wait for another writer, SQLite fails it at once.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    # For this transaction alone: a pooler in between (PgBouncer) refuses it among the parameters of a
    # connection, and would hand on to others what was set for a whole one.
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {TIMEOUT * 1000}")
