"""Many clients at once, in processes of their own, and what came of all of them together.

One process plays no more sessions than it can play in time; what all of them took of the machine is said.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from benchmarks.base.matching import Errors, errors
from benchmarks.base.measure import percentile
from benchmarks.base.processes import BenchServer, watched
from benchmarks.base.reference import Reference
from benchmarks.base.speech import Clip
from benchmarks.base.streaming import Recorder, SessionLog
from benchmarks.gpu.sessions import commit_latencies

T = TypeVar("T")

SPREAD_SECONDS = 3.0
"""Over which sessions begin, so that their steps do not line up."""
A_PROCESS = 10
"""Sessions that one client process plays."""
START_SECONDS = 1.5
"""Until client processes are up: nobody begins before."""
MAX_TRIES = 6
"""So often somebody comes who is refused."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One client: what it plays, and when it comes."""

    clip: Clip
    after: float = 0.0
    """Seconds from the begin of all."""
    pings: bool = True
    most_tries: int = 1
    """So often it comes where it is refused, each time when it was told to."""
    start: dict[str, Any] = field(default_factory=dict)
    """Further fields of its `start`."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What a client met."""

    log: SessionLog
    """Of its last try."""
    refused_after: tuple[float, ...] = ()
    """Seconds until it was told, each time that it was refused."""
    told: tuple[float, ...] = ()
    """The `retry_after` of each of them."""

    @property
    def was_admitted(self) -> bool:
        return self.log.first("ready") is not None

    @property
    def kept_promises(self) -> int:
        """How often it found a place when it came back as it was told to."""
        return int(bool(self.told) and self.was_admitted)

    @property
    def promises(self) -> int:
        """How often it came back when it was told to."""
        return len(self.told) if self.was_admitted else max(0, len(self.told) - 1)


async def visit(url: str, seat: Seat, language: str | None) -> Visit:
    """Play a session, as often as it takes to be let in."""
    refused_after: list[float] = []
    told: list[float] = []
    while True:
        began = time.perf_counter()
        recorder = Recorder(url, seat.clip, language=language, start=seat.start, pings=seat.pings)
        log = await recorder.run()
        error = log.first("error")
        if error is None or error.message.get("code") != "server_full":
            break
        refused_after.append(error.time - began)
        told.append(float(error.message.get("retry_after") or 0.0))
        if len(told) >= seat.most_tries:
            break
        await asyncio.sleep(told[-1])
    return Visit(log, tuple(refused_after), tuple(told))


@dataclass(frozen=True, slots=True)
class Group:
    """What one client process does."""

    url: str
    seats: tuple[Seat, ...]
    begin: float
    """`perf_counter` seconds, which all processes of a machine share."""
    language: str | None

    def play(self) -> tuple[list[Visit], float]:
        """Play all of it; return what came of it, and the CPU seconds of this process."""
        return asyncio.run(self._all()), time.process_time()

    async def _all(self) -> list[Visit]:
        return list(await asyncio.gather(*map(self._one, self.seats)))

    async def _one(self, seat: Seat) -> Visit:
        await asyncio.sleep(max(0.0, self.begin + seat.after - time.perf_counter()))
        return await visit(self.url, seat, self.language)


def groups_of(url: str, seats: Sequence[Seat], language: str | None) -> list[Group]:
    """Divide clients among processes, each of which has some of all that come early and late."""
    count = max(1, math.ceil(len(seats) / A_PROCESS))
    begin = time.perf_counter() + START_SECONDS
    return [Group(url, tuple(seats[number::count]), begin, language) for number in range(count)]


def in_turn(clips: Sequence[Clip], count: int, *, pings: bool = True) -> list[Seat]:
    """Return so many clients that play the clips in turn, and begin one after another."""
    return [
        Seat(clip, SPREAD_SECONDS * place / count, pings)
        for place, clip in zip(range(count), itertools.cycle(clips), strict=False)
    ]


def play(
    url: str,
    seats: Sequence[Seat],
    language: str | None,
    beside: Callable[[], Awaitable[None]] | None = None,
) -> tuple[list[Visit], float]:
    """Let clients come, and wait until all have gone; return what each met, and their CPU seconds.

    `beside` is awaited in this process meanwhile, and cancelled when they have gone.
    """
    groups = groups_of(url, seats, language)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(groups), mp_context=context) as pool:

        async def all_of_them() -> list[tuple[list[Visit], float]]:
            loop = asyncio.get_running_loop()
            other = asyncio.ensure_future(beside()) if beside is not None else None
            try:
                return await asyncio.gather(*(loop.run_in_executor(pool, group.play) for group in groups))
            finally:
                if other is not None:
                    other.cancel()
                    await asyncio.gather(other, return_exceptions=True)

        done = asyncio.run(all_of_them())
    return [found for visits, _ in done for found in visits], sum(seconds for _, seconds in done)


