"""The command `live-asr bench`: how many sessions this machine holds, by more and more of them in real time.

A server is started for it, and sessions are played from processes of their own, until words come too late.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from live_asr.cli.bench_playing import Played, Talk, cpu_seconds_of, play
from live_asr.cli.bench_plot import Point, plot
from live_asr.client.media import PCM_BYTES_PER_SECOND, MediaFile
from live_asr.config.settings import Settings
from live_asr.core.errors import LiveAsrError, MediaError
from live_asr.replay.own_server import own_server

NEAR_ENOUGH = 1.15
"""The search ends where what was too much is at most so many times what was not."""
MANY = 10_000
"""Places of the server that is measured: whoever comes is let in."""
PLACES, LANES, BUSY = "live_asr_places", "live_asr_lanes", "live_asr_lane_busy_seconds_total"
SHIFT_SECONDS = 7.3
"""By so much each session's speech is moved against the one before, that not all say the same at once."""
LEAST_SECONDS = 4.0
"""Of speech: less is no measurement."""
OK, FAILED, INTERRUPTED = 0, 1, 130


class NoMeasurement(LiveAsrError):
    """Not even one session could be measured."""

    code = "no_measurement"


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure."""

    speech: Path
    """The recording that is played."""
    model: str
    """The recogniser's name, for people."""
    seconds: float = 30.0
    """Of each wave of sessions."""
    target: float = 5.0
    """Seconds within which 95 of 100 words have to be committed."""
    most: int = 256
    """Sessions, at most."""
    language: str | None = None
    plot: Path | None = None
    """Where the plot goes; None: nowhere."""
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Wave:
    """What came of so many sessions at once; times are seconds."""

    sessions: int
    p50: float
    p95: float
    """From the end of a word until it was committed."""
    words: int
    failed: int
    failure: str
    """Of the first that failed."""
    server_cores: float | None
    """Kept busy by the server's processes; None where the system does not tell."""
    lanes_busy: float
    """Share of the recogniser's lanes, 0 to 1."""
    client_cores: float
    """Kept busy by those who played."""
    lateness: float
    """The worst delay of a client behind its own schedule."""

    def holds(self, target: float) -> bool:
        """Tell whether nobody was lost, and words came in time."""
        return not self.failed and self.p95 <= target


def next_count(held: int, broke: int | None, first: int, most: int) -> int | None:
    """Return how many sessions to try next: twice as many, or the middle; None where the limit is known."""
    if broke is None:
        following = held * 2 if held else first
        return min(following, most) if held < most else None
    if broke <= max(1.0, held * NEAR_ENOUGH) or broke - held <= 1:
        return None
    return (held + broke) // 2


