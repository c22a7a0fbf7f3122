"""The suites `hour` and `silence`: does a long session cost at its end what it cost at its start?"""

from __future__ import annotations

import argparse
import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.base.measure import measure, percentile
from benchmarks.base.options import Options
from benchmarks.base.processes import BenchServer, Sample, Usage, watched
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.base.speech import Clip, looped, silence
from benchmarks.base.streaming import Pace, SessionLog, play
from benchmarks.table.rows import PING_P99_MS, STALL_MS

WARM_UP = 300.0
"""Seconds of audio after which memory is to be flat."""
SLOPE_MB_PER_HOUR = 5.0
COST_GROWTH = 1.15
"""What a second of audio, or a decode, may cost in the last sixth of a session, over the second sixth."""
SOURCE = "talk5_lj"
SOURCE_SECONDS = 256.0
"""All of it."""
SECONDS = 3600.0
"""Of a session where nothing was chosen."""


@dataclass(frozen=True, slots=True)
class LongRun:
    """A long session and what the server used while it went on."""

    log: SessionLog
    usage: Usage
    labels: dict[int, str]
    """Process id → what it is."""


def run_hour(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite `hour` with each model; return its tables and the numbers behind them."""
    return _each(hour, options, arguments)


def run_silence(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite `silence` with each model; return its tables and the numbers behind them."""
    return _each(quiet, options, arguments)


def _each(
    measured: Callable[[str, float, Pace, Options], tuple[Table, LongRun]],
    options: Options,
    arguments: argparse.Namespace,
) -> tuple[list[Table], dict[str, Any]]:
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    for model in options.models:
        table, run = measured(model, arguments.seconds or SECONDS, arguments.pace or "fast", options)
        tables.append(table)
        behind[model] = {
            "processes": run.labels,
            "samples": [asdict(sample) for sample in run.usage.samples],
            "cost_by_sixth": cost_by_part(run),
        }
    return tables, behind


def run_long(model: str, clip: Clip, pace: Pace, options: Options) -> LongRun:
    """Play one long clip through one session on a server of its own."""
    options.say(f"{model}: {clip.name}, {clip.duration / 60:.0f} minutes, {pace}")
    with BenchServer(model, models_dir=options.models_dir) as server:
        with watched(server, interval=1.0 if pace == "fast" else 5.0) as usage:
            log = asyncio.run(play(server.url, clip, pace=pace, language=options.language))
        seen = {pid for sample in usage.samples for pid in sample.memory_bytes}
        labels = {pid: server.label(pid) for pid in seen}
    return LongRun(log, usage, labels)


def hour(model: str, seconds: float, pace: Pace, options: Options) -> tuple[Table, LongRun]:
    """Play looped speech and hold memory and cost against their start."""
    run = run_long(model, looped(options.clip(SOURCE, SOURCE_SECONDS), seconds), pace, options)
    rows = [*_memory_rows(run), *_cost_rows(run), *_common_rows(run)]
    return Table(f"{model}: {seconds / 60:.0f} minutes of speech, {pace}", rows, _notes(run)), run


def quiet(model: str, seconds: float, pace: Pace, options: Options) -> tuple[Table, LongRun]:
    """Play silence and expect nothing."""
    run = run_long(model, silence(seconds), pace, options)
    words = len(measure(run.log).text.split())
    rows = [limit("words out of silence", words, 0, digits=0), *_memory_rows(run), *_common_rows(run)]
    rows.append(
        fact("CPU-seconds per second of audio", f"{run.usage.cpu_seconds / run.log.clip.duration:.3f}")
    )
    return Table(f"{model}: {seconds / 60:.0f} minutes of silence, {pace}", rows, _notes(run)), run


def heard_by(log: SessionLog, times: Sequence[float]) -> list[float]:
    """Return how many seconds of the audio the server had dealt with at each time.

    Taken from `lag.committed`, which goes on through silence too; between two of them, and before the
    first, the earlier one holds.
    """
    moments, positions = [log.started], [0.0]
    for arrival in log.of_type("lag"):
        moments.append(arrival.time)
        positions.append(max(float(arrival.message["committed"]), positions[-1]))
    stopped = log.first("stopped")
    if stopped is not None:
        moments.append(stopped.time)
        positions.append(log.clip.duration)
    return [positions[max(bisect_right(moments, time) - 1, 0)] for time in times]


def slope(positions: Sequence[float], values: Sequence[float]) -> float:
    """Return the median of the slopes between any two values, per hour of audio; nan of under 3 points.

    Theil and Sen's: freed memory goes back now and then, and a straight line through such a saw depends on
    which tooth comes last.
    """
    if len(positions) < 3 or max(positions) == min(positions):
        return float("nan")
    at, value = np.asarray(positions) / 3600.0, np.asarray(values)
    first, second = np.triu_indices(len(at), k=1)
    apart = at[second] - at[first]
    return float(np.median((value[second] - value[first])[apart > 0] / apart[apart > 0]))


def _memory_rows(run: LongRun) -> list[Row]:
    """Fit a line through each process's memory after the warm-up; a process that came later is shown."""
    samples = run.usage.samples
    positions = heard_by(run.log, [sample.time for sample in samples])
    rows: list[Row] = []
    for pid, label in sorted(run.labels.items()):
        seen = [
            (at, sample.memory_bytes[pid] / 1e6)
            for at, sample in zip(positions, samples, strict=True)
            if pid in sample.memory_bytes and at >= min(WARM_UP, run.log.clip.duration / 4)
        ]
        if len(seen) < 3:
            continue
        grown = slope([at for at, _ in seen], [value for _, value in seen])
        title = f"memory of {label}, slope"
        measured = {"from": f"{seen[0][1]:.1f} MB", "to": f"{seen[-1][1]:.1f} MB"}
        if run.log.clip.duration < 3 * WARM_UP:  # too short for a slope to mean anything
            rows.append(fact(title, f"{grown:.1f} MB an hour of audio", measured))
        else:
            rows.append(limit(title, grown, SLOPE_MB_PER_HOUR, "MB an hour of audio", 1, measured))
    rows.append(fact("memory, all processes, peak", f"{run.usage.peak_bytes / 1e6:.0f} MB"))
    return rows


def by_part(run: LongRun, of: Callable[[Sample], float], parts: int = 6) -> list[float]:
    """Return by how much a growing quantity grew in each of `parts` equal stretches of the audio."""
    positions = np.asarray(heard_by(run.log, [sample.time for sample in run.usage.samples]))
    values = np.asarray([of(sample) for sample in run.usage.samples])
    keep = np.concatenate([[True], np.diff(positions) > 0])
    edges = np.linspace(0.0, run.log.clip.duration, parts + 1)
    return [float(value) for value in np.diff(np.interp(edges, positions[keep], values[keep]))]


def cost_by_part(run: LongRun, parts: int = 6) -> list[float]:
    """Return CPU seconds per second of audio in each part of the session."""
    length = run.log.clip.duration / parts
    return [used / length for used in by_part(run, lambda sample: sample.cpu_seconds, parts)]


def _cost_rows(run: LongRun) -> list[Row]:
    """Compare the last sixth with the second: the first one pays for what is done once.

    CPU is what is judged; how long a decode takes by the clock moves with whatever else the machine does.
    """
    cost = cost_by_part(run)
    decodes = by_part(run, lambda sample: sample.decodes)
    rows = [
        limit("cost of a second of audio, last sixth over second sixth", cost[-1] / cost[1], COST_GROWTH),
        fact("CPU-seconds per second of audio, by sixth", ", ".join(f"{part:.3f}" for part in cost)),
    ]
    if not all(decodes):
        return rows
    length = run.log.clip.duration / len(cost)
    step = [1000 * part * length / count for part, count in zip(cost, decodes, strict=True)]
    took = by_part(run, lambda sample: sample.decode_seconds)
    clock = [1000 * part / count for part, count in zip(took, decodes, strict=True)]
    return [
        *rows,
        limit("CPU per decode, last sixth over second sixth", step[-1] / step[1], COST_GROWTH),
        fact("CPU per decode, by sixth", ", ".join(f"{part:.0f}" for part in step) + " ms"),
        fact(
            "duration of a decode by the clock, by sixth", ", ".join(f"{part:.0f}" for part in clock) + " ms"
        ),
    ]


def _common_rows(run: LongRun) -> list[Row]:
    found = measure(run.log)
    pings_ms = [1000 * ping for ping in found.pings]
    took = run.log.arrivals[-1].time - run.log.started if run.log.arrivals else float("nan")
    rows = [
        limit("ping round trip p99", percentile(pings_ms, 99), PING_P99_MS, "ms", 1),
        limit("committed words changed afterwards", found.changed_afterwards, 0, digits=0),
        limit("breaches of the protocol", len(found.violations), 0, digits=0),
        limit("failures", 0 if found.failure is None else 1, 0, digits=0),
        fact("words committed", str(len(found.text.split()))),
        fact("speed", f"{run.log.clip.duration / took:.2f}x real time"),
    ]
    stall_ms = run.usage.stall_ms
    if stall_ms is not None:
        rows.insert(1, limit("longest stall of the event loop (/metrics)", stall_ms, STALL_MS, "ms", 1))
    return rows


def _notes(run: LongRun) -> list[str]:
    found = measure(run.log)
    notes = [
        f"other processes kept {run.usage.others_cores:.2f} cores busy on average",
        f"the longest stall: seen {run.usage.stall_at:.0f} s after the first sample",
    ]
    if found.failure:
        notes.append(f"**failed**: {found.failure}")
    return notes + found.violations
