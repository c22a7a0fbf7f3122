"""The suite `load`: how many sessions a machine carries, and what becomes of more.

Sessions are played in real time by client processes on the same machine. With `--against` another checkout
runs its own code beside this one, each wave of the one after the same of the other. Parts:

- `limit`: the largest number of sessions that everybody's words are committed in time with, by tiny.en
  (`--models`), with whatever is offered taken; what a second of audio costs with one and with four.
- `beyond`: three times as many come as there are places, and who is refused comes back when told to.
- `stable`: 40 sessions, taken whatever they take.
- `mixed`: five who speak, beside one that sends rubbish, one that never reads, and a file of an hour.
- `simulated`: 50 and 100 sessions on a device that is simulated: what the server itself costs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.base.measure import percentile
from benchmarks.base.options import Options, parts_of
from benchmarks.base.processes import INFERENCE, BenchServer, knows_admission
from benchmarks.base.reference import Reference
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.base.speech import Clip, lasting
from benchmarks.load.clients import (
    MAX_TRIES,
    SPREAD_SECONDS,
    Seat,
    Visit,
    Wave,
    in_turn,
    lag_between,
    play_wave,
    wave_of,
)
from benchmarks.load.mixed import Troublemakers
from benchmarks.load.simulation import simulate
from benchmarks.table.rows import BUSY_CORES, LATE_MS, PING_P99_MS, STALL_MS
from live_asr.cli.bench import next_count
from live_asr.models.device import cpu_count

PARTS = ("limit", "beyond", "stable", "mixed", "simulated")
CLIPS = ("talk5_lj", "conv2_public")
HERE, THERE = "here", "there"
MANY = 10_000
"""Sessions that a server is told to take at most: more than ever come."""
MOST = 64
"""Sessions that are tried at most."""
LIMIT = 5.0
"""Seconds that the 95th percentile of the commit latencies may be."""
FEW = (1, 4)
"""Sessions with which it is measured what a second of audio costs."""
MIN_REPEATS = 2
"""Of those, so that each tree goes first as often as the other."""
TIMES_OFFERED = 3
STABLE_SESSIONS = 40
STABLE_SECONDS = 330.0
EARLY, LATE = 120 / STABLE_SECONDS, 300 / STABLE_SECONDS
"""Where the lag is looked at, as shares of a session."""
LOOK = 0.06
"""And for how long, likewise."""
SPEAKERS_MIXED = 5
MIXED_SECONDS = 120.0
SIMULATED = (50, 100)
SIMULATED_SECONDS = 60.0
GATEWAY_CORES = 16
OVERLAY = Path(__file__).with_name("simulated")
AT_LEAST = {"tiny.en": 1.5, "base": 1.4}
"""Times as many sessions as the other tree carries."""
WER_POINTS = 1.5
CPU_TIMES = 0.85
NO_WORSE = 1.03
PREDICTED_WITHIN = 0.2
BEYOND_P95 = 1.25
REFUSED_WITHIN = 1.0
PROMISES_KEPT = 0.8
MIXED_P95 = 1.25
GATEWAY_TIMES, DETECTION_TIMES = 0.4, 0.35
SIMULATED_P95 = 1.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument("--most", type=int, default=MOST, help=f"load: sessions, at most ({MOST})")


@dataclass(slots=True)
class Bench:
    """What all parts need."""

    options: Options
    model: str
    trees: dict[str, Path | None]
    """This one, and the other one first where there is one."""
    scale: float
    """Of the usual lengths."""
    most: int
    repeats: int
    clips: list[Clip] = field(default_factory=list)
    references: dict[str, Reference] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clips = [self.options.clip(name) for name in self.options.clips]
        self.references = {clip.name: self.options.reference(clip, self.model) for clip in self.clips}

    def server(self, tree: str = HERE, *, admission: str = "count", simulated: bool = False) -> BenchServer:
        """Return a server of a tree."""
        folder = self.trees.get(tree)
        settings = {"LIVE_ASR_SERVER__MAX_SESSIONS": str(MANY)}
        if knows_admission(folder):
            settings |= {"LIVE_ASR_SERVER__ADMISSION": admission}
            settings |= {"LIVE_ASR_SERVER__MAX_SESSIONS_PER_CLIENT": str(MANY)}
        return BenchServer(
            self.model,
            models_dir=self.options.models_dir,
            settings=settings,
            tree=folder,
            overlay=OVERLAY if simulated else None,
        )

    def wave(self, server: BenchServer, seats: Sequence[Seat], what: str) -> tuple[Wave, list[Visit]]:
        """Play sessions at once, and keep what came of them."""
        self.options.say(f"{self.model}: {what}")
        wave, visits = play_wave(server, seats, self.references, self.options.language)
        for visit in visits:
            if visit.log.failure:
                self.options.say(f"{visit.log.clip.name} failed: {visit.log.failure}")
        self.details[what] = asdict(wave)
        return wave, visits

    def cut(self, seconds: float, number: int) -> Clip:
        """Return a clip in turn, repeated or cut so that it has a length; it has no truth."""
        return lasting(self.clips[number % len(self.clips)], seconds)


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Measure what was asked for. Raises ValueError where the other checkout is not one."""
    parts = parts_of(arguments, PARTS)
    there = arguments.against
    if there is not None and not (there / "live_asr" / "__init__.py").is_file():
        raise ValueError(
            "load: --against names another checkout of live-asr (`git worktree add PATH COMMIT`)"
        )
    trees: dict[str, Path | None] = {HERE: None}
    if there is not None:
        trees = {THERE: there.resolve(), HERE: None}
    tables: list[Table] = []
    details: dict[str, Any] = {}
    for model in options.models:
        scale = options.seconds / 90.0
        bench = Bench(options, model, trees, scale, arguments.most, max(MIN_REPEATS, options.repeats))
        for part in parts:
            tables.append(WHAT[part](bench))
        details[model] = bench.details
    return tables, details


