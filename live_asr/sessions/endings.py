"""When a place will be free: by the sessions that are known to end, else by how long others lasted."""

from __future__ import annotations

import math
from collections.abc import Sequence

SOONEST = 1.0
LATEST = 120.0
"""Seconds: nobody is sent away for longer, as talks end at any time."""
FIRST_LENGTH = 300.0
"""Seconds that a session is thought to last before any was seen to end."""
MEMORY = 0.95
"""What a session that has ended counts for once another one has."""
SPREAD = 0.8
"""So many mean times from one end to the next are waited beside those of the ends that are awaited, for the
square root of their number: by then they have come in four of five cases."""
MARGIN = 1.0
"""Seconds that a session which is known to end may need longer."""


class Endings:
    """Tell those who are refused when to come back, one after another."""

    def __init__(self) -> None:
        self._seconds = FIRST_LENGTH
        self._count = 1.0
        self._promised: list[float] = []
        """When those who were refused come back."""

    def note(self, seconds: float) -> None:
        """Take note of how long a session had a place that it gives back now."""
        self._seconds = self._seconds * MEMORY + seconds
        self._count = self._count * MEMORY + 1.0

    def retry_after(self, ages: Sequence[float], known: Sequence[float], now: float) -> float:
        """Return in how many seconds somebody who is refused now finds a place, most likely.

        `ages` are for how long sessions have had their places, `known` in how many seconds those of them end
        of which that is known, `now` is the time of any one clock. Who was told before goes first.
        """
        self._promised = [time for time in self._promised if time > now]
        place = len(self._promised)
        # How long sessions last: those that go on have lasted for as long as they have, too.
        mean = (self._seconds + sum(ages)) / self._count
        awaited = place + 1
        seconds = (awaited + SPREAD * math.sqrt(awaited)) * mean / max(1, len(ages))
        ends = sorted(known)
        if place < len(ends):
            seconds = min(seconds, ends[place] + MARGIN)
        seconds = min(max(seconds, SOONEST), LATEST)
        self._promised.append(now + seconds)
        return seconds
