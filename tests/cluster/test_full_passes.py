"""Full passes on a real Ray cluster: they find what is found here, and may be killed at any moment."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from live_asr.cluster.full_passes import RayFullPass
from live_asr.core.errors import EngineError
from live_asr.core.types import Word
from live_asr.full_pass.diarization import LocalPipeline
from live_asr.full_pass.process import FullPass, FullPassJob, FullPassLoad, FullPassResult
from live_asr.inference.ipc import Pool
from tests.passes import recognition_alone, to_recognize
from tests.ray_cluster import Cluster

TIMEOUT = 300.0
"""Seconds after which a test gives up: the pass runs only when nobody else does."""


@pytest.fixture
def load(recognizer_dir: Path, detector_file: Path) -> FullPassLoad:
    """Recognition alone, which is quick to load."""
    return recognition_alone(recognizer_dir, detector_file)


@pytest.fixture
def job(sample_pcm: bytes, tmp_path: Path) -> FullPassJob:
    """The call, to be recognised."""
    return to_recognize(sample_pcm, tmp_path)


def pool_at(cluster: Cluster) -> Pool:
    return Pool(
        address=cluster.address,
        namespace=f"test-{uuid4().hex[:8]}",
        settings=(("models.recognizer", "tiny.en"), ("models.offline", True)),
        device="cpu",
        least=1,
        most=1,
        cpus=1.0,
        gpus=0.25,
        idle_seconds=1.0,
        decode_timeout=30.0,
    )


@asynccontextmanager
async def running(load: FullPassLoad, pool: Pool) -> AsyncIterator[RayFullPass]:
    full_pass = RayFullPass(load, pool, 1)
    try:
        yield full_pass
    finally:
        await full_pass.close()


def passes() -> list[psutil.Process]:
    """Return the processes that go over a recording."""
    return [process for process in psutil.process_iter(["name", "cmdline"]) if is_pass(process)]


def is_pass(process: psutil.Process) -> bool:
    return any("PassActor" in part for part in process.info["cmdline"] or ())


async def test_words_are_those_that_a_process_here_finds(
    joined: Cluster, load: FullPassLoad, job: FullPassJob
) -> None:
    here = FullPass(load)
    try:
        expected = await asyncio.wait_for(here.run(job, lambda *_: None), TIMEOUT)
    finally:
        await here.close()
    told: list[tuple[str, float]] = []
    async with running(load, pool_at(joined)) as full_pass:
        asked = full_pass.run(job, lambda *step: told.append(step))
        found = await asyncio.wait_for(asked, TIMEOUT)
        assert found == expected
        assert found.words is not None and isinstance(found.words[0], Word)
        fractions = [fraction for _, fraction in told]
        assert fractions == sorted(fractions) and fractions[0] == 0.0
        assert {stage for stage, _ in told} <= {"loading", "recognition"}


async def test_a_pass_that_is_killed_fails_and_may_be_asked_again(
    joined: Cluster, load: FullPassLoad, job: FullPassJob
) -> None:
    works = asyncio.Event()
    before = {process.pid for process in passes()}

    def told(stage: str, fraction: float) -> None:
        if stage == "recognition":
            works.set()

    async with running(load, pool_at(joined)) as full_pass:
        asked = asyncio.create_task(full_pass.run(job, told))
        await asyncio.wait_for(works.wait(), TIMEOUT)
        for process in passes():
            if process.pid not in before:
                os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="full pass failed"):
            await asyncio.wait_for(asked, TIMEOUT)
        again: FullPassResult = await asyncio.wait_for(full_pass.run(job, lambda *_: None), TIMEOUT)
        assert again.words


async def test_a_pass_that_nobody_waits_for_any_more_ends(
    joined: Cluster, load: FullPassLoad, job: FullPassJob
) -> None:
    works = asyncio.Event()

    def told(stage: str, fraction: float) -> None:
        if stage == "recognition":
            works.set()

    async with running(load, pool_at(joined)) as full_pass:
        asked = asyncio.create_task(
            full_pass.run(job, lambda stage, _: stage == "recognition" and works.set())
        )
        await asyncio.wait_for(works.wait(), TIMEOUT)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        async with asyncio.timeout(TIMEOUT):
            while passes():  # noqa: ASYNC110 - no event tells of another process
                await asyncio.sleep(0.1)


async def test_a_machine_that_cannot_tell_speakers_apart_fails_rather_than_leaves_them_out(
    joined: Cluster, load: FullPassLoad, job: FullPassJob, tmp_path: Path
) -> None:
    pipeline = LocalPipeline(tmp_path / "segmentation", tmp_path / "encoder")
    pool = pool_at(joined)
    pool = replace(pool, settings=(*pool.settings, ("final.pipeline", str(tmp_path / "none"))))
    async with running(replace(load, pipeline=pipeline), pool) as full_pass:
        assert full_pass.can_diarize
        with pytest.raises(EngineError, match="full pass failed"):
            await asyncio.wait_for(full_pass.run(replace(job, diarize=True), lambda *_: None), TIMEOUT)
