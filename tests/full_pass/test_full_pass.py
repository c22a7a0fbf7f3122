"""The full pass in its own process: it steps back, may be killed at any moment, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from live_asr.core.errors import EngineError
from live_asr.core.types import samples
from live_asr.full_pass.diarization import LocalPipeline
from live_asr.full_pass.process import FullPass, FullPassJob, FullPassLoad, FullPassResult
from tests.passes import recognition_alone, to_recognize

TIMEOUT = 300.0
"""Seconds after which a test gives up: the process runs only when nobody else does."""
Told = list[tuple[str, float]]


def untold(stage: str, fraction: float) -> None:
    """Take no note of progress."""


@pytest.fixture(scope="module")
def load(recognizer_dir: Path, detector_file: Path) -> FullPassLoad:
    """Recognition alone, which is quick to load."""
    return recognition_alone(recognizer_dir, detector_file)


@pytest.fixture
def job(sample_pcm: bytes, tmp_path: Path) -> FullPassJob:
    """The call, to be recognised."""
    return to_recognize(sample_pcm, tmp_path)


@asynccontextmanager
async def running(load: FullPassLoad) -> AsyncIterator[FullPass]:
    full_pass = FullPass(load)
    try:
        yield full_pass
    finally:
        await full_pass.close()


@pytest.fixture
async def full_pass(load: FullPassLoad) -> AsyncIterator[FullPass]:
    async with running(load) as full_pass:
        yield full_pass


class Asked:
    """A job that was asked for, watched until its process works on it."""

    def __init__(self, full_pass: FullPass, job: FullPassJob, *, gives_way: bool = False) -> None:
        self._full_pass = full_pass
        self._works = asyncio.Event()
        self.answer = asyncio.create_task(full_pass.run(job, self._told, gives_way=gives_way))

    def _told(self, stage: str, fraction: float) -> None:
        if stage != "loading":
            self._works.set()

    async def process(self) -> int:
        """Wait until a process works on it; return the process's id."""
        async with asyncio.timeout(TIMEOUT):
            await self._works.wait()
        assert self._full_pass.process_id is not None
        return self._full_pass.process_id


async def soon(answer: asyncio.Task[FullPassResult]) -> FullPassResult:
    return await asyncio.wait_for(answer, TIMEOUT)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process brings about."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.01)


def first_to_go(process_id: int) -> int:
    """Read what the kernel adds to a process's score when it looks for one to end for lack of memory."""
    return int(Path(f"/proc/{process_id}/oom_score_adj").read_text())


def text(result: FullPassResult) -> str:
    assert result.words is not None
    return "".join(word.text for word in result.words)


# Results ------------------------------------------------------------------------------------------------


async def test_a_call_gets_its_turns_and_its_words_with_progress_that_never_falls(
    load: FullPassLoad, local_pipeline: LocalPipeline, job: FullPassJob
) -> None:
    told: Told = []
    async with running(replace(load, pipeline=local_pipeline)) as full_pass:
        asked = full_pass.run(replace(job, diarize=True), lambda *step: told.append(step))
        result = await asyncio.wait_for(asked, TIMEOUT)
    assert result.turns is not None
    assert {turn.speaker for turn in result.turns} == {"SPEAKER_00", "SPEAKER_01"}
    assert "New Jersey" in text(result)
    assert (result.language, result.pipeline) == ("en", "segmentation-3.0 + campplus")
    stages = list(dict.fromkeys(stage for stage, _ in told))
    assert stages == ["loading", "segmentation", "embeddings", "clustering", "recognition"]
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions) and fractions[0] == 0.0 and 0.99 < fractions[-1] <= 1.0


async def test_only_what_is_asked_for_is_answered(full_pass: FullPass, job: FullPassJob) -> None:
    result = await full_pass.run(replace(job, recognize=False), untold)
    assert (result.turns, result.words, result.language) == (None, None, "en")


