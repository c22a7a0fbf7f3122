"""LocalAgreement: hypotheses in, committed words out.

A word is committed once n consecutive hypotheses agree on it and on everything before it (Liu et al.,
2020, "Low-latency sequence-to-sequence speech recognition and translation by partial hypothesis
selection"). Two refinements: words are compared as they sound, and a word that ends close to the edge
of what was heard waits, because two hypotheses often agree on a half-heard word.
"""

from __future__ import annotations

from collections.abc import Sequence

from live_asr.core.text import normalized
from live_asr.core.types import Word


class LocalAgreement:
    """Commit the words on which `depth` consecutive hypotheses of the uncommitted tail agree.

    A word that the recogniser itself doubts, with a probability below `doubt`, needs one hypothesis more.
    """

    def __init__(self, *, depth: int = 2, guard_samples: int = 8_000, doubt: float = 0.0) -> None:
        if depth < 2:
            raise ValueError("agreement needs at least two hypotheses")
        self._depth = depth
        self._guard_samples = guard_samples
        self._doubt = doubt
        self._earlier: list[list[str]] = []
        self.tail: tuple[Word, ...] = ()
        """The last hypothesis's words beyond the committed ones."""

    def receive(self, words: Sequence[Word], end_sample: int) -> tuple[Word, ...]:
        """Take the next hypothesis of the tail, which heard up to `end_sample`; return what to commit."""
        sounds = [normalized(word.text) for word in words]
        agreed = 0
        limit = end_sample - self._guard_samples
        for index, word in enumerate(words):
            wanted = self._depth - 1 if word.probability >= self._doubt else self._depth
            earlier = self._earlier[-wanted:]
            if word.end_sample > limit or len(earlier) < wanted:
                break
            if any(index >= len(other) or other[index] != sounds[index] for other in earlier):
                break
            agreed = index + 1
        self._earlier = [other[agreed:] for other in [*self._earlier, sounds]][-self._depth :]
        self.tail = tuple(words[agreed:])
        return tuple(words[:agreed])

    def take(self, before_sample: int | None = None) -> tuple[Word, ...]:
        """Give out the tail, or the part of it that ends by `before_sample`, as committed, and forget it."""
        taken = self.tail
        if before_sample is not None:
            count = 0
            while count < len(self.tail) and self.tail[count].end_sample <= before_sample:
                count += 1
            taken = self.tail[:count]
        self.tail = self.tail[len(taken) :]
        self._earlier = [earlier[len(taken) :] for earlier in self._earlier] if self.tail else []
        return taken