# What came of it --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wave:
    """What came of sessions that were played at once; times are seconds."""

    sessions: int
    p50: float
    p95: float
    """From the end of a word until it was committed."""
    words: int
    """That were committed and could be timed."""
    wer: float | None
    """Of the live texts together, 0 to 1; None where nobody wrote down what is said."""
    single_pass_wer: float | None
    failed: int
    failure: str
    """Of the first one that failed."""
    cpu_share: float
    """CPU seconds of the server's processes a second of audio."""
    client_cores: float
    """That the clients took."""
    others_cores: float
    """That everything else on the machine took."""
    lateness: float
    """The worst delay of a client behind its own schedule."""
    ping_p99: float
    stall: float
    """The longest that the event loop was held since the server's start."""

    def holds(self, most_p95: float) -> bool:
        """Tell whether nobody was lost, and commits came in time."""
        return self.failed == 0 and self.p95 <= most_p95


def play_wave(
    server: BenchServer,
    seats: Sequence[Seat],
    references: dict[str, Reference],
    language: str | None,
    beside: Callable[[], Awaitable[None]] | None = None,
) -> tuple[Wave, list[Visit]]:
    """Play sessions at once and measure them; references are those of their clips, by name."""
    with watched(server, interval=3600.0) as usage:
        visits, client_seconds = play(server.url, seats, language, beside)
    seconds = usage.samples[-1].time - usage.samples[0].time
    audio = sum(seat.clip.duration for seat in seats)
    wave = wave_of(
        [visit.log for visit in visits],
        references,
        cpu_share=usage.cpu_seconds / audio,
        client_cores=client_seconds / seconds,
        others_cores=max(0.0, usage.others_cores - client_seconds / seconds),
        stall=(usage.stall_ms or 0.0) / 1000,
    )
    return wave, visits


def wave_of(
    logs: Sequence[SessionLog],
    references: dict[str, Reference],
    *,
    cpu_share: float = 0.0,
    client_cores: float = 0.0,
    others_cores: float = 0.0,
    stall: float = 0.0,
) -> Wave:
    """Measure sessions that were played at once; of clips without a reference words have their own times."""
    latencies = [took for log in logs for took in latencies_of(log, references)]
    failures = [log.failure for log in logs if log.failure]
    heard, passed = Errors(0, 0, 0, 0), Errors(0, 0, 0, 0)
    for log in logs:
        if log.clip.truth and log.clip.name in references:
            heard += errors(text_of(log), log.clip.truth)
            passed += errors(references[log.clip.name].text, log.clip.truth)
    pings = [took for log in logs for took in log.pings]
    return Wave(
        len(logs),
        percentile(latencies, 50),
        percentile(latencies, 95),
        len(latencies),
        heard.rate if heard.words else None,
        passed.rate if passed.words else None,
        len(failures),
        failures[0] if failures else "",
        cpu_share,
        client_cores,
        others_cores,
        max((log.lateness for log in logs), default=0.0),
        percentile(pings, 99),
        stall,
    )


def latencies_of(log: SessionLog, references: dict[str, Reference]) -> list[float]:
    """Return the commit latency of each word of a session that is known to have been said."""
    whole = references.get(log.clip.name)
    if whole is not None:  # of which a session may have played the beginning
        words = tuple(word for word in whole.words if word.end <= log.clip.duration)
        return commit_latencies(log, replace(whole, words=words))
    return [
        arrival.time - log.sent_at(word["end"])
        for arrival in log.of_type("commit")
        for word in arrival.message["words"]
        if log.sent_times
    ]


def text_of(log: SessionLog) -> str:
    """Return all that was committed."""
    return "".join(str(arrival.message.get("text", "")) for arrival in log.of_type("commit"))


def lag_between(logs: Sequence[SessionLog], start: float, end: float) -> float:
    """Return the mean of the lags that were told between two times of a session, in seconds; nan of none."""
    told = [
        float(arrival.message["seconds"])
        for log in logs
        for arrival in log.of_type("lag")
        if start <= arrival.time - log.started <= end
    ]
    return sum(told) / len(told) if told else math.nan
