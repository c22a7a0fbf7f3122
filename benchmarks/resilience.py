"""The suite `resilience`: connections that are cut and servers that are killed, and what is lost by it.

The cuts are made by a proxy between client and server, the kills by SIGKILL at random instants. What must
hold: nothing acknowledged is lost, no session is stuck, nothing is said or told twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.cutting import CUTS, Cut, Proxy, proxy
from benchmarks.options import Options
from benchmarks.processes import BenchServer
from benchmarks.report import Row, Table, fact, limit
from benchmarks.speech import RATE_HZ, Clip, looped
from live_asr.client import LiveSession, Reconnecting, Resumed, SessionError, connect
from live_asr.core.messages import Final

MOST_CUTS = 20
BLACK_HOLE = 5.0
"""Seconds for which nothing passes, without an end."""
FRAME = 0.1
SOURCE, TALK = "talk5_lj", "sample"
SEED = 4
PATIENCE = 180.0
"""Seconds until a session that was left behind must be done."""


@dataclass(slots=True)
class Heard:
    """What one client had of its session."""

    session: str = ""
    text: str = ""
    live_text: str = ""
    duration: float = 0.0
    labels: list[str] = field(default_factory=list)
    seqs: int = 0
    acked_bytes: int = 0
    resumed: int = 0
    away: list[float] = field(default_factory=list)
    """Seconds from each loss to the next `resumed`."""
    failure: str | None = None


async def listen(session: LiveSession, heard: Heard) -> None:
    """Read a session to its end."""
    lost_at = 0.0
    try:
        async for message in session:
            if isinstance(message, Reconnecting):
                lost_at = time.monotonic()
            elif isinstance(message, Resumed):
                heard.resumed += 1
                heard.away.append(round(time.monotonic() - lost_at, 2))
            elif isinstance(message, Final):
                heard.text, heard.duration = message.text, message.duration
    except SessionError as error:
        heard.failure = f"{error.code}: {error}"
    transcript = session.transcript  # it refuses a number that is missing or doubled
    heard.live_text, heard.seqs = transcript.text, transcript.last_seq
    heard.labels = list(transcript.live_labels)
    heard.acked_bytes = session.acked_bytes


async def speak(url: str, clip: Clip, *, frame: float = FRAME, fast: bool = False) -> Heard:
    """Play a clip through a session that comes back by itself."""
    heard, pcm = Heard(), clip.audio.tobytes()
    size = int(RATE_HZ * frame) * 2
    now = asyncio.get_running_loop().time
    async with connect(url, pace="fast" if fast else "realtime", final_pass=False) as session:
        heard.session = session.session
        listening = asyncio.create_task(listen(session, heard))
        began = now()
        try:
            for number, first in enumerate(range(0, len(pcm), size)):
                if not fast:
                    await asyncio.sleep(max(0.0, began + number * frame - now()))
                await session.send(pcm[first : first + size])
            await session.stop()
        except SessionError as error:
            heard.failure = heard.failure or f"{error.code}: {error}"
        await listening
    return heard


# Cuts ---------------------------------------------------------------------------------------------


async def cut_at_random(between: Proxy, seconds: float, chance: random.Random) -> list[str]:
    """Cut all connections at instants spread over the session; return how."""
    done: list[str] = []
    began = asyncio.get_running_loop().time()
    for number in range(MOST_CUTS):
        at = seconds * (number + chance.uniform(0.2, 0.8)) / MOST_CUTS
        await asyncio.sleep(max(0.0, began + at - asyncio.get_running_loop().time()))
        kinds: tuple[Cut | None, ...] = (*CUTS, None)
        how = kinds[number % len(kinds)]
        if how is None:
            between.silence()
            between.accepts = False
            await asyncio.sleep(BLACK_HOLE)
            between.accepts = True
            await between.cut("reset")
        else:
            await between.cut(how)
        done.append(how or "black hole")
    return done


def cuts(model: str, seconds: float, options: Options) -> tuple[Table, dict[str, Any]]:
    """Play speech in real time over connections that are cut, beside the same uncut."""
    clip = looped(options.clip(SOURCE), seconds)
    options.say(f"{model}: {clip.duration / 60:.0f} minutes with {MOST_CUTS} cuts")

    async def both(server: BenchServer) -> tuple[Heard, Heard, list[str]]:
        address = f"http://127.0.0.1:{server.port}"
        async with proxy(address) as between:
            cutting = asyncio.create_task(cut_at_random(between, clip.duration, random.Random(SEED)))
            uncut, cut = await asyncio.gather(speak(address, clip), speak(between.url, clip))
            return uncut, cut, await cutting

    with BenchServer(model, models_dir=options.models_dir) as server:
        uncut, cut, made = asyncio.run(both(server))
        missing = len(clip.audio) - round(cut.duration * RATE_HZ)
    rows: list[Row] = [
        limit("bytes lost", 2 * max(0, missing - RATE_HZ // 1000), 0, digits=0),
        limit("words unlike the uncut session's", unlike(cut.live_text, uncut.live_text), 0, digits=0),
        limit("live labels unlike the uncut session's", int(cut.labels != uncut.labels), 0, digits=0),
        limit("failures", sum(heard.failure is not None for heard in (cut, uncut)), 0, digits=0),
        fact("cuts", ", ".join(f"{made.count(how)} {how}" for how in dict.fromkeys(made))),
        fact("times resumed", str(cut.resumed)),
        fact("longest time away", f"{max(cut.away, default=0.0):.1f} s"),
        fact("words", str(len(cut.live_text.split()))),
    ]
    notes = [heard.failure for heard in (uncut, cut) if heard.failure]
    details = {"uncut": asdict(uncut), "cut": asdict(cut), "cuts": made}
    return Table(f"{model}: {MOST_CUTS} cuts in {clip.duration / 60:.0f} minutes", rows, notes), details


def unlike(text: str, reference: str) -> int:
    """Return how many words would have to be changed to make one text of the other."""
    words, wanted = text.split(), reference.split()
    row = list(range(len(wanted) + 1))
    for index, word in enumerate(words, 1):
        before, row[0] = row[0], index
        for at, other in enumerate(wanted, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (word != other))
    return row[-1]


# Kills --------------------------------------------------------------------------------------------


class Receiver:
    """Takes webhooks; who remembers their ids sees one effect for each session."""

    def __init__(self) -> None:
        self.ids: dict[str, set[str]] = {}
        """Session → ids of the deliveries that told of it."""
        self.states: dict[str, str] = {}

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Listen until the block ends; yield the address."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.ids.setdefault(body["sessionId"], set()).add(self.headers["webhook-id"])
                receiver.states[body["sessionId"]] = body["status"]
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook"
        finally:
            server.shutdown()
            thread.join()


@dataclass(slots=True)
class Death:
    """One kill and what became of the session."""

    after: float
    """Seconds from the session's start."""
    came_back: bool
    """Whether the client did; else the session was left alone."""
    state: str
    session: str = ""
    acked_bytes: int = 0
    kept_bytes: int = 0
    text: str = ""
    resumed: int = 0
    failure: str | None = None


