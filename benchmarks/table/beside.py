"""The suite `beside`: this tree and another checkout of it, in turn on one machine, and their ratios.

Machines differ by twice and drift by a tenth within minutes: only what ran in turn can be compared. Both
servers stand all the while and are played to one at a time, in the order A B B A; medians count.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from math import nan
from pathlib import Path
from typing import Any

from benchmarks.base.measure import SessionMeasures, percentile
from benchmarks.base.options import Options, parts_of
from benchmarks.base.processes import BenchServer, watched
from benchmarks.base.recordings import WHOLE
from benchmarks.base.report import Table, fact, limit
from benchmarks.base.streaming import play
from benchmarks.speakers.passing import Pass, ended_cpu_seconds, pass_and_live, pass_of
from benchmarks.table.rows import BUSY_CORES
from benchmarks.table.table import Run, details_of, measured

PARTS = ("live", "pass")
CLIPS = ("talk5_lj", "conv2_public")
MIN_REPEATS = 2
"""So that each tree goes first as often as the other."""
WITHIN = 1.03
"""Most that live captions may cost or take, over the same of the other tree."""
PASS_WITHIN = 1.2
"""The same for the full pass."""
TREES = ("there", "here")


@dataclass(slots=True)
class Runs:
    """What was measured with one model: clip → tree → its repeats."""

    live: dict[str, dict[str, list[Run]]] = field(default_factory=dict)
    passes: dict[str, dict[str, list[Pass]]] = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument("--tree", type=Path, help="beside: the other checkout, such as a `git worktree`")


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Measure both trees with each model. Raises ValueError where the other one is not named or not there."""
    tree = arguments.tree
    if tree is None or not (tree / "live_asr" / "__init__.py").is_file():
        raise ValueError("beside: --tree names another checkout of live-asr (`git worktree add PATH COMMIT`)")
    parts = parts_of(arguments, PARTS)
    repeats = max(MIN_REPEATS, options.repeats)
    found = {model: run_model(model, options, tree.resolve(), parts, repeats) for model in options.models}
    tables = [table_of(model, runs) for model, runs in found.items()]
    return tables, {model: details(runs) for model, runs in found.items()}


def details(runs: Runs) -> dict[str, Any]:
    """Return all numbers behind the table, for programs."""

    def of(found: dict[str, dict[str, list[Any]]], each: Callable[[Any], Any]) -> dict[str, Any]:
        return {
            name: {which: list(map(each, repeats)) for which, repeats in trees.items()}
            for name, trees in found.items()
        }

    return {"live": of(runs.live, details_of), "passes": of(runs.passes, asdict)}


def run_model(model: str, options: Options, tree: Path, parts: Sequence[str], repeats: int) -> Runs:
    """Play to both servers in turn."""
    here = Path(__file__).resolve().parents[2]
    runs = Runs()

    def server(folder: Path) -> BenchServer:
        return BenchServer(model, models_dir=options.models_dir, tree=folder)

    with server(tree) as there, server(here) as ours:
        servers = dict(zip(TREES, (there, ours), strict=True))
        for name in options.clips:
            for repeat in range(repeats):
                for which in TREES if repeat % 2 == 0 else TREES[::-1]:
                    options.say(f"{model}: {name} {which}, {repeat + 1} of {repeats}")
                    if "live" in parts:
                        live = runs.live.setdefault(name, {}).setdefault(which, [])
                        live.append(live_run(servers[which], model, name, options))
                    if "pass" in parts:
                        passes = runs.passes.setdefault(name, {}).setdefault(which, [])
                        passes.append(pass_run(servers[which], name, options))
    return runs


def live_run(server: BenchServer, model: str, name: str, options: Options) -> Run:
    """Play a clip in real time, without a full pass behind it."""
    clip = options.clip(name)
    references = {clip.digest: options.reference(clip, model)}
    played = play(server.url, clip, language=options.language, start={"final_pass": False})
    return measured(server, lambda: [asyncio.run(played)], references)


def pass_run(server: BenchServer, name: str, options: Options) -> Pass:
    """Have a whole recording gone over with nothing beside it."""
    clip = options.clip(name, WHOLE)
    before = ended_cpu_seconds(server)
    with watched(server) as usage:
        log, _ = asyncio.run(pass_and_live(server.url, clip, clip, options.language, most=0))
    return pass_of(log, ended_cpu_seconds(server) - before, usage.others_cores)


# The table --------------------------------------------------------------------------------------------

Number = Callable[[Any], float]


def _of_session(number: Callable[[SessionMeasures], float]) -> Number:
    return lambda run: number(run.sessions[0])


LIVE: dict[str, Number] = {
    "CPU seconds per second of audio, live": lambda run: run.cpu_per_second,
    "commit latency p50": _of_session(lambda session: percentile(session.commit_latencies, 50)),
    "commit latency p95": _of_session(lambda session: percentile(session.commit_latencies, 95)),
    "first appearance p50": _of_session(lambda session: percentile(session.first_latencies, 50)),
    "first appearance p95": _of_session(lambda session: percentile(session.first_latencies, 95)),
    "peak memory, all processes, MB": lambda run: run.usage.peak_bytes / 1e6,
}
PASS: dict[str, Number] = {
    "full pass, seconds per second of audio": lambda one: one.factor,
    "full pass, CPU seconds per second of audio": lambda one: one.cpu_share,
}


def table_of(model: str, runs: Runs) -> Table:
    """Show medians of both trees and the ratios that must hold."""
    kinds = ((LIVE, runs.live, WITHIN), (PASS, runs.passes, PASS_WITHIN))
    rows = [
        limit(f"{metric}, here / there", _overall(found, number), most, digits=3, each=_each(found, number))
        for numbers, found, most in kinds
        if found
        for metric, number in numbers.items()
    ]
    for name, trees in runs.live.items():
        texts = {which: {run.sessions[0].text for run in trees[which]} for which in TREES}
        rows.append(fact(f"{name}: the same words", "yes" if texts["here"] == texts["there"] else "no"))
    live, passes = _all(runs.live), _all(runs.passes)
    failures = [run.sessions[0].failure for run in live] + [one.failure for one in passes]
    rows.append(limit("sessions that failed", sum(map(bool, failures)), 0, digits=0))
    others = [run.usage.others_cores for run in live] + [one.others_cores for one in passes]
    notes = ["medians of each tree's runs, here / there; what is judged is the mean of the clips' ratios"]
    if max(others, default=0.0) > BUSY_CORES:
        notes.append(f"**up to {max(others):.2f} cores were busy with something else: repeat it quietly**")
    return Table(f"{model}: beside another checkout", rows, notes)


def _all(found: dict[str, dict[str, list[Any]]]) -> list[Any]:
    return [one for trees in found.values() for repeats in trees.values() for one in repeats]


def _median(repeats: Sequence[Any], number: Number) -> float:
    return statistics.median(number(one) for one in repeats)


def _each(found: dict[str, dict[str, list[Any]]], number: Number) -> dict[str, str]:
    return {
        name: f"{_median(trees['here'], number):.3f} / {_median(trees['there'], number):.3f}"
        for name, trees in found.items()
    }


def _overall(found: dict[str, dict[str, list[Any]]], number: Number) -> float:
    """Return the mean of the clips' ratios."""
    ratios = [_median(trees["here"], number) / _median(trees["there"], number) for trees in found.values()]
    return statistics.mean(ratios) if ratios else nan
