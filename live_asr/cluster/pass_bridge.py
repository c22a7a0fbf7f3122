"""The process between a server and full passes in a Ray cluster: does the jobs that come through one socket.

It says what `full_pass.worker` says. The recording is handed over in pieces, as what runs the pass may be
another machine; the pass ends with this process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from live_asr.cluster.full_passes import PassOrder
from live_asr.cluster.joining import Unreachable, join
from live_asr.cluster.pass_actor import PassActor
from live_asr.full_pass.process import FullPassJob
from live_asr.inference.ipc import ONE_THREAD, Failed, Pool, pack, receive

PIECE_BYTES = 8 * 2**20
LOOK_INTERVAL = 0.5
"""Seconds between two looks at how far a pass is."""
FOR_PASSES = ("PYANNOTE_METRICS_ENABLED", "HF_HUB_OFFLINE")
"""Variables of this process's environment that its libraries read there, too."""


async def serve(descriptor: int) -> None:
    """Do jobs until the socket with this file descriptor closes."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    order: PassOrder | None = await receive(reader)
    if order is None:
        return
    jobs: asyncio.Queue[FullPassJob] = asyncio.Queue()
    doing = asyncio.create_task(_do_forever(order, jobs, writer), name="doing")
    while (job := await receive(reader)) is not None:
        jobs.put_nowait(job)
    doing.cancel()


async def _do_forever(
    order: PassOrder, jobs: asyncio.Queue[FullPassJob], writer: asyncio.StreamWriter
) -> None:
    pool: Pool | None = None
    while True:
        pool = await _do(order, pool, await jobs.get(), writer)


async def _do(
    order: PassOrder, pool: Pool | None, job: FullPassJob, writer: asyncio.StreamWriter
) -> Pool | None:
    """Do one job and send its result, or why there is none; return the cluster, once it is joined."""
    try:
        if pool is None:
            pool = await asyncio.to_thread(join, order.pool)
        answer = await _passed(PassOrder(pool, order.diarizes), job, writer)
    except Unreachable as error:
        answer = Failed(error.message)
    except Exception as error:  # Ray's and the models' libraries raise what they like; the asker decides
        reason = (str(error).strip().splitlines() or [""])[-1]
        answer = Failed(f"{type(error).__name__}: {reason}")
    writer.write(pack(answer))
    return pool


async def _passed(order: PassOrder, job: FullPassJob, writer: asyncio.StreamWriter) -> Any:
    """Have the cluster do a job, telling how far it is."""
    import ray

    pool = order.pool
    variables = {name: os.environ[name] for name in FOR_PASSES if name in os.environ}
    actor = (
        ray.remote(PassActor)
        .options(
            num_cpus=pool.cpus,
            num_gpus=pool.gpus if pool.device == "cuda" else 0,
            max_concurrency=2,
            runtime_env={"env_vars": {**ONE_THREAD, **variables}},
        )
        .remote(order)
    )
    async for piece in _pieces(job.audio_file):
        await actor.write.remote(piece)
    running = asyncio.ensure_future(_awaited(actor.run.remote(job)))
    told = None
    while not running.done():
        progress = await actor.progress.remote()
        if progress != told:
            writer.write(pack(progress))
        told = progress
        await asyncio.wait({running}, timeout=LOOK_INTERVAL)
    answer = running.result()
    ray.kill(actor)
    return answer


async def _awaited(reference: Any) -> Any:
    return await reference


async def _pieces(file: Path) -> Any:
    """Yield a recording in pieces."""
    with file.open("rb") as audio:
        while piece := await asyncio.to_thread(audio.read, PIECE_BYTES):
            yield piece


def main(descriptor: int) -> None:
    """Run until the server's end of the socket closes."""
    # It is the server who decides when to end, whatever reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.disable(logging.WARNING)
    asyncio.run(serve(descriptor))
    os._exit(0)  # Ray's own threads have nothing to finish


if __name__ == "__main__":
    main(int(sys.argv[1]))
