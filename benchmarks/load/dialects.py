"""The suite `dialects`: files through other servers' protocols, against the engine alone.

The test that broke others: a quarter of an hour of speech over WhisperLiveKit's `/asr`, in pieces of a second
as fast as the socket takes them, by 1, 2, 4 and 8 clients at once. The same file over HTTP, as AymurAI sends
it; many uploads at once; and one of hours, whose memory is watched.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import tempfile
import time
import wave
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from threadpoolctl import threadpool_limits
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.base.options import Options, parts_of
from benchmarks.base.processes import BenchServer, watched
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.base.speech import RATE_HZ, Clip, looped
from benchmarks.base.streaming import Recorder
from benchmarks.resilience.fast import alone, load_of
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
MAX_BEHIND = 1.0
"""Seconds."""
TOGETHER, TOGETHER_SECONDS = 20, 30.0
"""Uploads, and the length of each."""
MAX_GROWTH_MB = 50.0
"""Between the second quarter of a long upload and its last."""
PARTS = ("asr", "http", "together", "memory")
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


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of one upload of `together`."""

    seconds: float
    """From the first try to the answer."""
    refused: int
    """Answers 429 or 503 that said when to come back."""
    status: int
    """Of the last answer; 0 where there was none."""


@threadpool_limits.wrap(limits=1)  # as in the inference process
def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite with each model; return its tables and the numbers behind them."""
    parts = parts_of(arguments, PARTS)
    seconds = arguments.seconds or SECONDS
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    for model in options.models:
        found: dict[str, Any] = {}
        rows: list[Row] = []
        if "asr" in parts or "http" in parts:
            rows += against_the_engine(model, seconds, parts, options, found)
        if "together" in parts:
            rows += together(model, options, found)
        if "memory" in parts:
            rows += memory(model, arguments.hours, options, found)
        tables.append(Table(f"{model}: files through other protocols", rows, []))
        behind[model] = found
    return tables, behind


def against_the_engine(
    model: str, seconds: float, parts: tuple[str, ...], options: Options, found: dict[str, Any]
) -> list[Row]:
    """Send a file over `/asr` and over HTTP, and have the engine transcribe it with nothing around it."""
    clip = looped(options.clip(SOURCE, min(seconds, SOURCE_SECONDS)), seconds)
    load = load_of(model, options)
    models = build(load)
    warm_up(models)
    options.say(f"{model}: {clip.duration:.0f} s by the engine alone")
    own = alone(clip, models, options.language, load.workers)
    del models
    found["engine"] = asdict(own)
    rows = [fact(f"{clip.duration:.0f} s of {clip.name}: the engine alone", f"{own.seconds:.1f} s")]
    with BenchServer(model, models_dir=options.models_dir) as server:
        url = server.url.removesuffix("/v1/stream")
        if "asr" in parts:
            sent: dict[int, list[Sent]] = {}
            for count in CLIENTS:
                options.say(f"{model}: {count} at once over /asr")
                sent[count] = asyncio.run(at_once(url, clip, count))
                rows += _asr_rows(count, sent[count], sent[CLIENTS[0]][0].text, own.seconds)
            found["asr"] = {count: [asdict(client) for client in clients] for count, clients in sent.items()}
        if "http" in parts:
            options.say(f"{model}: over HTTP, and by the native protocol")
            http = url.replace("ws", "http", 1)
            posted, first = asyncio.run(post(http, clip))
            openai, first_delta = asyncio.run(post_to_openai(http, clip))
            log = asyncio.run(Recorder(server.url, clip, pace="fast", language=options.language).run())
            commit = log.first("commit")
            native = commit.time - log.started if commit is not None else float("nan")
            rows += [
                limit("over HTTP: time over the engine's own", posted / own.seconds, 1 / MIN_SPEED),
                limit(
                    "over HTTP: first event behind the native first commit", first - native, MAX_BEHIND, "s"
                ),
                limit("OpenAI's, streamed: time over the engine's own", openai / own.seconds, 1 / MIN_SPEED),
                limit(
                    "OpenAI's, streamed: first delta behind the native first commit",
                    first_delta - native,
                    MAX_BEHIND,
                    "s",
                ),
            ]
            found["http"] = {
                "seconds": posted,
                "first": first,
                "openai_seconds": openai,
                "openai_first": first_delta,
                "native_first": native,
            }
    return rows


def _asr_rows(count: int, clients: list[Sent], text: str, own: float) -> list[Row]:
    name, most = f"{count} at once over /asr", MAX_ALONE if count == 1 else MAX_TOGETHER
    each = {f"client {number}": f"{client.seconds:.1f} s" for number, client in enumerate(clients, 1)}
    slowest = max(client.seconds for client in clients) / (count * own)
    return [
        limit(f"{name}: clients without their end", sum(not c.is_complete for c in clients), 0, digits=0),
        limit(f"{name}: the slowest, over the engine's own time", slowest, most, each=each),
        limit(
            f"{name}: whose words differ from the first's", sum(c.text != text for c in clients), 0, digits=0
        ),
    ]


def together(model: str, options: Options, found: dict[str, Any]) -> list[Row]:
    """Upload many files at once to a server that takes as many as it believes it can carry."""
    clip = options.clip(SOURCE, TOGETHER_SECONDS)
    options.say(f"{model}: {TOGETHER} uploads at once")
    with BenchServer(
        model, models_dir=options.models_dir, settings={"LIVE_ASR_SERVER__ADMISSION": "load"}
    ) as server:
        url = server.url.removesuffix("/v1/stream").replace("ws", "http", 1)
        done = asyncio.run(upload_all(url, wav_of(clip), TOGETHER))
    found["together"] = [asdict(one) for one in done]
    return [
        limit(
            f"{TOGETHER} uploads of {clip.duration:.0f} s at once: failed",
            sum(one.status != 200 for one in done),
            0,
            digits=0,
        ),
        fact("  refused with Retry-After, in all", str(sum(one.refused for one in done))),
        fact("  the last one's answer", f"{max(one.seconds for one in done):.0f} s"),
    ]


async def upload_all(url: str, body: bytes, count: int) -> list[Uploaded]:
    """Upload a file so many times at once, and come back when the server says so."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT, limits=limits) as http:
        return await asyncio.gather(*(upload(http, url, body) for _ in range(count)))


