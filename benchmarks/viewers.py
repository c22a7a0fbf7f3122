"""The suite `viewers`: the server's CPU with one viewer and with many, and the bytes that each is sent.

A talk is played in real time to one session of a fresh server, a few minutes of it with one viewer and half
an hour with many, who read in a process of their own. The bytes are compared, for the same session, with
what a server would send that repeats all lines on every update.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.options import Options
from benchmarks.processes import BenchServer, ServerFailedError, watched
from benchmarks.report import Row, Table, fact, limit
from benchmarks.rows import BUSY_CORES
from benchmarks.speech import RATE_HZ, Clip, looped

SOURCE = "talk5_lj"
SOURCE_SECONDS = 256.0
"""All of it."""
SECONDS = 1800.0
"""Of the session with many viewers, where nothing was chosen."""
ALONE_SECONDS = 300.0
"""Of the session with one, at most: it is there for what a second of audio costs."""
VIEWERS = 200
FRAME = 0.1
"""Seconds of audio in a frame."""
MAX_CPU = 1.2
"""Times the CPU of one viewer."""
MAX_BYTES = 0.02
"""Of what is sent by a server that repeats all lines."""

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Round:
    """One session and its viewers."""

    viewers: int
    duration: float
    """Seconds of audio."""
    cpu_seconds: float
    """Of all processes, while audio was sent."""
    server_cpu_seconds: float
    """Of the process that owns the sockets alone."""
    viewer_bytes: int
    """Sent to the viewer who got most, framing and header included."""
    least_bytes: int
    """Sent to the one who got least."""
    seen_seqs: int
    """Kept messages that a viewer got."""
    kept_seqs: int
    """Kept messages that there were."""
    others_cores: float
    repeating_bytes: int
    """What repeating all lines comes to."""


# Measuring ----------------------------------------------------------------------------------------


async def hear(socket: ClientConnection, messages: list[Message]) -> None:
    """Take all that the server says to its client."""
    async for text in socket:
        messages.append(json.loads(text))


async def play(server: BenchServer, clip: Clip, viewers: int) -> Round:
    """Caption a clip in real time while `viewers` watch. Raises ServerFailedError where they cannot."""
    pcm, size = clip.audio.tobytes(), round(FRAME * RATE_HZ) * 2
    messages: list[Message] = []
    async with connect(server.url, proxy=None, max_size=None) as socket:
        await socket.send(json.dumps({"type": "start", "language": "en", "final_pass": False}))
        session = json.loads(await socket.recv())["session"]
        command = [sys.executable, "-m", "benchmarks.viewers_reader", str(server.port), session, str(viewers)]
        reading = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, limit=2**26)
        assert reading.stdout is not None
        if not await reading.stdout.readline():
            raise ServerFailedError(f"{viewers} viewers could not watch.\n{server.output()}")
        hearing = asyncio.create_task(hear(socket, messages))
        with watched(server) as usage:
            began = own_cpu(server)
            loop = asyncio.get_running_loop()
            start = loop.time()
            for number, first in enumerate(range(0, len(pcm), size)):
                await asyncio.sleep(max(0.0, start + (number + 1) * FRAME - loop.time()))
                await socket.send(pcm[first : first + size])
            own = own_cpu(server) - began
        await socket.send(json.dumps({"type": "stop"}))
        await hearing
        got = json.loads(await reading.stdout.read())
        await reading.wait()
    return Round(
        viewers=viewers,
        duration=clip.duration,
        cpu_seconds=usage.cpu_seconds,
        server_cpu_seconds=own,
        viewer_bytes=got["most_bytes"],
        least_bytes=got["least_bytes"],
        seen_seqs=sum(line.startswith("id: ") for line in got["body"].splitlines()),
        kept_seqs=max((message.get("seq", 0) for message in messages), default=0),
        others_cores=usage.others_cores,
        repeating_bytes=bytes_of_repeating(messages),
    )


def own_cpu(server: BenchServer) -> float:
    """Return the CPU seconds of the process that owns the sockets."""
    times = next(server.processes()).cpu_times()
    return float(times.user + times.system)


def bytes_of_repeating(messages: Iterable[Message]) -> int:
    """Return what a server sends to one viewer that repeats all lines whenever one changes.

    A line has its speaker, times and text, and the tail comes with them.
    """
    texts: dict[int, str] = {}
    lines: dict[int, int] = {}
    """Size of each line, by its utterance."""
    empty_bytes = len('{"lines":[],"buffer":""}')
    tail_bytes = total = lines_bytes = 0
    for message in messages:
        if message["type"] == "commit":
            key = message["utterance"]
            texts[key] = texts.get(key, "") + message["text"]
            start, end = message["words"][0]["start"], message["words"][-1]["end"]
            line = {"speaker": "S1", "text": texts[key], "start": start, "end": end}
            line_bytes = len(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()) + 1
            lines_bytes += line_bytes - lines.get(key, 0)
            lines[key] = line_bytes
        elif message["type"] == "partial":
            tail_bytes = len(message["text"].encode())
        else:
            continue
        total += empty_bytes + lines_bytes + tail_bytes
    return total


# The table ----------------------------------------------------------------------------------------


def table_of(model: str, one: Sequence[Round], many: Sequence[Round]) -> Table:
    """Hold the sessions with many viewers against those with one."""
    count = many[0].viewers

    def cpu(rounds: Sequence[Round]) -> float:
        return statistics.median(found.cpu_seconds / found.duration for found in rounds)

    def own(rounds: Sequence[Round]) -> float:
        return statistics.median(found.server_cpu_seconds / found.duration for found in rounds)

    last = many[-1]
    title = f"{model}: {count} viewers of {last.duration / 60:.1f} minutes"
    uneven = sum(found.seen_seqs != found.kept_seqs for found in (*one, *many))
    others = max(found.others_cores for found in (*one, *many))
    rows: list[Row] = [
        limit(
            f"CPU of all processes for a second of audio, with {count} viewers over that with one",
            cpu(many) / cpu(one),
            MAX_CPU,
            each={"with one": f"{cpu(one):.3f} s", f"with {count}": f"{cpu(many):.3f} s"},
        ),
        fact(
            "of that, the process that owns the sockets",
            f"{own(many) / own(one):.2f}",
            {"with one": f"{own(one):.3f} s", f"with {count}": f"{own(many):.3f} s"},
        ),
        limit(
            "bytes to a viewer, over those of repeating all lines",
            last.viewer_bytes / last.repeating_bytes,
            MAX_BYTES,
            digits=4,
            each={"to a viewer": str(last.viewer_bytes), "repeating": str(last.repeating_bytes)},
        ),
        limit("viewers' sessions with another number of kept messages", uneven, 0, digits=0),
        fact("bytes to the viewer who got least", str(last.least_bytes)),
    ]
    notes = [f"other processes kept up to {others:.2f} cores busy"]
    if others > BUSY_CORES:
        notes.append(f"over {BUSY_CORES:g}: the machine was measured too, the CPU is void")
    return Table(title, rows, notes)


# The suite ----------------------------------------------------------------------------------------


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite with each model; return its tables and the numbers behind them."""
    source, seconds = options.clip(SOURCE, SOURCE_SECONDS), arguments.seconds or SECONDS
    sessions = (
        (1, looped(source, min(seconds, ALONE_SECONDS))),
        (arguments.viewers, looped(source, seconds)),
    )
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    for model in options.models:
        one: list[Round] = []
        many: list[Round] = []
        for _ in range(options.repeats):
            for (viewers, clip), rounds in zip(sessions, (one, many), strict=True):
                options.say(f"{model}: {clip.duration:.0f} s with {viewers} viewers")
                with BenchServer(model, models_dir=options.models_dir) as server:
                    rounds.append(asyncio.run(play(server, clip, viewers)))
        tables.append(table_of(model, one, many))
        behind[model] = [asdict(each) for each in (*one, *many)]
    return tables, behind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument("--viewers", type=int, default=VIEWERS, help=f"viewers: of one session ({VIEWERS})")
