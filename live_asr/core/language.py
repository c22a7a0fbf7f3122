"""Which language a session speaks: given, or found by what is heard, and heard again in each utterance.

A window's beliefs are the model's: the likeliest languages of what the utterance has said so far, and how
much each is believed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from live_asr.core.types import samples

Beliefs = Sequence[tuple[str, float]]
"""Codes and how much each is believed in, 0 to 1; the likeliest first."""

LOCK_BELIEF = 0.7
"""A language is found at this sum of beliefs, each weighed: after about 1.5 s of clear speech."""
CLEAR_BELIEF = 0.85
"""And not before a window believes in it so much: one of a close relative's leaves more to others."""
FAIR_BELIEF = 0.6
PATIENT_BELIEF = 2.0
"""Or so much, where several did, with this sum and half of it for the second at most."""
FULL_WEIGHT_SAMPLES = samples(3.0)
"""A window with so much speech has a full vote; the less it holds, the less its opinion weighs."""
GUESS_BELIEF = 0.4
"""Where no window believed so much in one, any may be spoken."""
OTHER_BELIEF = 0.5
MAX_BELIEF_IN_OURS = 0.3
"""With more than the one in another language and less than the other in the session's, a window disagrees."""
SURE_OTHER_BELIEF = 0.8
MIN_BELIEF_IN_OURS = 0.1
"""The same for a disagreement that is sure."""
LONG_SAMPLES = samples(3.0)
"""One utterance with so much speech changes the session's language if it is sure."""
FIRST_LOOK_SAMPLES = samples(1.2)
"""An utterance's language is looked at with so much speech: before any of its words is committed."""
LOOK_AGAIN_SAMPLES = samples(5.0)
"""And again after so much more."""
LOOK_BACK_SAMPLES = samples(8.0)
"""By what was heard last: an utterance may change its language, too."""


class LanguageVote:
    """Find a session's language, and find that it has changed.

    It is found once the windows believe in one clearly, and changed by two utterances on end that are surely
    in another one, or by a long one. One that was given stays.
    """

    def __init__(self, given: str | None = None, choice: Sequence[str] = ()) -> None:
        """Begin with what is known: the language, or the ones that there are to choose from."""
        self.given = given or (choice[0] if len(choice) == 1 else None)
        self.choice = tuple(choice)
        self.language = self.given
        """The session's language; None while it is not clear."""
        self.is_doubtful = False
        """Whether this utterance does not seem to be in the session's language, and it is not sure yet."""
        self._sums: dict[str, float] = {}
        self._highest = 0.0
        """The most that any window has believed in one."""
        self._latest: Beliefs = ()
        self._other: str | None = None
        """The other language that the utterance before this one was in."""
        self._looked_at_samples = 0

    @property
    def likely(self) -> str | None:
        """The session's language, or the one that is most believed in now; None before the first vote."""
        return self.language or max(self._sums, key=lambda code: self._sums[code], default=None)

    @property
    def is_blind(self) -> bool:
        """Whether the language is no more than a guess."""
        return self.language is None and 0.0 < self._highest < GUESS_BELIEF

    def find(self, language: str | None) -> None:
        """Take what was found before, where none is given and this is one to choose."""
        if self.language is None and (not self.choice or language in self.choice):
            self.language = language

    def state(self) -> tuple[Any, ...]:
        """Return all that it knows beside what is given, for `resume`."""
        return (
            self.language,
            self.is_doubtful,
            dict(self._sums),
            self._highest,
            self._latest,
            self._other,
            self._looked_at_samples,
        )

    def resume(self, state: Sequence[Any]) -> None:
        """Be where another one was of which the same is given."""
        self.language, self.is_doubtful, sums, self._highest, latest, *others = state
        self._other, self._looked_at_samples = others
        self._sums, self._latest = dict(sums), tuple((code, belief) for code, belief in latest)

    def wants_beliefs(self, speech_samples: int, *, final: bool) -> bool:
        """Tell whether the utterance's language is to be judged now that so much of it was heard."""
        if self.given is not None:
            return False
        if self.language is None or self.is_doubtful:
            return True
        if self._looked_at_samples:
            return speech_samples - self._looked_at_samples >= LOOK_AGAIN_SAMPLES
        return final or speech_samples >= FIRST_LOOK_SAMPLES

    def begin_utterance(self) -> None:
        """Take note that another utterance begins."""
        if self.language is not None and self._looked_at_samples:
            self._other = self._latest[0][0] if self.is_doubtful else None
        self.is_doubtful = False
        self._looked_at_samples = 0

    def add(self, beliefs: Beliefs, speech_samples: int) -> bool:
        """Count what a window of this utterance, with so much speech, believes; does nothing for a given one.

        Returns whether the session's language is another one now.
        """
        if self.given is not None or not beliefs:
            return False
        self._latest, self._looked_at_samples = beliefs, max(1, speech_samples)
        likeliest, belief = beliefs[0]
        self._highest = max(self._highest, belief)
        if self.language is None:
            weight = min(1.0, speech_samples / FULL_WEIGHT_SAMPLES)
            for code, believed in beliefs:
                self._sums[code] = self._sums.get(code, 0.0) + believed * weight
            if self._is_clear(likeliest, belief):
                self.language = likeliest
            return False
        ours = dict(beliefs).get(self.language, 0.0)
        self.is_doubtful = belief >= OTHER_BELIEF and ours < MAX_BELIEF_IN_OURS
        is_sure = belief >= SURE_OTHER_BELIEF and ours < MIN_BELIEF_IN_OURS
        if not is_sure or (speech_samples < LONG_SAMPLES and self._other != likeliest):
            return False
        self.language = likeliest
        self.is_doubtful, self._other = False, None
        return True

    def _is_clear(self, likeliest: str, belief: float) -> bool:
        total = self._sums[likeliest]
        if belief >= CLEAR_BELIEF:
            return total >= LOCK_BELIEF
        second = max((sum_ for code, sum_ in self._sums.items() if code != likeliest), default=0.0)
        return belief >= FAIR_BELIEF and total >= max(PATIENT_BELIEF, 2 * second)
