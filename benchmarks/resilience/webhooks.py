"""The suite `webhooks`: a server killed again and again around delivery tells of each session once.

A real server is ended by SIGKILL and started anew on the same data, while a receiver that remembers ids
answers 200 and 500 and resets connections, and now and then asks for time, wants no more, redirects or
hangs, by chance. In the end each session has had one effect. What the
receiver answers and when a kill is due come from one seed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.base.options import Options, seed_of
from benchmarks.base.processes import BenchServer, ServerFailedError
from benchmarks.base.report import Table, fact, limit
from benchmarks.base.streaming import Recorder
from benchmarks.resilience.webhook_receiver import ALL_ANSWERS, FOLLOWED, Receiver, Request, receiving

CLIP = "sample"
"""Comes with the models, so that this suite needs no speech folder; two people speak."""
CLIP_SECONDS = 8.0
KILLS = 30
ANCHORS = ("stopped", "final", "request", "request")
"""What a kill is counted from: its client's `stopped` or `final`, or any request to the receiver."""
AFTER = {"final": 0.05, "request": 0.25}
"""Most seconds from the anchor to the kill. After `stopped` it is a little more than a pass took."""
OVERSHOOT = 1.3
ANCHOR_TIMEOUT = 90.0
"""Longest wait for an anchor, seconds; then the server is killed as it is."""
SETTLE_TIMEOUT = 1200.0
"""Longest wait for all deliveries after the last kill, seconds."""


@dataclass(frozen=True, slots=True)
class Instant:
    """When to kill the server."""

    anchor: str
    share: float
    """Of the longest delay after the anchor, 0 to 1."""


@dataclass(slots=True)
class WebhookRuns:
    """What came of it all."""

    seed: int
    sessions: list[str] = field(default_factory=list)
    """Whose client saw `stopped`, in order."""
    requests: list[Request] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)
    """Each as its anchor and delay."""
    pass_seconds: float = 0.0
    """From `stopped` to `final`, nobody killed."""
    states: dict[str, str] = field(default_factory=dict)
    """Session → state of its delivery as the server says in the end."""
    left_behind: list[str] = field(default_factory=list)
    """Processes that outlived their server."""
    failures: list[str] = field(default_factory=list)
    settled_after: float = 0.0
    """Seconds from the last kill until all were delivered, or to the end of patience."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What does not hold, by session or delivery."""

    lost: list[str]
    """Sessions without an effect."""
    doubled: list[str]
    """Sessions with several."""
    strange: list[str]
    """Sessions told of that nobody asked for."""
    forged: int
    """Requests whose signature did not hold."""
    changed: list[str]
    """Deliveries whose body was another one on another try."""
    open: list[str]
    """Sessions whose delivery is not in the state that the receiver's answers ask for."""
    followed: int
    """Requests to where a redirect led."""


# Chance and judgement -----------------------------------------------------------------------------


def instants(seed: int, count: int) -> list[Instant]:
    """Draw when to kill."""
    chance = random.Random(f"{seed} kills")
    return [Instant(chance.choice(ANCHORS), chance.random()) for _ in range(count)]


def judge(sessions: Sequence[str], requests: Sequence[Request], states: Mapping[str, str]) -> Verdict:
    """Compare the effects with the sessions that there were."""
    effects = Counter(request.session for request in requests if request.effect)
    refused = {request.session for request in requests if request.answer == "410"}
    digests: dict[str, set[str]] = {}
    for request in requests:
        digests.setdefault(request.webhook_id, set()).add(request.digest)
    return Verdict(
        lost=[session for session in sessions if not effects[session]],
        doubled=[session for session, count in effects.items() if count > 1],
        strange=[session for session in effects if session not in set(sessions)],
        forged=sum(not request.session for request in requests),
        changed=[webhook_id for webhook_id, bodies in digests.items() if len(bodies) > 1],
        open=[
            session
            for session in sessions
            if states.get(session) != ("dead" if session in refused else "delivered")
        ],
        followed=sum(request.answer == FOLLOWED for request in requests),
    )


# The server that dies -----------------------------------------------------------------------------


def delivery_state(server: BenchServer, session: str) -> str:
    """Return the state of a session's delivery as the server says; `none` where there is none yet."""
    status, body = server.get(f"/v1/sessions/{session}")
    webhook = json.loads(body)["webhook"] if status == 200 else None
    return str(webhook["state"]) if webhook else "none"


async def _within(longest: float, event: Awaitable[object]) -> bool:
    """Wait for an event, at most so many seconds; tell whether it came."""
    try:
        await asyncio.wait_for(event, longest)
    except TimeoutError:
        return False
    return True


async def _final(recorder: Recorder) -> None:
    """Wait for `final`; looked for every few milliseconds, which is as exact as chance needs."""
    while recorder.log.first("final") is None:  # noqa: ASYNC110  the recorder tells nobody of it
        await asyncio.sleep(0.005)


