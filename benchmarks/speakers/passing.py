"""The suite `pass`: what the full pass costs, what it costs a live session, and how much memory it takes.

Sessions are played to the real server as any client would; a live one beside a pass begins when the `stopped`
of the other has come. Memory is watched on a recording of hours, for which the full pass's process is asked
without a server.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from typing import Any

from benchmarks.base.measure import measure, percentile
from benchmarks.base.options import Options, parts_of
from benchmarks.base.processes import BenchServer, watched
from benchmarks.base.recordings import WHOLE, joined
from benchmarks.base.reference import Reference
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.base.speech import Clip
from benchmarks.base.streaming import Recorder, SessionLog, play
from benchmarks.speakers.pass_memory import long_pass
from benchmarks.table.rows import BUSY_CORES

CLIPS = ("conv2_public", "talk5_lj")
"""Whose pass is timed."""
LIVE = "talk5_lj"
LIVE_SECONDS = 90.0
PAIRS = 2
"""Live sessions alone and beside a pass, one after the other: A/B/A/B."""
FACTOR = 0.5
"""Most that a pass may take, over the length of its recording."""
WORSE = 1.15
"""Most that the p95 commit latency beside a pass may be, over the same alone."""
MIN_BESIDE = 0.9
"""Share of a live session that has to lie within the pass for it to count as beside one."""
PARTS = ("factor", "latency", "memory")


@dataclass(frozen=True, slots=True)
class Pass:
    """What the full pass of one session took."""

    clip: str
    duration: float
    """Of the recording, seconds."""
    seconds: float
    """From `stopped` to `final`; nan where there was none."""
    cpu_seconds: float
    """Of its process, from its start to its end."""
    others_cores: float
    """Kept busy by what is neither the server nor this harness, over the whole session."""
    failure: str | None

    @property
    def factor(self) -> float:
        """Real-time factor."""
        return self.seconds / self.duration

    @property
    def cpu_share(self) -> float:
        """CPU seconds per second of audio."""
        return self.cpu_seconds / self.duration


@dataclass(frozen=True, slots=True)
class Live:
    """Commit latencies of one live session, seconds."""

    p50: float
    p95: float
    words: int
    beside: float
    """Share of the session, 0 to 1, in which the pass was under way."""
    others_cores: float
    failure: str | None


@dataclass(slots=True)
class PassRuns:
    """All that was measured with one model."""

    model: str
    alone: list[Pass] = field(default_factory=list)
    beside: list[Pass] = field(default_factory=list)
    live_alone: list[Live] = field(default_factory=list)
    live_beside: list[Live] = field(default_factory=list)
    joined: list[Pass] = field(default_factory=list)
    """The passes that `live_beside` ran beside."""


# Measuring ----------------------------------------------------------------------------------------


def ended_cpu_seconds(server: BenchServer) -> float:
    """Return the CPU seconds, user and system, of the server's children that have ended.

    The process of the full pass ends with it, before `final`: the kernel's own sum misses none of it.
    """
    times = next(server.processes()).cpu_times()
    return float(times.children_user + times.children_system)


def pass_of(log: SessionLog, cpu_seconds: float, others_cores: float) -> Pass:
    """Read the time of the full pass from a session; one that ends without its result has failed."""
    clip, stopped, final = log.clip, log.first("stopped"), log.first("final")
    failure = log.failure
    if failure is None and final is not None and final.message.get("labels") != "full":
        failure = f"no full pass: the labels of final are {final.message.get('labels')}"
    took = nan if failure or stopped is None or final is None else final.time - stopped.time
    return Pass(clip.name, clip.duration, took, cpu_seconds, others_cores, failure)


def share_beside(live: SessionLog, other: SessionLog) -> float:
    """Return the share of a live session's audio that was sent while the other's full pass ran, 0 to 1."""
    stopped, final = other.first("stopped"), other.first("final")
    if stopped is None or final is None or not live.sent_times:
        return 0.0
    first, last = live.sent_times[0], live.sent_times[-1]
    both = min(last, final.time) - max(first, stopped.time)
    return max(both, 0.0) / max(last - first, 1e-9)


def live_of(log: SessionLog, reference: Reference, others_cores: float, beside: float = 0.0) -> Live:
    """Measure a live session."""
    latencies = measure(log, reference).commit_latencies
    p50, p95 = percentile(latencies, 50), percentile(latencies, 95)
    return Live(p50, p95, len(latencies), beside, others_cores, log.failure)


async def pass_and_live(
    url: str, recorded: Clip, live: Clip, language: str | None, *, most: int | None = None
) -> tuple[SessionLog, list[SessionLog]]:
    """Have a recording gone over, and play live sessions one after another until that is done.

    `most` bounds their number; 0 leaves the pass alone.
    """
    recorder = Recorder(url, recorded, pace="fast", language=language, start={"final_pass": True})
    beside: list[SessionLog] = []
    async with asyncio.TaskGroup() as tasks:
        long = tasks.create_task(recorder.run())
        await recorder.stopped()
        while not long.done() and (most is None or len(beside) < most):
            beside.append(await play(url, live, language=language))
    return long.result(), beside


def run_model(
    model: str, options: Options, *, live_seconds: float, pairs: int, parts: Sequence[str]
) -> PassRuns:
    """Measure one model from start to end on a server of its own."""
    live = options.clip(LIVE, live_seconds)
    runs = PassRuns(model)
    reference = options.reference(live, model) if "latency" in parts else None
    with BenchServer(model, models_dir=options.models_dir) as server:

        def passed(clip: Clip, most: int | None) -> tuple[Pass, SessionLog, list[SessionLog]]:
            before = ended_cpu_seconds(server)
            with watched(server) as usage:
                asked = pass_and_live(server.url, clip, live, options.language, most=most)
                log, beside = asyncio.run(asked)
            used = ended_cpu_seconds(server) - before
            found = pass_of(log, used, usage.others_cores)
            if found.failure is not None:
                options.say(f"{clip.name} failed: {found.failure}\n{server.output()}")
            return found, log, beside

        if "factor" in parts:
            for name in options.clips:
                clip = options.clip(name, WHOLE)
                for _ in range(options.repeats):
                    options.say(f"{model}: pass over {name}, {clip.duration:.0f} s, alone")
                    runs.alone.append(passed(clip, 0)[0])
                    options.say(f"{model}: pass over {name} beside a live session")
                    runs.beside.append(passed(clip, None)[0])
        if reference is not None:
            long_one = joined(options)  # its pass outlasts the live session beside it
            for pair in range(1, pairs + 1):
                options.say(f"{model}: {live.name}, {live.duration:.0f} s, alone, {pair} of {pairs}")
                with watched(server) as usage:
                    log = asyncio.run(play(server.url, live, language=options.language))
                runs.live_alone.append(live_of(log, reference, usage.others_cores))
                options.say(f"{model}: {live.name} beside the pass over {long_one.name}")
                found, long, beside = passed(long_one, 1)
                runs.joined.append(found)
                runs.live_beside += [
                    live_of(log, reference, found.others_cores, share_beside(log, long)) for log in beside
                ]
    return runs


# The table ----------------------------------------------------------------------------------------


def table_of(runs: PassRuns) -> Table:
    """Hold what was measured with one model against what is promised."""
    rows: list[Row] = []
    for title, found in (("alone", runs.alone), ("beside live sessions", runs.beside)):
        if found:
            rows += factor_rows(title, found)
    if runs.live_alone:
        rows += latency_rows(runs.live_alone, runs.live_beside)
        rows += factor_rows("of the passes behind that", runs.joined)
    failed = [one.failure for one in everything(runs) if one.failure]
    rows.append(limit("sessions that failed", len(failed), 0, digits=0))
    return Table(f"{runs.model}: the full pass", rows, [*(f"failed: {why}" for why in failed), *notes(runs)])


def everything(runs: PassRuns) -> list[Pass | Live]:
    """Return all that was measured."""
    return [*runs.alone, *runs.beside, *runs.joined, *runs.live_alone, *runs.live_beside]


def factor_rows(title: str, found: Sequence[Pass]) -> list[Row]:
    """Make the rows of some passes: each clip's median over its repeats, the worst clip judged."""
    by_clip: dict[str, list[Pass]] = {}
    for one in found:
        by_clip.setdefault(one.clip, []).append(one)
    factors = {name: statistics.median(one.factor for one in each) for name, each in by_clip.items()}
    shares = {name: statistics.median(one.cpu_share for one in each) for name, each in by_clip.items()}
    return [
        limit(
            f"real-time factor {title}, the worst",
            nan if any(map(isnan, factors.values())) else max(factors.values()),
            FACTOR,
            each={name: f"{factor:.2f}" for name, factor in factors.items()},
        ),
        fact(
            f"CPU seconds of its process per second of audio, {title}",
            f"{max(shares.values()):.2f}",
            {name: f"{share:.2f}" for name, share in shares.items()},
        ),
    ]


