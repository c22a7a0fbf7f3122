"""What the tests of jobs share: a cloud, a platform's API, and workers in processes of their own."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from benchmarks.aws import Aws, aws
from benchmarks.inbox import Inbox, inbox
from tests.started import MODEL, ROOT

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
TIMEOUT = 400.0
"""Seconds after which a test gives up: models are loaded on a busy machine."""


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """S3 and SQS, shared; each test makes queues of its own."""
    with aws(tmp_path_factory.mktemp("aws")) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def recording(sample_wav: Path) -> bytes:
    """A telephone call of 30 s between two people, as a file."""
    return sample_wav.read_bytes()


@pytest.fixture
def queue(cloud: Aws) -> str:
    """A queue of one's own."""
    return cloud.queue(f"jobs-{uuid4().hex}")


@pytest.fixture
def dlq(cloud: Aws) -> str:
    """One for what cannot be done."""
    return cloud.queue(f"dead-{uuid4().hex}")


@pytest.fixture
def platform() -> Iterator[Inbox]:
    """A platform's API of one's own."""
    with inbox(SECRET) as box:
        yield box


@dataclass
class Working:
    """A worker that runs."""

    process: subprocess.Popen[bytes]
    data: Path
    log: Path

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Tell it to stop; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)

    @property
    def said(self) -> str:
        """All that it has logged."""
        return self.log.read_text()

    def says(self, text: str) -> None:
        """Wait until it has logged something."""
        self.until(lambda: text in self.said)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for what it brings about."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert self.process.poll() is None, f"the worker has ended:\n{self.said}"
            assert time.monotonic() < deadline, f"it did not come about:\n{self.said}"
            time.sleep(0.05)  # between two looks at another process


StartWorker = Callable[..., Working]


@contextmanager
def workers(cloud: Aws, models_dir: Path, folder: Path) -> Iterator[StartWorker]:
    """Start workers by the environment alone; all end with the block."""
    started: list[Working] = []

    def start(queue: str, platform: Inbox | None = None, data: Path | None = None, **more: str) -> Working:
        data = data or folder / f"data-{len(started)}"
        log = folder / f"worker-{len(started)}.log"
        environment = {
            **cloud.environment,
            "AWS_SQS_ASR_QUEUE_URL": queue,
            "WHISPER_MODEL": MODEL,
            "WHISPER_DEVICE": "cpu",
            "POLL_INTERVAL": "1",
            "WEBHOOK_SECRET": SECRET,
            "LIVE_ASR_MODELS__DIR": str(models_dir),
            **({"NODE_API_URL": platform.url} if platform is not None else {}),
            **more,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "live_asr.cli", "worker", "--data", str(data)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **environment},
            )
        started.append(Working(process, data, log))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture
def start_worker(cloud: Aws, models_dir: Path, tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers for one test."""
    with workers(cloud, models_dir, tmp_path) as start:
        yield start
