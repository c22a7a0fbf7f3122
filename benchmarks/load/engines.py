"""The suite `engines`: one session recognised by the server's own process and by a worker in Ray, in turn.

`live-asr cluster up` runs one gateway, one worker, Ray and PostgreSQL on this machine; a server with its own
process stands beside. The gateway keeps sessions in PostgreSQL, so that server does, too, in one of its own:
what is left of the difference is Ray's.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import psutil

from benchmarks.base.measure import percentile
from benchmarks.base.options import Options
from benchmarks.base.processes import BenchServer
from benchmarks.base.report import Table, fact, limit
from benchmarks.base.speech import Clip
from benchmarks.load.clients import Seat, latencies_of, play
from benchmarks.load.cluster import OwnCluster
from benchmarks.load.journal import own_postgres

CLIPS = ("talk5_lj", "conv2_public")
HERE, RAY = "own process", "Ray"
ROUNDS = 2
"""At least, so that each goes first as often as the other."""
COMMIT_MORE_MS = 60.0
CPU_TIMES = 1.15


@dataclass(frozen=True, slots=True)
class Run:
    """One session."""

    clip: str
    p50: float
    p95: float
    """Seconds from the end of a word until it was committed."""
    cpu: float
    """CPU seconds a second of audio of what serves it: gateways, inference, workers, bridges."""
    beside: float
    """The same of everything else of the cluster: Ray's daemons and PostgreSQL."""
    text: str
    failure: str | None


Spent = dict[int, tuple[bool, float]]
"""By process, whether it serves sessions, and the CPU seconds that it has taken."""
Look = Callable[[], Spent]


def serves(process: psutil.Process) -> bool:
    """Tell whether a process of the cluster serves sessions: a gateway, what is beside it, or a worker."""
    line = process.cmdline()
    if not line:
        return False
    return line[0].startswith("ray::RecognizerActor") or any("live_asr" in part for part in line)


def cpu_of(processes: Iterable[psutil.Process]) -> Spent:
    """Return, by process, whether it serves sessions, and the CPU seconds that it has taken."""
    found = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid] = serves(process), times.user + times.system
    return found


def once(options: Options, clip: Clip, model: str, url: str, look: Look) -> Run:
    """Play one session in real time, and measure it."""
    seats = [Seat(clip, start={"language": "en"}, pings=False)]
    before = look()
    visits, _ = play(url, seats, "en")
    after = look()
    spent = {True: 0.0, False: 0.0}
    for process, (is_serving, seconds) in after.items():
        spent[is_serving] += seconds - before.get(process, (is_serving, 0.0))[1]
    log = visits[0].log
    latencies = latencies_of(log, {clip.name: options.reference(clip, model)})
    text = "".join(arrival.message["text"] for arrival in log.of_type("commit"))
    return Run(
        clip.name,
        percentile(latencies, 50),
        percentile(latencies, 95),
        spent[True] / clip.duration,
        spent[False] / clip.duration,
        text,
        log.failure,
    )


def compare(model: str, options: Options, clips: list[Clip], rounds: int) -> dict[str, list[Run]]:
    """Play each clip at both, in turn."""
    found: dict[str, list[Run]] = {HERE: [], RAY: []}
    for clip in clips:
        options.reference(clip, model)  # before anything is measured
    with (
        own_postgres() as database,
        BenchServer(
            model,
            models_dir=options.models_dir,
            settings={"LIVE_ASR_STORAGE__JOURNAL": database.url},
        ) as server,
        OwnCluster(model, options, {}, gateways=1, workers=1) as cluster,
    ):
        gateway = f"ws://127.0.0.1:{cluster.ports[0]}/v1/stream"
        both: list[tuple[str, str, Look]] = [
            (HERE, server.url, lambda: cpu_of(server.processes())),
            (RAY, gateway, lambda: cpu_of(cluster.processes())),
        ]
        for clip in clips:
            for number in range(rounds):
                for name, url, look in both if number % 2 == 0 else both[::-1]:
                    options.say(f"{clip.name}, {clip.duration:.0f} s, {name}, {number + 1} of {rounds}")
                    found[name].append(once(options, clip, model, url, look))
    return found


def table_of(model: str, found: dict[str, list[Run]]) -> Table:
    """Hold Ray against the own process."""

    def each(number: Callable[[Run], float]) -> dict[str, str]:
        return {name: ", ".join(f"{number(run):.3f}" for run in runs) for name, runs in found.items()}

    def middle(name: str, number: Callable[[Run], float]) -> float:
        return median(map(number, found[name]))

    p95 = middle(RAY, lambda run: run.p95) - middle(HERE, lambda run: run.p95)
    cpu = middle(RAY, lambda run: run.cpu) / middle(HERE, lambda run: run.cpu)
    unlike = sum(here.text != there.text for here, there in zip(found[HERE], found[RAY], strict=True))
    failed = sum(run.failure is not None for runs in found.values() for run in runs)
    rows = [
        limit(
            "commit p95, Ray's above the own process's",
            1000 * p95,
            COMMIT_MORE_MS,
            "ms",
            0,
            each=each(lambda run: run.p95),
        ),
        fact("commit p50, seconds", "", each(lambda run: run.p50)),
        limit(
            "CPU of what serves sessions, Ray's over the own process's",
            cpu,
            CPU_TIMES,
            each=each(lambda run: run.cpu),
        ),
        fact("CPU of Ray's daemons and its PostgreSQL", f"{middle(RAY, lambda run: run.beside):.3f}"),
        fact("sessions with other words", f"{unlike} of {len(found[RAY])}"),
        limit("sessions that failed", failed, 0, digits=0),
    ]
    return Table(f"{model}: one session by the own process and by Ray", rows, [])


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Compare with each model."""
    clips = [options.clip(name) for name in options.clips]
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    for model in options.models:
        found = compare(model, options, clips, max(ROUNDS, arguments.repeats))
        tables.append(table_of(model, found))
        behind[model] = {name: [asdict(one) for one in runs] for name, runs in found.items()}
    return tables, behind
