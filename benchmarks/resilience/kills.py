"""Servers and processes of theirs that are ended by SIGKILL at random instants, and what becomes of sessions.

One short session after another is killed at an instant of its own: in speech, in the drain, in the full pass,
in delivery. Half of the clients come back by themselves, the others are gone for good. A session is left to
go on while the next one is killed, so most kills hit several, in several phases; before a kill in the full
pass all are waited for, so that the pass is the session's own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from benchmarks.base.matching import unlike
from benchmarks.base.options import Options
from benchmarks.base.processes import FULL_PASS, INFERENCE, BenchServer, ServerFailedError
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.base.speech import RATE_HZ, Clip
from benchmarks.resilience.listening import Heard, Talk
from benchmarks.resilience.webhook_receiver import Receiver, Request, receiving
from benchmarks.resilience.webhooks import judge

COUNT = 100
CLIP, SECONDS = "sample", 8.0
"""Two people on a telephone; it comes with the models."""
INTERVAL = 0.03
"""Seconds between two frames of 0.1 s: three times as fast as speech, so that there is a time of speech."""
PHASES = {"speech": 35, "drain": 15, "full pass": 30, "delivery": 20}
"""Kills of a hundred."""
OTHER_VICTIM = {"speech": INFERENCE, "drain": INFERENCE, "full pass": FULL_PASS}
"""Who dies instead of the server, in one kill of four."""
RESUME_WINDOW = 12.0
"""Seconds that a session waits for its client: enough for one that comes back while the server starts."""
DELIVERY = 0.25
"""Most seconds from a request to the receiver to the kill."""
TIMEOUT = 180.0
"""Seconds until a session must have come to where it is waited for."""
SETTLE_TIMEOUT = 1200.0
"""The same for all sessions after the last kill, deliveries included."""
OVER = ("done", "failed")


@dataclass(frozen=True, slots=True)
class Instant:
    """When to kill whom."""

    phase: str
    victim: str
    """`server`, or the module that one of its processes runs."""
    share: float
    """Of the longest delay in the phase, 0 to 1."""
    comes_back: bool
    """Whether the client does; else it is gone for good at the kill."""


@dataclass(slots=True)
class Life:
    """One session, the kill that was meant for it, and what became of it."""

    number: int
    instant: Instant | None
    heard: Heard
    killed: str = ""
    """The victim, or why nobody was killed."""
    after: float = 0.0
    """Seconds from the phase's beginning to the kill."""
    state: str = ""
    kept_bytes: int = 0
    labels: str | None = None
    """Where the speakers of the transcript come from: `full` only after a full pass that went well."""
    segments: list[tuple[str, str | None, float, float]] = field(default_factory=list)
    """Text, speaker, start and end of each, of the best revision."""
    webhook: str = ""

    @property
    def text(self) -> str:
        """The transcript's."""
        return " ".join(text for text, *_ in self.segments)


@dataclass(slots=True)
class KillRuns:
    """All lives on one server, the first of them in peace."""

    seed: int
    whole_bytes: int
    """Of the clip."""
    lives: list[Life] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    settled_after: float = 0.0
    """Seconds from the last kill until all was done and delivered, or to the end of patience."""


