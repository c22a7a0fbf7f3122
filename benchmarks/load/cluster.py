"""The suite `cluster`: a cluster on one machine, whose parts are ended by SIGKILL while four people speak.

`live-asr cluster up` runs two gateways, two workers, Ray and PostgreSQL. Round after round four sessions
speak in real time and have their full pass. The first two rounds are left in peace; in the others somebody
dies at random instants: a gateway, a worker, a process of Ray's head node, a full pass, PostgreSQL. All
chance comes from one seed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import random
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.base.matching import missing_passages, unlike
from benchmarks.base.options import Options, available, seed_of
from benchmarks.base.processes import COMMAND, ServerFailedError, answered, free_port, server_environment
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.base.speech import Clip
from benchmarks.resilience.kills import OVER, Life, ask, faults, spread
from benchmarks.resilience.listening import Talk
from benchmarks.resilience.webhook_receiver import Receiver, Request, receiving
from benchmarks.resilience.webhooks import judge

KILLS = 40
CLIPS = ("talk5_lj", "conv2_public", "libri", "sample")
SESSIONS, GATEWAYS, WORKERS = 4, 2, 2
PEACEFUL = 2
"""Rounds: the second shows by how much words differ that nobody disturbed."""
SECONDS = 60.0
"""Of each session."""
GATEWAY, WORKER, HEAD, PASS, POSTGRES = "gateway", "worker", "Ray's head", "full pass", "PostgreSQL"
VICTIMS = (GATEWAY, WORKER, HEAD, PASS, POSTGRES)
BETWEEN = (4.0, 9.0)
"""Seconds between two kills, of which the second waits until the cluster is whole again, but not for long."""
WHOLE_WAIT = 20.0
PASS_DELAY = 3.0
"""Most seconds from when a full pass is there to its kill."""
READY_TIMEOUT = 180.0
STOP_TIMEOUT = 240.0
TIMEOUT = 300.0
"""Seconds in which the sessions of a round come to their end, deliveries included."""
LOOK_INTERVAL = 0.1
MOST_GAPS = {GATEWAY: 3.0, WORKER: 1.5}
"""Promised seconds from a kill to the next caption, in the median."""
CUT_WITHIN = 3.0
"""A connection that is lost so soon after a gateway's death was that gateway's."""
ANSWERS = ("200", "200", "kept, then reset")
"""Of the receiver of webhooks; more is tried by the suite of that name."""
PASSAGE = 3
"""So many words in a row are missing where audio was not heard; one or two are another hypothesis."""
SHOWN = 4
"""Longest stories of sessions in the notes."""


@dataclass(slots=True)
class Kill:
    """One of them, and what it did to captions."""

    victim: str
    round: int
    process: str
    """What died; empty where there was nobody to kill."""
    at: float = 0.0
    """When, by `time.monotonic`."""
    gaps: list[float] = field(default_factory=list)
    """Seconds to the next caption of each session that it may have struck."""
    whole_after: float | None = None
    """Seconds until all gateways were ready again; None where that was not waited for to its end."""


@dataclass(slots=True)
class ClusterRuns:
    """All rounds, the first ones in peace."""

    seed: int
    whole_bytes: list[int]
    """Of each session's clip."""
    lives: list[Life] = field(default_factory=list)
    """Four of each round, in order."""
    kills: list[Kill] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    peace_gaps: list[float] = field(default_factory=list)
    """Seconds to the next caption from each second of the rounds in peace."""
    failures: list[str] = field(default_factory=list)


def victims(seed: int, count: int) -> list[str]:
    """Draw who dies in which order; each has the same share, whatever the seed."""
    chosen = [VICTIMS[number % len(VICTIMS)] for number in range(count)]
    random.Random(f"{seed} victims").shuffle(chosen)
    return chosen


def gap_after(instant: float, captions: Sequence[float]) -> float | None:
    """Return the seconds from an instant to the next caption; None where there was no other."""
    return next((round(at - instant, 2) for at in captions if at > instant), None)


# The cluster ---------------------------------------------------------------------------------------------