def kills(model: str, count: int, options: Options) -> tuple[Table, dict[str, Any]]:
    """Kill the server at random instants of short sessions, and start it again on the same data."""
    clip = options.clip(TALK, 30.0)
    chance, receiver = random.Random(SEED), Receiver()
    deaths: list[Death] = []
    with receiver.serve() as hook:
        settings = {
            "LIVE_ASR_WEBHOOK__URL": hook,
            "LIVE_ASR_WEBHOOK__ALLOW_PRIVATE": "true",
            "LIVE_ASR_SERVER__RESUME_WINDOW": "20",
        }
        with BenchServer(model, models_dir=options.models_dir, settings=settings) as server:
            began = time.monotonic()
            plain = asyncio.run(speak(f"http://127.0.0.1:{server.port}", clip, fast=True))
            took = time.monotonic() - began
            for number in range(count):
                options.say(f"{model}: kill {number + 1} of {count}")
                after = chance.uniform(0.0, 1.1 * took)
                deaths.append(asyncio.run(one_death(server, clip, after, came_back=number % 2 == 0)))
            told = [len(receiver.ids.get(death.session, ())) for death in deaths if death.session]
    lost = sum(max(0, death.acked_bytes - death.kept_bytes) for death in deaths)
    stuck = sum(death.state != "done" for death in deaths)
    differing = [
        unlike(death.text, plain.text) for death in deaths if death.state == "done" and death.came_back
    ]
    rows = [
        limit("acknowledged bytes lost", lost, 0, digits=0),
        limit("sessions not done", stuck, 0, digits=0),
        limit("sessions told of not exactly once", sum(times != 1 for times in told), 0, digits=0),
        fact("kills", str(count)),
        fact("sessions taken up by their client", str(sum(death.resumed > 0 for death in deaths))),
        fact("words unlike the unkilled session's, each", ", ".join(map(str, differing))),
    ]
    notes = [death.failure for death in deaths if death.failure]
    return Table(f"{model}: {count} kills", rows, notes), {"deaths": [asdict(death) for death in deaths]}


async def one_death(server: BenchServer, clip: Clip, after: float, *, came_back: bool) -> Death:
    """Open a session, kill the server after so many seconds, start it again, and see the session's end."""
    death = Death(after, came_back, "never opened")
    address = f"http://127.0.0.1:{server.port}"
    speaking = asyncio.create_task(speak_or_leave(address, clip, death))
    await asyncio.sleep(after)
    await asyncio.to_thread(server.kill)
    if not came_back:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    await asyncio.to_thread(server.start)
    if came_back:
        await speaking
    deadline = time.monotonic() + PATIENCE
    while death.session and time.monotonic() < deadline:
        status, body = await asyncio.to_thread(server.get, f"/v1/sessions/{death.session}")
        told = json.loads(body) if status == 200 else {}
        death.state = told.get("state", str(status))
        webhook = (told.get("webhook") or {}).get("state")
        if death.state in ("done", "failed") and webhook == "delivered":
            death.kept_bytes = round(told["duration"] * RATE_HZ) * 2
            break
        await asyncio.sleep(0.2)
    if not death.session:
        death.state = "done"  # it died before there was one
    return death


async def speak_or_leave(url: str, clip: Clip, death: Death) -> None:
    """Play the clip as a file, and note what was acknowledged, however it ends."""
    pcm, heard = clip.audio.tobytes(), Heard()
    try:
        async with connect(url, pace="fast", final_pass=False) as session:
            death.session = session.session
            listening = asyncio.create_task(listen(session, heard))
            try:
                await session.send(pcm)
                await session.stop()
                await listening
            finally:
                listening.cancel()
                death.acked_bytes = session.acked_bytes
                death.text, death.resumed = session.transcript.text, heard.resumed
    except SessionError as error:
        death.failure = f"{error.code}: {error}"
