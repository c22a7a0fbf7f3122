"""The full pass where nothing live goes on beside it: at its own priority, both halves at once."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from live_asr.full_pass.diarization import LocalPipeline
from live_asr.full_pass.process import FullPass, FullPassJob, FullPassLoad

TIMEOUT = 400.0


@pytest.fixture(scope="module")
def load(recognizer_dir: Path, detector_file: Path, local_pipeline: LocalPipeline) -> FullPassLoad:
    """Words and speakers."""
    return FullPassLoad("tiny.en", recognizer_dir, detector_file, "cpu", "int8", 2, local_pipeline)


@pytest.fixture
def job(sample_pcm: bytes, tmp_path: Path) -> FullPassJob:
    """The call, to be recognised and told apart."""
    audio = tmp_path / "audio.pcm"
    audio.write_bytes(sample_pcm)
    return FullPassJob(audio, "en", "transcribe", (), True, True, None, None)


async def test_both_halves_at_once_find_what_one_after_the_other_finds_and_the_process_stays(
    load: FullPassLoad, job: FullPassJob
) -> None:
    shares: list[float] = []
    one_by_one, at_once = FullPass(load), FullPass(replace(load, cores=2))
    try:
        async with asyncio.timeout(TIMEOUT):
            expected = await one_by_one.run(job, lambda *_: None)
            found = await at_once.run(job, lambda _, share: shares.append(share))
            assert one_by_one.process_id is None, "beside live sessions it takes no memory"
            first = at_once.process_id
            assert first is not None
            assert psutil.Process(first).nice() == psutil.Process(os.getpid()).nice()
            again = await at_once.run(replace(job, diarize=False), lambda *_: None)
            assert at_once.process_id == first
    finally:
        await one_by_one.close()
        await at_once.close()
    assert found.turns == expected.turns and found.turns
    assert found.words == expected.words and found.words
    assert again.words == expected.words and again.turns is None
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0, abs=0.01)
    assert not psutil.pid_exists(first)
