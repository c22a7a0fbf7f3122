"""How many sessions a machine carries, by what they were seen to take. No I/O, no clock.

The recogniser's lanes (its threads, or what a GPU does at once) are busy for so many seconds with each second
of audio. That is learned from all work that is done; until then, a typical decode was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

MAX_LOAD = 0.8
"""Of the lanes' time, that sessions may be predicted to take: the rest is for bursts and full passes."""
STEPS_A_SECOND = 1.5
"""Decodes that a second of speech takes where answers come in time: steps, and the ends of utterances."""
TYPICAL_COST = 0.15
"""Seconds of a lane that a second of audio takes with a small model, where nothing was measured."""
LONGER_STEPS = 0.7
"""Of what sessions take where answers come in time, that they take with the steps of a loaded machine (1 for
0.7 s): people are sent away when that does not do any more, not while captions come half a second later."""
MIN_SHARE = 0.5
"""Of what somebody takes who speaks all the time, that a session counts for at least: who is silent may begin
to speak."""
BATCH_GAIN = 4
"""Times as many windows as one by one that a device decodes in full batches; it takes many to fill them."""
BELIEF_SECONDS = 60.0
"""Audio for which the first measurement stands."""
MEMORY_SECONDS = 600.0
"""Audio, of all sessions together, that what is learned reaches back."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a recogniser runs on, as far as load goes."""

    lanes: int = 2
    """Pieces of work that are done at once."""
    step_seconds: float | None = None
    """What a typical decode was measured to take; None where none was."""
    most_batch: int = 1
    """Windows that a lane decodes at once."""
    others: float = 0.0
    """Of the lanes, what the sessions of other servers are predicted to take."""

    @property
    def session_cost(self) -> float:
        """What a second of speech is believed to take, in seconds of a lane."""
        return TYPICAL_COST if self.step_seconds is None else STEPS_A_SECOND * self.step_seconds

    @property
    def least_cost(self) -> float:
        """What a session counts for at least."""
        return MIN_SHARE * self.session_cost / (BATCH_GAIN if self.most_batch > 1 else 1)


class Capacity:
    """Predict what sessions take of the lanes, from what they have taken so far.

    `reserved` tells which share of the lanes' time is left to full passes now.
    """

    def __init__(
        self, machine: Machine | None = None, *, reserved: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._reserved = reserved
        self._machine = machine or Machine()
        self._begin()

    def _begin(self) -> None:
        self._audio_seconds = BELIEF_SECONDS
        self._busy_seconds = BELIEF_SECONDS * self._machine.session_cost

    def use(self, machine: Machine) -> None:
        """Begin again with another machine; with more lanes of the same, or fewer, what was seen stands."""
        is_same = replace(machine, lanes=self._machine.lanes, others=self._machine.others) == self._machine
        self._machine = machine
        if not is_same:
            self._begin()

    def note_audio(self, seconds: float) -> None:
        """Take note of audio that was taken in."""
        self._audio_seconds += seconds
        if self._audio_seconds > MEMORY_SECONDS:
            share = MEMORY_SECONDS / self._audio_seconds
            self._audio_seconds, self._busy_seconds = MEMORY_SECONDS, self._busy_seconds * share

    def note_work(self, seconds: float) -> None:
        """Take note that a lane was busy for so long."""
        self._busy_seconds += seconds

    @property
    def session_cost(self) -> float:
        """What a session is predicted to take, in seconds of a lane a second, on a machine that is loaded."""
        seen = self._busy_seconds / self._audio_seconds
        share = LONGER_STEPS if self._machine.most_batch == 1 else 1.0
        return max(share * seen, self._machine.least_cost)

    @property
    def places(self) -> int:
        """How many sessions this machine carries, beside those of others; one at least, where it is alone."""
        free = MAX_LOAD * (1.0 - self._reserved()) * self._machine.lanes - self._machine.others
        return max(0 if self._machine.others else 1, math.floor(free / self.session_cost + 1e-9))

    def load_of(self, sessions: int) -> float:
        """Return which share of the lanes' time these and the sessions of others are predicted to take."""
        return (self.lanes_of(sessions) + self._machine.others) / max(1, self._machine.lanes)

    def lanes_of(self, sessions: int) -> float:
        """Return how many lanes so many sessions are predicted to keep busy."""
        return sessions * self.session_cost
