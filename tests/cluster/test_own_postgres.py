"""A PostgreSQL of our own: it starts, keeps what it was given through a kill, and ends."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from live_asr.cluster.own_postgres import OwnPostgres
from live_asr.core.errors import StorageError


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may look into, since PostgreSQL does not run as root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def asked(server: OwnPostgres, *statements: str) -> int:
    """Return what the last statement answers."""
    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
        for statement in statements:
            rows = connection.execute(statement)
        (value,) = rows.fetchone() or (None,)
    assert isinstance(value, int)
    return value


def postmaster(folder: Path) -> psutil.Process:
    """The server of this folder: other tests have started others."""
    number, *_ = (folder / "postgresql" / "postmaster.pid").read_text().splitlines()
    return psutil.Process(int(number))


def test_what_it_was_given_is_there_after_a_kill_and_after_an_end(folder: Path) -> None:
    server = OwnPostgres(folder)
    try:
        server.start()
        made = ("CREATE TABLE said (words integer)", "INSERT INTO said VALUES (7)")
        assert asked(server, *made, "SELECT words FROM said") == 7
        first = postmaster(folder)
        os.kill(first.pid, signal.SIGKILL)
        first.wait(60)
        assert server.has_ended
        server.start()
        assert asked(server, "SELECT words FROM said") == 7
        second = postmaster(folder)
    finally:
        server.end()
    assert server.has_ended
    assert not second.is_running()
    again = OwnPostgres(Path(os.path.relpath(folder)))
    try:
        again.start()
        assert asked(again, "SELECT words FROM said") == 7
    finally:
        again.end()


def test_a_folder_that_is_no_database_is_said_so(folder: Path) -> None:
    (folder / "postgresql").mkdir(mode=0o700)
    server = OwnPostgres(folder)
    try:
        with pytest.raises(StorageError, match="did not start") as failed:
            server.start()
    finally:
        server.end()
    assert str(folder / "postgresql.log") in failed.value.hint
