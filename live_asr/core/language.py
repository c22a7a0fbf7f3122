"""Which language a session speaks: given, or voted on by the first windows and then locked."""

from __future__ import annotations

from live_asr.core.types import samples

LOCK_BELIEF = 0.7
"""A language is locked at this sum of beliefs: after about 1.5 s of clear speech."""
FULL_WEIGHT_SAMPLES = samples(3.0)
"""A window with so much speech has a full vote; the less it holds, the less its opinion weighs."""


class LanguageVote:
    """Sum up what the windows believe until one language is sure.

    Once known, a session's language stays: a word in another one must not change it.
    """

    def __init__(self, given: str | None = None) -> None:
        self.language = given
        """The session's language; None while it is not sure."""
        self._belief: dict[str, float] = {}

    @property
    def likely(self) -> str | None:
        """The session's language, or the one most believed in; None before the first vote."""
        return self.language or max(self._belief, key=lambda code: self._belief[code], default=None)

    def add(self, language: str, probability: float, speech_samples: int) -> None:
        """Count the vote of one window; does nothing once the language is known."""
        if self.language is not None:
            return
        weight = min(1.0, speech_samples / FULL_WEIGHT_SAMPLES)
        self._belief[language] = self._belief.get(language, 0.0) + probability * weight
        likely = self.likely
        if likely is not None and self._belief[likely] >= LOCK_BELIEF:
            self.language = likely
