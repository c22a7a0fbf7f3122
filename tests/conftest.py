"""What all tests share: real weights, real speech, and a real server in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.jobs.aws import BUCKET, Aws, aws
from live_asr.config.settings import load_settings
from live_asr.full_pass.diarization import LocalPipeline
from live_asr.weights.onnx_conversion import converted
from live_asr.weights.store import resolve
from tests import conformance
from tests.started import MODEL, ROOT, SETTINGS, Server, StartServer


def pytest_configure(config: pytest.Config) -> None:
    """Have it noted what tests show of other programs' clients."""
    conformance.install(config)


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder in which a server started here keeps weights: brought there once, kept between runs."""
    return load_settings().settings.models.dir


@pytest.fixture(scope="session")
def recognizer_dir(models_dir: Path) -> Path:
    """The folder of the model that tests recognise with."""
    return resolve(MODEL, models_dir=models_dir).folder


@pytest.fixture(scope="session")
def detector_file(models_dir: Path) -> Path:
    """The file of Silero VAD."""
    return resolve("silero-vad", models_dir=models_dir).model_file


@pytest.fixture(scope="session")
def encoder_file(models_dir: Path) -> Path:
    """The file of CAM++, as ONNX."""
    return converted(resolve("campplus", models_dir=models_dir))


@pytest.fixture(scope="session")
def local_pipeline(models_dir: Path, encoder_file: Path) -> LocalPipeline:
    """The diarization pipeline out of weights that packages ship."""
    segmentation = resolve("segmentation-3.0", models_dir=models_dir)
    return LocalPipeline(segmentation.folder / "pytorch_model.bin", encoder_file)


@pytest.fixture(scope="session")
def sample_wav(models_dir: Path) -> Path:
    """A telephone call of 30 s between two people, 16 kHz mono."""
    return resolve("test-call", models_dir=models_dir).folder / "sample.wav"


@pytest.fixture(scope="session")
def sample_pcm(sample_wav: Path) -> bytes:
    """The call as `pcm_s16le`."""
    with wave.open(str(sample_wav)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return file.readframes(file.getnframes())


@pytest.fixture(scope="session")
def sample_audio(sample_pcm: bytes) -> NDArray[np.float32]:
    """The call as samples."""
    return np.frombuffer(sample_pcm, "<i2").astype(np.float32) / 32768


@pytest.fixture(scope="session")
def launch(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Start servers; all that are still up at the end are told to stop.

    `before` goes before the command, `without` are variables that a server does not inherit.
    """
    resolve(MODEL, models_dir=models_dir)
    resolve("silero-vad", models_dir=models_dir)
    running: list[Server] = []

    def start(
        *flags: str,
        before: Sequence[str] = (),
        cwd: Path = ROOT,
        without: Sequence[str] = (),
        **environment: str,
    ) -> Server:
        data = tmp_path_factory.mktemp("data")
        inherited = {name: value for name, value in os.environ.items() if name not in without}
        log = data.with_suffix(".log")
        command = [
            *before,
            *(sys.executable, "-m", "live_asr.cli", "serve", "--port", "0"),
            *("--data", str(data), "--model", MODEL, *flags),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**inherited, **SETTINGS, "LIVE_ASR_MODELS__DIR": str(models_dir), **environment},
            )
        server = Server(_address(process, log), process, data, log)
        running.append(server)
        return server

    yield start
    for server in running:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
    for server in running:
        server.process.wait(60)


@pytest.fixture
def start_server(launch: StartServer) -> Iterator[StartServer]:
    """Start a server with these flags and settings for one test, and stop it afterwards."""
    started: list[Server] = []

    def start(*flags: str, **options: Any) -> Server:
        server = launch(*flags, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(60)


@pytest.fixture(scope="session")
def server(launch: StartServer) -> Server:
    """One server that most tests share; whatever a test does to it must cost the others nothing."""
    return launch()


def _address(process: subprocess.Popen[bytes], log: Path, patience: float = 300.0) -> str:
    """Wait until the server says where it is and is ready; return the address."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        for line in log.read_text().splitlines():
            if "serving at " in line:
                url = line.split("serving at ")[1].strip().replace("localhost", "127.0.0.1")
                if httpx.get(f"{url}/readyz").status_code == 200:
                    return url
        time.sleep(0.05)  # between two looks at another process, not instead of waiting for it
    raise RuntimeError(f"the server did not get ready:\n{log.read_text()}")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """S3 on loopback."""
    with aws(tmp_path_factory.mktemp("s3")) as cloud:
        yield cloud


@pytest.fixture
def bucket(s3_server: Aws, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a place of its own in S3, which this process finds."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid4().hex}"


@pytest.fixture(params=["file", "s3"])
def objects_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an object store of each kind."""
    if request.param == "file":
        return f"file://{tmp_path}/objects"
    url: str = request.getfixturevalue("bucket")
    return url