async def test_without_a_pipeline_there_are_words_but_no_turns(full_pass: FullPass, job: FullPassJob) -> None:
    assert not full_pass.can_diarize
    result = await full_pass.run(replace(job, diarize=True), untold)
    assert result.turns is None and result.pipeline == ""
    assert "New Jersey" in text(result)


async def test_a_language_that_the_model_does_not_know_leaves_the_live_words(
    full_pass: FullPass, job: FullPassJob
) -> None:
    result = await full_pass.run(replace(job, language="de"), untold)
    assert (result.words, result.language) == (None, "de")


async def test_a_recording_without_a_sample_has_no_words(full_pass: FullPass, job: FullPassJob) -> None:
    job.audio_file.write_bytes(b"")
    assert (await full_pass.run(job, untold)).words == ()


# The process --------------------------------------------------------------------------------------------


async def test_the_process_gives_way_to_everybody_else(full_pass: FullPass, job: FullPassJob) -> None:
    asked = Asked(full_pass, job)
    process = psutil.Process(await asked.process())
    assert process.nice() == 19
    if sys.platform == "linux":
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
        assert first_to_go(process.pid) == 500
    assert process.environ()["OMP_NUM_THREADS"] == "1"
    assert process.environ()["PYANNOTE_METRICS_ENABLED"] == "0"
    assert process.environ()["HF_HUB_OFFLINE"] == "1"
    await soon(asked.answer)


async def test_the_process_ends_with_the_last_job_that_waits(full_pass: FullPass, job: FullPassJob) -> None:
    first, second = Asked(full_pass, job), Asked(full_pass, job)
    process_id = await first.process()
    await soon(first.answer)
    assert await second.process() == process_id
    await soon(second.answer)
    assert full_pass.process_id is None
    assert not psutil.pid_exists(process_id)


async def test_a_process_kept_for_a_job_that_is_given_up_ends_too(
    full_pass: FullPass, job: FullPassJob
) -> None:
    first = Asked(full_pass, job)
    process_id = await first.process()
    waiting = asyncio.create_task(full_pass.run(job, untold))
    await asyncio.sleep(0)  # it now waits for its turn
    first.answer.add_done_callback(lambda _: waiting.cancel())
    await soon(first.answer)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: not psutil.pid_exists(process_id))


async def test_a_job_that_gives_way_is_broken_off_for_others_and_done_after_them(
    full_pass: FullPass, job: FullPassJob
) -> None:
    patient = Asked(full_pass, job, gives_way=True)
    process_id = await patient.process()
    urgent = Asked(full_pass, job)
    assert await urgent.process() != process_id
    assert not psutil.pid_exists(process_id)
    also_patient = Asked(full_pass, job, gives_way=True)
    last = Asked(full_pass, job)
    assert "New Jersey" in text(await soon(urgent.answer))
    assert "New Jersey" in text(await soon(last.answer))
    assert not patient.answer.done() and not also_patient.answer.done()
    for answer in (patient.answer, also_patient.answer):
        assert "New Jersey" in text(await soon(answer))
    assert full_pass.process_id is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_to_the_process_group_leave_it_to_the_server(
    full_pass: FullPass, job: FullPassJob, number: signal.Signals
) -> None:
    asked = Asked(full_pass, job)
    os.kill(await asked.process(), number)
    assert "New Jersey" in text(await soon(asked.answer))


async def test_a_process_that_is_killed_is_an_error_and_the_next_job_has_another(
    full_pass: FullPass, job: FullPassJob
) -> None:
    asked = Asked(full_pass, job)
    os.kill(await asked.process(), signal.SIGKILL)
    with pytest.raises(EngineError, match="died"):
        await soon(asked.answer)
    assert "New Jersey" in text(await full_pass.run(job, untold))


