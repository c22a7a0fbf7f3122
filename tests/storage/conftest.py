"""What the tests of the database share: an empty one of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from live_asr.storage.database import Database, sqlite_url
from tests.postgres import new_database, postgres
from tests.storage.sharing import Server


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


@pytest.fixture
async def pair(server: str, tmp_path: Path) -> AsyncIterator[tuple[Server, Server]]:
    """Two servers on one PostgreSQL, at work."""
    url = new_database(server)
    one, other = (Server(url, tmp_path / which) for which in ("one", "other"))
    for each in (one, other):
        await each.start()
    yield one, other
    for each in (one, other):
        await each.close()
