"""What the tests of jobs share: a cloud, a receiver's key, and workers in processes of their own."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.jobs.aws import Aws, aws
from tests.started import MODEL, ROOT

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PATIENCE = 300.0
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
        return self.process.wait(PATIENCE)

    @property
    def said(self) -> str:
        """All that it has logged."""
        return self.log.read_text()

    async def says(self, text: str) -> None:
        """Wait until it has logged something."""
        await until(lambda: text in self.said, lambda: self.said, lambda: self.process.poll() is not None)


StartWorker = Callable[..., Working]


@pytest.fixture
def start_worker(cloud: Aws, queue: str, models_dir: Path, tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers by the environment alone; all end with the test."""
    started: list[Working] = []

    def start(data: Path | None = None, **environment: str) -> Working:
        data = data or tmp_path / f"data-{len(started)}"
        log = tmp_path / f"worker-{len(started)}.log"
        usual = {
            **cloud.environment,
            "AWS_SQS_ASR_QUEUE_URL": queue,
            "WHISPER_MODEL": MODEL,
            "WHISPER_DEVICE": "cpu",
            "LIVE_ASR_JOBS__POLL_WAIT": "1",
            "LIVE_ASR_JOBS__RETRY_DELAY": "0",
            "LIVE_ASR_MODELS__DIR": str(models_dir),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "live_asr.cli", "worker", "--data", str(data)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **usual, **environment},
            )
        started.append(Working(process, data, log))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


async def until(
    condition: Callable[[], Any],
    explain: Callable[[], str] = lambda: "",
    hopeless: Callable[[], Any] = lambda: False,
) -> None:
    """Wait for what another process brings about."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(condition):
                assert not hopeless(), explain()
                await asyncio.sleep(0.1)  # between two looks at another process
    except TimeoutError:
        raise AssertionError(explain()) from None
