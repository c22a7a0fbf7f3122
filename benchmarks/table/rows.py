"""The table's lines: what was measured with one model, held against what must hold."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from benchmarks.base.matching import Errors
from benchmarks.base.measure import SessionMeasures, percentile
from benchmarks.base.options import Options, available
from benchmarks.base.report import Row, Table, fact, limit, limits
from benchmarks.base.speech import MissingSpeechError
from benchmarks.table.table import ModelRuns, Run, details, run_model

JUDGED = ("talk5_lj", "conv2_public")
"""The clips that the promises are made on; others are shown beside them."""
STALL_MS = 50.0
PING_P99_MS = 100.0
ACK_GAP, LAG_GAP = 1.1, 2.1
"""Promised at the server are 1 s and 2 s; a tenth is left for the way to the client."""
BUSY_CORES, LATE_MS = 0.25, 50.0
"""With more than this going on beside them, latencies say more about the machine than about the server."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What must hold for one model; seconds unless named otherwise."""

    wer_above_points: float = 1.0
    lost_percent: float = 0.5
    invented_percent: float = 1.5
    commit: tuple[float, float] = (1.3, 2.5)
    """p50, p95."""
    first: tuple[float, float] = (0.9, 1.8)
    end: float = 1.0
    cpu: float = 0.45
    """CPU seconds per second of audio."""
    memory_mb: float = 500.0
    bytes_per_second: float = 1500.0
    together_commit_p95: float = 4.0
    together_cpu: float = 0.35


TARGETS = {
    "tiny.en": Targets(),
    "base": Targets(commit=(2.0, 3.5), first=(1.4, 2.5), end=1.5, cpu=0.80, memory_mb=650.0),
}
"""Other models are held against those of base."""

Sessions = list[SessionMeasures]


def run(options: Options, _: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite `table` with each model; return its tables and the numbers behind them.

    Raises MissingSpeechError where none of the clips is here.
    """
    options = replace(options, clips=available(options.clips, options))
    if not options.clips:
        raise MissingSpeechError("There is no speech to play; set LIVE_ASR_BENCH_SPEECH to a folder of it.")
    found = {model: run_model(model, options) for model in options.models}
    tables = [table_of(runs, options.language) for runs in found.values()]
    return tables, {model: details(runs) for model, runs in found.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument(
        "--only-single", action="store_true", help="table: one session at a time, speech only"
    )


def table_of(runs: ModelRuns, language: str | None) -> Table:
    """Hold one model's runs against its targets."""
    targets = TARGETS.get(runs.model, TARGETS["base"])
    rows = [
        *_fidelity(runs, targets),
        *_latency(runs, targets),
        *_cost(runs, targets),
        *_together(runs, targets),
        *_nonspeech(runs),
        *_loop(runs),
    ]
    return Table(runs.model, rows, _notes(runs, language))


def _judged(runs: ModelRuns) -> list[Run]:
    names = [name for name in runs.single if name in JUDGED] or list(runs.single)
    return [run for name in names for run in runs.single[name]]


def _sessions(runs: Iterable[Run]) -> Sessions:
    return [session for run in runs for session in run.sessions]


def _by_clip(runs: ModelRuns, show: Callable[[Sessions], str]) -> dict[str, str]:
    return {name: show(_sessions(repeats)) for name, repeats in runs.single.items()}


def _sum(found: Iterable[Errors | None]) -> Errors | None:
    counted = [errors for errors in found if errors is not None]
    return reduce(add, counted) if counted else None


def wer(sessions: Sessions) -> tuple[float, float]:
    """Return the WER of the live text and of the single pass, in percent, pooled; nan without a truth."""
    live = _sum(session.against_truth for session in sessions)
    single = _sum(session.reference_against_truth for session in sessions)
    if live is None or single is None:
        return float("nan"), float("nan")
    return 100 * live.rate, 100 * single.rate


def wer_above(sessions: Sessions) -> float:
    """Return by how many points the live text's WER is above the single pass's; nan without a truth."""
    live, single = wer(sessions)
    return live - single


def divergence(sessions: Sessions) -> tuple[float, float, float]:
    """Return lost, invented and changed words in percent of the single pass's, pooled."""
    found = _sum(session.against_reference for session in sessions) or Errors(0, 0, 0, 0)
    words = max(found.words, 1)
    return 100 * found.lost / words, 100 * found.invented / words, 100 * found.changed / words


def _slashed(values: Iterable[float], digits: int) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in values)


