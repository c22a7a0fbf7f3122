"""What the full pass of one session costs a live one beside it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from benchmarks.measure import measure, percentile
from benchmarks.options import Options
from benchmarks.processes import BenchServer
from benchmarks.speech import Clip
from benchmarks.streaming import Recorder, SessionLog, play

LIVE = "talk5_lj"
LIVE_SECONDS = 90.0
RECORDED = ("conv2_public", "conv6_public")
"""Played one after the other in one session: their full pass lasts as long as the live session, about."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Commit latencies of a live session alone and beside a full pass, in seconds."""

    p95_alone: float
    p95_beside: float
    live_seconds: float
    """How long the live session took."""
    recording: str
    """What the full pass was about."""
    recording_seconds: float
    full_pass_seconds: float
    """From `stopped` to `final`."""

    @property
    def real_time_factor(self) -> float:
        """Of the full pass."""
        return self.full_pass_seconds / self.recording_seconds


def beside(model: str, options: Options) -> Beside:
    """Play a live session alone, and again from the moment another session's full pass begins."""
    live = options.clip(LIVE, LIVE_SECONDS)
    reference = options.reference(live, model)
    pieces = [options.clip(name, 1e6) for name in RECORDED]
    recorded = Clip(" + ".join(RECORDED), np.concatenate([piece.audio for piece in pieces]), None)

    def p95(log: SessionLog) -> float:
        return percentile(measure(log, reference).commit_latencies, 95)

    with BenchServer(model, models_dir=options.models_dir) as server:
        options.say(f"{model}: {LIVE} alone")
        alone = asyncio.run(play(server.url, live, language=options.language))
        options.say(f"{model}: {LIVE} beside the full pass of {recorded.name}")
        long, short = asyncio.run(_together(server.url, recorded, live, options.language))
    stopped, final = long.first("stopped"), long.first("final")
    took = final.time - stopped.time if final is not None and stopped is not None else float("nan")
    lasted = short.arrivals[-1].time - short.started if short.arrivals else float("nan")
    return Beside(p95(alone), p95(short), lasted, recorded.name, recorded.duration, took)


async def _together(
    url: str, recorded: Clip, live: Clip, language: str | None
) -> tuple[SessionLog, SessionLog]:
    recorder = Recorder(url, recorded, pace="fast", language=language, start={"final_pass": True})
    async with asyncio.TaskGroup() as tasks:
        long = tasks.create_task(recorder.run())
        await recorder.stopped()
        short = tasks.create_task(play(url, live, language=language))
    return long.result(), short.result()
