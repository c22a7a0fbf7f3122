"""What viewers cost: the server's CPU with one and with many, and the bytes that each is sent.

    python -m benchmarks.viewers speech.wav --viewers 200 --model tiny.en

Plays one recording (16 kHz, mono, 16 bit) in real time to one session of a fresh server, once with one
viewer and once with many, who read in a process of their own. The bytes are compared, for the same session,
with what a server would send that repeats all lines on every update.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.processes import BenchServer

FRAME = 0.1
BYTES_PER_SECOND = 32_000
MOST_CPU = 1.2
"""Times the CPU of one viewer."""
MOST_BYTES = 0.02
"""Of what is sent by a server that repeats all lines."""


@dataclass(frozen=True)
class Round:
    """One session and its viewers."""

    viewers: int
    cpu_seconds: float
    server_cpu_seconds: float
    """Of the process that owns the sockets alone."""
    viewer_bytes: int
    messages: list[dict[str, Any]]
    """What one viewer got."""


async def read_events(port: int, session: str) -> bytes:
    """Watch a session to its end; return the body as it came, with the framing of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    writer.write(
        f"GET /v1/sessions/{session}/events HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode()
    )
    body = await reader.read(-1)
    writer.close()
    return body


async def read_many(port: int, session: str, count: int) -> None:
    """Watch a session `count` times, and print what one of them got."""
    watching = [asyncio.create_task(read_events(port, session)) for _ in range(count)]
    print("watching", flush=True)
    bodies = await asyncio.gather(*watching)
    lengths = {len(body) for body in bodies}
    sys.stdout.write(json.dumps({"bytes": max(lengths), "body": bodies[0].decode()}))


async def hear(socket: ClientConnection) -> None:
    """Take all that the server says."""
    async for _ in socket:
        pass


async def play(server: BenchServer, audio: bytes, viewers: int) -> Round:
    """Caption `audio` in real time while `viewers` watch."""
    async with connect(server.url, proxy=None, max_size=None) as socket:
        await socket.send(json.dumps({"type": "start", "language": "en", "final_pass": False}))
        session = json.loads(await socket.recv())["session"]
        command = [
            sys.executable,
            "-m",
            "benchmarks.viewers",
            "--read",
            str(server.port),
            session,
            str(viewers),
        ]
        reading = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, limit=2**26)
        assert reading.stdout is not None
        await reading.stdout.readline()
        hearing = asyncio.create_task(hear(socket))
        began, began_own = server.cpu_seconds(), own_cpu(server)
        loop = asyncio.get_running_loop()
        start, size = loop.time(), int(FRAME * BYTES_PER_SECOND)
        for number, first in enumerate(range(0, len(audio), size)):
            await asyncio.sleep(max(0.0, start + number * FRAME - loop.time()))
            await socket.send(audio[first : first + size])
        used, used_own = server.cpu_seconds() - began, own_cpu(server) - began_own
        await socket.send(json.dumps({"type": "stop"}))
        await hearing
        got = json.loads(await reading.stdout.read())
        await reading.wait()
    return Round(viewers, used, used_own, got["bytes"], list(messages_of(got["body"])))


def own_cpu(server: BenchServer) -> float:
    """Return the CPU seconds of the process that owns the sockets."""
    times = next(server.processes()).cpu_times()
    return times.user + times.system


def messages_of(body: str) -> Iterator[dict[str, Any]]:
    """Yield the messages of a stream of events."""
    for line in body.splitlines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


def bytes_of_repeating(messages: list[dict[str, Any]]) -> int:
    """Return what a server sends for the same session that repeats all lines whenever one changes."""
    lines: dict[int, dict[str, Any]] = {}
    tail, total = "", 0
    for message in messages:
        if message["type"] == "commit":
            words = message["words"]
            line = lines.setdefault(
                message["utterance"], {"speaker": None, "text": "", "start": words[0]["start"], "end": 0.0}
            )
            line |= {"text": line["text"] + message["text"], "end": words[-1]["end"]}
            line["speaker"] = words[0]["speaker"] or line["speaker"]
        elif message["type"] == "partial":
            tail = message["text"]
        else:
            continue
        total += len(json.dumps({"lines": list(lines.values()), "buffer": tail}, separators=(",", ":")))
    return total


def judged(name: str, value: float, most: float) -> str:
    """Return one line of the report."""
    return f"| {name} | {value:.4g} | ≤ {most:g} | {'pass' if value <= most else 'FAIL'} |"


def report(one: Round, many: Round) -> str:
    """Return the result as a table."""
    repeated = bytes_of_repeating(many.messages)
    own = f"{one.server_cpu_seconds:.1f}, {many.server_cpu_seconds:.1f}"
    rows = [
        "| what | measured | target | |",
        "| --- | ---: | ---: | --- |",
        judged(f"CPU with {many.viewers} viewers / with one", many.cpu_seconds / one.cpu_seconds, MOST_CPU),
        judged("bytes to a viewer / repeating all lines", many.viewer_bytes / repeated, MOST_BYTES),
        f"| CPU seconds with one, with {many.viewers} | {one.cpu_seconds:.1f}, {many.cpu_seconds:.1f} | | |",
        f"| of that, of the sockets' process | {own} | | |",
        f"| bytes to a viewer, repeating | {many.viewer_bytes}, {repeated} | | |",
    ]
    return "\n".join(rows)


def main() -> None:
    """Measure, print and keep the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viewers")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--seconds", type=float, default=600.0, help="of the recording, repeated as needed")
    parser.add_argument("--out", type=Path, help="file that the table is written to")
    given = parser.parse_args()
    with wave.open(str(given.recording)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        audio = file.readframes(file.getnframes())
    wanted = int(given.seconds) * BYTES_PER_SECOND
    audio = (audio * (wanted // len(audio) + 1))[:wanted]
    rounds = []
    for viewers in (1, given.viewers):
        with BenchServer(given.model) as server:
            rounds.append(asyncio.run(play(server, audio, viewers)))
    table = report(*rounds)
    print(table)
    if given.out is not None:
        given.out.write_text(f"# Viewers, {given.model}, {given.seconds:g} s of speech\n\n{table}\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        asyncio.run(read_many(int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
    else:
        main()
