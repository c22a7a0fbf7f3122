"""What batches of windows take: a table to begin with, and what is learned from those that were done."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

FORGETTING = 0.98
"""What an observation counts for once another one was made."""
DOUBT_FIXED, DOUBT_EACH = 4.0, 0.04
"""How little the first guess is believed once something was seen: the larger, the less. What a window alone
takes is put down to the batch; else a second one would seem too dear to be put in, ever."""


@dataclass(frozen=True, slots=True)
class CostTable:
    """What a model takes on a device, in seconds."""

    encode: tuple[tuple[float, float], ...]
    """Up to so many seconds of window, one window takes so long; ascending."""
    step: float
    """One token of all windows of a batch."""
    step_item: float
    """What each window adds to that."""
    align: float
    """The alignment of a batch."""
    align_item: float
    """What each window adds to that."""

    def encoding(self, window: float, count: int = 1) -> float:
        """Return what encoding so many windows of so many seconds takes: that is what fills a GPU."""
        return count * next((took for longest, took in self.encode if window <= longest), self.encode[-1][1])

    def writing(self, tokens: int, count: int = 1) -> float:
        """Return what writing so many tokens for each takes, and aligning them."""
        return tokens * (self.step + count * self.step_item) + self.align + count * self.align_item

    def batch(self, window: float, tokens: int, count: int = 1) -> float:
        """Return what a batch takes from end to end."""
        return self.encoding(window, count) + self.writing(tokens, count)


H200 = CostTable(
    encode=((10, 2.3e-3), (13, 3.0e-3), (17, 4.0e-3), (30, 7.6e-3)),
    step=0.8e-3,
    step_item=6e-6,
    align=3e-3,
    align_item=0.5e-3,
)
"""large-v3-turbo in float16 on an NVIDIA H200: a guess, until one was measured."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A device that is not there."""

    costs: CostTable = H200
    most_batch: int = 24
    """Windows that a lane decodes at once."""


class LearnedCosts:
    """What a batch of each kind takes, as seconds for the batch and for each of its windows.

    Least squares, made anew with each observation, by which older ones count less.
    """

    def __init__(self, fixed: float, each: float) -> None:
        self._first = (fixed, each)
        self._kinds: dict[Hashable, _Line] = {}

    def predict(self, kind: Hashable, count: int) -> float:
        """Return how many seconds a batch of so many windows of a kind takes."""
        line = self._kinds.get(kind)
        fixed, each = self._first if line is None else (line.fixed, line.each)
        return max(0.0, fixed + each * count)

    def learn(self, kind: Hashable, count: int, seconds: float) -> None:
        """Take note of what a batch took."""
        line = self._kinds.get(kind)
        if line is None:
            line = self._kinds[kind] = _Line(*self._first)
        line.learn(count, seconds)


@dataclass(slots=True)
class _Line:
    """Recursive least squares of seconds over windows."""

    fixed: float
    each: float
    # How unsure both are, and how that goes together.
    p00: float = DOUBT_FIXED
    p01: float = 0.0
    p11: float = DOUBT_EACH

    def learn(self, count: int, seconds: float) -> None:
        a, b = self.p00 + self.p01 * count, self.p01 + self.p11 * count
        scale = FORGETTING + a + b * count
        gain0, gain1 = a / scale, b / scale
        error = seconds - self.fixed - self.each * count
        self.fixed += gain0 * error
        self.each += gain1 * error
        p00, p01, p11 = self.p00 - gain0 * a, self.p01 - gain0 * b, self.p11 - gain1 * b
        # Where only batches of one size come, what they do not tell apart is not forgotten without bound.
        kept = FORGETTING if p00 + p11 < DOUBT_FIXED * FORGETTING else 1.0
        self.p00, self.p01, self.p11 = p00 / kept, p01 / kept, p11 / kept
