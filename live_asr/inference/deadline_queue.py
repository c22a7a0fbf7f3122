"""The worker's queue: the earliest deadline first. No I/O, no clock of its own."""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

T = TypeVar("T")


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