def least(metric: str, value: float, bound: float, each: dict[str, str] | None = None) -> Row:
    """Make a row that passes where `value` is at least `bound`."""
    return Row(metric, f"≥ {bound:g}", f"{value:.2f}", value >= bound, each or {})


def noted(waves: Sequence[Wave]) -> list[str]:
    """Say what spoils the numbers, and who failed."""
    others = max(wave.others_cores for wave in waves)
    late_ms = 1000 * max(wave.lateness for wave in waves)
    clients = max(wave.client_cores for wave in waves)
    notes = [
        f"clients took up to {clients:.2f} cores and were up to {late_ms:.0f} ms late; other processes took "
        f"up to {others:.2f} cores"
    ]
    if others > BUSY_CORES:
        notes.append("**the machine was busy with other things: times are void**")
    notes += [f"{wave.sessions} sessions: {wave.failure}" for wave in waves if wave.failure]
    return notes


def _shown(wave: Wave) -> str:
    return f"{wave.p50:.2f} / {wave.p95:.2f} s"


# How many ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Search:
    """What one tree was seen to carry."""

    waves: dict[int, Wave] = field(default_factory=dict)
    few: dict[int, list[Wave]] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return max((count for count, wave in self.waves.items() if wave.holds(LIMIT)), default=0)

    def following(self, most: int) -> int | None:
        """Return how many to try next; None where the limit is known."""
        broke = min((count for count, wave in self.waves.items() if not wave.holds(LIMIT)), default=None)
        return next_count(self.held, broke, FEW[-1], most)

    def ratio(self, other: Search, count: int, number: Callable[[Wave], float]) -> float:
        """Return the median of a number with so many sessions over the other tree's."""
        return median(map(number, self.few[count])) / median(map(number, other.few[count]))


def limit_part(bench: Bench) -> Table:
    """Find the largest number of sessions that words are committed in time with, in each tree."""
    searches = {tree: Search() for tree in bench.trees}
    with _servers(bench) as servers:
        for count in FEW:
            for repeat in range(bench.repeats):
                for tree in list(servers) if repeat % 2 == 0 else list(servers)[::-1]:
                    what = f"{count} sessions {tree}, {repeat + 1} of {bench.repeats}"
                    wave, _ = bench.wave(servers[tree], in_turn(bench.clips, count), what)
                    searches[tree].few.setdefault(count, []).append(wave)
        for search in searches.values():
            search.waves[FEW[-1]] = search.few[FEW[-1]][-1]
        turn = list(servers)
        while any(search.following(bench.most) for search in searches.values()):
            turn.reverse()
            for tree in turn:
                if count := searches[tree].following(bench.most):
                    seats = in_turn(bench.clips, count)
                    wave, _ = bench.wave(servers[tree], seats, f"{count} sessions {tree}")
                    searches[tree].waves[count] = wave
    return limit_table(bench.model, searches)


def _servers(bench: Bench, *, simulated: bool = False) -> _Servers:
    return _Servers({tree: bench.server(tree, simulated=simulated) for tree in bench.trees})


