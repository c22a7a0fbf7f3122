"""A Ray node of one machine that loses a process: it ends as a whole, and another takes its place."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from importlib.util import find_spec

import numpy as np
import psutil
import pytest

from live_asr.cluster.engine import RayEngine
from live_asr.cluster.node import BROKEN
from live_asr.core.types import DecodeRequest, samples
from live_asr.inference.costs import Simulated
from live_asr.inference.ipc import Pool, Recognized
from live_asr.inference.scheduler import STEP_BUDGET
from live_asr.inference.simulated import simulated_load
from tests.ray_cluster import door, free_port

PATIENCE = 300
"""Seconds that a node gets to end: processes of it that are alone take their time on a busy machine."""


@contextmanager
def node(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a node until the block ends, or it does itself; yield it with its address."""
    command = [sys.executable, "-m", "live_asr.cluster.node", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        yield process, next(line.split()[1] for line in process.stdout if line.startswith("address "))


@pytest.mark.timeout(900)  # Ray is started twice, and a busy machine takes its time to end what was killed
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: there is none for this Python")
@pytest.mark.parametrize("is_outside", [False, True])
async def test_a_server_goes_on_with_the_node_that_is_started_for_one_whose_head_was_killed(
    monkeypatch: pytest.MonkeyPatch, is_outside: bool
) -> None:
    token = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    for name, value in token.items():
        monkeypatch.setenv(name, value)
    environment = {**os.environ, "RAY_GCS_SERVER_PORT": str(free_port())}
    simulated = Simulated(most_batch=1)
    port = free_port()
    async with AsyncExitStack() as stack:
        with (
            node(environment) as (first, address),
            door(address, token, port) if is_outside else nullcontext(address) as reached,
        ):
            pool = Pool(reached, "test", (), "cpu", 1, 1, 1.0, 0.0, 300.0, 30.0, simulated)
            engine = RayEngine(simulated_load(simulated, lanes=1), pool)
            stack.push_async_callback(engine.close)
            await engine.start()
            assert await asked(engine)
            of_first = psutil.Process(first.pid).children(recursive=True)
            next(process for process in of_first if process.name() == "gcs_server").kill()
            assert first.wait(PATIENCE) == BROKEN
            assert not psutil.wait_procs(of_first, PATIENCE)[1]
        with (
            node(environment) as (_, again),
            door(again, token, port) if is_outside else nullcontext(again),
        ):
            assert again == address
            assert await asked(engine)


async def asked(engine: RayEngine) -> Recognized:
    request = DecodeRequest(0, samples(4.0), (), 60, samples(10.0), samples(2.0), language="en")
    async with asyncio.timeout(PATIENCE):
        return await engine.recognize(request, np.full(samples(4.0), 0.5, np.float32), STEP_BUDGET)
