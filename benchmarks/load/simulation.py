"""Many sessions on a device that is computed and not there: `python -m benchmarks.load.simulation`.

The scheduler is the server's own; what a batch takes comes from a table of costs. Everybody speaks all the
time. A session asks for a step after `STEP` seconds of new audio, which hears up to when a lane takes it; a
word is committed by the second step that heard it, once that one's edge is far enough.

The encoder fills the device, so that lanes take turns at it; writing and aligning leave room for others.
"""

from __future__ import annotations

import argparse
import heapq
import random
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from benchmarks.base.measure import percentile
from live_asr.inference.costs import H200, CostTable
from live_asr.inference.scheduler import Scheduler, budget_of

STEP = 0.7
"""Seconds of new audio between two steps."""
GUARD = 0.5
"""Seconds before the edge in which nothing is committed."""
DETECTION = 0.1
"""Seconds until sound is known to be speech."""
WORD = 0.35
"""Seconds from one word to the next."""
TOKENS = 16
"""Written in a step, by the window of a batch that has the most to say."""
PREFIX_BANDS = 3
"""So many lengths of prefix there are, each of which makes a batch of its own."""
WINDOWS = ((10.0, 0.35), (13.0, 0.4), (17.0, 0.25))
"""Seconds of window, and how many of the steps have one that long."""
LANES = 2
MAX_BATCH = 24
WARM_UP = 10.0
"""Seconds of which nothing is counted."""


@dataclass(slots=True)
class Speaker:
    """One session, of somebody who never stops."""

    heard: float = 0.0
    """Up to where the last step heard."""
    heard_before: float = 0.0
    committed: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    latencies: list[float] = field(repr=False)
    """From a word's end until it was committed, in seconds."""
    batches: list[int] = field(repr=False)
    """How many windows each had."""
    simulated_seconds: float
    decided_seconds: float
    """CPU seconds that the scheduler took."""
    device_share: float
    """Of the time, in which the encoder was at work."""

    @property
    def p50(self) -> float:
        return percentile(self.latencies, 50)

    @property
    def p95(self) -> float:
        return percentile(self.latencies, 95)

    @property
    def decided_share(self) -> float:
        """Of one core, that decisions took."""
        return self.decided_seconds / self.simulated_seconds


def simulate(
    sessions: int,
    *,
    table: CostTable = H200,
    devices: int = 1,
    lanes: int = LANES,
    most_batch: int = MAX_BATCH,
    seconds: float = 60.0,
    seed: int = 0,
) -> Outcome:
    """Let so many people speak for so long to so many devices, each with `lanes` lanes."""
    dice = random.Random(seed)
    scheduler: Scheduler[int] = Scheduler(
        most=most_batch, predict=lambda kind, count: table.batch(_window_of(kind), TOKENS, count)
    )
    lengths, weights = [window for window, _ in WINDOWS], [share for _, share in WINDOWS]
    speakers = [Speaker() for _ in range(sessions)]
    encoder_free = [0.0] * devices
    # What happens when: a session wants a step, or a lane is free with what it has done.
    agenda: list[tuple[float, int, int, tuple[tuple[int, float], ...]]] = []
    order = 0

    def at(when: float, who: int, done: tuple[tuple[int, float], ...] = ()) -> None:
        nonlocal order
        order += 1
        heapq.heappush(agenda, (when, order, who, done))

    for number in range(sessions):
        at(dice.uniform(0.0, STEP) + DETECTION, number)
    idle = [-1 - lane for lane in range(devices * lanes)]
    latencies: list[float] = []
    batches: list[int] = []
    decided = busy = 0.0
    while agenda and (now := agenda[0][0]) < seconds:
        _, _, who, done = heapq.heappop(agenda)
        if who >= 0:
            kind = dice.choices(lengths, weights)[0], dice.randrange(PREFIX_BANDS)
            budget = budget_of(final=False, live=True, lag=now - speakers[who].heard - STEP)
            began = time.process_time()
            scheduler.add(who, now, budget, kind=kind)
            decided += time.process_time() - began
        else:
            idle.append(who)
            for number, heard in done:
                speaker = speakers[number]
                speaker.heard_before, speaker.heard = speaker.heard, heard
                until = min(speaker.heard_before, heard - GUARD)
                while speaker.committed + WORD <= until:
                    speaker.committed += WORD
                    if now > WARM_UP:
                        latencies.append(now - speaker.committed)
                at(max(now, heard + STEP + DETECTION), number)
        while idle and len(scheduler):
            began = time.process_time()
            batch = scheduler.take(now)
            decided += time.process_time() - began
            lane = idle.pop()
            device = (-1 - lane) // lanes
            encoding = table.encoding(_window_of(batch[0].kind), len(batch))
            encoder_free[device] = max(now, encoder_free[device]) + encoding
            busy += encoding
            batches.append(len(batch))
            end = encoder_free[device] + table.writing(TOKENS, len(batch))
            at(end, lane, tuple((job.item, now - DETECTION) for job in batch))
    return Outcome(latencies, batches, seconds, decided, busy / seconds / devices)


def _window_of(kind: Hashable) -> float:
    assert isinstance(kind, tuple), "kinds here are pairs"
    return float(kind[0])


def most_sessions(p95: float, *, upto: int = 400, every: int = 10, seconds: float = 60.0) -> int:
    """Return how many people one device carries with a 95th percentile of at most so many seconds."""
    carried = 0
    for sessions in range(every, upto + 1, every):
        if simulate(sessions, seconds=seconds).p95 > p95:
            break
        carried = sessions
    return carried


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what comes of so many sessions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=[20, 80, 120, 160, 180, 200])
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--no-batches", action="store_true", help="one window at a time")
    given = parser.parse_args(arguments)
    print("sessions devices   p50     p95    batch  encoder  decisions")
    for sessions in given.sessions:
        outcome = simulate(
            sessions,
            devices=given.devices,
            seconds=given.seconds,
            most_batch=1 if given.no_batches else MAX_BATCH,
        )
        mean = sum(outcome.batches) / max(1, len(outcome.batches))
        print(
            f"{sessions:8d} {given.devices:7d} {outcome.p50:5.2f} s {outcome.p95:5.2f} s {mean:7.1f}"
            f" {outcome.device_share:7.0%} {outcome.decided_share:9.2%}"
        )


if __name__ == "__main__":
    main()
