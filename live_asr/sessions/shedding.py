"""What a live session does without while the recogniser is loaded, what people need most last. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from live_asr.core.relief import Relief
from live_asr.core.types import samples


@dataclass(frozen=True, slots=True)
class Cadence:
    """How steps lengthen when the inference process is loaded."""

    step_samples: int = samples(0.7)
    """Where answers come in time."""
    loaded_step_samples: int = samples(1.0)
    """Where they take longer than `loaded_latency`, waiting included."""
    overloaded_step_samples: int = samples(1.5)
    """Where they take longer than `overloaded_latency`."""
    loaded_latency: float = 0.5
    overloaded_latency: float = 1.0

    def step_for(self, latency: float) -> int:
        """Return the step for answers that take so many seconds, on average."""
        if latency > self.overloaded_latency:
            return max(self.step_samples, self.overloaded_step_samples)
        if latency > self.loaded_latency:
            return max(self.step_samples, self.loaded_step_samples)
        return self.step_samples


WEIGHT = 0.3
"""Of the newest answer in the running means."""


class Shed(IntEnum):
    """How much is left out, in the order in which it is."""

    NOTHING = 0
    SPEAKERS = 1
    """Who speaks is told when there is time for it."""
    FIRST_WORDS = 2
    """The first words of an utterance are shown a step later."""
    LOOK_BACK = 3
    """A step that follows on doubt sees no more than others."""
    CADENCE = 4
    """Steps are longer, and skipped where a session is behind."""
    AGREEMENT = 5
    """Words that are sure are committed by one decode."""


WAITS = {Shed.SPEAKERS: 0.15, Shed.FIRST_WORDS: 0.22, Shed.LOOK_BACK: 0.3, Shed.AGREEMENT: 1.5}
"""Seconds that work waits for a lane on average, above which each step is taken. A slow model alone is no
reason: whoever has the machine alone waits for nobody, and has everything decoded as it should be."""


EXCUSED = 10.0
"""Seconds after a process or a worker died or came back in which answers say nothing of how loaded the
recogniser is: windows waited for somebody to be there, and are caught up with first. Sessions that shed
meanwhile would commit other words."""
MOST_EXCUSED = 120.0
"""Seconds of waiting and work excused at a stretch: workers that come and go all the time are load."""


@dataclass(slots=True)
class Shedding:
    """How late the answers to one session are, and what is left out for that."""

    cadence: Cadence
    latency: float = 0.0
    """Seconds until an answer, on average."""
    waited: float = 0.0
    """Those of them in which other work was done."""
    _excused: float = 0.0

    def note(self, waited: float, took: float, *, since_change: float = math.inf) -> None:
        """Take note of an answer that was waited for, and worked on, for so many seconds.

        `since_change` is how many seconds ago a process or a worker died or came back.
        """
        if since_change < EXCUSED and self._excused < MOST_EXCUSED:
            self._excused += waited + took
            return
        if since_change >= EXCUSED:
            self._excused = 0.0
        self.latency += WEIGHT * (waited + took - self.latency)
        self.waited += WEIGHT * (waited - self.waited)

    @property
    def step_samples(self) -> int:
        """New audio between two decodes."""
        return self.cadence.step_for(self.latency)

    @property
    def is_overloaded(self) -> bool:
        """Whether answers take so long that steps have to be skipped."""
        return samples(self.latency) > 0.9 * self.step_samples

    @property
    def level(self) -> Shed:
        """What is left out now. Longer steps come with slow answers, all else with waiting for others."""
        level = max((shed for shed, most in WAITS.items() if self.waited > most), default=Shed.NOTHING)
        return max(level, Shed.CADENCE) if self.latency > self.cadence.loaded_latency else level

    @property
    def relief(self) -> Relief:
        """What that means for the captions, beside the step."""
        return Relief(
            first_words=self.waited > WAITS[Shed.FIRST_WORDS],
            look_back=self.waited > WAITS[Shed.LOOK_BACK],
            agreement=self.waited > WAITS[Shed.AGREEMENT],
        )

    @property
    def speakers_give_way(self) -> bool:
        """Whether who speaks is told when there is time for it."""
        return self.waited > WAITS[Shed.SPEAKERS]
