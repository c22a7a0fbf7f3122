"""Which work next: the earliest deadline first. No I/O, no clock of its own.

Each session has at most one decode outstanding, so nobody waits behind another's backlog; a step that
comes late hears the newest audio by itself. What is urgent says so by a small budget: the last decode of
an utterance that somebody waits for gets less time than a step, and a recorded file more than both.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

T = TypeVar("T")

FINAL_BUDGET = 0.3
"""Seconds: the last decode of an utterance."""
STEP_BUDGET = 0.7
"""Seconds: a step of a live session."""
SPEAKER_BUDGET = 1.2
"""Seconds: telling the speakers of a live session apart."""
FILE_BUDGET = 5.0
"""Seconds: any decode of a session that is not live."""


class DeadlineQueue(Generic[T]):
    """A queue that gives out the item with the earliest deadline; equal ones in the order they came."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, item: T, deadline: float) -> None:
        """Add an item whose answer is wanted by `deadline`, in seconds of any one clock."""
        heapq.heappush(self._heap, (deadline, next(self._order), item))

    def pop(self) -> T:
        """Remove and return the most urgent item. Raises IndexError when there is none."""
        return heapq.heappop(self._heap)[2]
