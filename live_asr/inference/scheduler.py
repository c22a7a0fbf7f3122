"""Which work a lane takes next, of all that waits: the most urgent, with more of its kind beside it.

On the server's side; no I/O, no clock of its own. A lane works off one batch at a time: a thread on a CPU,
a stream on a GPU. Lanes pull, so that what waits can still be withdrawn or take newer audio along.

Each session has one decode outstanding, so nobody waits behind another's backlog. A recorded file gives way
to whoever speaks: while somebody waits, at most one batch of files goes first, and only when it is overdue.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from live_asr.core.types import SAMPLE_RATE_HZ, DecodeRequest

T = TypeVar("T")

FINAL_BUDGET = 0.3
"""Seconds: the last decode of an utterance."""
STEP_BUDGET = 0.7
"""Seconds: a step of a live session."""
SPEAKER_BUDGET = 1.2
"""Seconds: telling the speakers of a live session apart."""
FILE_BUDGET = 5.0
"""Seconds: any decode of a session that is not live."""
BATCH_SECONDS = 0.11
"""What a batch may be predicted to take: longer ones would delay who comes then."""
SLOWER = 1.5
"""Times what one window alone takes, that a batch may take on a device on which that is longer."""
MAX_CREDIT = 0.4
"""Seconds by which a session that is behind may be more urgent than others; no more, so that one with an hour
to catch up on, which is always behind, does not shut out the rest."""
MANY_KINDS = 64
"""More kinds than are waited for at once, most likely: those of which nothing waits are forgotten."""
WINDOW_BUCKETS = (10, 13, 17, 30)
"""Seconds: windows of one bucket are padded to the longest."""
PREFIX_BAND = 24
"""Tokens: prefixes of one band take about as long."""


def budget_of(*, final: bool, live: bool, lag: float = 0.0) -> float:
    """Return within how many seconds a decode is wanted, of a session that is `lag` seconds behind."""
    if not live:
        return FILE_BUDGET
    return (FINAL_BUDGET if final else STEP_BUDGET) - min(max(0.0, lag - STEP_BUDGET), MAX_CREDIT)


@dataclass(frozen=True, slots=True)
class Kind:
    """What windows share that can be decoded at once."""

    window: int
    """Seconds of the longest."""
    prefix_band: int
    """How many times `PREFIX_BAND` tokens the longest prefix has."""
    other: Hashable
    """All else."""

    @property
    def size(self) -> tuple[int, int]:
        """What their cost depends on."""
        return self.window, self.prefix_band


def kind_of(request: DecodeRequest) -> Kind | None:
    """Return what windows share that can be decoded at once; None for one that cannot with any."""
    if request.language is None or request.judged_from_sample is not None:
        return None  # it asks for more than words
    wanted = max(
        request.min_window_samples, request.end_sample - request.start_sample + request.padding_samples
    )
    seconds = wanted / SAMPLE_RATE_HZ
    bucket = next((bucket for bucket in WINDOW_BUCKETS if seconds <= bucket), WINDOW_BUCKETS[-1])
    band = -(-len(request.prefix) // PREFIX_BAND)
    other = request.final, request.language, request.task, request.vocabulary, request.timestamps
    return Kind(bucket, band, other)


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    """One piece of work that waits for a lane."""

    item: T
    deadline: float
    is_live: bool
    kind: Hashable
    number: int
    """In the order in which they came."""
    is_waiting: bool = True


_Entry = tuple[float, int, Job[T]]


class Scheduler(Generic[T]):
    """What waits for a lane.

    `predict` tells how many seconds so many of a kind take.
    """

    def __init__(
        self, *, most: int = 1, predict: Callable[[Hashable, int], float] = lambda kind, count: 0.0
    ) -> None:
        self.most = most
        """How many pieces of work a lane does at once; may be changed at any time."""
        self._predict = predict
        self._count = 0
        self._queues: dict[bool, list[_Entry[T]]] = {True: [], False: []}
        """Live work and files, each as a heap, with what was taken or withdrawn since in between."""
        self._kinds: dict[tuple[bool, Hashable], list[_Entry[T]]] = {}
        """The same, by kind."""
        self._waiting = {True: 0, False: 0}
        self._mark = -1
        """The last job that had come when a file went first."""
        self._overtaken = 0
        """How many live jobs wait that had come by then."""

    def __len__(self) -> int:
        return self._waiting[True] + self._waiting[False]

    def add(self, item: T, now: float, budget: float, *, kind: Hashable = None) -> Job[T]:
        """Let an item wait that is wanted within `budget` seconds from `now`, in seconds of any one clock.

        With `FILE_BUDGET` or more it is of a file, and gives way. Those of one `kind` may be done at once.
        """
        live = budget < FILE_BUDGET
        job = Job(item, now + budget, live, kind, self._count)
        self._count += 1
        entry = (job.deadline, job.number, job)
        heapq.heappush(self._queues[live], entry)
        if kind is not None and self.most > 1:
            heapq.heappush(self._kinds.setdefault((live, kind), []), entry)
        self._waiting[live] += 1
        return job

    def withdraw(self, job: Job[T]) -> None:
        """Let an item wait no longer: nobody wants it any more. Idempotent."""
        if job.is_waiting:
            self._remove(job)
        if len(self._kinds) > MANY_KINDS:
            self._kinds = {key: queue for key, queue in self._kinds.items() if self._head(queue) is not None}

    def take(self, now: float) -> list[Job[T]]:
        """Return what a free lane does next, the most urgent first; nothing where nothing waits."""
        live = self._turn(now)
        first = self._head(self._queues[live])
        if first is None:
            return []
        if not live and self._waiting[True]:
            self._mark, self._overtaken = self._count, self._waiting[True]
        batch = [first]
        self._remove(first)
        key = (live, first.kind)
        same = self._kinds.get(key)
        longest = BATCH_SECONDS if same is None else max(BATCH_SECONDS, SLOWER * self._predict(first.kind, 1))
        while same is not None:
            further = self._head(same)
            if further is None:
                del self._kinds[key]
                break
            count = len(batch) + 1
            if count > self.most or self._predict(first.kind, count) > longest:
                break
            batch.append(further)
            self._remove(further)
        return batch

    def _turn(self, now: float) -> bool:
        """Tell whether it is the turn of live work."""
        if not self._waiting[True]:
            return False
        file = self._head(self._queues[False])
        return file is None or self._overtaken > 0 or file.deadline > now

    def _head(self, queue: list[_Entry[T]]) -> Job[T] | None:
        while queue and not queue[0][2].is_waiting:
            heapq.heappop(queue)
        return queue[0][2] if queue else None

    def _remove(self, job: Job[T]) -> None:
        job.is_waiting = False
        self._waiting[job.is_live] -= 1
        if job.is_live and job.number < self._mark:
            self._overtaken -= 1
