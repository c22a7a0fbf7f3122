"""Inference that stands still while people go on speaking: SIGSTOP for a minute, then SIGCONT.

Twice: as the server is configured by default, when it replaces a process that has not answered for half a
minute, and told to wait, so that inference does stand still all the time. The same sessions unfrozen say what
there was to hear.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from benchmarks.matching import Errors, errors, missing_passages
from benchmarks.measure import percentile, violations
from benchmarks.options import Options
from benchmarks.processes import INFERENCE, BenchServer, ServerFailedError
from benchmarks.report import Row, Table, fact, limit
from benchmarks.rows import PING_P99_MS
from benchmarks.speech import RATE_HZ, Clip
from benchmarks.streaming import SessionLog, play_together
from benchmarks.table import TOGETHER

FREEZE = 60.0
BEFORE = 20.0
"""Seconds of speech before it."""
AFTER = 1.5
"""Times as much speech after it: at the latest, a session has caught up when it has drained."""
HEALTH_INTERVAL = 0.25
HEALTH_P99_MS = 200.0
UNANSWERED = 10.0
"""What a `GET /healthz` without a good answer counts as, seconds: as long as it is waited for."""
CAUGHT_UP = 5.0
"""A session whose captions are behind by less has caught up, seconds."""
MAX_MB, MB_PER_SECOND = 8.0, 0.2
"""What the server's process may grow by for each session: what it would have said and held anyway, and for
each second that inference stands still. Sound that waits as samples for both policies, captions and
speakers, takes 0.13."""
WAITING = {"LIVE_ASR_INFERENCE__DECODE_TIMEOUT": "100000"}
"""Lets no process count as hung."""


@dataclass(slots=True)
class Watch:
    """What was seen of the server while sessions went on; times are `perf_counter` seconds."""

    froze: float = 0.0
    thawed: float = 0.0
    healths: list[tuple[float, float]] = field(default_factory=list)
    """When `GET /healthz` was asked, and how long it took."""
    memory: list[tuple[float, int]] = field(default_factory=list)
    """Proportional set size of the process that owns the sockets, bytes."""
    replaced: bool = False
    """Whether the frozen process was gone when it was to go on."""

    def during(self, times: Sequence[tuple[float, float]]) -> list[float]:
        """Return the values of what was seen or begun while inference stood still."""
        return [value for at, value in times if self.froze <= at < self.thawed]

    @property
    def growth_bytes(self) -> int:
        """By how much the server's process grew at most, over what it had before."""
        before = max((size for at, size in self.memory if at < self.froze), default=0)
        return max((size for at, size in self.memory if at >= self.froze), default=before) - before


@dataclass(slots=True)
class FrozenRun:
    """Four sessions beside a process that stands still."""

    logs: list[SessionLog]
    watch: Watch
    unfrozen: list[str]
    """What the same sessions say when nothing happens."""

    @property
    def texts(self) -> list[str]:
        """All `commit.text` of each."""
        return [text_of(log) for log in self.logs]


def text_of(log: SessionLog) -> str:
    """Return all `commit.text` of a session."""
    return "".join(arrival.message["text"] for arrival in log.of_type("commit"))


def caught_up(log: SessionLog, thawed: float) -> tuple[float, bool]:
    """Return how many seconds after the thaw a session had caught up, and whether people still spoke then.

    0 where it had caught up before or never fell back, nan where it was behind to its end and did not drain.
    """
    lags = [(arrival.time, arrival.message["seconds"]) for arrival in log.of_type("lag")]
    behind = [at for at, seconds in lags if seconds >= CAUGHT_UP]
    if not behind or behind[-1] < thawed:
        return 0.0, True
    near = [at for at, _ in lags if at > behind[-1]]
    stopped = log.first("stopped")
    if near:
        return near[0] - thawed, True
    return stopped.time - thawed if stopped is not None else float("nan"), False


# Measuring ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def stands_still(process: psutil.Process) -> Iterator[None]:
    """Keep a process from running while the block lasts, whatever ends the block."""
    process.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