class OwnCluster:
    """`live-asr cluster up` with a data folder of its own, from `with` to the end of its block."""

    def __init__(
        self,
        model: str,
        options: Options,
        settings: Mapping[str, str],
        *,
        gateways: int = GATEWAYS,
        workers: int = WORKERS,
    ) -> None:
        first = free_port()
        self.ports = [first + number for number in range(gateways)]
        """Each gateway takes the next one."""
        self._folder = tempfile.TemporaryDirectory(prefix="live-asr-bench-", ignore_cleanup_errors=True)
        Path(self._folder.name).chmod(0o755)  # PostgreSQL does not run as root
        self._output = Path(self._folder.name) / "output.txt"
        self._command = [
            *(*COMMAND, "cluster", "up", "--gateways", str(gateways), "--workers", str(workers)),
            *("--port", str(self.ports[0]), "--model", model, "--data", f"{self._folder.name}/data"),
        ]
        self._environment = {"LIVE_ASR_SERVER__ADMISSION": "count", **server_environment(), **settings}
        if options.models_dir is not None:
            self._environment["LIVE_ASR_MODELS__DIR"] = str(options.models_dir.resolve())

    def __enter__(self) -> OwnCluster:
        with self._output.open("wb") as output:
            self._up = psutil.Popen(
                self._command, stdout=output, stderr=subprocess.STDOUT, env=self._environment
            )
        began = time.monotonic()
        while not self.is_whole():
            if not self.is_up() or time.monotonic() - began > READY_TIMEOUT:
                said = self.output()
                self.__exit__()
                raise ServerFailedError(f"The cluster did not come up.\n{said}")
            time.sleep(LOOK_INTERVAL)
        return self

    def __exit__(self, *_: object) -> None:
        started = self.processes()
        with contextlib.suppress(psutil.NoSuchProcess):
            self._up.send_signal(signal.SIGTERM)
        with contextlib.suppress(psutil.TimeoutExpired, subprocess.TimeoutExpired):
            self._up.wait(STOP_TIMEOUT)
        for process in started:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._folder.cleanup()

    def is_up(self) -> bool:
        """Whether the command that keeps all of it runs."""
        return self._up.poll() is None

    def is_whole(self) -> bool:
        """Whether all gateways take sessions: their database and somebody who recognises are there."""
        return all(answered(port, "/readyz")[0] == 200 for port in self.ports)

    def get(self, path: str) -> tuple[int, str]:
        """GET a path of the first gateway that answers."""
        for port in self.ports:
            status, body = answered(port, path)
            if status:
                break
        return status, body

    def output(self, lines: int = 30) -> str:
        """Return the last lines that all of it wrote."""
        return "\n".join(self._output.read_text(errors="replace").splitlines()[-lines:])

    def find(self, victim: str) -> list[tuple[str, psutil.Process]]:
        """Return what there is now of a kind that may die, each with what it is."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                what = _kind(process.cmdline())
                if what and what[0] == victim:
                    found.append((what[1], process))
        return found

    def processes(self) -> list[psutil.Process]:
        """Return all that it consists of now."""
        try:
            return [self._up, *self._up.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _kind(line: Sequence[str]) -> tuple[str, str] | None:
    """Tell by its command line which kind of victim a process is, and what exactly."""
    if not line:
        return None
    program = Path(line[0].split()[0]).name if line[0] else ""
    if "serve" in line and "live_asr.cli" in line:
        return GATEWAY, "gateway"
    if line[0].startswith("ray::RecognizerActor"):
        return WORKER, "worker"
    if line[0].startswith("ray::PassActor"):
        return PASS, "full pass"
    if program in ("gcs_server", "raylet"):
        return HEAD, program
    if "live_asr.cluster.node" in line and line[-1].startswith("/"):
        return HEAD, "node process"
    if line[0].startswith("postgres:"):
        return (POSTGRES, "backend") if " [local] " in line[0] else None
    return (POSTGRES, "postmaster") if program == "postgres" else None


# The drill -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Drill:
    """One run of the suite."""

    cluster: OwnCluster
    clips: list[Clip]
    runs: ClusterRuns
    chance: random.Random
    options: Options
    talks: list[Talk] = field(default_factory=list)
    """Of the round at hand."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def round(self, waiting: list[str]) -> None:
        """Let four sessions live, and kill whoever is next in `waiting`, which gets shorter."""
        self._begin()
        began = time.monotonic()
        number = len(self.runs.lives) // SESSIONS - 1
        while any(victim != PASS for victim in waiting):
            await asyncio.sleep(self.chance.uniform(*BETWEEN))
            await self._whole(WHOLE_WAIT)
            if any(talk.stopping.is_set() for talk in self.talks):
                break
            place = next(place for place, victim in enumerate(waiting) if victim != PASS)
            await self._kill(waiting.pop(place), number)
        if PASS in waiting:
            waiting.remove(PASS)
            await self._kill(PASS, number)
        await self._settle()
        for kill in self.runs.kills:
            if kill.round == number and kill.process and kill.victim != PASS:
                kill.gaps = self._gaps(kill.victim, kill.at)
        if number < PEACEFUL:
            instants = [began + second for second in range(5, round(self.clips[0].duration) - 5)]
            self.runs.peace_gaps += [gap for at in instants for gap in self._gaps(WORKER, at)]

    def _begin(self) -> None:
        self.talks, self.tasks = [], []
        for place, clip in enumerate(self.clips):
            talk, port = Talk(), self.cluster.ports[place % GATEWAYS]
            self.talks.append(talk)
            self.runs.lives.append(Life(len(self.runs.lives), None, talk.heard))
            speaking = talk.speak(
                f"http://127.0.0.1:{port}", clip, final_pass=True, number=len(self.runs.lives)
            )
            self.tasks.append(asyncio.create_task(speaking))

    async def _whole(self, longest: float) -> bool:
        """Wait until the cluster is whole, or for so long; tell whether it is."""
        began = time.monotonic()
        while not await asyncio.to_thread(self.cluster.is_whole):
            if not self.cluster.is_up():
                raise ServerFailedError(f"The cluster ended.\n{self.cluster.output()}")
            if time.monotonic() - began > longest:
                return False
            await asyncio.sleep(LOOK_INTERVAL)
        return True

    async def _kill(self, victim: str, number: int) -> None:
        kill = Kill(victim, number, "")
        self.runs.kills.append(kill)
        began = time.monotonic()
        while not (found := await asyncio.to_thread(self.cluster.find, victim)):
            is_too_late = victim == PASS and all(talk.over.is_set() for talk in self.talks)
            if is_too_late or time.monotonic() - began > READY_TIMEOUT:
                self.options.say(f"round {number}: nobody to kill: {victim}")
                return
            await asyncio.sleep(LOOK_INTERVAL)
        if victim == PASS:
            await asyncio.sleep(self.chance.uniform(0, PASS_DELAY))
        # Of several that are one kind of thing, the kind is drawn first: there are many backends.
        what = self.chance.choice(sorted({name for name, _ in found}))
        process = self.chance.choice([process for name, process in found if name == what])
        try:
            process.kill()
        except psutil.NoSuchProcess:
            self.options.say(f"round {number}: {what} had ended")
            return
        kill.process, kill.at = what, time.monotonic()
        self.options.say(f"round {number}: killed {what}")
        if victim != PASS:
            await asyncio.sleep(1.0)  # what is gone is seen to be gone
            if await self._whole(WHOLE_WAIT):
                kill.whole_after = round(time.monotonic() - kill.at, 1)

    def _gaps(self, victim: str, at: float) -> list[float]:
        """Return the seconds from an instant to the next caption of each session that a kill then struck."""
        struck = [
            talk
            for talk in self.talks
            if victim != GATEWAY or any(0 <= lost - at < CUT_WITHIN for lost in talk.lost_at)
        ]
        gaps = [gap_after(at, talk.captioned_at) for talk in struck]
        return [gap for gap in gaps if gap is not None]

    async def _settle(self) -> None:
        """Wait until the sessions of the round are over and told of, or patience ends."""
        began, lives = time.monotonic(), self.runs.lives[-SESSIONS:]
        while time.monotonic() - began < TIMEOUT and self.cluster.is_up():
            for life in lives:
                if life.heard.session:
                    await asyncio.to_thread(ask, self.cluster.get, life)
            ended = all(task.done() for task in self.tasks)
            if ended and all(life.state in OVER and life.webhook == "delivered" for life in lives):
                break
            await asyncio.sleep(0.5)
        for life, task in zip(lives, self.tasks, strict=True):
            if not task.done():
                life.heard.failure = life.heard.failure or "its client waits to this day"
                task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def drill(model: str, options: Options, clips: list[Clip], seed: int, count: int) -> ClusterRuns:
    """Run a cluster through the deaths of its parts, and what becomes of its sessions."""
    secret = "whsec_" + base64.b64encode(random.Random(f"{seed} key").randbytes(32)).decode()
    receiver = Receiver(secret, seed, ANSWERS)
    runs = ClusterRuns(seed, [2 * len(clip.audio) for clip in clips])
    async with receiving(receiver) as url:
        settings = {
            "LIVE_ASR_WEBHOOK__URL": url,
            "LIVE_ASR_WEBHOOK__SECRET": secret,
            "LIVE_ASR_WEBHOOK__ALLOW_PRIVATE": "true",
        }
        cluster = OwnCluster(model, options, settings)
        try:
            await asyncio.to_thread(cluster.__enter__)
            run = Drill(cluster, clips, runs, random.Random(f"{seed} instants"), options)
            try:
                for _ in range(PEACEFUL):
                    options.say(f"{model}: a round in peace")
                    await run.round([])
                waiting = victims(seed, count)
                while waiting:
                    options.say(f"{model}: {len(waiting)} kills to come")
                    await run.round(waiting)
            finally:
                for task in run.tasks:
                    task.cancel()
                await asyncio.gather(*run.tasks, return_exceptions=True)
                await asyncio.to_thread(cluster.__exit__)
        except ServerFailedError as failed:
            runs.failures.append(str(failed))
        runs.requests = receiver.requests
    return runs


