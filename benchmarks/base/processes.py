"""The server as a subprocess, and what all of its processes cost: CPU seconds, memory, its own metrics."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

COMMAND = (sys.executable, "-m", "live_asr.cli")
"""The server, with the Python that measures it."""
ROOT = Path(__file__).resolve().parents[2]
"""This checkout."""
READY_TIMEOUT = 120.0
"""Longest wait for the first 200 of /readyz, seconds."""
STOP_TIMEOUT = 20.0
"""Seconds that processes have to end, also those whose server was killed."""
INFERENCE = "live_asr.inference.worker"
FULL_PASS = "live_asr.full_pass.worker"
"""The processes that compute, by their command lines."""
DECODES = "live_asr_decode_seconds"
"""The server's histogram of its decodes."""
STALL = "live_asr_event_loop_stall_seconds"
"""The server's gauge of the longest time its event loop was held."""


class ServerFailedError(Exception):
    """The server did not come up, or went away; its sentence ends in the last lines it wrote."""


def server_environment() -> dict[str, str]:
    """Return the environment less the harness' own variables: the server refuses what it does not know."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LIVE_ASR_BENCH_")}


def knows_admission(tree: Path | None) -> bool:
    """Tell whether a checkout, this one where none is named, has `server.admission`, as the first had not."""
    return tree is None or (tree / "live_asr" / "sessions" / "capacity.py").is_file()


class BenchServer:
    """`live-asr serve` on a free port with a data folder of its own, from `with` to the end of its block."""

    def __init__(
        self,
        model: str,
        *,
        models_dir: Path | None = None,
        settings: dict[str, str] | None = None,
        token: str | None = None,
        tree: Path | None = None,
        overlay: Path | None = None,
    ) -> None:
        """Prepare it; `tree` is another checkout whose code it runs, `overlay` a folder before it."""
        self.model = model
        self._token = token
        self.port = free_port()
        self.ready_after = 0.0
        """From the start of the process to the first 200 of /readyz, seconds."""
        # What a suite offers is taken, whatever this machine is predicted to carry.
        counted = {"LIVE_ASR_SERVER__ADMISSION": "count"} if knows_admission(tree) else {}
        self._environment = counted | server_environment() | (settings or {})
        if tree is not None or overlay is not None:
            folders = [*([overlay] if overlay is not None else []), tree or ROOT]
            self._environment["PYTHONPATH"] = os.pathsep.join(str(folder.resolve()) for folder in folders)
        if models_dir is not None:
            self._environment["LIVE_ASR_MODELS__DIR"] = str(models_dir.resolve())
        self._folder = tempfile.TemporaryDirectory(prefix="live-asr-bench-", ignore_cleanup_errors=True)
        self._output = Path(self._folder.name) / "output.txt"

    @property
    def url(self) -> str:
        """Where sessions are opened."""
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    @property
    def data(self) -> Path:
        """The server's data folder."""
        return Path(self._folder.name) / "data"

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start the server and wait until it is ready; again, on the same data, where it was killed."""
        arguments = ["serve", "--host", "127.0.0.1", "--port", str(self.port), "--model", self.model]
        began = time.perf_counter()
        with self._output.open("ab") as output:
            self._process = psutil.Popen(
                [*COMMAND, *arguments, "--data", str(self.data)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder.name,
            )
        try:
            while self.get("/readyz")[0] != 200:
                if self._process.poll() is not None:
                    raise ServerFailedError(
                        f"The server ended with {self._process.returncode}.\n{self.output()}"
                    )
                if time.perf_counter() - began > READY_TIMEOUT:
                    raise ServerFailedError(f"Not ready after {READY_TIMEOUT:.0f} s.\n{self.output()}")
                time.sleep(0.02)
        except BaseException:
            self.stop()
            raise
        self.ready_after = time.perf_counter() - began

    def kill(self) -> list[str]:
        """Send SIGKILL to the server alone; return those of its processes that outlived it, ended here."""
        children = [process for process in self.processes() if process.pid != self._process.pid]
        self._process.kill()
        self._process.wait(STOP_TIMEOUT)
        _, alive = psutil.wait_procs(children, timeout=STOP_TIMEOUT)
        left = []
        for process in alive:
            with contextlib.suppress(psutil.Error):
                left.append(" ".join(process.cmdline()[-3:]))
                process.kill()
        return left

    def child(self, module: str) -> psutil.Process | None:
        """Return the process of the server that runs a module; None where there is none now."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if module in process.cmdline():
                    return process
        return None

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask the server to end, and after a while end what is left of its processes."""
        left = list(self.processes())
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(left, timeout=STOP_TIMEOUT)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(STOP_TIMEOUT)
        self._folder.cleanup()

    def output(self, lines: int = 20) -> str:
        """Return the last lines that the server wrote."""
        return "\n".join(self._output.read_text(errors="replace").splitlines()[-lines:])

    def get(self, path: str, *, body: str | None = None) -> tuple[int, str]:
        """GET a path, or POST some JSON to it, with the token; status 0 where nobody answers."""
        return answered(self.port, path, token=self._token, body=body)

    def metrics(self) -> dict[str, float]:
        """Return /metrics, each sample under its name with labels; nothing where it is not served."""
        status, body = self.get("/metrics")
        return parse_metrics(body) if status == 200 else {}

    def processes(self) -> Iterator[psutil.Process]:
        """Yield the server's process and all that descend from it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = self._process.children(recursive=True)
            yield self._process
            yield from children

    def cpu_seconds(self) -> float:
        """Return the CPU seconds, user and system, of all processes since they began, ended ones included."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_bytes(self) -> dict[int, int]:
        """Return the proportional set size of each process, by its id."""
        found: dict[int, int] = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                found[process.pid] = process.memory_full_info().pss
        return found

    def label(self, pid: int) -> str:
        """Name a process for people: `server`, or what its command line says it runs."""
        if pid == self._process.pid:
            return "server"
        with contextlib.suppress(psutil.Error):
            line = " ".join(psutil.Process(pid).cmdline())
            for part in (FULL_PASS, INFERENCE):
                if part in line:
                    return f"{part} {pid}"
        return f"child {pid}"


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server's processes had used at one moment."""

    time: float
    """`perf_counter` seconds."""
    cpu_seconds: float
    memory_bytes: dict[int, int]
    decodes: float = 0.0
    """Counted by the server since its start."""
    decode_seconds: float = 0.0
    """What they took together."""
    stall: float | None = None
    """The longest the event loop had been held since the server's start; None where it does not say."""


