"""What a session does without while the recogniser is loaded, beside longer steps and those that it skips."""

from __future__ import annotations

from dataclasses import dataclass

from live_asr.core.types import samples

SURE_PROBABILITY = 0.8
"""A word that the recogniser believes in so much
needs no second hypothesis, where there is no time for one."""
SURE_EDGE_SAMPLES = samples(1.5)
"""Provided that it ends so long before the window's edge, where guesses are made."""


@dataclass(frozen=True, slots=True)
class Relief:
    """What is left out, to spare a loaded recogniser."""

    first_words: bool = False
    """The first decode of an utterance comes a step later."""
    look_back: bool = False
    """A step that follows on doubt sees no more than others."""
    agreement: bool = False
    """Words that are sure are committed by one decode; a step that a later one makes up for is skipped."""


NO_RELIEF = Relief()
