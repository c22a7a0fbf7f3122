"""The suite `dialects`: files through other servers' protocols, against the engine alone.

The test that broke others: a quarter of an hour of speech over WhisperLiveKit's `/asr`, in pieces of a second
as fast as the socket takes them, by 1, 2, 4 and 8 clients at once. And the same file over HTTP, as
AymurAI sends it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import time
import wave
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from threadpoolctl import threadpool_limits
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.fast import alone, load_of
from benchmarks.options import Options
from benchmarks.processes import BenchServer
from benchmarks.report import Row, Table, fact, limit
from benchmarks.speech import RATE_HZ, Clip, looped
from live_asr.inference.worker import build, warm_up

SOURCE = "talk5_lj"
SOURCE_SECONDS = 256.0
SECONDS = 900.0
CLIENTS = (1, 2, 4, 8)
MAX_ALONE = 1.15
MAX_TOGETHER = 1.2
"""Of the engine's own time for all that is sent."""
MIN_SPEED = 0.9
"""Of the engine's own, over HTTP."""
PIECE_BYTES = 2 * RATE_HZ
TIMEOUT = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one client's file."""

    seconds: float
    """From connecting to the end."""
    is_complete: bool
    close_code: int | None
    text: str


@threadpool_limits.wrap(limits=1)  # as in the inference process
def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite with each model; return its tables and the numbers behind them."""
    tables, behind = [], {}
    for model in options.models:
        table, behind[model] = dialects(model, arguments.seconds or SECONDS, options)
        tables.append(table)
    return tables, behind


def dialects(model: str, seconds: float, options: Options) -> tuple[Table, dict[str, Any]]:
    """Measure one model."""
    clip = looped(options.clip(SOURCE, min(seconds, SOURCE_SECONDS)), seconds)
    load = load_of(model, options)
    models = build(load)
    warm_up(models)
    options.say(f"{model}: {clip.duration:.0f} s by the engine alone")
    own = alone(clip, models, options.language, load.workers)
    sent: dict[int, list[Sent]] = {}
    with BenchServer(model, models_dir=options.models_dir) as server:
        url = server.url.removesuffix("/v1/stream")
        for count in CLIENTS:
            options.say(f"{model}: {count} at once over /asr")
            sent[count] = asyncio.run(at_once(url, clip, count))
        options.say(f"{model}: over HTTP")
        posted, first = asyncio.run(post(url.replace("ws", "http", 1), clip))
    rows: list[Row] = [fact("the engine alone", f"{own.seconds:.1f} s")]
    for count, clients in sent.items():
        most = MAX_ALONE if count == 1 else MAX_TOGETHER
        slowest = max(client.seconds for client in clients) / (count * own.seconds)
        lost = sum(not client.is_complete for client in clients)
        each = {f"client {number}": f"{client.seconds:.1f} s" for number, client in enumerate(clients, 1)}
        rows += [
            limit(f"{count} at once over /asr: clients without their end", lost, 0, digits=0),
            limit(
                f"{count} at once over /asr: the slowest, over the engine's own time",
                slowest,
                most,
                each=each,
            ),
            limit(
                f"{count} at once over /asr: clients whose words differ from the first one's",
                sum(client.text != sent[CLIENTS[0]][0].text for client in clients),
                0,
                digits=0,
            ),
        ]
    rows += [
        limit("over HTTP: time over the engine's own", posted / own.seconds, 1 / MIN_SPEED),
        fact("over HTTP: first event", f"{first:.2f} s"),
    ]
    behind = {
        "engine": asdict(own),
        "asr": {count: [asdict(client) for client in clients] for count, clients in sent.items()},
        "http": {"seconds": posted, "first": first},
    }
    return Table(f"{model}: {clip.duration:.0f} s of {clip.name} through other protocols", rows, []), behind


async def at_once(url: str, clip: Clip, count: int) -> list[Sent]:
    """Send a clip by so many clients at once."""
    return await asyncio.gather(*(send(url, clip) for _ in range(count)))


async def send(url: str, clip: Clip) -> Sent:
    """Send a clip over `/asr` as fast as the socket takes it, with the client's usual pings."""
    audio, began = clip.audio.astype("<i2").tobytes(), time.perf_counter()
    async with connect(f"{url}/asr", max_size=None, proxy=None) as socket, asyncio.timeout(TIMEOUT):
        hearing = asyncio.create_task(hear(socket))
        try:
            for first in range(0, len(audio), PIECE_BYTES):
                await socket.send(audio[first : first + PIECE_BYTES])
            await socket.send(b"")
        except ConnectionClosed:
            pass
        is_complete, text = await hearing
        took = time.perf_counter() - began
    return Sent(took, is_complete, socket.close_code, text)


async def hear(socket: ClientConnection) -> tuple[bool, str]:
    """Return whether the end came, and the lines of the last update."""
    lines: list[dict[str, Any]] = []
    try:
        async for message in socket:
            told = json.loads(message)
            if told.get("type") == "ready_to_stop":
                return True, " ".join(line["text"] for line in lines)
            lines = told.get("lines", lines)
    except ConnectionClosed:
        pass
    return False, " ".join(line["text"] for line in lines)


async def post(url: str, clip: Clip) -> tuple[float, float]:
    """Send a clip as AymurAI does; return the seconds to the end and to the first event."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(clip.audio.astype("<i2").tobytes())
    began, first, last = time.perf_counter(), float("nan"), ""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http,
        http.stream("POST", f"{url}/asr/transcribe/stream", files={"file": out.getvalue()}) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                last = line
                first = time.perf_counter() - began if first != first else first
    if last != "event: done":
        return float("nan"), first
    return time.perf_counter() - began, first
