"""What the tests of the database share: an empty one of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from live_asr.storage.database import Database, sqlite_url
from tests.postgres import new_database, postgres


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server; its URL with a gap for the database's name."""
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "deep" / "live-asr.db")
    return new_database(request.getfixturevalue("server"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """The database, prepared."""
    database = Database(url)
    database.prepare()
    yield database
    database.close()