def _fidelity(runs: ModelRuns, targets: Targets) -> list[Row]:
    judged = _sessions(_judged(runs))
    lost, invented, changed = divergence(judged)
    everyone = _sessions(runs.everything())
    return [
        limit(
            "WER of the live text above the single pass's",
            wer_above(judged),
            targets.wer_above_points,
            "points",
            each=_by_clip(runs, lambda sessions: f"{wer_above(sessions):+.1f}"),
        ),
        fact(
            "WER live / single pass",
            f"{_slashed(wer(judged), 1)} %",
            _by_clip(runs, lambda sessions: _slashed(wer(sessions), 1)),
        ),
        limits(
            "lost / invented words",
            [lost, invented],
            [targets.lost_percent, targets.invented_percent],
            "%",
            1,
            _by_clip(runs, lambda sessions: _slashed(divergence(sessions)[:2], 1)),
        ),
        fact(
            "words changed against the single pass",
            f"{changed:.1f} %",
            _by_clip(runs, lambda sessions: f"{divergence(sessions)[2]:.1f}"),
        ),
        limit("committed words changed afterwards", sum(s.changed_afterwards for s in everyone), 0, digits=0),
        limit("breaches of the protocol", sum(len(s.violations) for s in everyone), 0, digits=0),
        limit("sessions that failed", sum(s.failure is not None for s in everyone), 0, digits=0),
    ]


def _commits(sessions: Sessions) -> list[float]:
    return [value for session in sessions for value in session.commit_latencies]


def _firsts(sessions: Sessions) -> list[float]:
    return [value for session in sessions for value in session.first_latencies]


def _ends(sessions: Sessions) -> list[float]:
    return [max(s.end_to_last_commit for s in sessions), max(s.end_to_stopped for s in sessions)]


def _latency(runs: ModelRuns, targets: Targets) -> list[Row]:
    judged = _sessions(_judged(runs))

    def row(title: str, values: Callable[[Sessions], list[float]], most: tuple[float, float]) -> Row:
        def both(sessions: Sessions) -> list[float]:
            return [percentile(values(sessions), 50), percentile(values(sessions), 95)]

        each = _by_clip(runs, lambda sessions: _slashed(both(sessions), 2))
        return limits(f"{title} p50 / p95", both(judged), list(most), "s", each=each)

    return [
        row("commit latency", _commits, targets.commit),
        row("first appearance", _firsts, targets.first),
        fact(
            "slowest commit",
            f"{percentile(_commits(judged), 100):.2f} s",
            _by_clip(runs, lambda sessions: f"{percentile(_commits(sessions), 100):.2f}"),
        ),
        limits(
            "end of audio → last commit / `stopped`",
            _ends(judged),
            [targets.end, targets.end],
            "s",
            each=_by_clip(runs, lambda sessions: _slashed(_ends(sessions), 2)),
        ),
    ]


def _cost(runs: ModelRuns, targets: Targets) -> list[Row]:
    judged = _judged(runs)

    def row(
        title: str, of: Callable[[list[Run]], float], most: float, unit: str = "", digits: int = 0
    ) -> Row:
        each = {name: f"{of(repeats):.{digits}f}" for name, repeats in runs.single.items()}
        return limit(title, of(judged), most, unit, digits, each)

    def cpu(some: list[Run]) -> float:
        return statistics.median(run.cpu_per_second for run in some)

    def memory_mb(some: list[Run]) -> float:
        return max(run.usage.peak_bytes for run in some) / 1e6

    def rate(some: list[Run]) -> float:
        return max(session.bytes_per_second for session in _sessions(some))

    rows = [
        row("CPU-seconds per second of audio, all processes", cpu, targets.cpu, digits=2),
        row("memory, all processes (proportional set size), peak", memory_mb, targets.memory_mb, "MB"),
        row("bytes to the client, each second", rate, targets.bytes_per_second),
    ]
    decodes = statistics.median(run.usage.decodes / run.sessions[0].duration for run in judged)
    if decodes:
        rows.append(fact("decodes a second", f"{decodes:.2f}"))
    return rows


