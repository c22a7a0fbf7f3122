"""A target's process as the fuzzer has it: it is asked, watched, and survived."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import psutil

from benchmarks.base.report import ROOT
from benchmarks.fuzz.target import NUMBER

HANG = 20.0
"""Seconds that one input may take; a hundred times what the slowest does, on a machine that does more."""


@dataclass(frozen=True, slots=True)
class MemorySample:
    """A target between two batches."""

    at: float
    """Seconds since its process began."""
    inputs: int
    """That it has had until then."""
    in_use_mb: float
    """What has been asked of the allocator and not been given back; nan where there is no telling."""
    resident_mb: float
    descriptors: int
    threads: int


class TargetDiedError(Exception):
    """The target's process is gone or does not answer; its sentence says which, and what it said last."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


class Child:
    """One process of a target. Raises RuntimeError where it does not even begin.

    It goes without Python's own allocator, whose blocks of a MiB are given back only as a whole: by chance a
    few live objects keep ever more of them, which looks like a leak and is none.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            cwd=ROOT,
            env={**os.environ, "PYTHONMALLOC": "malloc"},
        )
        self._seen = psutil.Process(self._process.pid)
        self.inputs = 0
        try:
            self.ask([], HANG)
        except TargetDiedError as died:
            self.end()
            raise RuntimeError(f"{' '.join(command)}: {died}") from None
        self.began = time.monotonic()

    def ask(self, batch: Sequence[bytes], patience: float) -> list[dict[str, Any]]:
        """Have inputs tried. Raises TargetDiedError where no answer comes within so many seconds."""
        asked = [NUMBER.pack(len(batch)), *(NUMBER.pack(len(data)) + data for data in batch)]
        assert self._process.stdin is not None
        try:
            rest = memoryview(b"".join(asked))
            while rest:
                rest = rest[self._process.stdin.write(rest) or 0 :]
        except BrokenPipeError:
            raise self._died() from None
        deadline = time.monotonic() + patience
        answers: list[dict[str, Any]] = json.loads(
            self._read(NUMBER.unpack(self._read(4, deadline))[0], deadline)
        )
        self.inputs += len(batch)
        return answers

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        found = b""
        while len(found) < size:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                raise self._hangs()
            more = self._process.stdout.read(size - len(found))
            if not more:
                raise self._died()
            found += more
        return found

    def _died(self) -> TargetDiedError:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return TargetDiedError("crash", f"{how}\n{self._said()}")

    def _hangs(self) -> TargetDiedError:
        self._process.send_signal(signal.SIGABRT)  # whereupon it says where all its threads are
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        return TargetDiedError("hang", self._said())

    def _said(self) -> str:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4000))
        return self._log.read().decode("utf-8", "replace")

    def look(self) -> MemorySample:
        """Return what the process holds on to. Raises TargetDiedError where it does not answer."""
        (held,) = self.ask([], HANG)
        with self._seen.oneshot():
            return MemorySample(
                at=round(time.monotonic() - self.began, 1),
                inputs=self.inputs,
                in_use_mb=held["in_use_mb"],
                resident_mb=round(self._seen.memory_info().rss / 1e6, 3),
                descriptors=self._seen.num_fds(),
                threads=self._seen.num_threads(),
            )

    def end(self) -> None:
        """End the process; idempotent."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()
