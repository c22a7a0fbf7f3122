"""A pool of workers on a real Ray cluster: they may be killed, come and go, and nobody's words are lost."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from live_asr.cluster.engine import RayEngine
from live_asr.core.errors import EngineError
from live_asr.core.types import DecodeRequest, samples
from live_asr.inference.costs import CostTable, Simulated
from live_asr.inference.ipc import Load, Pool, PoolState, Recognized
from live_asr.inference.local_engine import LocalEngine
from live_asr.inference.scheduler import STEP_BUDGET
from live_asr.inference.simulated import simulated_load
from live_asr.models.interfaces import SpeechState
from tests.ray_cluster import Cluster

Audio = NDArray[np.float32]
TIMEOUT = 300.0
"""Seconds after which a test gives up: a worker on a machine with two cores takes its time to come."""
WINDOWS = [(12.4, 14.3), (14.3, 17.8), (17.8, 20.2), (24.0, 28.5)]
SLOW = CostTable(encode=((30, 0.4),), step=1e-4, step_item=0, align=0, align_item=0)
"""A window takes long enough for a worker to be killed meanwhile."""


def pool_at(cluster: Cluster, least: int = 1, most: int = 1, costs: CostTable | None = None) -> Pool:
    """A pool of its own, of devices that are simulated, one lane each."""
    return Pool(
        address=cluster.address,
        namespace=f"test-{uuid4().hex[:8]}",
        settings=(),
        device="cpu",
        least=least,
        most=most,
        cpus=1.0,
        gpus=0.0,
        idle_seconds=1.0,
        decode_timeout=30.0,
        simulated=Simulated(costs, most_batch=1) if costs is not None else Simulated(most_batch=1),
    )


@asynccontextmanager
async def running(load: Load, pool: Pool) -> AsyncIterator[RayEngine]:
    engine = RayEngine(load, pool)
    try:
        async with asyncio.timeout(TIMEOUT):
            await engine.start()
        yield engine
    finally:
        await engine.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that other processes bring about."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.05)


def state_of(engine: RayEngine) -> PoolState:
    assert engine.loaded is not None and engine.loaded.pool is not None
    return engine.loaded.pool


async def decoded(engine: RayEngine | LocalEngine, start: float, end: float, audio: Audio) -> Recognized:
    request = DecodeRequest(samples(start), samples(end), (), 60, samples(10.0), samples(2.0), language="en")
    async with asyncio.timeout(TIMEOUT):
        return await engine.recognize(request, audio[request.start_sample : request.end_sample], STEP_BUDGET)


LOUD = np.full(samples(60.0), 0.5, np.float32)


async def read(engine: RayEngine, count: int) -> list[str]:
    """Have so many windows read at once; return the first words of each."""
    starts = [float(start) for start in range(count)]
    answers = await asyncio.gather(*(decoded(engine, start, start + 4.0, LOUD) for start in starts))
    return [answer.hypothesis.words[0].text for answer in answers]


async def test_words_are_those_of_the_local_engine(
    joined: Cluster, recognizer_dir: Path, detector_file: Path, sample_audio: Audio
) -> None:
    load = Load(
        recognizer_name="tiny.en",
        recognizer_folder=recognizer_dir,
        detector_name="silero-vad",
        detector_file=detector_file,
        device="cpu",
        compute_type="int8",
        workers=1,
        beam_size=2,
    )
    local = LocalEngine(load)
    try:
        await local.start()
        expected = [await decoded(local, *window, sample_audio) for window in WINDOWS]
        speech = await local.detect(sample_audio[:5120], SpeechState.initial())
    finally:
        await local.close()
    shared = (("models.recognizer", "tiny.en"), ("inference.beam_size", 2))
    async with running(load, replace(pool_at(joined), settings=shared, simulated=None)) as engine:
        assert engine.is_up and engine.loaded is not None
        loaded = engine.loaded
        assert (loaded.recognizer.name, loaded.detector_name, loaded.lanes) == ("tiny.en", "silero-vad", 1)
        assert loaded.step_seconds is not None and loaded.step_seconds > 0, "admission goes by it"
        found = [await decoded(engine, *window, sample_audio) for window in WINDOWS]
        assert [one.hypothesis for one in found] == [one.hypothesis for one in expected]
        assert all(one.took > 0 and one.waited >= 0 for one in found)
        heard = await engine.detect(sample_audio[:5120], SpeechState.initial())
        assert np.array_equal(heard.probabilities, speech.probabilities)
        with pytest.raises(EngineError, match="does not know the language"):
            request = DecodeRequest(0, 16_000, (), 60, samples(10.0), 0, language="vi")
            await engine.recognize(request, sample_audio[:16_000], STEP_BUDGET)
        assert engine.waiting_count == 0


async def test_a_worker_that_is_killed_in_the_middle_of_its_work_loses_no_window(joined: Cluster) -> None:
    async with running(simulated_load(), pool_at(joined, 2, 2, SLOW)) as engine:
        await until(lambda: len(state_of(engine).up) == 2)
        expected = await read(engine, 4)
        reading = asyncio.create_task(read(engine, 4))
        await asyncio.sleep(0)
        killed_at = time.monotonic()
        os.kill(state_of(engine).up[0].process_id, signal.SIGKILL)
        assert await reading == expected
        await until(lambda: len(state_of(engine).up) == 2)
        assert state_of(engine).deaths == 1
        assert engine.changed_at > killed_at, "what waits for its lane is no load"
        assert engine.loaded is not None and engine.loaded.lanes == 2
        assert await read(engine, 4) == expected


async def test_a_worker_that_hangs_costs_no_window_and_is_replaced(joined: Cluster) -> None:
    pool = replace(pool_at(joined, 2, 2, SLOW), decode_timeout=5.0)
    async with running(simulated_load(), pool) as engine:
        await until(lambda: len(state_of(engine).up) == 2)
        expected = await read(engine, 4)
        hanging = state_of(engine).up[0].process_id
        reading = asyncio.create_task(read(engine, 4))
        await asyncio.sleep(0)
        os.kill(hanging, signal.SIGSTOP)
        assert await reading == expected
        await until(lambda: len(state_of(engine).up) == 2)
        assert hanging not in {worker.process_id for worker in state_of(engine).up}
        assert state_of(engine).deaths == 1
        await until(lambda: not psutil.pid_exists(hanging))


async def test_the_only_worker_is_killed_and_its_windows_wait_for_the_next(joined: Cluster) -> None:
    async with running(simulated_load(), pool_at(joined, costs=SLOW)) as engine:
        expected = await read(engine, 3)
        reading = asyncio.create_task(read(engine, 3))
        await asyncio.sleep(0)
        os.kill(state_of(engine).up[0].process_id, signal.SIGKILL)
        await until(lambda: not engine.is_up)
        assert await reading == expected
        assert engine.is_up


async def test_a_bridge_that_is_killed_loses_no_window_and_finds_the_workers_again(joined: Cluster) -> None:
    async with running(simulated_load(), pool_at(joined, costs=SLOW)) as engine:
        expected, worker = await read(engine, 3), state_of(engine).up[0].process_id
        reading = asyncio.create_task(read(engine, 3))
        await asyncio.sleep(0)
        bridge = engine.bridge_process_id
        assert bridge is not None
        os.kill(bridge, signal.SIGKILL)
        assert await reading == expected
        assert engine.bridge_process_id != bridge
        assert state_of(engine).up[0].process_id == worker


async def test_a_worker_that_comes_gets_work_and_one_that_goes_loses_none(joined: Cluster) -> None:
    async with running(simulated_load(), pool_at(joined, 1, 2, SLOW)) as engine:
        expected = await read(engine, 6)
        assert engine.loaded is not None and engine.loaded.lanes == 1
        engine.wants = lambda: 1.0
        await until(lambda: len(state_of(engine).up) == 2)
        assert engine.loaded.lanes == 2
        assert await read(engine, 6) == expected
        await until(lambda: min(worker.windows for worker in state_of(engine).workers) > 0)
        assert engine.changed_at == -math.inf, "nobody died"
        engine.wants = lambda: 0.0
        while len(state_of(engine).up) == 2:
            assert await read(engine, 6) == expected
        assert await read(engine, 6) == expected
        assert state_of(engine).deaths == 0


async def test_servers_that_name_the_same_pool_share_its_workers_and_know_of_each_other(
    joined: Cluster,
) -> None:
    pool = pool_at(joined)
    async with running(simulated_load(), pool) as first, running(simulated_load(), pool) as second:
        first.wants = lambda: 0.25
        await until(lambda: second.loaded is not None and second.loaded.others == 0.25)
        await until(lambda: state_of(first).servers == state_of(second).servers == 2)
        assert state_of(first).up[0].process_id == state_of(second).up[0].process_id
        assert first.loaded is not None and first.loaded.others == 0.0
        texts = await asyncio.gather(read(first, 3), read(second, 3))
        assert texts[0] == texts[1]


async def test_a_server_outside_the_cluster_reaches_its_workers_through_the_heads_port(
    joined: Cluster, client_address: str
) -> None:
    async with running(
        simulated_load(), replace(pool_at(joined, costs=SLOW), address=client_address)
    ) as engine:
        expected = await read(engine, 3)
        reading = asyncio.create_task(read(engine, 3))
        await asyncio.sleep(0)
        os.kill(state_of(engine).up[0].process_id, signal.SIGKILL)
        assert await reading == expected


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: there is none for this Python")
@pytest.mark.parametrize("scheme", ["", "ray://"])
async def test_a_cluster_that_is_not_there_is_named_with_the_reason(scheme: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
        engine = RayEngine(simulated_load(), pool_at(Cluster(address, {})))
        with pytest.raises(EngineError, match=rf"The Ray cluster {address} cannot be joined: .*refused"):
            await asyncio.wait_for(engine.start(), TIMEOUT)


async def test_a_server_is_told_why_workers_cannot_load_their_models(joined: Cluster) -> None:
    shared = (("models.recognizer", "no-such-model"),)
    engine = RayEngine(simulated_load(), replace(pool_at(joined), settings=shared, simulated=None))
    with pytest.raises(EngineError, match="no-such-model"):
        await asyncio.wait_for(engine.start(), TIMEOUT)
    assert engine.loaded is None and not engine.is_up
