"""The suite `journal`: what PostgreSQL costs in place of files, and whether its tables stay small.

Recognition is simulated, so that what is measured is the server and where it keeps sessions. PostgreSQL is
one of our own, beside the server on this machine, with its defaults: acknowledgements wait for its disk.

- `latency`: many sessions at once, by files and by PostgreSQL in turn.
- `hour`: sessions of two minutes, wave after wave, which go to a folder as an object store when they are
  done; how large the tables are meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from benchmarks.base.measure import percentile
from benchmarks.base.options import Options, parts_of
from benchmarks.base.processes import BenchServer
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.base.speech import RATE_HZ, lasting
from benchmarks.base.streaming import SessionLog
from benchmarks.load.clients import Seat, Wave, play_wave
from benchmarks.load.suite import MANY, OVERLAY, noted, simulated_seats
from live_asr.cluster.own_postgres import OwnPostgres

PARTS = ("latency", "hour")
CLIPS = ("talk5_lj", "conv2_public")
SESSIONS = 30
WAVE_SECONDS = 90.0
HOUR_SECONDS = 3600.0
SESSION_SECONDS = 120.0
"""Of each in the hour."""
LOOK_INTERVAL = 20.0
"""Seconds between two looks at the tables."""
FILES, POSTGRES = "files", "PostgreSQL"
ACK_P99 = 0.4
COMMIT_MORE_MS = 50.0
GROWTH = 1.1
"""The median of the last third over that of the second: how high a wave goes depends on when PostgreSQL
cleans up."""
THIRDS = 3
EMPTIED = ("journal_audio", "journal_messages")
"""Tables out of which goes what is finished. The others hold a row for each session that there is."""
SIZES = """SELECT relname, pg_total_relation_size(relid), n_live_tup, n_dead_tup FROM pg_stat_user_tables
WHERE relname LIKE 'journal%' OR relname IN ('sessions', 'objects', 'texts')"""
WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one wave of sessions met."""

    wave: Wave
    ack_p50: float
    ack_p99: float
    """Seconds from when a piece was sent until it was acknowledged."""
    server: float
    """CPU seconds of the server's own process, a session and second."""
    wal: float | None
    """Bytes of PostgreSQL's log for a byte of audio."""


@dataclass(frozen=True, slots=True)
class Look:
    """The database at one time."""

    seconds: float
    """From the begin."""
    tables: dict[str, int]
    """Bytes, with indices and what lies beside."""
    rows: dict[str, tuple[int, int]]
    """Live and dead, as PostgreSQL estimates them."""
    wal: int
    done: int
    """Sessions that have ended so far."""


@dataclass(slots=True)
class Hour:
    """The tables in the course of it."""

    looks: list[Look] = field(default_factory=list)
    waves: list[Wave] = field(default_factory=list)
    sessions: int = 0
    audio_bytes: int = 0


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """Start a PostgreSQL of our own, and end it."""
    folder = Path(tempfile.mkdtemp(prefix="live-asr-bench-"))
    folder.chmod(0o711)  # it does not run as root
    database = OwnPostgres(folder / "data")
    try:
        database.start()
        yield database
    finally:
        database.end()
        shutil.rmtree(folder, ignore_errors=True)


def server(model: str, options: Options, settings: dict[str, str] | None = None) -> BenchServer:
    """Return a server on a device that is simulated."""
    return BenchServer(
        model,
        models_dir=options.models_dir,
        overlay=OVERLAY,
        settings={
            "LIVE_ASR_SERVER__MAX_SESSIONS": str(MANY),
            "LIVE_ASR_SERVER__MAX_SESSIONS_PER_CLIENT": str(MANY),
            **(settings or {}),
        },
    )


