"""What the tests of deliveries share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from live_asr.storage.database import Database, sqlite_url


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty outbox."""
    database = Database(sqlite_url(tmp_path / "live-asr.db"))
    database.prepare()
    yield database
    database.close()
