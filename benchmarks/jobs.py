"""The suite `jobs`: workers that are killed on networks that break, and a job beside a straight script.

`kills` has three workers take jobs from one queue through proxies that cut their lines, while one after the
other is killed. `speed` writes half an hour of video down, and has a script of faster-whisper and pyannote do
the same. `memory` writes down hours.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import random
import subprocess
import sys
import tempfile
import time
import wave
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.aws import BUCKET, Aws, aws
from benchmarks.cutting import Proxy
from benchmarks.inbox import Inbox, inbox
from benchmarks.jobs_speed import long_memory, side_by_side
from benchmarks.options import Options, default_models_dir, parts_of, seed_of
from benchmarks.processes import ServerFailedError, server_environment
from benchmarks.report import Table, fact, limit
from benchmarks.speech import RATE_HZ

PARTS = ("kills", "speed", "memory")
JOBS, RUBBISH, WORKERS, KILLS = 30, 2, 3, 40
CLIP, SECONDS = "sample", 12.0
"""Two people on a telephone; it comes with the models."""
VISIBILITY = 4
"""Seconds after which another worker takes over from one that died."""
BETWEEN = (0.5, 8.0)
"""Seconds from one kill to the next: workers die while they load, while they work and while they tell."""
CUT_BETWEEN = (0.3, 3.0)
SETTLE_TIMEOUT = 1800.0
"""Seconds after the last kill until all is done and told."""
REFUSED = 0.2
"""Share of webhooks that the platform answers with 500."""


@dataclass(slots=True)
class KillRun:
    """What came of it all."""

    seed: int
    jobs: list[int] = field(default_factory=list)
    told: list[tuple[str, Any, str]] = field(default_factory=list)
    """`webhook-id`, `jobId` and `status` of each request that the platform took."""
    kills: int = 0
    cuts: int = 0
    left: tuple[int, int] = (0, 0)
    """Messages in the queue in the end, waiting and hidden."""
    dead: list[str] = field(default_factory=list)
    """Bodies in the queue for what cannot be done."""
    settled_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What does not hold, by job."""

    lost: list[int]
    doubled: list[int]
    failed: list[int]
    strange: list[Any]
    wrongly_dead: int
    missing_dead: int


def judge(run: KillRun, rubbish: Sequence[str]) -> Verdict:
    """Compare the effects with the jobs that there were; a receiver that remembers ids sees each id once."""
    effects = {webhook_id: (job, status) for webhook_id, job, status in run.told}
    counted = Counter(job for job, _ in effects.values())
    failed = {job for job, status in effects.values() if status != "success"}
    return Verdict(
        lost=[job for job in run.jobs if not counted[job]],
        doubled=[job for job in run.jobs if counted[job] > 1],
        failed=[job for job in run.jobs if job in failed],
        strange=[job for job in counted if job not in run.jobs],
        wrongly_dead=len([body for body in run.dead if body not in rubbish]),
        missing_dead=len([body for body in rubbish if run.dead.count(body) != 1]),
    )


class Crew:
    """Workers on one queue, each with a data folder of its own, that are killed and started anew."""

    def __init__(self, count: int, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._workers: list[subprocess.Popen[bytes]] = [self._start(number) for number in range(count)]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        with (self._folder / f"worker-{number}.log").open("ab") as output:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "live_asr.cli",
                    "worker",
                    "--data",
                    str(self._folder / f"data-{number}"),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(self._environment),
            )

    def kill(self, number: int) -> None:
        """Send SIGKILL to one, and start it anew on the same data."""
        self._workers[number].kill()
        self._workers[number].wait()
        self._workers[number] = self._start(number)

    def stop(self) -> None:
        """Tell all to stop."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            try:
                worker.wait(60)
            except subprocess.TimeoutExpired:
                worker.kill()

    def said(self, lines: int = 20) -> str:
        """Return the last lines of each log."""
        logs = sorted(self._folder.glob("worker-*.log"))
        return "\n".join(f"{log.name}:\n" + "\n".join(log.read_text().splitlines()[-lines:]) for log in logs)


def clip_as_wav(options: Options, path: Path) -> bytes:
    """Write the clip as a file and return it."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(options.clip(CLIP, SECONDS).audio.tobytes())
    return path.read_bytes()


async def kill_run(
    model: str, options: Options, seed: int, jobs: int, kills: int
) -> tuple[KillRun, list[str]]:
    """Run workers through all their deaths, and wait until everything is told."""
    run = KillRun(seed)
    secret = "whsec_" + base64.b64encode(random.Random(f"{seed} key").randbytes(32)).decode()
    rubbish = [f"rubbish {number}" for number in range(RUBBISH)]
    with (
        tempfile.TemporaryDirectory(prefix="live-asr-bench-") as name,
        aws(Path(name)) as cloud,
        inbox(secret) as platform,
    ):
        chance = random.Random(f"{seed} answers")
        platform.answer = lambda _: 500 if chance.random() < REFUSED else 200
        folder = Path(name)
        recording = clip_as_wav(options, folder / "clip.wav")
        dlq, queue = cloud.queue("dead"), cloud.queue("jobs")
        to_cloud, to_platform = Proxy("127.0.0.1", _port(cloud.url)), Proxy("127.0.0.1", platform.port)
        await to_cloud.start()
        await to_platform.start()
        environment = _environment(cloud, model, options, secret, to_cloud, to_platform, queue=queue, dlq=dlq)
        crew = Crew(WORKERS, folder, environment)
        try:
            for number in range(jobs):
                # Other bytes each time: nothing is answered from what is kept.
                key = f"calls/{number}.wav"
                await asyncio.to_thread(cloud.put, key, recording + bytes(2 * number))
                message = {"jobId": number, "audioUrl": f"https://s3.amazonaws.com/{BUCKET}/{key}"}
                await asyncio.to_thread(cloud.send, queue, message)
                run.jobs.append(number)
            for body in rubbish:
                await asyncio.to_thread(cloud.send, queue, body)
            cutting = asyncio.create_task(_cut(run, (to_cloud, to_platform), seed))
            await _kill(run, crew, options, seed, kills)
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
            await _settle(run, cloud, platform, queue, crew)
            run.dead = [dead["Body"] for dead in await asyncio.to_thread(cloud.take, dlq, 100)]
        finally:
            await asyncio.to_thread(crew.stop)
            for proxy in (to_cloud, to_platform):
                await proxy.close()
    return run, rubbish