async def test_a_process_that_cannot_be_started_is_an_error_and_the_next_job_has_one(
    full_pass: FullPass, job: FullPassJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "no-python"))
        with pytest.raises(EngineError, match="cannot be started: No such file"):
            await full_pass.run(job, untold)
    assert "New Jersey" in text(await full_pass.run(job, untold))


async def test_who_no_longer_wants_the_result_ends_the_process(full_pass: FullPass, job: FullPassJob) -> None:
    asked = Asked(full_pass, job)
    process_id = await asked.process()
    asked.answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked.answer
    assert not psutil.pid_exists(process_id)


async def test_a_job_that_cannot_be_done_says_why(full_pass: FullPass, job: FullPassJob) -> None:
    with pytest.raises(EngineError, match=r"FileNotFoundError.*nothing\.pcm"):
        await full_pass.run(replace(job, audio_file=job.audio_file.with_name("nothing.pcm")), untold)
    assert full_pass.process_id is None


async def test_shutting_down_ends_the_job_under_way_and_those_that_wait(
    load: FullPassLoad, job: FullPassJob
) -> None:
    full_pass = FullPass(load)
    first = Asked(full_pass, job)
    process_id = await first.process()
    second = asyncio.create_task(full_pass.run(job, untold))
    await asyncio.sleep(0)  # it now waits for its turn
    await full_pass.close()
    for answer in (first.answer, second):
        with pytest.raises(EngineError, match="shut down"):
            await soon(answer)
    assert not psutil.pid_exists(process_id)
    await full_pass.close()


SERVER = """
import asyncio, pickle, sys

async def main():
    from live_asr.full_pass.process import FullPass
    load, job = pickle.load(sys.stdin.buffer)
    full_pass = FullPass(load)
    await full_pass.run(job, lambda stage, fraction: print(full_pass.process_id, stage, flush=True))

asyncio.run(main())
"""


def test_the_process_does_not_outlive_its_server(load: FullPassLoad, job: FullPassJob) -> None:
    # An hour of the call: it is not done before the server is gone.
    job.audio_file.write_bytes(job.audio_file.read_bytes() * 120)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(pickle.dumps((load, job)))
        server.stdin.close()
        line = next(line for line in server.stdout if b"recognition" in line)
        process_id = int(line.split()[0])
        assert psutil.pid_exists(process_id)
        server.kill()
    asyncio.run(until(lambda: _is_gone(process_id)))


def _is_gone(process_id: int) -> bool:
    """Tell whether it has ended, be it that nobody has taken note yet."""
    try:
        return bool(psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_word_times_are_positions_in_the_recording(load: FullPassLoad, job: FullPassJob) -> None:
    result = asyncio.run(FullPass(load).run(job, untold))
    assert result.words is not None
    first, last = result.words[0], result.words[-1]
    assert samples(6.0) < first.start_sample < samples(8.0)  # by its RTTM the call begins at 6.69 s
    assert samples(28.0) < last.end_sample <= samples(30.0)


async def test_each_channel_is_recognised_by_itself(
    full_pass: FullPass, job: FullPassJob, sample_pcm: bytes
) -> None:
    alone = await soon(asyncio.create_task(full_pass.run(job, untold)))
    call = np.frombuffer(sample_pcm, "<i2")
    later = np.concatenate((np.zeros(samples(0.5), "<i2"), call[: -samples(0.5)]))
    sides = np.stack((later, call), axis=1)
    job.audio_file.write_bytes(sides.astype("<i2").tobytes())
    told: Told = []
    both = await soon(
        asyncio.create_task(full_pass.run(replace(job, channels=2), lambda *now: told.append(now)))
    )
    assert both.turns is None and both.words is not None and alone.words is not None
    second = [word for word in both.words if word.speaker == "SPEAKER_01"]
    assert [replace(word, speaker=None) for word in second] == list(alone.words)
    first = [word.text for word in both.words if word.speaker == "SPEAKER_00"]
    assert len(first) + len(second) == len(both.words) and len(first) > 20
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions) and fractions[-1] <= 1.0
