"""The suite `hostile`: four sessions alone, and beside one address that attacks in all ways at once.

The four have one token and play in real time; the attacker (`hostile_attacks`) comes from another address,
with and without a token of its own. How late words are is told by the times that the server gives
them, so that no single pass is needed; what the four lose is what they have said alone and not beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.base.matching import missing_passages
from benchmarks.base.measure import percentile, violations
from benchmarks.base.options import Options
from benchmarks.base.processes import INFERENCE, BenchServer, ServerFailedError, Usage, watched
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.base.speech import Clip, looped
from benchmarks.base.streaming import BYTES_PER_SAMPLE, SessionLog, play_together
from benchmarks.table.rows import BUSY_CORES

MINUTES = 30.0
ALONE_MINUTES = 10.0
"""Of the four alone, at most: it is there to be compared with."""
SESSIONS = 4
TOKEN = "the-four-and-the-operator"
SETTINGS = {
    "LIVE_ASR_SERVER__TOKEN": TOKEN,
    "LIVE_ASR_SERVER__MAX_SESSIONS": "6",
    "LIVE_ASR_SERVER__MAX_SESSIONS_PER_CLIENT": "4",
}
"""As an operator of two cores has it: as many places as the machine carries, most of them for one client."""
MAX_DELAY = 1.25
"""Times the p95 alone."""
MAX_STALL_MS = 100.0
MAX_MEMORY_GB = 3.0
"""Of all processes: two models, and a decoder for each place."""
MAX_DISK_GB = 2.0
SETTLING = 15.0
"""Seconds at the end of a comparison whose words may not be committed yet."""


@dataclass(slots=True)
class Round:
    """The four sessions once, and what the server was like."""

    logs: list[SessionLog]
    usage: Usage
    disk_bytes: list[int] = field(default_factory=list)
    """Of the data folder, by and by."""
    told: dict[str, dict[str, int]] = field(default_factory=dict)
    """Attack → answer → how often; nothing where nobody attacks."""
    restarts: int = 0
    """Processes that are not those of the beginning, of the server and its inference."""


# Measuring ----------------------------------------------------------------------------------------


async def round_of(server: BenchServer, clip: Clip, language: str | None, *, attacked: bool) -> Round:
    """Play the four in real time. Raises ServerFailedError where the attack does not begin."""
    before = pids(server)
    disk: list[int] = []
    measuring = asyncio.create_task(measure_disk(server.data, disk))
    playing = asyncio.create_task(
        play_together(server.url, [clip] * SESSIONS, language=language, token=TOKEN)
    )
    attack: asyncio.subprocess.Process | None = None
    try:
        with watched(server, 2.0) as usage:
            if attacked:
                await until_open(server, playing)
                attack = await begin_attack(server, clip.duration)
            logs = await playing
        told = json.loads((await attack.communicate())[0] or "{}") if attack is not None else {}
    finally:
        measuring.cancel()
        playing.cancel()
        if attack is not None and attack.returncode is None:
            attack.kill()
    restarts = len(before ^ pids(server)) + int(server.metrics().get("live_asr_engine_restarts_total", 0))
    return Round(logs, usage, disk, told, restarts)


async def until_open(server: BenchServer, playing: asyncio.Task[Any]) -> None:
    """Wait until the four have their places: who comes later may find none, attacked or not."""
    while not playing.done():
        metrics = await asyncio.to_thread(server.metrics)
        if metrics.get("live_asr_sessions", 0) >= SESSIONS:
            return
        await asyncio.sleep(0.2)


async def begin_attack(server: BenchServer, seconds: float) -> asyncio.subprocess.Process:
    """Start the attacker, who has a token of its own."""
    asked = {"name": "attacker", "scopes": ["caption", "read", "webhook"], "expires_in": 86_400}
    _, made = await asyncio.to_thread(server.get, "/v1/tokens", body=json.dumps(asked))
    command = [sys.executable, "-m", "benchmarks.resilience.hostile_attacks", str(server.port)]
    attack = await asyncio.create_subprocess_exec(
        *command, json.loads(made)["token"], str(seconds), stdout=subprocess.PIPE
    )
    assert attack.stdout is not None
    if not await attack.stdout.readline():
        raise ServerFailedError("The attack did not begin.")
    return attack


async def measure_disk(folder: Path, sizes: list[int]) -> None:
    """Take down every few seconds how large a folder is."""
    while True:
        sizes.append(await asyncio.to_thread(size_of, folder))
        await asyncio.sleep(5)


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder; those that vanish meanwhile count for nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def pids(server: BenchServer) -> set[int]:
    """Return the ids of the server's own process and that of inference."""
    inference = server.child(INFERENCE)
    return {next(server.processes()).pid, inference.pid if inference is not None else 0}


# The table ----------------------------------------------------------------------------------------


