"""How many workers a pool is to have. No I/O, no clock of its own."""

from __future__ import annotations

import math

TARGET_LOAD = 0.6
"""Of the lanes' time, that sessions are predicted to take: less than is admitted, as a worker takes its time
to come."""
GROW_AFTER = 3.0
"""Seconds for which more must be wanted before there are more."""


class Sizing:
    """Follow what is wanted of a pool: up soon, down once that was so for `idle_seconds`."""

    def __init__(self, least: int, most: int, idle_seconds: float) -> None:
        self._least = least
        self._most = max(least, most)
        self._idle_seconds = idle_seconds
        self.workers = least
        """How many there are to be."""
        self._differs_since: float | None = None
        self._highest = 0
        """Of what was wanted since it was less than there are."""

    def adopt(self, workers: int) -> None:
        """Go by what another server has decided, who sees the same."""
        self.workers = min(max(workers, self._least), self._most)
        self._differs_since = None

    def follow(self, wanted_lanes: float, lanes_a_worker: float, now: float) -> int:
        """Return how many workers there are to be, at `now`, in seconds of any one clock.

        `wanted_lanes` is what all sessions are predicted to take.
        """
        needed = math.ceil(wanted_lanes / (TARGET_LOAD * max(lanes_a_worker, 1e-9)) - 1e-9)
        wanted = min(max(needed, self._least), self._most)
        if wanted == self.workers:
            self._differs_since = None
        elif self._differs_since is None or (wanted > self.workers) != (self._highest > self.workers):
            self._differs_since, self._highest = now, wanted
        else:
            grows = wanted > self.workers
            self._highest = wanted if grows else max(self._highest, wanted)
            if now - self._differs_since >= (GROW_AFTER if grows else self._idle_seconds):
                self.workers, self._differs_since = self._highest, None
        return self.workers