@dataclass(slots=True)
class Trial:
    """One run of the suite."""

    server: BenchServer
    receiver: Receiver
    url: str
    options: Options
    runs: WebhookRuns

    async def session(self, number: int, instant: Instant | None) -> None:
        """Play a session and kill the server at an instant; without one let it be told of in peace."""
        start = {
            "final_pass": True,
            "diarize": True,
            "webhook": {"url": self.url},
            "metadata": {"number": number},
        }
        clip = self.options.clip(CLIP, CLIP_SECONDS)
        recorder = Recorder(self.server.url, clip, pace="fast", language="en", start=start)
        playing = asyncio.create_task(recorder.run())
        await recorder.stopped()
        ready, stopped = recorder.log.first("ready"), recorder.log.first("stopped")
        if ready is None or stopped is None:
            playing.cancel()
            raise ServerFailedError(f"Session {number}: {recorder.log.failure}\n{self.server.output()}")
        self.runs.sessions.append(ready.message["session"])
        if instant is not None:
            await self.kill(recorder, instant)
        await playing
        final = recorder.log.first("final")
        if instant is None and final is not None:
            self.runs.pass_seconds = final.time - stopped.time

    async def kill(self, recorder: Recorder, instant: Instant) -> None:
        """Wait for the instant and kill the server."""
        longest = AFTER.get(instant.anchor, OVERSHOOT * self.runs.pass_seconds)
        came = True
        if instant.anchor == "final":
            came = await _within(ANCHOR_TIMEOUT, _final(recorder))
        elif instant.anchor == "request":
            self.receiver.arrived.clear()
            came = await _within(ANCHOR_TIMEOUT, self.receiver.arrived.wait())
        await asyncio.sleep(instant.share * longest)
        self.runs.kills.append(
            f"{instant.anchor} + {instant.share * longest:.3f} s" if came else f"{instant.anchor} never came"
        )
        self.runs.left_behind += await asyncio.to_thread(self.server.kill)

    async def settle(self) -> None:
        """Wait until the server says of all sessions that they are delivered or dead, or patience ends."""
        began = time.monotonic()
        waiting = list(self.runs.sessions)
        while waiting and time.monotonic() - began < SETTLE_TIMEOUT:
            for session in tuple(waiting):
                state = await asyncio.to_thread(delivery_state, self.server, session)
                self.runs.states[session] = state
                if state in ("delivered", "dead"):
                    waiting.remove(session)
            await asyncio.sleep(0.5)
        self.runs.settled_after = time.monotonic() - began


async def trial(model: str, options: Options, seed: int, kills: int) -> WebhookRuns:
    """Run a server through all its deaths, and wait until it has told of everything."""
    secret = "whsec_" + base64.b64encode(random.Random(f"{seed} key").randbytes(32)).decode()
    receiver, runs = Receiver(secret, seed, ALL_ANSWERS), WebhookRuns(seed)
    settings = {"LIVE_ASR_WEBHOOK__SECRET": secret, "LIVE_ASR_WEBHOOK__ALLOW_PRIVATE": "true"}
    server = BenchServer(model, models_dir=options.models_dir, settings=settings)
    async with receiving(receiver) as url:
        try:
            await asyncio.to_thread(server.start)
            run = Trial(server, receiver, url, options, runs)
            options.say(f"{model}: a session in peace")
            await run.session(0, None)
            for number, instant in enumerate(instants(seed, kills), start=1):
                await run.session(number, instant)
                options.say(f"{model}: kill {number} of {kills}: {runs.kills[-1]}")
                await asyncio.to_thread(server.start)
            options.say(f"{model}: waiting for what is not delivered yet")
            await run.settle()
        except ServerFailedError as failed:
            runs.failures.append(str(failed))
        finally:
            runs.requests = receiver.requests
            await asyncio.to_thread(server.stop)
    return runs


# The table ----------------------------------------------------------------------------------------


def table_of(model: str, runs: WebhookRuns) -> Table:
    """Hold what was seen against what is promised."""
    verdict = judge(runs.sessions, runs.requests, runs.states)
    answers = Counter(request.answer for request in runs.requests)
    effects = [request for request in runs.requests if request.effect]
    anchors = Counter(kill.partition(" + ")[0] for kill in runs.kills)
    rows = [
        limit("sessions that nobody was told of", len(verdict.lost), 0, digits=0),
        limit("sessions with more than one effect", len(verdict.doubled), 0, digits=0),
        limit("effects of sessions that there were not", len(verdict.strange), 0, digits=0),
        limit("signatures that the library refuses", verdict.forged, 0, digits=0),
        limit("deliveries whose body changed between tries", len(verdict.changed), 0, digits=0),
        limit("deliveries neither delivered nor, after a 410, dead", len(verdict.open), 0, digits=0),
        limit("redirects that were followed", verdict.followed, 0, digits=0),
        limit("processes that outlived their server", len(runs.left_behind), 0, digits=0),
        limit("failures", len(runs.failures), 0, digits=0),
        fact("sessions", str(len(runs.sessions))),
        fact("kills", str(len(runs.kills)), {f"after {name}": str(count) for name, count in anchors.items()}),
        fact("requests", str(len(runs.requests)), {name: str(count) for name, count in answers.items()}),
        fact(
            "sessions told of with the full pass's result", str(sum(one.labels == "full" for one in effects))
        ),
        fact("from `stopped` to `final` in peace", f"{runs.pass_seconds:.1f} s"),
        fact("from the last start until all was delivered", f"{runs.settled_after:.0f} s"),
    ]
    wrong = {name: value for name, value in asdict(verdict).items() if value}
    notes = [f"seed {runs.seed}", *(f"**{name}**: {value}" for name, value in wrong.items())]
    notes += [f"**failed**: {why}" for why in runs.failures]
    notes += [f"**outlived its server**: {line}" for line in runs.left_behind]
    return Table(f"{model}: webhooks of a server killed {len(runs.kills)} times", rows, notes)


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite with each model; return its tables and the numbers behind them."""
    seed = seed_of(arguments)
    options.say(f"seed {seed}")
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    for model in options.models:
        runs = asyncio.run(trial(model, options, seed, arguments.kills or KILLS))
        tables.append(table_of(model, runs))
        behind[model] = asdict(runs)
    return tables, behind
