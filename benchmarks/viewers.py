"""The suite `viewers`: the server's CPU with one viewer and with many, and the bytes that each is sent.

One talk is played in real time to one session of a fresh server, once with one viewer and once with many,
who read in a process of their own. The bytes are compared, for the same session, with what a server would
send that repeats all lines on every update.
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
SECONDS = 300.0
"""Of the session, where nothing was chosen."""
VIEWERS = 200
FRAME = 0.1
"""Seconds of audio in a frame."""
MOST_CPU = 1.2
"""Times the CPU of one viewer."""
MOST_BYTES = 0.02
"""Of what is sent by a server that repeats all lines."""
TALK, SHORTER = 60, (15, 30)
"""Minutes for which the bytes are worked out, as if the session went on like that; the first is judged."""

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Round:
    """One session and its viewers."""

    viewers: int
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
    repeating_bytes: dict[int, int]
    """What repeating all lines comes to, by the minutes of the session; 0 for as it was."""


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
    times = {0: 1} | {minutes: round(minutes * 60 / clip.duration) for minutes in (*SHORTER, TALK)}
    return Round(
        viewers=viewers,
        cpu_seconds=usage.cpu_seconds,
        server_cpu_seconds=own,
        viewer_bytes=got["most_bytes"],
        least_bytes=got["least_bytes"],
        seen_seqs=sum(line.startswith("id: ") for line in got["body"].splitlines()),
        kept_seqs=max((message.get("seq", 0) for message in messages), default=0),
        others_cores=usage.others_cores,
        repeating_bytes={minutes: bytes_of_repeating(messages, count) for minutes, count in times.items()},
    )


def own_cpu(server: BenchServer) -> float:
    """Return the CPU seconds of the process that owns the sockets."""
    times = next(server.processes()).cpu_times()
    return float(times.user + times.system)


def bytes_of_repeating(messages: Iterable[Message], times: int = 1) -> int:
    """Return what a server sends to one viewer that repeats all lines whenever one changes.

    A line has its speaker, times and text, and the tail comes with them. With `times` the session is taken
    to go on like that, so many times in all.
    """
    lines: dict[tuple[int, int], int] = {}
    """Size of each line, by the round and its utterance."""
    updates = [message for message in messages if message["type"] in ("commit", "partial")]
    empty_bytes = len('{"lines":[],"buffer":""}')
    tail_bytes = total = lines_bytes = 0
    for turn in range(times):
        texts: dict[int, str] = {}
        for message in updates:
            if message["type"] == "commit":
                key = message["utterance"]
                texts[key] = texts.get(key, "") + message["text"]
                start, end = message["words"][0]["start"], message["words"][-1]["end"]
                line = {"speaker": "S1", "text": texts[key], "start": start, "end": end}
                line_bytes = len(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()) + 1
                lines_bytes += line_bytes - lines.get((turn, key), 0)
                lines[turn, key] = line_bytes
            else:
                tail_bytes = len(message["text"].encode())
            total += empty_bytes + lines_bytes + tail_bytes
    return total


# The table ----------------------------------------------------------------------------------------


def table_of(model: str, clip: Clip, one: Sequence[Round], many: Sequence[Round]) -> Table:
    """Hold the sessions with many viewers against those with one."""
    count = many[0].viewers

    def cpu(rounds: Sequence[Round]) -> float:
        return statistics.median(found.cpu_seconds for found in rounds)

    def own(rounds: Sequence[Round]) -> float:
        return statistics.median(found.server_cpu_seconds for found in rounds)

    last = many[-1]
    title = f"{model}: {count} viewers of {clip.duration / 60:.1f} minutes"
    uneven = sum(found.seen_seqs != found.kept_seqs for found in (*one, *many))
    others = max(found.others_cores for found in (*one, *many))
    rows: list[Row] = [
        limit(
            f"CPU of all processes with {count} viewers, over that with one",
            cpu(many) / cpu(one),
            MOST_CPU,
            each={"with one": f"{cpu(one):.1f} s", f"with {count}": f"{cpu(many):.1f} s"},
        ),
        fact(
            "of that, the process that owns the sockets",
            f"{own(many) / own(one):.2f}",
            {"with one": f"{own(one):.1f} s", f"with {count}": f"{own(many):.1f} s"},
        ),
        limit(
            f"bytes to a viewer, over those of repeating all lines, worked out for {TALK} minutes like these",
            share(last, clip.duration, TALK),
            MOST_BYTES,
            digits=4,
        ),
        *(
            fact(f"the same worked out for {minutes} minutes", f"{share(last, clip.duration, minutes):.4f}")
            for minutes in SHORTER
        ),
        fact(
            "the same of the session as it was",
            f"{share(last, clip.duration):.4f}",
            {"to a viewer": str(last.viewer_bytes), "repeating": str(last.repeating_bytes[0])},
        ),
        limit("viewers' sessions with another number of kept messages", uneven, 0, digits=0),
        fact("bytes to the viewer who got least", str(last.least_bytes)),
    ]
    notes = [f"other processes kept up to {others:.2f} cores busy"]
    if others > BUSY_CORES:
        notes.append(f"over {BUSY_CORES:g}: the machine was measured too, the CPU is void")
    return Table(title, rows, notes)


def share(found: Round, duration: float, minutes: int = 0) -> float:
    """Return the bytes to a viewer, over those of repeating all lines.

    With `minutes`, for a session that goes on for so long like the one measured, of `duration` seconds.
    What is sent once grows with the session, what is repeated with its square.
    """
    times = round(minutes * 60 / duration) if minutes else 1
    return found.viewer_bytes * times / found.repeating_bytes[minutes]


# The suite ----------------------------------------------------------------------------------------


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite with each model; return its tables and the numbers behind them."""
    clip = looped(options.clip(SOURCE, SOURCE_SECONDS), arguments.seconds or SECONDS)
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    for model in options.models:
        one: list[Round] = []
        many: list[Round] = []
        for _ in range(options.repeats):
            for viewers, rounds in ((1, one), (arguments.viewers, many)):
                options.say(f"{model}: {clip.duration:.0f} s with {viewers} viewers")
                with BenchServer(model, models_dir=options.models_dir) as server:
                    rounds.append(asyncio.run(play(server, clip, viewers)))
        tables.append(table_of(model, clip, one, many))
        behind[model] = [asdict(each) for each in (*one, *many)]
    return tables, behind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument("--viewers", type=int, default=VIEWERS, help=f"viewers: of one session ({VIEWERS})")