async def upload(http: httpx.AsyncClient, url: str, body: bytes) -> Uploaded:
    """Upload a file, again and again where the server has no place for it yet."""
    began, refused = time.perf_counter(), 0
    while True:
        answer = await http.post(
            f"{url}/v1/audio/transcriptions",
            files={"file": ("talk.wav", body, "audio/wav")},
            data={"model": "whisper-1"},
        )
        if answer.status_code not in (429, 503) or "retry-after" not in answer.headers:
            return Uploaded(time.perf_counter() - began, refused, answer.status_code)
        refused += 1
        await asyncio.sleep(float(answer.headers["retry-after"]))


def memory(model: str, hours: float, options: Options, found: dict[str, Any]) -> list[Row]:
    """Upload hours of speech in one request and watch the server's memory."""
    source, seconds = options.clip(SOURCE, SOURCE_SECONDS), hours * 3600
    options.say(f"{model}: an upload of {hours:g} hours")
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        with wave.open(file, "wb") as written:
            written.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            for _ in range(round(seconds / source.duration)):
                written.writeframes(source.audio.astype("<i2").tobytes())
        file.seek(0)
        with (
            BenchServer(model, models_dir=options.models_dir) as server,
            watched(server, interval=2.0) as usage,
            httpx.Client(trust_env=False, timeout=TIMEOUT) as http,
        ):
            url = server.url.removesuffix("/v1/stream").replace("ws", "http", 1)
            began = time.perf_counter()
            answer = http.post(
                f"{url}/v1/audio/transcriptions",
                files={"file": ("talk.wav", file, "audio/wav")},
                data={"model": "whisper-1"},
            )
            took = time.perf_counter() - began
    sums = [sum(sample.memory_bytes.values()) / 1e6 for sample in usage.samples]
    quarter = len(sums) // 4
    second, last = (statistics.median(sums[at : at + quarter]) for at in (quarter, 3 * quarter))
    words = len(answer.json()["text"].split()) if answer.status_code == 200 else 0
    found["memory"] = {"hours": hours, "seconds": took, "status": answer.status_code, "mb": sums}
    return [
        limit(
            f"an upload of {hours:g} hours: answers other than 200", answer.status_code != 200, 0, digits=0
        ),
        fact("  its time", f"{took:.0f} s, {words} words"),
        limit(
            "  memory, median of the last quarter less the second's", last - second, MAX_GROWTH_MB, "MB", 0
        ),
        fact("  memory, peak of all processes", f"{max(sums):.0f} MB"),
    ]


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
    return await streamed(f"{url}/asr/transcribe/stream", "event: ", "done", files={"file": wav_of(clip)})


async def post_to_openai(url: str, clip: Clip) -> tuple[float, float]:
    """Have a clip transcribed as OpenAI streams it; return the seconds to the end and to the first delta."""
    file, fields = ("talk.wav", wav_of(clip), "audio/wav"), {"model": "whisper-1", "stream": "true"}
    return await streamed(
        f"{url}/v1/audio/transcriptions", "data: ", "[DONE]", files={"file": file}, data=fields
    )


async def streamed(url: str, kind: str, end: str, **body: Any) -> tuple[float, float]:
    """Post to what answers with events; return the seconds to the one that is its end, and to the first.

    Counted are lines of a `kind`. Without an `end` the first number is nan.
    """
    began, first, last = time.perf_counter(), float("nan"), ""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http,
        http.stream("POST", url, **body) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith(kind):
                last = line
                first = time.perf_counter() - began if first != first else first
    return (time.perf_counter() - began if last == kind + end else float("nan")), first


def wav_of(clip: Clip) -> bytes:
    """Return a clip as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(clip.audio.astype("<i2").tobytes())
    return out.getvalue()
