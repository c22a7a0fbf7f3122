"""LocalAgreement: hypotheses in, committed words out.

A word is committed once n consecutive hypotheses agree on it and on everything before it (Liu et al.,
2020, "Low-latency sequence-to-sequence speech recognition and translation by partial hypothesis
selection"). Two refinements: words are compared as they sound, and a word that ends close to the edge
of what was heard waits, because two hypotheses often agree on a half-heard word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from live_asr.core.normalize import normalized
from live_asr.core.relief import SURE_PROBABILITY
from live_asr.core.types import Word, samples

STOPS_SHORT_SAMPLES = samples(1.0)


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
        self._earlier: list[tuple[Word, ...]] = []
        self.tail: tuple[Word, ...] = ()
        """The last hypothesis's words beyond the committed ones."""

    def receive(self, words: Sequence[Word], end_sample: int, *, sure_until: int = 0) -> tuple[Word, ...]:
        """Take the next hypothesis of the tail, which heard up to `end_sample`; return what to commit.

        Words that end by `sure_until` are agreed upon by this hypothesis alone, up to one that is not sure.
        """
        agreed = 0
        limit = end_sample - self._guard_samples
        for index, word in enumerate(words):
            wanted = self._depth - 1 if word.probability >= self._doubt else self._depth
            earlier = self._earlier[-wanted:]
            if word.end_sample > limit or len(earlier) < wanted:
                break
            if not all(_same(other, words, index) for other in earlier):
                break
            agreed = index + 1
        for word in words[agreed:]:
            if word.end_sample > sure_until or word.probability < SURE_PROBABILITY:
                break
            agreed += 1
        self._earlier = [other[agreed:] for other in [*self._earlier, tuple(words)]][-self._depth :]
        self.tail = tuple(words[agreed:])
        return tuple(words[:agreed])

    @property
    def hypotheses(self) -> tuple[tuple[Word, ...], ...]:
        """The last hypotheses, oldest first, beyond what was committed of them."""
        return tuple(self._earlier)

    def resume(self, hypotheses: Sequence[tuple[Word, ...]]) -> None:
        """Be where another one was."""
        self._earlier = list(hypotheses)
        self.tail = self._earlier[-1] if self._earlier else ()

    @property
    def in_doubt(self) -> bool:
        """Whether the tail holds a word that the recogniser doubts."""
        return any(word.probability < self._doubt for word in self.tail)

    def conclude(self, words: Sequence[Word]) -> tuple[Word, ...]:
        """Take the last hypothesis of the tail and return it, to be committed as a whole.

        A word that it doubts is taken from an earlier hypothesis that was surer of another one in the same
        place, between the same neighbours: more audio does not always make a better guess. Where it stops
        a second or more short of the hypothesis before, that one's words follow: they were heard.
        """
        heard_until = words[-1].end_sample if words else 0
        missing = [word for word in self.tail if word.start_sample >= heard_until]
        if (
            missing
            and missing[-1].end_sample - max(heard_until, self.tail[0].start_sample) >= STOPS_SHORT_SAMPLES
        ):
            words = [*words, *missing]
        chosen = list(words)
        for index, word in enumerate(words):
            for other in self._earlier:
                if (
                    word.probability < self._doubt
                    and index < len(other)
                    and other[index].probability > chosen[index].probability
                    and _same(other, words, index + 1)
                    and (index == 0 or _same(other, words, index - 1))
                ):
                    chosen[index] = replace(
                        word,
                        text=other[index].text,
                        tokens=other[index].tokens,
                        probability=other[index].probability,
                    )
        self.tail, self._earlier = (), []
        return tuple(chosen)

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


def _same(left: Sequence[Word], right: Sequence[Word], index: int) -> bool:
    """Tell whether both have a word at `index` and it sounds the same."""
    return (
        index < len(left)
        and index < len(right)
        and normalized(left[index].text) == normalized(right[index].text)
    )