@dataclass(slots=True)
class Usage:
    """Samples of a server over a stretch of time, and what else the machine was doing."""

    samples: list[Sample] = field(default_factory=list)
    others_cores: float = 0.0
    """Cores kept busy, on average, by processes that are neither the server nor this harness."""

    @property
    def cpu_seconds(self) -> float:
        """Used between the first sample and the last."""
        return self.samples[-1].cpu_seconds - self.samples[0].cpu_seconds

    @property
    def decodes(self) -> float:
        """Made between the first sample and the last; 0 where the server does not count them."""
        return self.samples[-1].decodes - self.samples[0].decodes

    @property
    def stall_ms(self) -> float | None:
        """The event loop's longest stall since the server's start; None where the server does not say."""
        stall = self.samples[-1].stall
        return None if stall is None else 1000 * stall

    @property
    def stall_at(self) -> float:
        """When that stall was first seen, seconds from the first sample; 0 where it was there before."""
        worst = self.samples[-1].stall
        return next(s.time for s in self.samples if s.stall == worst) - self.samples[0].time

    @property
    def peak_bytes(self) -> int:
        """The largest sum over all processes at one moment."""
        return max(sum(sample.memory_bytes.values()) for sample in self.samples)


def take_sample(server: BenchServer) -> Sample:
    """Look at the server's processes and at its own count of decodes."""
    metrics = server.metrics()
    return Sample(
        time.perf_counter(),
        server.cpu_seconds(),
        server.memory_bytes(),
        metrics.get(f"{DECODES}_count", 0.0),
        metrics.get(f"{DECODES}_sum", 0.0),
        metrics.get(STALL),
    )


@contextlib.contextmanager
def watched(server: BenchServer, interval: float = 1.0) -> Iterator[Usage]:
    """Sample a server at the start, every `interval` seconds and at the end of the block, from a thread."""
    usage = Usage()
    done = threading.Event()

    def sample() -> None:
        usage.samples.append(take_sample(server))

    def repeat() -> None:
        while not done.wait(interval):
            sample()

    sample()
    machine, own, began = _machine_cpu_seconds(), _own_cpu_seconds(), time.perf_counter()
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield usage
    finally:
        done.set()
        thread.join()
        sample()
        busy = _machine_cpu_seconds() - machine
        ours = usage.cpu_seconds + _own_cpu_seconds() - own
        usage.others_cores = max(busy - ours, 0.0) / max(time.perf_counter() - began, 1e-9)


def _machine_cpu_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _own_cpu_seconds() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


def parse_metrics(body: str) -> dict[str, float]:
    """Read Prometheus' text format into sample → value."""
    found: dict[str, float] = {}
    for line in body.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            with contextlib.suppress(ValueError):
                found[name] = float(value)
    return found


def answered(port: int, path: str, *, token: str | None = None, body: str | None = None) -> tuple[int, str]:
    """GET a path of a server on this machine, or POST some JSON to it; status 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def free_port() -> int:
    """Return a TCP port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