# The table -----------------------------------------------------------------------------------------------


def table_of(model: str, runs: ClusterRuns) -> Table:
    """Hold what became of the sessions against those of the first round, which lived in peace."""
    later = [(life, runs.lives[life.number % SESSIONS]) for life in runs.lives[SESSIONS:]]
    control, pairs = later[: SESSIONS * (PEACEFUL - 1)], later[SESSIONS * (PEACEFUL - 1) :]
    opened = [life for life in runs.lives if life.heard.session]
    lost = {life.number: max(0, life.heard.acked_bytes - life.kept_bytes) for life in opened}
    short = [life for life in runs.lives if life.kept_bytes != runs.whole_bytes[life.number % SESSIONS]]
    unequal = [(life, other) for life, other in pairs if life.heard.live_text != other.heard.live_text]
    passages = {
        life.number: missing_passages(life.heard.live_text, other.heard.live_text, PASSAGE)
        for life, other in pairs
    }
    verdict = judge(
        [life.heard.session for life in opened],
        runs.requests,
        {life.heard.session: life.webhook for life in opened},
    )
    effects = len({*verdict.lost, *verdict.doubled, *verdict.strange})
    dead = [kill for kill in runs.kills if kill.process]
    rows = [
        limit("acknowledged bytes lost", sum(lost.values()), 0, digits=0),
        limit("sessions stuck", sum(life.state not in OVER for life in runs.lives), 0, digits=0),
        limit("sessions failed", sum(life.state == "failed" for life in runs.lives), 0, digits=0),
        limit("clients that did not get to the end", _failed(runs.lives), 0, digits=0),
        limit("sessions that lack audio", len(short), 0, digits=0),
        limit("webhook effects that are not exactly one", effects, 0, digits=0),
        limit("webhooks forged, changed or still open", faults(verdict), 0, digits=0),
        limit("sessions that lack a passage", sum(map(bool, passages.values())), 0, digits=0),
        limit("sessions with other committed words", len(unequal), 0, digits=0),
        fact("words committed unlike the undisturbed session's, each", _unlike(pairs)),
        fact("the same of the second round in peace", _unlike(control)),
        *(_gap_row(runs, victim, most) for victim, most in MOST_GAPS.items()),
        *(fact(f"next caption after a kill of {who}", _times(_gaps(runs, who))) for who in (HEAD, POSTGRES)),
        fact("next caption from any instant in peace", _times(runs.peace_gaps)),
        *_whole_rows(runs),
        limit("failures", len(runs.failures), 0, digits=0),
        fact("kills", str(len(dead)), {kind: str(n) for kind, n in Counter(k.process for k in dead).items()}),
        fact("results without the full pass", str(sum(life.labels != "full" for life in runs.lives))),
    ]
    wrong = {name: value for name, value in asdict(verdict).items() if value}
    notes = [f"seed {runs.seed}", *(f"**failed**: {why}" for why in runs.failures)]
    notes += [f"**webhooks {name}**: {value}" for name, value in wrong.items()]
    told = {
        life.number: life
        for life in runs.lives
        if life in short or life.state != "done" or life.heard.failure or passages.get(life.number)
    }
    notes += [_story(life, passages.get(life.number, [])) for life in told.values()]
    return Table(f"{model}: {len(dead)} kills in a cluster on one machine", rows, notes)


