"""How much one session may be, and how fast it may come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from live_asr.core.errors import TooLong
from live_asr.core.types import SAMPLE_RATE_HZ

BURST = 120.0
"""Seconds of live audio that may be ahead of the clock: what a client held while its line was away."""
CATCHING_UP = 2.0
"""Times as fast as it is spoken: so fast live audio may come in the long run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is taken of a session; None: any amount."""

    seconds: float | None = None
    """Of audio."""
    bytes: int | None = None
    """As they come."""

    def is_too_much(self, received_bytes: int) -> bool:
        """Tell whether that is more bytes than are taken."""
        return self.bytes is not None and received_bytes > self.bytes

    def room(self, heard_samples: int) -> int | None:
        """Return how many more samples are taken; None for any number. Raises TooLong for none."""
        if self.seconds is None:
            return None
        room = int(self.seconds * SAMPLE_RATE_HZ) - heard_samples
        if room <= 0:
            raise too_long(f"A session may have {self.seconds:.0f} seconds of audio, and this one has.")
        return room


NO_LIMITS = Limits()


def too_long(why: str) -> TooLong:
    """Return the reason for the end of a session that has become as long as it may."""
    return TooLong(why, "What was heard is kept. Open another session to go on.")


class RealTime:
    """How much live audio may have come by now: what somebody has spoken, and what waited for the line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at: float | None = None
        self._began_with = 0.0

    def wait_for(self, seconds: float) -> float:
        """Return how long to wait until so many seconds of audio may be acknowledged; 0 where they may be."""
        return (seconds - self.allowed(seconds)) / CATCHING_UP

    def allowed(self, seconds: float) -> float:
        """Return how many of so many seconds of audio may be acknowledged by now.

        The first call, of this or of `wait_for`, begins the time; what there was by then does not count.
        """
        now = self._clock()
        if self._began_at is None:
            self._began_at, self._began_with = now, seconds
        return min(seconds, self._began_with + BURST + CATCHING_UP * (now - self._began_at))
