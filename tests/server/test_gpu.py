"""A machine with a GPU, which works, is not fit for use, or fails: `tests/fake_cuda` stands in for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from talking import call, eventually

from live_asr.config.settings import COUNTED_SESSIONS
from tests.started import MODEL, ROOT, SETTINGS, Server, StartServer

SECOND_BYTES = 32_000
SPEECH = slice(14 * SECOND_BYTES, 20 * SECOND_BYTES)
FAKE = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "fake_cuda"), str(ROOT)])}
WARM_UP = 4
"""How often something is generated before any session: with and without a prefix, alone and in batches."""
INSTALL = 'pip install "live-asr[server,cuda]"'


def readiness(server: Server) -> dict[str, str]:
    answer: dict[str, str] = httpx.get(f"{server.url}/readyz").json()
    assert [answer.pop("places"), answer.pop("places_free")] == [COUNTED_SESSIONS] * 2
    return answer


async def said(server: Server, pcm: bytes) -> tuple[str, list[dict[str, object]]]:
    """Speak for six seconds; return the words and the notices."""
    async with call(server.stream) as caller:
        ready = await caller.start(pace="fast")
        assert ready["type"] == "ready"
        await caller.send(pcm[SPEECH])
        await caller.finished()
        return caller.text, caller.all("notice")


async def test_auto_takes_a_gpu_that_can_be_used(start_server: StartServer, sample_pcm: bytes) -> None:
    server = start_server(**FAKE)
    assert readiness(server) == {"status": "ready", "model": MODEL, "device": "cuda"}
    assert "(float16, on cuda, 2 windows at once" in server.log.read_text()
    text, notices = await said(server, sample_pcm)
    assert "Chicago" in text
    assert notices == []


@pytest.mark.parametrize(
    ("faults", "reason", "cure"),
    [
        ("missing", "libcublas.so.12", INSTALL),
        ("probe", "CUBLAS_STATUS_NOT_INITIALIZED", "Update the NVIDIA driver"),
        ("load", "out of memory", "Free memory on the GPU"),
        ("encode:1", "CUBLAS_STATUS_EXECUTION_FAILED", "live-asr doctor"),
        ("generate:2", "CUBLAS_STATUS_EXECUTION_FAILED", "live-asr doctor"),
        ("align:1", "CUBLAS_STATUS_EXECUTION_FAILED", "live-asr doctor"),
        ("encode:3", "CUBLAS_STATUS_EXECUTION_FAILED", "live-asr doctor"),
    ],
)
async def test_auto_falls_back_to_the_cpu_and_says_so(
    start_server: StartServer, sample_pcm: bytes, faults: str, reason: str, cure: str
) -> None:
    server = start_server(**FAKE, FAKE_CUDA_FAULTS=faults)
    ready = readiness(server)
    assert (ready["status"], ready["device"]) == ("ready", "cpu")
    assert reason in ready["warning"]
    assert cure in ready["warning"]
    assert ready["warning"] in server.log.read_text()
    text, notices = await said(server, sample_pcm)
    assert "Chicago" in text
    assert [notice["code"] for notice in notices] == ["gpu_unused"]


@pytest.mark.parametrize(
    ("faults", "reason", "cure"),
    [
        ("missing", "libcublas.so.12", INSTALL),
        ("load", "CUDA failed with error out of memory", "Free memory on the GPU"),
        ("encode:1", "CUBLAS_STATUS_EXECUTION_FAILED", "--device cpu"),
    ],
)
def test_a_gpu_that_was_asked_for_and_cannot_be_used_is_said_with_its_cure(
    models_dir: Path, tmp_path: Path, faults: str, reason: str, cure: str
) -> None:
    command = [sys.executable, "-m", "live_asr.cli", "serve", "--port", "0", "--data", str(tmp_path / "data")]
    done = subprocess.run(
        [*command, "--model", MODEL, "--device", "cuda"],
        env={
            **os.environ,
            **SETTINGS,
            **FAKE,
            "FAKE_CUDA_FAULTS": faults,
            "LIVE_ASR_MODELS__DIR": str(models_dir),
        },
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    error = done.stderr[done.stderr.index("Error: ") :]
    assert reason in error
    assert cure in error


def test_an_arithmetic_that_the_gpu_cannot_do_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "live_asr.cli", "serve", "--port", "0", "--data", str(tmp_path)],
        env={
            **os.environ,
            **FAKE,
            "LIVE_ASR_INFERENCE__COMPUTE_TYPE": "bfloat16",
            "LIVE_ASR_MODELS__DIR": str(tmp_path / "models"),
        },
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "does not compute in bfloat16; it does in float16, float32, int8, int8_float16." in done.stderr
    assert not (tmp_path / "models").exists()


async def test_a_fault_of_the_gpu_later_ends_its_process_and_no_word_is_lost(
    start_server: StartServer, sample_pcm: bytes, tmp_path: Path
) -> None:
    once = tmp_path / "failed"
    faulty = start_server(
        **FAKE,
        FAKE_CUDA_FAULTS=f"generate:{WARM_UP + 5}",
        FAKE_CUDA_ONCE=str(once),
        LIVE_ASR_INFERENCE__DEVICE="cuda",
    )
    assert not once.exists(), "it is warmed up, and nothing has failed yet"
    text, notices = await said(faulty, sample_pcm)
    assert once.exists()
    assert faulty.metric("live_asr_engine_restarts_total") == 1
    assert (
        "The GPU failed: cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED" in faulty.log.read_text()
    )
    assert notices == []
    assert "Chicago" in text
    await eventually(lambda: readiness(faulty)["status"] == "ready")
    again, _ = await said(faulty, sample_pcm)
    assert text.split() == again.split()


async def test_a_gpu_that_fails_again_and_again_is_left_for_the_cpu(
    start_server: StartServer, sample_pcm: bytes
) -> None:
    server = start_server(**FAKE, FAKE_CUDA_FAULTS=f"generate:{WARM_UP + 1}")
    assert readiness(server)["device"] == "cuda"
    text, notices = await said(server, sample_pcm)
    assert "Chicago" in text
    assert notices == [], "no word was given up"
    ready = readiness(server)
    assert ready["device"] == "cpu"
    assert "CUBLAS_STATUS_EXECUTION_FAILED" in ready["warning"]