def instants(seed: int, count: int) -> list[Instant]:
    """Draw when to kill whom; the phases have their shares whatever the seed."""
    chance = random.Random(f"{seed} instants")
    phases = [phase for phase, share in PHASES.items() for _ in range(share)]
    chosen = [phases[number * len(phases) // count] for number in range(count)]
    drawn = []
    for number, phase in enumerate(chosen):
        victim = OTHER_VICTIM.get(phase, "server") if number % 4 == 3 else "server"
        comes_back = (number + number // 4) % 2 == 0  # whoever the victim is, half of the clients
        drawn.append(Instant(phase, victim, chance.random(), comes_back))
    chance.shuffle(drawn)
    return drawn


# The trial ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Trial:
    """One run of this part."""

    server: BenchServer
    receiver: Receiver
    clip: Clip
    runs: KillRuns
    drain_seconds: float = 0.0
    """From `stop` to `stopped`, nobody killed."""
    pass_seconds: float = 0.0
    """From `stopped` to `final`, nobody killed."""
    talking: list[tuple[Life, asyncio.Task[None]]] = field(default_factory=list)
    """Clients that are at it."""

    async def in_peace(self) -> None:
        """Let one session live, and take its times. Raises ServerFailedError where it does not."""
        life, talk = self._begin(None)
        await talk.stopping.wait()
        times = [time.monotonic()]
        for event in (talk.stopped, talk.over):
            await event.wait()
            times.append(time.monotonic())
        await self.settle(deliveries=False)
        if life.state != "done":
            raise ServerFailedError(
                f"A session in peace failed: {life.heard.failure}\n{self.server.output()}"
            )
        self.drain_seconds, self.pass_seconds = times[1] - times[0], times[2] - times[1]

    async def one(self, instant: Instant) -> Life:
        """Play a session and kill somebody at the instant."""
        if instant.phase == "full pass":
            await self.settle(deliveries=False)
        life, talk = self._begin(instant)
        task = self.talking[-1][1]
        longest = await self._phase(instant.phase, talk)
        life.after = instant.share * longest
        await asyncio.sleep(life.after)
        life.killed = await self._kill(instant.victim, talk)
        if not instant.comes_back:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if instant.victim == "server":
            await asyncio.to_thread(self.server.start)
        if instant.comes_back:
            await _within(TIMEOUT, talk.stopped)
        return life

    def _begin(self, instant: Instant | None) -> tuple[Life, Talk]:
        talk = Talk()
        life = Life(len(self.runs.lives), instant, talk.heard)
        self.runs.lives.append(life)
        speaking = talk.speak(
            f"http://127.0.0.1:{self.server.port}",
            self.clip,
            fast=True,
            interval=INTERVAL,
            final_pass=True,
            number=life.number,
        )
        self.talking.append((life, asyncio.create_task(speaking)))
        return life, talk

    async def _phase(self, phase: str, talk: Talk) -> float:
        """Wait until a phase begins; return how many seconds it may last."""
        if phase == "speech":
            await _within(TIMEOUT, talk.opened)
            return INTERVAL * len(self.clip.audio) / RATE_HZ / 0.1
        if phase == "drain":
            await _within(TIMEOUT, talk.stopping)
            return self.drain_seconds
        if phase == "full pass":
            await _within(TIMEOUT, talk.stopped)
            return self.pass_seconds
        await _within(TIMEOUT, talk.stopped)
        self.receiver.arrived.clear()
        await _within(TIMEOUT, self.receiver.arrived)
        return DELIVERY

    async def _kill(self, victim: str, talk: Talk) -> str:
        """Kill the server, or one of its processes once there is one; say who died."""
        if victim == "server":
            self.runs.left_behind += await asyncio.to_thread(self.server.kill)
            return victim
        while not talk.over.is_set():
            process = self.server.child(victim)
            if process is not None:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
                return victim
            await asyncio.sleep(0.02)
        return "nobody: it was over"

    async def settle(self, *, deliveries: bool) -> None:
        """Wait until all sessions are over, and with `deliveries` told of, or patience ends."""
        began = time.monotonic()
        patience = SETTLE_TIMEOUT if deliveries else TIMEOUT
        waiting = [life for life in self.runs.lives if life.heard.session]
        while waiting and time.monotonic() - began < patience:
            for life in tuple(waiting):
                await asyncio.to_thread(ask, self.server.get, life)
                if life.state in OVER and (life.webhook == "delivered" or not deliveries):
                    waiting.remove(life)
            await asyncio.sleep(0.2)
        left = max(1.0, patience - (time.monotonic() - began))
        if self.talking:
            await asyncio.wait([task for _, task in self.talking], timeout=left)
        for life, task in self.talking:
            if not task.done():
                life.heard.failure = life.heard.failure or "its client waits to this day"
                task.cancel()
        await asyncio.gather(*(task for _, task in self.talking), return_exceptions=True)
        self.talking = []
        self.runs.settled_after = time.monotonic() - began


def ask(get: Callable[[str], tuple[int, str]], life: Life) -> None:
    """Take note of what a server says of a session; `get` answers a path with status and body."""
    path = f"/v1/sessions/{life.heard.session}"
    status, body = get(path)
    if status != 200:
        life.state = f"HTTP {status}"
        return
    told = json.loads(body)
    life.state, life.labels = told["state"], told["labels"]
    life.webhook = (told["webhook"] or {}).get("state", "none")
    life.kept_bytes = 2 * round((told["duration"] or 0.0) * RATE_HZ)
    if life.state == "done" and not life.segments:
        record = json.loads(get(f"{path}/transcript.json")[1])
        life.segments = [
            (segment["text"], segment["speaker"], segment["start"], segment["end"])
            for segment in record["segments"]
        ]


async def _within(longest: float, event: asyncio.Event) -> None:
    """Wait for an event, at most so many seconds."""
    try:
        await asyncio.wait_for(event.wait(), longest)
    except TimeoutError:
        return


async def trial(model: str, options: Options, seed: int, count: int) -> KillRuns:
    """Run a server and its processes through all their deaths, and wait for what becomes of it."""
    secret = "whsec_" + base64.b64encode(random.Random(f"{seed} key").randbytes(32)).decode()
    clip, receiver = options.clip(CLIP, SECONDS), Receiver(secret, seed)
    runs = KillRuns(seed, 2 * len(clip.audio))
    async with receiving(receiver) as url:
        settings = {
            "LIVE_ASR_WEBHOOK__URL": url,
            "LIVE_ASR_WEBHOOK__SECRET": secret,
            "LIVE_ASR_WEBHOOK__ALLOW_PRIVATE": "true",
            "LIVE_ASR_SERVER__RESUME_WINDOW": f"{RESUME_WINDOW:g}",
            "LIVE_ASR_SERVER__MAX_SESSIONS": "64",
        }
        server = BenchServer(model, models_dir=options.models_dir, settings=settings)
        run = Trial(server, receiver, clip, runs)
        try:
            await asyncio.to_thread(server.start)
            options.say(f"{model}: two sessions in peace")
            for _ in range(2):  # the times of the second count: by then everything was loaded once
                await run.in_peace()
            for number, instant in enumerate(instants(seed, count), start=1):
                life = await run.one(instant)
                back = "comes back" if instant.comes_back else "is gone"
                what = f"{instant.phase} + {life.after:.2f} s, {life.killed}; its client {back}"
                options.say(f"{model}: kill {number} of {count}: {what}")
            options.say(f"{model}: waiting for what is not done or delivered yet")
            await run.settle(deliveries=True)
        except ServerFailedError as failed:
            runs.failures.append(str(failed))
        finally:
            for _, task in run.talking:
                task.cancel()
            await asyncio.gather(*(task for _, task in run.talking), return_exceptions=True)
            runs.requests = receiver.requests
            await asyncio.to_thread(server.stop)
    return runs


# The table ----------------------------------------------------------------------------------------


def kills(model: str, options: Options, *, count: int, seed: int) -> tuple[Table, dict[str, Any]]:
    """Kill the server and its processes at random instants of short sessions."""
    runs = asyncio.run(trial(model, options, seed, count))
    return table_of(model, runs), asdict(runs)


def table_of(model: str, runs: KillRuns) -> Table:
    """Hold what became of the sessions against the one that lived in peace."""
    opened = [life for life in runs.lives if life.heard.session]
    peace, hit = opened[:1], opened[1:]
    lost = {life.number: life.heard.acked_bytes - life.kept_bytes for life in opened}
    whole = [life for life in hit if life.kept_bytes == runs.whole_bytes]
    returned = [life for life in hit if life.instant is not None and life.instant.comes_back]
    cut_short = [life for life in returned if life.kept_bytes != runs.whole_bytes]
    unequal = [life for life in whole if life.text != peace[0].text]
    others = [life for life in whole if life.segments != peace[0].segments]
    live = [unlike(life.heard.live_text.split(), peace[0].heard.live_text.split()) for life in returned]
    sessions = [life.heard.session for life in opened]
    verdict = judge(sessions, runs.requests, {life.heard.session: life.webhook for life in opened})
    effects = len({*verdict.lost, *verdict.doubled, *verdict.strange})
    deaths = [life for life in hit if life.killed and not life.killed.startswith("nobody")]
    refused = [life for life in returned if life.heard.failure]
    rows = [
        limit("acknowledged bytes lost", sum(max(0, left) for left in lost.values()), 0, digits=0),
        limit("sessions stuck", sum(life.state not in OVER for life in opened), 0, digits=0),
        limit("sessions failed", sum(life.state == "failed" for life in opened), 0, digits=0),
        limit("webhook effects that are not exactly one", effects, 0, digits=0),
        limit("webhooks forged, changed or still open", faults(verdict), 0, digits=0),
        limit("final transcripts unlike the unkilled session's", len(unequal), 0, digits=0),
        limit(
            "final transcripts without the full pass",
            sum(life.labels != "full" for life in (*peace, *whole)),
            0,
            digits=0,
        ),
        limit("sessions cut short though their client came back", len(cut_short), 0, digits=0),
        limit("clients that did not get to the end", len(refused), 0, digits=0),
        limit("processes that outlived their server", len(runs.left_behind), 0, digits=0),
        limit("failures", len(runs.failures), 0, digits=0),
        *_facts(runs, deaths, whole),
        fact("of them with other speakers or times", str(len(others))),
        fact("words shown live unlike the unkilled session's, each", spread(live)),
    ]
    notes = [f"seed {runs.seed}", *(f"**failed**: {why}" for why in runs.failures)]
    notes += [f"**outlived its server**: {line}" for line in runs.left_behind]
    wrong = {name: value for name, value in asdict(verdict).items() if value}
    notes += [f"**webhooks {name}**: {value}" for name, value in wrong.items()]
    told = {id(life): life for life in (*unequal, *cut_short, *refused)}
    told |= {id(life): life for life in opened if life.state != "done"}
    told |= {id(life): life for life in whole if life.labels != "full"}
    told |= {id(life): life for life in opened if lost[life.number] > 0}
    notes += [_story(life) for life in told.values()]
    return Table(f"{model}: {len(deaths)} kills", rows, notes)


def faults(verdict: Any) -> int:
    """Count what must not be of deliveries, whatever their session."""
    return verdict.forged + len(verdict.changed) + len(verdict.open)


def _facts(runs: KillRuns, deaths: Sequence[Life], whole: Sequence[Life]) -> list[Row]:
    phases = Counter(life.instant.phase for life in deaths if life.instant is not None)
    victims = Counter(life.killed.rpartition(".")[2] for life in deaths)
    each = {f"in {name}": str(count) for name, count in phases.items()}
    each |= {f"of {name}": str(count) for name, count in victims.items()}
    return [
        fact("kills", str(len(deaths)), each),
        fact("clients that resumed", str(sum(life.heard.resumed > 0 for life in runs.lives))),
        fact("sessions told of after more than one try", str(_retried(runs.requests))),
        fact("from the last kill until all was done and delivered", f"{runs.settled_after:.0f} s"),
        fact("sessions with all their audio, whose transcripts are compared", str(len(whole))),
    ]


def _retried(requests: Sequence[Request]) -> int:
    return sum(count > 1 for count in Counter(request.webhook_id for request in requests).values())


def spread(values: Sequence[int]) -> str:
    """Say how often there is each value."""
    return ", ".join(f"{count} by {value}" for value, count in sorted(Counter(values).items())) or "none"


def _story(life: Life) -> str:
    """Tell what is needed to look into one session."""
    instant = life.instant
    when = f"killed in {instant.phase} + {life.after:.3f} s ({life.killed})" if instant else "in peace"
    client = "came back" if instant is None or instant.comes_back else "was gone"
    return (
        f"session {life.number}, {when}, its client {client}: {life.state}, labels {life.labels}, "
        f"{life.heard.acked_bytes} bytes acknowledged, {life.kept_bytes} kept, "
        f"{life.heard.failure or 'no error'}; {life.text!r}"
    )