async def freeze(server: BenchServer, watch: Watch, after: float, duration: float) -> None:
    """Stop the inference process for a while. Raises ServerFailedError where there is none."""
    await asyncio.sleep(after)
    worker = server.child(INFERENCE)
    if worker is None:
        raise ServerFailedError(f"There is no inference process to freeze.\n{server.output()}")
    with stands_still(worker):
        watch.froze = time.perf_counter()
        await asyncio.sleep(duration)
        watch.thawed = time.perf_counter()
        watch.replaced = not worker.is_running()


async def look(server: BenchServer, watch: Watch) -> None:
    """Ask for the server's health and look at its memory, until cancelled."""
    process = next(server.processes())
    while True:
        began = time.perf_counter()
        status, _ = await asyncio.to_thread(server.get, "/healthz")
        took = time.perf_counter() - began
        watch.healths.append((began, took if status == 200 else UNANSWERED))
        watch.memory.append((began, (await asyncio.to_thread(process.memory_full_info)).pss))
        await asyncio.sleep(max(0.0, HEALTH_INTERVAL - (time.perf_counter() - began)))


async def sessions(
    server: BenchServer, clips: list[Clip], language: str | None, duration: float
) -> tuple[list[SessionLog], Watch]:
    """Play the clips at once in real time, and freeze inference for `duration` seconds; not at all for 0."""
    watch = Watch()
    looking = asyncio.create_task(look(server, watch))
    freezing = asyncio.create_task(freeze(server, watch, BEFORE, duration)) if duration else None
    try:
        logs = await play_together(server.url, clips, language=language)
        if freezing is not None:
            await freezing
    finally:
        for task in (looking, freezing):
            if task is not None:
                task.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    return logs, watch


def frozen(model: str, options: Options, *, duration: float) -> tuple[Table, dict[str, Any]]:
    """Measure both ways, and what the same sessions say unfrozen."""
    seconds = BEFORE + duration + AFTER * max(duration, BEFORE)
    clips = [options.clip(name, seconds) for name in TOGETHER]

    def run(frozen_for: float, settings: dict[str, str]) -> tuple[list[SessionLog], Watch]:
        with BenchServer(model, models_dir=options.models_dir, settings=settings) as server:
            logs, watch = asyncio.run(sessions(server, clips, options.language, frozen_for))
            for log in logs:
                if log.failure is not None:
                    options.say(f"{log.clip.name} failed: {log.failure}\n{server.output()}")
            return logs, watch

    options.say(f"{model}: {len(clips)} sessions of {seconds:.0f} s, unfrozen")
    unfrozen = [text_of(log) for log in run(0.0, {})[0]]
    found: dict[str, FrozenRun] = {}
    for name, settings in (("as configured", {}), ("told to wait", WAITING)):
        options.say(f"{model}: the same, inference frozen for {duration:.0f} s, {name}")
        found[name] = FrozenRun(*run(duration, settings), unfrozen)
    notes = [
        f"{name}, {log.clip.name}: {what}"
        for name, one in found.items()
        for log in one.logs
        for what in ([log.failure] if log.failure else []) + violations(log)
    ]
    notes += [
        f"{name}, {log.clip.name}: not heard: {passage}"
        for name, one in found.items()
        for log, text, plain in zip(one.logs, one.texts, one.unfrozen, strict=True)
        for passage in missing_passages(text, plain)
    ]
    title = f"{model}: inference frozen for {duration:.0f} s, {len(clips)} sessions"
    behind = {"unfrozen": unfrozen} | {name: details(one) for name, one in found.items()}
    return Table(title, rows(found), notes), behind


def details(found: FrozenRun) -> dict[str, Any]:
    """Return the numbers behind the table."""
    return {
        "texts": found.texts,
        "pings": [log.pings for log in found.logs],
        "lags": [
            [(round(a.time - log.started, 2), a.message["seconds"]) for a in log.of_type("lag")]
            for log in found.logs
        ],
        "watch": asdict(found.watch),
    }


# The table ----------------------------------------------------------------------------------------