def latency_rows(alone: Sequence[Live], beside: Sequence[Live]) -> list[Row]:
    """Compare live sessions beside a pass with those alone, by the medians of their percentiles."""

    def row(name: str, before: Sequence[float], after: Sequence[float]) -> Row:
        middle, with_pass = statistics.median(before), statistics.median(after) if after else nan
        each = {
            "alone": f"{middle:.2f} s ({', '.join(f'{value:.2f}' for value in before)})",
            "beside": f"{with_pass:.2f} s ({', '.join(f'{value:.2f}' for value in after)})",
        }
        ratio = with_pass / middle if middle else nan
        title = f"commit latency {name} beside a pass, over the same alone"
        return limit(title, ratio, WORSE, each=each) if name == "p95" else fact(title, f"{ratio:.2f}", each)

    overlap = min((one.beside for one in beside), default=0.0)
    return [
        row("p95", [one.p95 for one in alone], [one.p95 for one in beside]),
        row("p50", [one.p50 for one in alone], [one.p50 for one in beside]),
        fact("share of a live session beside its pass, the least", f"{100 * overlap:.0f} %"),
    ]


def notes(runs: PassRuns) -> list[str]:
    """Say what makes numbers void."""
    told = [
        f"a live session lay beside its pass for {100 * one.beside:.0f} % only: its latency is void"
        for one in runs.live_beside
        if one.beside < MIN_BESIDE
    ]
    busiest = max((one.others_cores for one in everything(runs)), default=0.0)
    told.append(f"other processes kept up to {busiest:.2f} cores busy")
    if busiest > BUSY_CORES:
        told.append(f"over {BUSY_CORES:g}: the machine was measured too, all times are void")
    return told


# The suite ----------------------------------------------------------------------------------------


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the parts that were asked for; return their tables and the numbers behind them."""
    parts = parts_of(arguments, PARTS)
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    if set(parts) - {"memory"}:
        for model in options.models:
            live_seconds, pairs = arguments.live_seconds, arguments.pairs
            runs = run_model(model, options, live_seconds=live_seconds, pairs=pairs, parts=parts)
            tables.append(table_of(runs))
            behind[model] = asdict(runs)
    if "memory" in parts:
        for model in options.models[: 1 if arguments.no_recognize else None]:
            asked = long_pass(arguments.hours, model, options, recognize=not arguments.no_recognize)
            found, behind[f"{model} memory"] = asyncio.run(asked)
            tables.append(found)
    return tables, behind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument(
        "--hours", type=float, default=4.0, help="pass, dialects: of the recording whose memory is watched"
    )
    parser.add_argument(
        "--no-recognize", action="store_true", help="pass: memory of finding the speakers only"
    )
    parser.add_argument("--live-seconds", type=float, default=LIVE_SECONDS, help="pass: of a live session")
    parser.add_argument(
        "--pairs", type=int, default=PAIRS, help="pass: of live sessions, alone and beside a pass"
    )