@dataclass(slots=True)
class _Servers:
    """A server of each tree, which all stand until the end of a block."""

    servers: dict[str, BenchServer]

    def __enter__(self) -> dict[str, BenchServer]:
        started: list[BenchServer] = []
        try:
            for server in self.servers.values():
                server.start()
                started.append(server)
        except BaseException:
            for server in started:
                server.stop()
            raise
        return self.servers

    def __exit__(self, *_: object) -> None:
        for server in self.servers.values():
            server.stop()


def limit_table(model: str, searches: dict[str, Search]) -> Table:
    """Hold what this tree carries against the other one, where there is one."""
    here, there = searches[HERE], searches.get(THERE)
    best = here.waves.get(here.held)
    rows = [fact(f"sessions with a commit p95 of at most {LIMIT:g} s", str(here.held))]
    if there is not None:
        times = here.held / there.held if there.held else nan
        each = {HERE: str(here.held), THERE: str(there.held)}
        rows.append(least("the same, here over there", times, AT_LEAST.get(model, AT_LEAST["base"]), each))
    if best is not None and best.wer is not None and best.single_pass_wer is not None:
        above = 100 * (best.wer - best.single_pass_wer)
        rows.append(
            limit(f"WER of {here.held} live texts above the single pass's", above, WER_POINTS, "points")
        )
    for count in FEW:
        each = {
            tree: f"{median(wave.cpu_share for wave in search.few[count]):.3f} s, "
            f"{median(wave.p95 for wave in search.few[count]):.2f} s"
            for tree, search in searches.items()
        }
        name = f"{count} session{'s' if count > 1 else ''}"
        if there is None:
            rows.append(fact(f"{name}: CPU a second of audio, commit p95", each[HERE]))
            continue
        cpu = here.ratio(there, count, lambda wave: wave.cpu_share)
        p95 = here.ratio(there, count, lambda wave: wave.p95)
        rows.append(limit(f"{name}: CPU a second of audio, here over there", cpu, CPU_TIMES, each=each))
        rows.append(limit(f"{name}: commit p95, here over there", p95, NO_WORSE, each=each))
    for count in sorted({count for search in searches.values() for count in search.waves}):
        each = {
            tree: f"{_shown(search.waves[count])}, {search.waves[count].cpu_share:.3f} s"
            for tree, search in searches.items()
            if count in search.waves
        }
        rows.append(fact(f"{count} sessions: p50 / p95, CPU a second of audio", "", each))
    waves = [wave for search in searches.values() for wave in search.waves.values()]
    return Table(f"{model}: how many sessions", rows, noted(waves))


# More than there are places ----------------------------------------------------------------------------


def beyond_part(bench: Bench) -> Table:
    """Let three times as many come as there are places."""
    with bench.server(admission="load") as server:
        predicted = int(server.metrics().get("live_asr_places", 1))
        full, _ = bench.wave(server, in_turn(bench.clips, predicted), f"{predicted} sessions, all places")
        places = int(server.metrics().get("live_asr_places", predicted))
        count = TIMES_OFFERED * places
        seats = [
            Seat(
                bench.cut((0.5 + number % 7 / 6) * bench.clips[0].duration, number),
                SPREAD_SECONDS * number / count,
                most_tries=MAX_TRIES,
            )
            for number in range(count)
        ]
        _, visits = bench.wave(server, seats, f"{count} sessions come, {places} places")
    bench.details["visits"] = [
        {"refused_after": visit.refused_after, "told": visit.told, "admitted": visit.was_admitted}
        for visit in visits
    ]
    return beyond_table(bench.model, predicted, full, visits, bench.references)


def beyond_table(
    model: str, predicted: int, full: Wave, visits: Sequence[Visit], references: dict[str, Reference]
) -> Table:
    """Hold what becomes of those who are let in, and of those who are not, against what must hold."""
    admitted = [visit.log for visit in visits if visit.was_admitted]
    wave = wave_of(admitted, references)
    refused = [seconds for visit in visits for seconds in visit.refused_after]
    promises = sum(visit.promises for visit in visits)
    kept = sum(visit.kept_promises for visit in visits)
    told = [seconds for visit in visits for seconds in visit.told]
    rows = [
        fact("places, as predicted before anybody spoke", str(predicted)),
        limit("sessions that were let in and failed", wave.failed, 0, digits=0),
        limit(
            "commit p95, over that with all places taken",
            wave.p95 / full.p95,
            BEYOND_P95,
            each={"all places": f"{full.p95:.2f} s", "beyond": f"{wave.p95:.2f} s"},
        ),
        limit("slowest refusal", max(refused, default=0.0), REFUSED_WITHIN, "s"),
        fact(
            "refused / told to come back after, median",
            f"{len(refused)} times / {median(told) if told else nan:.0f} s",
        ),
    ]
    if promises:
        share = kept / promises
        rows.append(least(f"of {promises} who came back when told to, found a place", share, PROMISES_KEPT))
    never = sum(not visit.was_admitted for visit in visits)
    rows.append(fact(f"never let in, in {MAX_TRIES} tries", str(never)))
    return Table(f"{model}: {len(visits)} sessions come", rows, noted([full]))