def _environment(
    cloud: Aws,
    model: str,
    options: Options,
    secret: str,
    to_cloud: Proxy,
    to_platform: Proxy,
    *,
    queue: str,
    dlq: str,
) -> dict[str, str]:
    """Return what the workers are told: the cloud and the platform, each through its proxy."""
    through = (str(_port(cloud.url)), str(to_cloud.port))
    return {
        **server_environment(),
        **cloud.environment,
        "AWS_ENDPOINT_URL": to_cloud.url,
        "AWS_SQS_ASR_QUEUE_URL": queue.replace(*through),
        "LIVE_ASR_JOBS__DLQ_URL": dlq.replace(*through),
        "NODE_API_URL": to_platform.url,
        "WEBHOOK_SECRET": secret,
        "WHISPER_MODEL": model,
        "WHISPER_DEVICE": "cpu",
        "DIARIZATION_ENABLED": "false",
        "POLL_INTERVAL": "1",
        "LIVE_ASR_JOBS__VISIBILITY": str(VISIBILITY),
        "LIVE_ASR_JOBS__MAX_RECEIVES": "1000",
        "LIVE_ASR_MODELS__DIR": str((options.models_dir or default_models_dir()).resolve()),
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]),
    }


async def _kill(run: KillRun, crew: Crew, options: Options, seed: int, kills: int) -> None:
    chance = random.Random(f"{seed} kills")
    for number in range(1, kills + 1):
        await asyncio.sleep(chance.uniform(*BETWEEN))
        await asyncio.to_thread(crew.kill, chance.randrange(WORKERS))
        run.kills += 1
        options.say(f"kill {number} of {kills}")


async def _cut(run: KillRun, proxies: Sequence[Proxy], seed: int) -> None:
    chance = random.Random(f"{seed} cuts")
    while True:
        await asyncio.sleep(chance.uniform(*CUT_BETWEEN))
        proxy = chance.choice(proxies)
        proxy.accepts = chance.random() > 0.2
        await proxy.cut(chance.choice(("reset", "close", "half-open")))
        run.cuts += 1
        await asyncio.sleep(chance.uniform(0, 0.5))
        proxy.accepts = True


async def _settle(run: KillRun, cloud: Aws, platform: Inbox, queue: str, crew: Crew) -> None:
    began = time.monotonic()
    while time.monotonic() - began < SETTLE_TIMEOUT:
        run.left = await asyncio.to_thread(cloud.counts, queue)
        run.told = [(told.id, told.body.get("jobId"), told.body["status"]) for told in platform.told]
        if run.left == (0, 0) and {job for _, job, _ in run.told} >= set(run.jobs):
            break
        await asyncio.sleep(0.5)
    else:
        raise ServerFailedError(f"It did not settle: {run.left} left.\n{crew.said()}")
    run.settled_after = time.monotonic() - began


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def kill_table(run: KillRun, rubbish: Sequence[str]) -> Table:
    """Hold what came of the kills against what is promised."""
    found = judge(run, rubbish)
    return Table(
        f"{len(run.jobs)} jobs, {WORKERS} workers, {run.kills} kills, {run.cuts} cuts, seed {run.seed}",
        [
            limit("jobs without an effect", len(found.lost), 0, digits=0),
            limit("jobs with several", len(found.doubled), 0, digits=0),
            limit("jobs told as failed", len(found.failed), 0, digits=0),
            limit("effects that nobody asked for", len(found.strange), 0, digits=0),
            limit("messages left in the queue", sum(run.left), 0, digits=0),
            limit("jobs put aside as rubbish", found.wrongly_dead, 0, digits=0),
            limit("rubbish that is not put aside once", found.missing_dead, 0, digits=0),
            fact("requests to the platform", str(len(run.told))),
            fact("all told after the last kill", f"{run.settled_after:.0f} s"),
        ],
    )


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the parts that were asked for; return their tables and the numbers behind them."""
    parts = parts_of(arguments, PARTS)
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    model = options.models[0]
    if "kills" in parts:
        seed = seed_of(arguments)
        found, rubbish = asyncio.run(
            kill_run("tiny.en", options, seed, arguments.jobs, arguments.kills or KILLS)
        )
        tables.append(kill_table(found, rubbish))
        behind["kills"] = asdict(found)
    if "speed" in parts:
        table, behind["speed"] = side_by_side(model, options, arguments.job_minutes)
        tables.append(table)
    if "memory" in parts:
        table, behind["memory"] = long_memory(model, options, arguments.job_hours)
        tables.append(table)
    return tables, behind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument("--jobs", type=int, default=JOBS, help="jobs: of the part kills")
    parser.add_argument(
        "--job-minutes", type=float, default=28.0, help="jobs: of the video of the part speed"
    )
    parser.add_argument("--job-hours", type=float, default=4.0, help="jobs: of the part memory")
