"""Several devices: a process for each, work for the idlest, and the others where one dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from live_asr.core.types import DecodeRequest, samples
from live_asr.inference.costs import CostTable, Simulated
from live_asr.inference.ipc import Recognized
from live_asr.inference.local_engine import LocalEngine
from live_asr.inference.pooled_engine import PooledEngine
from live_asr.inference.scheduler import STEP_BUDGET
from live_asr.inference.simulated import simulated_load
from live_asr.models.device import VISIBLE, environment_for
from live_asr.models.interfaces import SpeechState

TIMEOUT = 60.0
SLOW = CostTable(encode=((30, 0.02),), step=0.001, step_item=0.0, align=0.1, align_item=0.0)


@asynccontextmanager
async def running(count: int = 2) -> AsyncIterator[tuple[PooledEngine, list[LocalEngine], list[int]]]:
    given: list[int] = [0] * count

    def engine(number: int) -> LocalEngine:
        def note(work: str, size: int) -> None:
            given[number] += size

        return LocalEngine(simulated_load(Simulated(SLOW, most_batch=1), lanes=1), on_batch=note)

    engines = [engine(number) for number in range(count)]
    pooled = PooledEngine(engines)
    try:
        async with asyncio.timeout(TIMEOUT):
            await pooled.start()
        yield pooled, engines, given
    finally:
        await pooled.close()


async def ask(engine: PooledEngine) -> Recognized:
    request = DecodeRequest(0, samples(4.0), (), 60, samples(10.0), 0, language="en")
    async with asyncio.timeout(TIMEOUT):
        return await engine.recognize(request, np.full(samples(4.0), 0.5, np.float32), STEP_BUDGET)


async def test_work_is_spread_over_all_devices_and_each_has_the_same_words() -> None:
    async with running() as (pooled, engines, given):
        assert pooled.loaded is not None and pooled.loaded.lanes == 2
        assert len({engine.process_id for engine in engines}) == 2
        answers = await asyncio.gather(*(ask(pooled) for _ in range(12)))
        assert len({answer.hypothesis for answer in answers}) == 1
        assert given == [6, 6]
        judged = await pooled.detect(np.full(512 * 3, 0.5, np.float32), SpeechState.initial())
        assert judged.probabilities.shape == (3,)
        assert pooled.waiting_count == 0


async def test_where_one_dies_the_others_go_on_and_what_it_had_is_answered() -> None:
    async with running() as (pooled, engines, _):
        asked = [asyncio.create_task(ask(pooled)) for _ in range(6)]
        await asyncio.sleep(0)  # all are asked now
        victim = engines[0].process_id
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        answers = await asyncio.gather(*asked)
        assert len({answer.hypothesis for answer in answers}) == 1
        assert pooled.is_up


async def test_while_one_is_down_nothing_is_asked_of_it() -> None:
    async with running() as (pooled, engines, given):
        await engines[0].close()
        async with asyncio.timeout(TIMEOUT):
            while engines[0].is_up:  # noqa: ASYNC110 - it ends
                await asyncio.sleep(0)
        before = list(given)
        await asyncio.gather(*(ask(pooled) for _ in range(4)))
        assert given == [before[0], before[1] + 4]
        assert pooled.is_up


def test_a_process_sees_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    assert environment_for(None) == {}
    assert environment_for(1) == {VISIBLE: "1"}
    monkeypatch.setenv(VISIBLE, "4, GPU-7f")
    assert [environment_for(number)[VISIBLE] for number in (0, 1)] == ["4", "GPU-7f"]