# Many, and no end --------------------------------------------------------------------------------------


def stable_part(bench: Bench) -> Table:
    """Have forty sessions, whatever the machine carries, and see whether they fall behind without end."""
    count, seconds = min(STABLE_SESSIONS, bench.most), STABLE_SECONDS * bench.scale
    clips = [bench.cut(seconds, number) for number in range(len(bench.clips))]
    with bench.server() as server:
        wave, visits = bench.wave(
            server, in_turn(clips, count, pings=False), f"{count} sessions for {seconds:.0f} s"
        )
    return stable_table(bench.model, seconds, wave, [visit.log for visit in visits])


def stable_table(model: str, seconds: float, wave: Wave, logs: Sequence[Any]) -> Table:
    """Hold the lag late in the sessions against that early in them."""
    early, late = (
        lag_between(logs, (at - LOOK) * seconds, (at + LOOK / 2) * seconds) for at in (EARLY, LATE)
    )
    rows = [
        limit(
            f"lag after {LATE * seconds:.0f} s over that after {EARLY * seconds:.0f} s",
            late / early if early else (0.0 if late == 0 else nan),
            1.0,
            each={"early": f"{early:.1f} s", "late": f"{late:.1f} s"},
        ),
        fact("commit p50 / p95", _shown(wave)),
        limit("sessions that failed", wave.failed, 0, digits=0),
    ]
    return Table(f"{model}: {wave.sessions} sessions", rows, noted([wave]))


# All sorts ---------------------------------------------------------------------------------------------


def mixed_part(bench: Bench) -> Table:
    """Play five sessions alone, and beside three that are a trouble."""
    seconds = MIXED_SECONDS * bench.scale
    clips = [bench.cut(seconds, number) for number in range(len(bench.clips))]
    seats = in_turn(clips, SPEAKERS_MIXED)
    references = {} if seconds > bench.clips[0].duration else bench.references
    waves: dict[str, list[Wave]] = {"alone": [], "beside": []}
    told = ""
    with bench.server() as server:
        for repeat in range(bench.repeats):
            for what in ("alone", "beside") if repeat % 2 == 0 else ("beside", "alone"):
                bench.options.say(f"{bench.model}: five sessions {what}")
                trouble = Troublemakers(server.url, bench.clips[0], seconds) if what == "beside" else None
                beside = trouble.run if trouble is not None else None
                wave, _ = play_wave(server, seats, references, bench.options.language, beside)
                waves[what].append(wave)
                told = trouble.told() if trouble is not None else told
    bench.details["mixed"] = {what: [asdict(wave) for wave in found] for what, found in waves.items()}
    return mixed_table(bench.model, waves, told)


def mixed_table(model: str, waves: dict[str, list[Wave]], told: str) -> Table:
    """Hold five sessions beside trouble against five alone."""
    p95 = {what: median(wave.p95 for wave in found) for what, found in waves.items()}
    failed = sum(wave.failed for found in waves.values() for wave in found)
    rows = [
        limit(
            "commit p95 of five beside three others, over the same alone",
            p95["beside"] / p95["alone"],
            MIXED_P95,
            each={what: f"{value:.2f} s" for what, value in p95.items()},
        ),
        limit("sessions that failed, of the five", failed, 0, digits=0),
    ]
    every = [wave for found in waves.values() for wave in found]
    return Table(f"{model}: rubbish, a client that never reads, and an hour", rows, [told, *noted(every)])


# The server itself -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """What processes took for a session, CPU seconds a second."""

    server: float
    """The process that owns the sockets."""
    detection: float
    """The thread of the inference process that judges speech, and reads what it is asked."""
    inference: float
    """All of the inference process."""
    wave: Wave


def simulated_part(bench: Bench) -> Table:
    """Play to a device that is simulated, so that what is measured is all the rest."""
    seconds = SIMULATED_SECONDS * bench.scale
    costs: dict[int, dict[str, list[Cost]]] = {}
    with _servers(bench, simulated=True) as servers:
        counts = [count for count in SIMULATED if count <= bench.most or count == SIMULATED[0]]
        for count in (min(count, bench.most) for count in counts):
            found = costs.setdefault(count, {})
            trees = list(servers) if count == min(SIMULATED[0], bench.most) else [HERE]
            for repeat in range(bench.repeats if len(trees) > 1 else 1):
                for tree in trees if repeat % 2 == 0 else trees[::-1]:
                    bench.options.say(f"simulated: {count} sessions {tree}")
                    found.setdefault(tree, []).append(cost_of(bench, servers[tree], count, seconds))
    bench.details["simulated"] = {
        count: {tree: [asdict(cost) for cost in several] for tree, several in found.items()}
        for count, found in costs.items()
    }
    return simulated_table(costs)


