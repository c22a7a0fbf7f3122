"""How the tables came to be what they are, step by step: Alembic's revisions, run as a server prepares them.

A revision runs while servers of the version before go on with the same tables, and they go on after it. So it
adds: tables, indexes, columns that may be null or have a default in the database. Nothing is renamed, and
what is dropped was used by nobody in the release before. What cannot be done so raises
`tables.SCHEMA_VERSION`, by which an older version refuses the database.

To add one, write a file in `versions`, and its name into `REVISIONS`; `test_migrations` holds what they make
against the tables that the code has.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

log = logging.getLogger(__name__)

REVISIONS = ("0001", "0002", "0003")
"""All that there are, oldest first: known without Alembic, which most starts have no need of."""
LOCK_TIMEOUT = "3s"
"""For so long a change waits in PostgreSQL for who uses a table; all others wait behind it meanwhile."""


def upgrade(connection: Connection) -> None:
    """Bring a database's tables up to date, in the transaction of `connection`.

    They stay as they are where a newer version has made them. Raises SQLAlchemyError.
    """
    found = current(connection)
    if found == REVISIONS[-1]:
        return
    if found is not None and found not in REVISIONS:
        log.info("the tables of the database are of a newer live-asr (%s)", found)
        return
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    was_there = inspect(connection).has_table("live_asr_schema")
    command.upgrade(config, "head")
    if was_there:
        log.info("the tables of the database were brought up to date, to revision %s", REVISIONS[-1])


def stamp(connection: Connection) -> None:
    """Note that a database has the newest tables: made at once, they need no Alembic, which takes 7 MB."""
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY NOT NULL)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": REVISIONS[-1]})


def current(connection: Connection) -> str | None:
    """Return the revision that the tables are of; None where they are older than revisions, or not there."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
