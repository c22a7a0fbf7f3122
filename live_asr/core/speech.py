"""Where somebody speaks: what the speech detector heard, to hold words against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from live_asr.core.segmenter import CHUNK_SAMPLES
from live_asr.core.types import Word, samples

HEARD_PROBABILITY = 0.35
"""A chunk at or above it counts as speech: what keeps an utterance going (`SegmenterOptions`)."""
JOINED_SAMPLES = samples(0.2)
"""Stretches of speech that are closer together are one: plosives, and chunks that the detector doubts."""
PAUSE_SAMPLES = samples(0.3)
"""So much without speech within a word is none of the word's."""
LEEWAY_SAMPLES = samples(0.03)
"""The detector hears soft onsets a chunk late."""


class SpeechTrack:
    """The detector's judgements of one recording, chunk by chunk; what lies outside of them is no speech."""

    def __init__(self, start_sample: int = 0) -> None:
        """Begin with the chunk of 32 ms that starts at `start_sample`."""
        self._start_sample = start_sample
        self._heard = bytearray()

    @property
    def end_sample(self) -> int:
        """One past the last chunk."""
        return self._start_sample + len(self._heard) * CHUNK_SAMPLES

    def extend(self, probabilities: Iterable[float]) -> None:
        """Take the next chunks' probabilities of speech, 0 to 1."""
        self._heard.extend(bool(probability >= HEARD_PROBABILITY) for probability in probabilities)

    def discard_before(self, sample: int) -> None:
        """Forget what is not asked about any more."""
        count = min((sample - self._start_sample) // CHUNK_SAMPLES, len(self._heard))
        if count > 0:
            del self._heard[:count]
            self._start_sample += count * CHUNK_SAMPLES

    def samples_within(self, start_sample: int, end_sample: int) -> int:
        """Return how much speech lies between two samples."""
        return sum(end - start for start, end in self._runs(start_sample, end_sample))

    def stretches(self, start_sample: int, end_sample: int) -> list[tuple[int, int]]:
        """Return the stretches of speech between two samples, (first, one past the last), gaps joined."""
        joined: list[tuple[int, int]] = []
        for start, end in self._runs(start_sample, end_sample):
            if joined and start - joined[-1][1] < JOINED_SAMPLES:
                start = joined.pop()[0]
            joined.append((start, end))
        return joined

    def _runs(self, start_sample: int, end_sample: int) -> Iterable[tuple[int, int]]:
        """Yield runs of chunks that hold speech, clipped to what was asked for."""
        first = max(0, (start_sample - self._start_sample) // CHUNK_SAMPLES)
        last = min(len(self._heard), -((self._start_sample - end_sample) // CHUNK_SAMPLES))
        while first < last and (begin := self._heard.find(1, first, last)) >= 0:
            end = self._heard.find(0, begin, last)
            first = last if end < 0 else end
            yield (
                max(start_sample, self._start_sample + begin * CHUNK_SAMPLES),
                min(end_sample, self._start_sample + first * CHUNK_SAMPLES),
            )


def clamped(words: Sequence[Word], speech: SpeechTrack) -> tuple[Word, ...]:
    """Take pauses off the words' times: a word is where most of its speech is.

    The aligner gives all time to some word, so that one beside a pause reaches into it. Words without a
    pause in them, or without any speech, keep their times.
    """
    return tuple(_clamped(word, speech) for word in words)


def _clamped(word: Word, speech: SpeechTrack) -> Word:
    start, end = word.start_sample, min(word.end_sample, max(word.start_sample, speech.end_sample))
    stretches = speech.stretches(start, end)
    if not stretches:
        return word
    edges = [start, *(sample for stretch in stretches for sample in stretch), end]
    if max(after - before for before, after in zip(edges[::2], edges[1::2], strict=True)) < PAUSE_SAMPLES:
        return word
    first, last = max(stretches, key=lambda stretch: stretch[1] - stretch[0])
    return replace(
        word,
        start_sample=max(start, first - LEEWAY_SAMPLES),
        end_sample=min(word.end_sample, last + LEEWAY_SAMPLES),
    )