def run(options: BenchOptions) -> int:
    """Measure, print what was found, and draw it; return the exit status.

    Raises MediaError for a recording that cannot be read, NoMeasurement where nothing came of it,
    ServerStartError where no server comes up.
    """
    try:
        return asyncio.run(_run(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED


async def _run(options: BenchOptions) -> int:
    speech = await asyncio.to_thread(speech_of, options.speech, options.seconds)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[found]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task("starting", total=None, found="")
        waves, predicted = await measured(
            options, speech, lambda what, found: bars.update(task, description=what, found=found)
        )
        bars.update(task, total=1, completed=1, description="done")
    print(report(options, waves, predicted))
    if options.plot is not None:
        points = [Point(wave.sessions, wave.p50, wave.p95, wave.server_cores) for wave in waves]
        text = plot(points, target=options.target, held=held_of(waves, options.target), predicted=predicted)
        options.plot.write_text(text, "utf-8")
        print(f"Plot: {options.plot}", file=sys.stderr)
    return OK


def speech_of(path: Path, seconds: float) -> bytes:
    """Return a recording as PCM, s16le, 16 kHz, mono. Raises MediaError where there is too little of it.

    No more is read than three times what one session plays.
    """
    wanted = int(3 * seconds) * PCM_BYTES_PER_SECOND
    chunks = MediaFile.probe(path).pcm_chunks(PCM_BYTES_PER_SECOND)
    pcm = b"".join(itertools.islice(chunks, wanted // PCM_BYTES_PER_SECOND + 1))
    if len(pcm) < LEAST_SECONDS * PCM_BYTES_PER_SECOND:
        raise MediaError(f"{path} has less than {LEAST_SECONDS:.0f} s of sound: give one with more speech.")
    return pcm


async def measured(
    options: BenchOptions, speech: bytes, say: Callable[[str, str], None]
) -> tuple[list[Wave], int]:
    """Return what came of each wave, by their sessions, and how many sessions were predicted.

    `say` is called with what is done and what was found. Raises NoMeasurement, ServerStartError.
    """
    say("what the server itself predicts", "")
    async with own_server(_serving(options.settings, "load"), lambda _: None) as url:
        predicted = round((await metrics_of(url))[PLACES])
    waves: dict[int, Wave] = {}
    found = ""
    ids: list[int] = []
    say("starting a server to be measured", found)
    async with own_server(_serving(options.settings, "count"), lambda _: None, started=ids.append) as url:
        while count := _following(waves, options):
            say(f"{count} session{'s' if count > 1 else ''} for {options.seconds:.0f} s", found)
            wave = await wave_of(options, speech, url, count, ids[0])
            waves[count] = wave
            found = f"{count}: p95 {wave.p95:.2f} s"
    result = [waves[count] for count in sorted(waves)]
    if not any(wave.words for wave in result):
        raise NoMeasurement(
            f"No word was heard in {options.speech}. {result[0].failure}".strip(),
            "Give a recording in which somebody speaks, and its language with --language.",
        )
    return result, predicted


def _following(waves: dict[int, Wave], options: BenchOptions) -> int | None:
    broke = min((count for count, wave in waves.items() if not wave.holds(options.target)), default=None)
    return next_count(held_of(list(waves.values()), options.target), broke, 1, options.most)


def held_of(waves: Sequence[Wave], target: float) -> int:
    """Return the largest number of sessions that held; 0 where none did."""
    return max((wave.sessions for wave in waves if wave.holds(target)), default=0)


def _serving(settings: Settings, admission: str) -> Settings:
    """Return the settings of a server to be measured: it is asked by this machine alone, for no token."""
    changed = {
        "admission": admission,
        "max_sessions": MANY if admission == "count" else None,
        "max_sessions_per_client": MANY,
        "max_connections_per_address": MANY,
        "token": None,
        "tls_cert": None,
        "tls_key": None,
        "wyoming_port": None,
        "log_level": "warning",
    }
    return settings.model_copy(update={"server": settings.server.model_copy(update=changed)})


async def wave_of(options: BenchOptions, speech: bytes, url: str, count: int, server_id: int) -> Wave:
    """Play so many sessions at once, and measure them."""
    size = int(options.seconds * PCM_BYTES_PER_SECOND)
    shift = int(SHIFT_SECONDS * PCM_BYTES_PER_SECOND)
    talks = [Talk(url, _from(speech, place * shift, size), options.language) for place in range(count)]
    before, cpu_before = await metrics_of(url), cpu_seconds_of(server_id)
    loop = asyncio.get_running_loop()
    began = loop.time()
    played = await play(talks)
    took = loop.time() - began
    after, cpu_after = await metrics_of(url), cpu_seconds_of(server_id)
    busy = (after.get(BUSY, 0.0) - before.get(BUSY, 0.0)) / (took * max(1.0, after.get(LANES, 1.0)))
    cores = None if cpu_before is None or cpu_after is None else (cpu_after - cpu_before) / took
    return _measured(played, cores, busy, took)


def _measured(played: Sequence[Played], cores: float | None, busy: float, took: float) -> Wave:
    latencies = sorted(latency for one in played for latency in one.latencies)
    failures = [one.failure for one in played if one.failure]
    return Wave(
        sessions=len(played),
        p50=percentile(latencies, 0.5),
        p95=percentile(latencies, 0.95),
        words=len(latencies),
        failed=len(failures),
        failure=failures[0] if failures else "",
        server_cores=cores,
        lanes_busy=busy,
        client_cores=sum(one.cpu_seconds for one in played) / took,
        lateness=max(one.lateness for one in played),
    )


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return the value below which a share lies; nan of nothing."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else float("nan")


def _from(speech: bytes, start: int, size: int) -> bytes:
    """Return so many bytes of speech that begins again where it ends."""
    start %= len(speech)
    turned = speech[start:] + speech[:start]
    return (turned * (size // len(turned) + 1))[:size]


async def metrics_of(url: str) -> dict[str, float]:
    """Return those of a server's metrics that have no labels."""
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as http:
        body = (await http.get(f"{url}/metrics")).text
    plain = (line.split() for line in body.splitlines() if line[:1] not in ("", "#") and "{" not in line)
    return {name: float(value) for name, value in plain}


# What is told --------------------------------------------------------------------------------------------


def report(options: BenchOptions, waves: Sequence[Wave], predicted: int) -> str:
    """Return a table of all waves, and the sentence that it comes to."""
    held, broke = held_of(waves, options.target), [w for w in waves if not w.holds(options.target)]
    lines = ["sessions  commit p50     p95   server's cores  lanes busy  failed"]
    for wave in waves:
        cores = "–" if wave.server_cores is None else f"{wave.server_cores:.2f}"
        lines.append(
            f"{wave.sessions:8d}  {wave.p50:8.2f} s {wave.p95:7.2f} s {cores:>15}  {wave.lanes_busy:10.0%}"
            f"  {wave.failed:6d}"
        )
    lines.append("")
    within = f"p95 ≤ {options.target:g} s"
    if not held:
        lines.append(f"This machine does not hold one session of {options.model} at {within}.")
    else:
        more = "" if broke else " or more"
        plural = "" if held == 1 else "s"
        lines.append(f"This machine holds {held} session{plural}{more} of {options.model} at {within}.")
    lines.append(f"The server itself, with server.admission = load, takes {predicted} to begin with.")
    if failures := {wave.failure for wave in waves if wave.failure}:
        lines += [f"Failed: {failure}" for failure in sorted(failures)]
    late = max(wave.lateness for wave in waves)
    clients = max(wave.client_cores for wave in waves)
    lines.append(f"The clients played on the same machine: they took up to {clients:.2f} cores.")
    if late > 0.25:
        lines.append(f"They were up to {late:.1f} s late themselves: from another machine it may hold more.")
    return "\n".join(lines)