def commit_latencies(logs: Sequence[SessionLog]) -> list[float]:
    """Return how many seconds after it was sent each word was committed, by the end that the server gives."""
    return [
        arrival.time - log.sent_at(word["end"])
        for log in logs
        for arrival in log.of_type("commit")
        for word in arrival.message["words"]
    ]


def text_until(log: SessionLog, seconds: float) -> str:
    """Return what was committed of a session's beginning."""
    words = (word for arrival in log.of_type("commit") for word in arrival.message["words"])
    return "".join(str(word["text"]) for word in words if word["end"] <= seconds)


def unacknowledged(log: SessionLog) -> int:
    """Return how many bytes were sent and not acknowledged in the end."""
    acked = max((arrival.message["bytes"] for arrival in log.of_type("ack")), default=0)
    return (log.sent_ends[-1] if log.sent_ends else len(log.clip.audio)) * BYTES_PER_SAMPLE - acked


def table_of(model: str, alone: Round, beside: Round) -> Table:
    """Hold the four beside the attacker against the four alone."""
    minutes = beside.logs[0].clip.duration / 60
    shared = min(alone.logs[0].clip.duration, beside.logs[0].clip.duration) - SETTLING
    late, late_alone = (percentile(commit_latencies(one.logs), 95) for one in (beside, alone))
    pairs = zip(alone.logs, beside.logs, strict=True)
    lost = [
        text
        for one, two in pairs
        for text in missing_passages(text_until(two, shared), text_until(one, shared))
    ]
    broken = [text for log in beside.logs for text in violations(log)]
    failed = [log.failure for log in beside.logs if log.failure is not None]
    answered_wrongly = sum(
        beside.told.get(name, {}).get("200", 0) for name in ("another host's name", "wrong tokens")
    )
    rows: list[Row] = [
        limit(
            "p95 of commits, over that alone",
            late / late_alone,
            MAX_DELAY,
            each={"alone": f"{late_alone:.2f} s", "attacked": f"{late:.2f} s"},
        ),
        limit("sessions of the four that failed", len(failed), 0, digits=0),
        limit("bytes of theirs not acknowledged", sum(map(unacknowledged, beside.logs)), 0, digits=0),
        limit("passages of three words that they have alone and lack here", len(lost), 0, digits=0),
        limit("breaches of the protocol", len(broken), 0, digits=0),
        limit("processes replaced", beside.restarts, 0, digits=0),
        limit("longest stall of the event loop", beside.usage.stall_ms or 0.0, MAX_STALL_MS, "ms", 0),
        limit("memory of all processes, at most", beside.usage.peak_bytes / 1e9, MAX_MEMORY_GB, "GB"),
        limit("the data folder, at most", max(beside.disk_bytes, default=0) / 1e9, MAX_DISK_GB, "GB"),
        limit("strangers who were answered", answered_wrongly, 0, digits=0),
        *(fact(f"attack: {name}", answers(told)) for name, told in beside.told.items()),
    ]
    notes = [f"failed: {text}" for text in failed] + [f"breach: {text}" for text in broken]
    notes += [f"lacking: {text}" for text in lost]
    lateness = max(log.lateness for log in beside.logs)
    notes.append(f"the four's own client was up to {1000 * lateness:.0f} ms late; the attacker is niced")
    if alone.usage.others_cores > BUSY_CORES:
        notes.append(f"{alone.usage.others_cores:.2f} cores were busy with other things: times are void")
    return Table(f"{model}: four sessions of {minutes:.1f} minutes, attacked from one address", rows, notes)


def answers(told: dict[str, int]) -> str:
    """Say how often an attack was answered how."""
    return ", ".join(f"{answer} × {count}" for answer, count in sorted(told.items())) or "nothing"


# The suite ----------------------------------------------------------------------------------------


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite with each model; return its tables and the numbers behind them."""
    minutes = arguments.minutes or MINUTES
    source = options.clip(options.clips[0], 90.0)
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    for model in options.models:
        rounds: list[Round] = []
        for attacked in (False, True):
            clip = looped(source, 60 * (minutes if attacked else min(minutes, ALONE_MINUTES)))
            options.say(f"{model}: {clip.duration / 60:.1f} minutes{' attacked' if attacked else ' alone'}")
            with BenchServer(model, models_dir=options.models_dir, settings=SETTINGS, token=TOKEN) as server:
                rounds.append(asyncio.run(round_of(server, clip, options.language, attacked=attacked)))
        alone, beside = rounds
        tables.append(table_of(model, alone, beside))
        behind[model] = {
            "told": beside.told,
            "disk_bytes": beside.disk_bytes,
            "memory_bytes": [sum(sample.memory_bytes.values()) for sample in beside.usage.samples],
            "latencies": {"alone": commit_latencies(alone.logs), "attacked": commit_latencies(beside.logs)},
        }
    return tables, behind
