"""Sessions in real time, played from processes of their own, and how late their words were committed."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import time
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from live_asr.client import LiveSession, connect
from live_asr.core.errors import LiveAsrError
from live_asr.core.messages import Commit

FRAME_SECONDS = 0.1
FRAME_BYTES = 3200
"""100 ms of s16le at 16 kHz."""
SPREAD_SECONDS = 3.0
"""Over which sessions begin, that their steps do not line up."""
START_SECONDS = 2.0
"""Until processes are up: nobody begins before."""
A_PROCESS = 12
"""Sessions that one process plays."""
PATIENCE = 120.0
"""Seconds that the end of a session is waited for."""
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Talk:
    """What one client says."""

    url: str
    pcm: bytes
    language: str | None = None


@dataclass(slots=True)
class Played:
    """What one client met; times are seconds."""

    latencies: list[float] = field(default_factory=list)
    """From when the end of a word was sent until it was committed, by the time that the server gives it."""
    lateness: float = 0.0
    failure: str = ""
    cpu_seconds: float = 0.0
    """Its share of its process."""


async def play(talks: Sequence[Talk]) -> list[Played]:
    """Play all at once; no failure of one is an exception."""
    count = max(1, math.ceil(len(talks) / A_PROCESS))
    begin = time.monotonic() + START_SECONDS
    timed = [(talk, begin + SPREAD_SECONDS * place / len(talks)) for place, talk in enumerate(talks)]
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        groups = [timed[number::count] for number in range(count)]
        done = await asyncio.gather(*(loop.run_in_executor(pool, play_some, group) for group in groups))
    return [one for some in done for one in some]


def play_some(timed: Sequence[tuple[Talk, float]]) -> list[Played]:
    """Play some in this process, each from its time on, in seconds of the system's monotonic clock."""

    async def all_of_them() -> list[Played]:
        return list(await asyncio.gather(*(play_one(talk, begin) for talk, begin in timed)))

    played = asyncio.run(all_of_them())
    for one in played:
        one.cpu_seconds = time.process_time() / len(played)
    return played


async def play_one(talk: Talk, begin: float) -> Played:
    """Play one session from its begin to its end."""
    result = Played()
    await asyncio.sleep(max(0.0, begin - time.monotonic()))
    try:
        async with (
            asyncio.timeout(len(talk.pcm) / FRAME_BYTES * FRAME_SECONDS + PATIENCE),
            connect(talk.url, language=talk.language, final_pass=False, reconnect_for=0.0) as session,
        ):
            sent: list[float] = []
            sending = asyncio.create_task(_send(session, talk.pcm, sent, result))
            try:
                async for message in session:
                    if isinstance(message, Commit):
                        now = time.monotonic()
                        result.latencies += [now - _sent_at(word.end, sent) for word in message.words if sent]
                await sending
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    except TimeoutError:
        result.failure = f"It did not end within {PATIENCE:.0f} s after its audio."
    except (LiveAsrError, OSError) as error:
        result.failure = str(error)
    return result


async def _send(session: LiveSession, pcm: bytes, sent: list[float], result: Played) -> None:
    """Send each frame when its last sample would have been recorded."""
    began = time.monotonic()
    for number, first in enumerate(range(0, len(pcm), FRAME_BYTES), start=1):
        due = began + number * FRAME_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        result.lateness = max(result.lateness, time.monotonic() - due)
        sent.append(time.monotonic())
        await session.send(pcm[first : first + FRAME_BYTES])
    await session.stop()


def _sent_at(end: float, sent: Sequence[float]) -> float:
    """Return when the frame was sent in which a word ends."""
    ends = range(1, len(sent) + 1)
    return sent[min(bisect_left(ends, end / FRAME_SECONDS), len(sent) - 1)]


# What a server's processes take -------------------------------------------------------------------------


def cpu_seconds_of(process_id: int) -> float | None:
    """Return the CPU seconds of a process and all that descend from it; None where /proc does not tell."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            # The name, in brackets, may hold anything: what follows the last one is numbers.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        number = int(folder.name)
        parents[number] = int(fields[1])
        ticks[number] = sum(map(int, fields[11:15]))  # its own, and those of children that have ended
    if process_id not in ticks:
        return None
    total = 0
    waiting = [process_id]
    while waiting:
        number = waiting.pop()
        total += ticks[number]
        waiting += [child for child, parent in parents.items() if parent == number]
    return total / os.sysconf("SC_CLK_TCK")
