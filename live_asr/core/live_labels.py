"""Which speaker each committed word was shown with, and what becomes of that.

A word is labelled at once where its speaker is known, else as soon as that is so. What was shown is
looked at once more when the windows after it have been heard, and changed only where a whole phrase was
somebody else's: a caption that flickers is worse than one wrong word.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, takewhile

from live_asr.core.speaker_tracker import SpeakerTracker
from live_asr.core.types import SpeakerLabel, Word, samples

MATURE_SAMPLES = samples(4.0)
"""So much later a word's speaker is as well known as it will be."""
MIN_CHANGE_SAMPLES = samples(1.5)
"""A shorter stretch is not taken from one speaker and given to another."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """The words between two samples are now known to be by this speaker."""

    start_sample: int
    end_sample: int
    speaker: SpeakerLabel


@dataclass(slots=True)
class _Shown:
    number: int
    start_sample: int
    end_sample: int
    speaker: SpeakerLabel | None


class LiveLabels:
    """Label committed words by what a tracker knows."""

    def __init__(self, tracker: SpeakerTracker) -> None:
        self._tracker = tracker
        self._open: deque[_Shown] = deque()
        """Words that may still change, in order."""
        self._count = 0
        self._settled: SpeakerLabel | None = None
        """Who said the last word before them."""

    def restore(self, words: Iterable[Word]) -> None:
        """Begin with words that were shown before, the last ones of a session that is taken up again."""
        for word in words:
            self._open.append(_Shown(self._count, word.start_sample, word.end_sample, word.speaker))
            self._count += 1

    def label(self, words: Iterable[Word]) -> tuple[Word, ...]:
        """Return newly committed words with their speakers, as far as they are known."""
        labelled = []
        for word in words:
            shown = _Shown(self._count, word.start_sample, word.end_sample, None)
            self._count += 1
            shown.speaker = self._heard(shown, self._last_speaker())
            self._open.append(shown)
            labelled.append(replace(word, speaker=shown.speaker))
        return tuple(labelled)

    def changes(self, *, final: bool = False) -> list[Labelled]:
        """Return what became known since the last call; with `final`, all that ever will."""
        given = [*self._name(), *self._correct(final=final)]
        if final:
            given += self._name_the_rest()
        return list(_joined(given))

    def _name(self) -> Iterator[_Shown]:
        """Name the words whose speaker was not known."""
        last = self._settled
        for shown in self._open:
            if shown.speaker is None:
                shown.speaker = self._heard(shown, last)
                if shown.speaker is not None:
                    yield shown
            last = shown.speaker or last

    def _correct(self, *, final: bool) -> Iterator[_Shown]:
        """Look at the words that are old enough once more, and settle them."""
        mature = list(takewhile(lambda shown: final or self._is_mature(shown), self._open))
        last, found = self._settled, []
        for shown in mature:
            found.append(self._heard(shown, last) or shown.speaker)
            last = found[-1] or last
        position = 0
        for speaker, group in groupby(found):
            words = mature[position : position + len(list(group))]
            position += len(words)
            at_edge = position == len(mature) and not final
            changed = [shown for shown in words if shown.speaker not in (None, speaker)]
            if at_edge and changed:
                break  # how long the stretch is will be seen when it is over
            length = sum(shown.end_sample - shown.start_sample for shown in changed)
            if speaker is not None and length >= MIN_CHANGE_SAMPLES:
                for shown in changed:
                    shown.speaker = speaker
                    yield shown
            for shown in words:
                if shown.speaker is None and not self._is_forgotten(shown):
                    return  # it waits for its name
                self._settled = shown.speaker or self._settled
                self._open.popleft()

    def _name_the_rest(self) -> list[_Shown]:
        """Give words that nobody was heard saying to who spoke before them, or after."""
        first = next((shown.speaker for shown in self._open if shown.speaker is not None), None)
        last = self._settled or first
        given = []
        for shown in self._open:
            if shown.speaker is None and last is not None:
                shown.speaker = last
                given.append(shown)
            last = shown.speaker or last
        return given

    def _heard(self, shown: _Shown, previous: SpeakerLabel | None) -> SpeakerLabel | None:
        if shown.end_sample > self._tracker.known_sample:
            return None
        return self._tracker.label_between(shown.start_sample, shown.end_sample, previous)

    def _last_speaker(self) -> SpeakerLabel | None:
        return next((s.speaker for s in reversed(self._open) if s.speaker is not None), self._settled)

    def _is_mature(self, shown: _Shown) -> bool:
        return self._tracker.known_sample - shown.end_sample >= MATURE_SAMPLES

    def _is_forgotten(self, shown: _Shown) -> bool:
        return self._tracker.known_sample - shown.end_sample >= self._tracker.options.memory_samples


def _joined(given: Iterable[_Shown]) -> Iterator[Labelled]:
    """Join words of one speaker that follow on one another."""
    ordered = sorted({shown.number: shown for shown in given}.items())
    for (_, speaker), group in groupby(
        enumerate(ordered), key=lambda item: (item[1][0] - item[0], item[1][1].speaker)
    ):
        stretch = [shown for _, (_, shown) in group]
        assert speaker is not None
        yield Labelled(stretch[0].start_sample, stretch[-1].end_sample, speaker)