def asked(database: OwnPostgres, statement: str) -> list[tuple[Any, ...]]:
    """Return what the database answers."""
    with psycopg.connect(database.url.replace("+psycopg", ""), autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def seats_of(options: Options, seconds: float) -> list[Seat]:
    """Return the clients of one wave."""
    return simulated_seats([lasting(options.clip(name), seconds) for name in options.clips], SESSIONS)


def acknowledged_after(log: SessionLog) -> list[float]:
    """Return, for each piece, the seconds from when it was sent until it was acknowledged."""
    acks = log.of_type("ack")
    known = [arrival.message["bytes"] for arrival in acks]
    found = []
    for end, sent in zip(log.sent_ends, log.sent_times, strict=True):
        place = bisect_left(known, 2 * end)
        if place < len(acks):
            found.append(acks[place].time - sent)
    return found


def cost_of(one: BenchServer, seats: Sequence[Seat], database: OwnPostgres | None) -> Cost:
    """Play a wave of sessions and measure it."""
    process = next(one.processes())
    wal = asked(database, WAL)[0][0] if database else 0
    before = process.cpu_times()
    wave, visits = play_wave(one, seats, {}, "en")
    after = process.cpu_times()
    audio = sum(seat.clip.duration for seat in seats)
    acks = [took for visit in visits for took in acknowledged_after(visit.log)]
    return Cost(
        wave,
        percentile(acks, 50),
        percentile(acks, 99),
        (after.user + after.system - before.user - before.system) / audio,
        (asked(database, WAL)[0][0] - wal) / (2 * RATE_HZ * audio) if database else None,
    )


# The parts -----------------------------------------------------------------------------------------------


def latency(model: str, options: Options, seconds: float, repeats: int) -> dict[str, list[Cost]]:
    """Play waves to a server with files and to one with PostgreSQL, in turn."""
    found: dict[str, list[Cost]] = {FILES: [], POSTGRES: []}
    seats = seats_of(options, seconds)
    with (
        own_postgres() as database,
        server(model, options) as files,
        server(model, options, {"LIVE_ASR_STORAGE__JOURNAL": database.url}) as shared,
    ):
        both: list[tuple[str, BenchServer, OwnPostgres | None]]
        both = [(FILES, files, None), (POSTGRES, shared, database)]
        for repeat in range(max(2, repeats)):
            for name, one, base in both if repeat % 2 == 0 else both[::-1]:
                options.say(f"latency: {SESSIONS} sessions of {seconds:.0f} s, {name}, {repeat + 1}")
                found[name].append(cost_of(one, seats, base))
    return found


def hour(model: str, options: Options, seconds: float) -> Hour:
    """Play sessions without an end for so long, and look at the tables."""
    course = Hour()
    length = min(SESSION_SECONDS, seconds / THIRDS)
    seats = seats_of(options, length)
    with own_postgres() as database, tempfile.TemporaryDirectory(prefix="live-asr-objects-") as objects:
        settings = {
            "LIVE_ASR_STORAGE__JOURNAL": database.url,
            "LIVE_ASR_STORAGE__KEEP_AUDIO": "true",
            "LIVE_ASR_STORAGE__OBJECTS": f"file://{objects}",
        }
        began = time.monotonic()

        async def look() -> None:
            while True:
                course.looks.append(look_at(database, time.monotonic() - began, course.sessions))
                await asyncio.sleep(LOOK_INTERVAL)

        with server(model, options, settings) as one:
            while time.monotonic() - began < seconds:
                options.say(f"hour: {course.sessions} sessions in {time.monotonic() - began:.0f} s")
                wave, visits = play_wave(one, seats, {}, "en", look)
                course.waves.append(wave)
                course.sessions += len(visits)
                course.audio_bytes += sum(2 * len(seat.clip.audio) for seat in seats)
            course.looks.append(look_at(database, time.monotonic() - began, course.sessions))
    return course


def look_at(database: OwnPostgres, seconds: float, done: int) -> Look:
    """Look at the tables."""
    found = asked(database, SIZES)
    return Look(
        round(seconds, 1),
        {name: size for name, size, _, _ in found},
        {name: (live, dead) for name, _, live, dead in found},
        asked(database, WAL)[0][0],
        done,
    )


# Tables --------------------------------------------------------------------------------------------------


def latency_table(found: dict[str, list[Cost]]) -> Table:
    """Hold PostgreSQL against files."""

    def each(number: Any, unit: str) -> dict[str, str]:
        return {
            name: ", ".join(f"{number(cost):.3g} {unit}" for cost in costs) for name, costs in found.items()
        }

    def more(number: Any) -> float:
        return float(median(map(number, found[POSTGRES])) - median(map(number, found[FILES])))

    shared = found[POSTGRES]
    waves = [cost.wave for costs in found.values() for cost in costs]
    rows = [
        limit("acknowledged after, p99, seconds", median(cost.ack_p99 for cost in shared), ACK_P99, digits=3),
        fact("acknowledged after, p50", "", each(lambda cost: cost.ack_p50, "s")),
        fact("acknowledged after, p99", "", each(lambda cost: cost.ack_p99, "s")),
        limit(
            "commit p95, PostgreSQL's less files'",
            1000 * more(lambda cost: cost.wave.p95),
            COMMIT_MORE_MS,
            "ms",
            0,
            each=each(lambda cost: cost.wave.p95, "s"),
        ),
        fact(
            "CPU of the server's process, a session and second",
            "",
            each(lambda cost: 1000 * cost.server, "ms"),
        ),
        fact("bytes of WAL a byte of audio", f"{median(cost.wal or 0.0 for cost in shared):.2f}"),
        fact("audio", f"{SESSIONS * 2 * RATE_HZ / 1e6:.2f} MB a second"),
        limit("sessions that failed", sum(wave.failed for wave in waves), 0, digits=0),
    ]
    return Table(f"{SESSIONS} sessions by files and by PostgreSQL", rows, noted(waves))


def hour_table(course: Hour) -> Table:
    """Hold the tables' sizes late against those before."""
    first, last = course.looks[0], course.looks[-1]
    rows: list[Row] = []
    for name in sorted({name for look in course.looks for name in look.tables}):
        thirds = [sizes_of(course.looks, name, number) for number in range(THIRDS)]
        each = {f"third {number}": f"{max(sizes) / 1e6:.2f} MB" for number, sizes in enumerate(thirds, 1)}
        rows.append(fact(f"{name}: largest", "", each))
        if name in EMPTIED:
            middles = [median(sizes) for sizes in thirds]
            each = {f"third {number}": f"{size / 1e6:.2f} MB" for number, size in enumerate(middles, 1)}
            metric = f"{name}: median of the last third over that of the second"
            rows.append(limit(metric, middles[-1] / max(1, middles[-2]), GROWTH, each=each))
    alive = {name: f"{live} / {dead}" for name, (live, dead) in last.rows.items()}
    rows += [
        fact("sessions", str(course.sessions)),
        fact("audio that was taken", f"{course.audio_bytes / 1e6:.0f} MB"),
        fact("WAL", f"{(last.wal - first.wal) / 1e6:.0f} MB"),
        fact("rows in the end, live / dead", "", alive),
        limit("sessions that failed", sum(wave.failed for wave in course.waves), 0, digits=0),
    ]
    minutes = last.seconds / 60
    return Table(f"{minutes:.0f} minutes of sessions of {SESSION_SECONDS:.0f} s in PostgreSQL", rows, [])


def sizes_of(looks: Sequence[Look], name: str, third: int) -> list[int]:
    """Return how large a table was at each look in one third of the time; [0] where there was none."""
    length = looks[-1].seconds / THIRDS
    within = (look for look in looks if third * length <= look.seconds <= (third + 1) * length)
    return [look.tables.get(name, 0) for look in within] or [0]


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the parts that were asked for."""
    parts = parts_of(arguments, PARTS)
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    model = options.models[0]
    if "latency" in parts:
        found = latency(model, options, arguments.seconds or WAVE_SECONDS, arguments.repeats)
        tables.append(latency_table(found))
        behind["latency"] = {name: [asdict(cost) for cost in costs] for name, costs in found.items()}
    if "hour" in parts:
        course = hour(model, options, arguments.seconds or HOUR_SECONDS)
        tables.append(hour_table(course))
        behind["hour"] = asdict(course)
    return tables, behind