def _failed(lives: Sequence[Life]) -> int:
    return sum(life.heard.failure is not None or not life.heard.session for life in lives)


def _unlike(pairs: Sequence[tuple[Life, Life]]) -> str:
    return spread([unlike(a.heard.live_text.split(), b.heard.live_text.split()) for a, b in pairs])


def _gaps(runs: ClusterRuns, victim: str) -> list[float]:
    return [gap for kill in runs.kills if kill.victim == victim for gap in kill.gaps]


def _times(values: Sequence[float]) -> str:
    if not values:
        return "none"
    return f"median {statistics.median(values):.2f} s, longest {max(values):.2f} s, of {len(values)}"


def _gap_row(runs: ClusterRuns, victim: str, most: float) -> Row:
    gaps = _gaps(runs, victim)
    metric = f"next caption after a kill of a {victim}, median"
    if not gaps:
        return fact(metric, "none")
    return limit(metric, statistics.median(gaps), most, "s", each={"longest": f"{max(gaps):.2f} s"})


def _whole_rows(runs: ClusterRuns) -> list[Row]:
    rows = []
    for process in sorted({kill.process for kill in runs.kills if kill.process and kill.victim != PASS}):
        kills = [kill for kill in runs.kills if kill.process == process]
        times = [kill.whole_after for kill in kills if kill.whole_after is not None]
        late = f", {len(kills) - len(times)} later than {WHOLE_WAIT:g} s" if len(times) < len(kills) else ""
        rows.append(fact(f"all gateways ready after a kill of {process}", _times(times) + late))
    return rows


def _story(life: Life, passages: Sequence[str]) -> str:
    """Tell what is needed to look into one session."""
    lacks = "; ".join(passages[:SHOWN]) or "nothing"
    return (
        f"session {life.number}, round {life.number // SESSIONS}: {life.state or 'unknown'}, webhook "
        f"{life.webhook or 'none'}, {life.heard.acked_bytes} bytes acknowledged, {life.kept_bytes} kept, "
        f"{life.heard.resumed} times resumed, {life.heard.failure or 'no error'}; lacks {lacks}"
    )


# The suite -----------------------------------------------------------------------------------------------


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the drill with each model; return its tables and the numbers behind them."""
    seconds, seed = arguments.seconds or SECONDS, seed_of(arguments)
    names = available(options.clips, options)
    if not names:
        raise ValueError("--clips: none of them is here")
    clips = [options.clip(names[place % len(names)], seconds) for place in range(SESSIONS)]
    options.say(f"seed {seed}")
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    for model in options.models:
        runs = asyncio.run(drill(model, options, clips, seed, arguments.kills or KILLS))
        tables.append(table_of(model, runs))
        behind[model] = asdict(runs)
    return tables, behind
