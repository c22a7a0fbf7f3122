"""A server that a test has started, and what all of them are started with."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
MODEL = "tiny.en"
SETTINGS = {"LIVE_ASR_SERVER__RESUME_WINDOW": "0", "LIVE_ASR_SERVER__ADMISSION": "count"}
SETTINGS |= {"LIVE_ASR_INFERENCE__KERNELS": "plain"}
"""Nobody comes back but in tests of just that: what a test leaves behind takes no place from the next. And
there are as many places on a machine that is busy with other tests."""


@dataclass(frozen=True)
class Server:
    """A running `live-asr serve`."""

    url: str
    process: subprocess.Popen[bytes]
    data: Path
    log: Path

    @property
    def stream(self) -> str:
        """The address of its WebSocket."""
        return self.url.replace("http", "ws", 1) + "/v1/stream"

    @property
    def wyoming_port(self) -> int:
        """The port of Wyoming, where it was asked to serve it."""
        found = re.search(r"wyoming is served at tcp://127\.0\.0\.1:(\d+)", self.log.read_text())
        assert found is not None
        return int(found[1])

    def metric(self, name: str) -> float:
        """Return the value of one of its metrics."""
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        raise KeyError(name)


StartServer = Callable[..., Server]