def simulated_seats(clips: Sequence[Clip], count: int) -> list[Seat]:
    """Return clients for a device that is simulated; one in ten pings."""
    named = [replace(clip, name=f"said {number}") for number, clip in enumerate(clips)]  # as no reference is
    start = {"diarize": False, "language": "en"}
    seats = in_turn(named, count, pings=False)
    return [replace(seat, pings=place % 10 == 0, start=start) for place, seat in enumerate(seats)]


def cost_of(bench: Bench, server: BenchServer, count: int, seconds: float) -> Cost:
    """Play so many sessions for so long; one in ten pings."""
    seats = simulated_seats([bench.cut(seconds, number) for number in range(len(bench.clips))], count)
    own = next(server.processes())
    inference = server.child(INFERENCE)
    assert inference is not None, "the server is ready"
    before = _cpu(own), _thread_cpu(inference), _cpu(inference)
    wave, _ = play_wave(server, seats, {}, bench.options.language)
    after = _cpu(own), _thread_cpu(inference), _cpu(inference)
    audio = count * seconds
    taken = [(end - begin) / audio for begin, end in zip(before, after, strict=True)]
    return Cost(taken[0], taken[1], taken[2], wave)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _thread_cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of a process's first thread."""
    first = next(thread for thread in process.threads() if thread.id == process.pid)
    return float(first.user_time + first.system_time)


def simulated_table(costs: dict[int, dict[str, list[Cost]]]) -> Table:
    """Hold what the server costs against the other tree, and what it does with many against the model."""
    rows: list[Row] = []
    names: dict[str, tuple[Callable[[Cost], float], float]] = {
        "the server process": (lambda cost: cost.server, GATEWAY_TIMES),
        "speech detection": (lambda cost: cost.detection, DETECTION_TIMES),
    }
    for count, found in costs.items():
        for name, (number, most) in names.items():
            each = {tree: f"{1000 * median(map(number, several)):.2f} ms" for tree, several in found.items()}
            metric = f"{count} sessions: CPU of {name}, a session and second"
            if THERE in found:
                times = median(map(number, found[HERE])) / median(map(number, found[THERE]))
                rows.append(limit(f"{metric}, here over there", times, most, each=each))
            else:
                rows.append(fact(metric, each[HERE]))
        wave = found[HERE][-1].wave
        predicted = simulate(count, seconds=40.0).p95
        rows += [
            limit(
                f"{count} sessions: commit p95 over the simulation's",
                wave.p95 / predicted,
                SIMULATED_P95,
                each={"measured": f"{wave.p95:.2f} s", "simulation": f"{predicted:.2f} s"},
            ),
            limit(f"{count} sessions: ping p99", 1000 * wave.ping_p99, PING_P99_MS, "ms", 0),
            limit(f"{count} sessions: longest stall since the start", 1000 * wave.stall, STALL_MS, "ms", 0),
            limit(f"{count} sessions: failed", wave.failed, 0, digits=0),
            fact(f"{count} sessions: the clients took", f"{wave.client_cores:.2f} cores"),
        ]
    last = costs[max(costs)][HERE]
    busiest = max(
        percentile([cost.server for cost in last], 50), percentile([cost.inference for cost in last], 50)
    )
    carried = 1 / busiest if busiest and not isnan(busiest) else nan
    rows.append(
        fact(
            f"sessions with which the busiest process has one core of {GATEWAY_CORES} for itself",
            f"{carried:.0f}",
        )
    )
    waves = [cost.wave for found in costs.values() for several in found.values() for cost in several]
    notes = noted(waves)
    late_ms = 1000 * max(wave.lateness for wave in waves)
    if late_ms > LATE_MS:
        notes.append(f"**clients were over {LATE_MS:.0f} ms late: latencies are void**")
    notes.append(f"{cpu_count()} cores; a server is one event loop, and one reading thread of inference")
    return Table("the server on a device that is simulated", rows, notes)


WHAT: dict[str, Callable[[Bench], Table]] = {
    "limit": limit_part,
    "beyond": beyond_part,
    "stable": stable_part,
    "mixed": mixed_part,
    "simulated": simulated_part,
}