def _together(runs: ModelRuns, targets: Targets) -> list[Row]:
    sessions = _sessions(runs.together)
    if not sessions:
        return []
    cpu = statistics.median(run.cpu_per_second for run in runs.together)
    by_session = ", ".join(f"{percentile(s.commit_latencies, 95):.2f}" for s in sessions)
    lost, invented, _ = divergence(sessions)
    p95 = percentile(_commits(sessions), 95)
    return [
        limit("4 sessions at once: commit p95", p95, targets.together_commit_p95, "s"),
        limit("4 sessions at once: CPU-seconds per second of audio of each", cpu, targets.together_cpu),
        fact("4 sessions at once: commit p95 of each", f"{by_session} s"),
        fact(
            "4 sessions at once: WER above the single pass's, lost, invented",
            f"{wer_above(sessions):+.1f} points, {lost:.1f} %, {invented:.1f} %",
        ),
    ]


def _nonspeech(runs: ModelRuns) -> list[Row]:
    sessions = _sessions(runs.nonspeech)
    if not sessions:
        return []
    names = ", ".join(session.clip for session in sessions)
    words = sum(len(session.text.split()) for session in sessions)
    return [limit(f"words out of {sessions[0].duration:.0f} s each of {names}", words, 0, digits=0)]


def _loop(runs: ModelRuns) -> list[Row]:
    everything = runs.everything()
    sessions = _sessions(everything)
    pings_ms = [1000 * ping for session in sessions for ping in session.pings]
    rows = [
        limit("ping round trip p99", percentile(pings_ms, 99), PING_P99_MS, "ms", 1),
        fact("ping round trip, slowest", f"{percentile(pings_ms, 100):.0f} ms"),
    ]
    stalls_ms = [run.usage.stall_ms for run in everything if run.usage.stall_ms is not None]
    if stalls_ms:
        rows.append(limit("longest stall of the event loop (/metrics)", max(stalls_ms), STALL_MS, "ms", 1))
    gaps = [max(s.ack_gap for s in sessions), max(s.lag_gap for s in sessions)]
    rows.append(limits("longest time without `ack` / `lag`", gaps, [ACK_GAP, LAG_GAP], "s"))
    return rows


def _notes(runs: ModelRuns, language: str | None) -> list[str]:
    sessions = _sessions(runs.everything())
    others = max(run.usage.others_cores for run in runs.everything())
    late_ms = 1000 * max(session.client_lateness for session in sessions)
    notes = [
        f"ready after {runs.ready_after:.1f} s; language {language or 'detected'}; "
        f"measured: pooled over {', '.join(dict.fromkeys(s.clip for s in _sessions(_judged(runs))))}",
        f"other processes kept up to {others:.2f} cores busy; the client was up to {late_ms:.0f} ms late",
    ]
    if others > BUSY_CORES or late_ms > LATE_MS:
        notes.append("**the machine was busy with other things: latencies and stalls are void**")
    missing = [name for name in JUDGED if name not in runs.single]
    if missing:
        notes.append(f"**not measured: {', '.join(missing)}**, on which the promises are made")
    slowest = max(sessions, key=lambda session: max(session.pings, default=0.0))
    notes.append(f"the slowest ping: {slowest.slowest_ping_at:.1f} s into {slowest.clip}")
    last = runs.everything()[-1].usage.stall_ms
    held = next(run for run in runs.everything() if run.usage.stall_ms == last)
    if last is not None:
        notes.append(f"the longest stall: {held.usage.stall_at:.0f} s into {held.sessions[0].clip}")
    for session in sessions:
        if session.failure:
            notes.append(f"**{session.clip} failed**: {session.failure}")
        notes += [f"{session.clip}: {violation}" for violation in session.violations]
    for name, repeats in runs.single.items():
        notes += [
            f"{name}, single pass → live: {'; '.join(session.differences)}"
            for session in _sessions(repeats)
            if session.differences
        ]
    for session in _sessions(runs.nonspeech):
        if session.text.strip():
            notes.append(f"{session.clip} gave {session.text.strip()!r}")
    return notes