def rows(found: dict[str, FrozenRun]) -> list[Row]:
    """Hold both ways against what is promised; the worse of them counts."""

    def judged(metric: str, values: dict[str, float], most: float, unit: str = "", digits: int = 0) -> Row:
        shown = f" {unit}" if unit else ""
        each = {name: f"{value:.{digits}f}{shown}" for name, value in values.items()}
        worst = max(values.values(), key=lambda value: (value != value, value))  # nan is the worst of all
        return limit(metric, worst, most, unit, digits, each)

    def pings(one: FrozenRun) -> list[tuple[float, float]]:
        return [pair for log in one.logs for pair in zip(log.ping_times, log.pings, strict=True)]

    def each_session(one: FrozenRun) -> str:
        times = (caught_up(log, one.watch.thawed) for log in one.logs)
        return ", ".join(f"{seconds:.1f}{'' if spoken else ' (drained)'}" for seconds, spoken in times)

    def against(one: FrozenRun) -> Errors:
        pairs = zip(one.texts, one.unfrozen, strict=True)
        return sum((errors(text, plain) for text, plain in pairs), Errors(0, 0, 0, 0))

    def passages(one: FrozenRun) -> int:
        return sum(len(missing_passages(*pair)) for pair in zip(one.texts, one.unfrozen, strict=True))

    ping = {name: 1000 * percentile(one.watch.during(pings(one)), 99) for name, one in found.items()}
    health = {name: 1000 * percentile(one.watch.during(one.watch.healths), 99) for name, one in found.items()}
    growth = {name: one.watch.growth_bytes / 1e6 / len(one.logs) for name, one in found.items()}
    stood = min(one.watch.thawed - one.watch.froze for one in found.values())
    most_mb = MAX_MB + round(MB_PER_SECOND * stood, 1)
    differing = {name: against(one) for name, one in found.items()}
    return [
        judged("ping round trip p99 while frozen", ping, PING_P99_MS, "ms", 1),
        judged("`GET /healthz` p99 while frozen", health, HEALTH_P99_MS, "ms", 1),
        judged("sessions closed or failed", {n: closed(one) for n, one in found.items()}, 0),
        judged("growth of the server's process for each session", growth, most_mb, "MB", 1),
        judged("bytes lost", {name: bytes_lost(one) for name, one in found.items()}, 0),
        judged("passages missing, 3 words and more", {n: passages(one) for n, one in found.items()}, 0),
        judged("breaches of the protocol", {n: breaches(one) for n, one in found.items()}, 0),
        judged("sessions that did not catch up", {n: never_caught_up(one) for n, one in found.items()}, 0),
        fact(
            f"under {CAUGHT_UP:g} s behind again, seconds after the thaw",
            "",
            {name: each_session(one) for name, one in found.items()},
        ),
        fact(
            "words of the unfrozen sessions; lost, invented, changed",
            "",
            {
                name: f"{one.words}; {one.lost}, {one.invented}, {one.changed}"
                for name, one in differing.items()
            },
        ),
        fact(
            "the frozen process was replaced",
            "",
            {name: "yes" if one.watch.replaced else "no" for name, one in found.items()},
        ),
    ]


def closed(found: FrozenRun) -> int:
    """Count the sessions that did not go on to their good end."""
    return sum(log.failure is not None for log in found.logs)


def bytes_lost(found: FrozenRun) -> int:
    """Count the bytes that were sent and are not in the sessions."""
    lost = 0
    for log in found.logs:
        stopped = log.first("stopped")
        kept = 0.0 if stopped is None else stopped.message["duration"]
        lost += max(0, 2 * len(log.clip.audio) - 2 * round(kept * RATE_HZ))
    return lost


def breaches(found: FrozenRun) -> int:
    """Count where the protocol's promises were not kept."""
    return sum(len(violations(log)) for log in found.logs)


def never_caught_up(found: FrozenRun) -> int:
    """Count the sessions that were far behind to their end."""
    return sum(log.first("stopped") is None for log in found.logs)
