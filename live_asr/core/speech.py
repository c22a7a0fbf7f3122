"""Where somebody speaks: what the speech detector heard, to hold words against."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from live_asr.core.normalize import normalized
from live_asr.core.types import CHUNK_SAMPLES, Word, samples

HEARD_PROBABILITY = 0.35
"""A chunk at or above it counts as speech: what keeps an utterance going (`SegmenterOptions`)."""
JOINED_SAMPLES = samples(0.2)
"""Stretches of speech that are closer together are one: plosives, and chunks that the detector doubts."""
PAUSE_SAMPLES = samples(0.3)
"""So much without speech within a word is none of the word's."""
LEEWAY_SAMPLES = samples(0.03)
"""The detector hears soft onsets a chunk late."""
REACH_SAMPLES = samples(0.3)
"""The aligner is wrong by so much at most where it puts a word into silence."""
SHORTEST_LETTER_SAMPLES = samples(0.05)
"""Nobody says a word in less for each of its letters."""
BASIC_WORD_SAMPLES = samples(0.5)
LETTER_SAMPLES = samples(0.12)
DIGIT_SAMPLES = samples(0.5)
"""A word is said in no more than this and so much for each of its letters and digits."""


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
        while start_sample < end_sample and (begin := self._heard.find(1, first, last)) >= 0:
            end = self._heard.find(0, begin, last)
            first = last if end < 0 else end
            yield (
                max(start_sample, self._start_sample + begin * CHUNK_SAMPLES),
                min(end_sample, self._start_sample + first * CHUNK_SAMPLES),
            )


def longest_spoken(word: Word) -> int:
    """Return the time in samples that a word takes at most: the aligner gives one beside a pause more."""
    letters = normalized(word.text)
    return BASIC_WORD_SAMPLES + sum(DIGIT_SAMPLES if c.isdigit() else LETTER_SAMPLES for c in letters)


def own_samples(words: Sequence[Word], index: int, speech: SpeechTrack, since_sample: int = 0) -> int:
    """Return how much detected speech word `index` has of its own, behind `since_sample`.

    Speech that begins between its neighbours is the word's even where the aligner put it beside; what began
    under the word before is that one's, but for the time that this one was given.
    """
    word = words[index]
    before = max(words[index - 1].end_sample if index else 0, since_sample)
    after = words[index + 1].start_sample if index + 1 < len(words) else speech.end_sample
    own = 0
    for start, end in speech.stretches(before, max(after, word.end_sample)):
        if start <= before and speech.samples_within(before - CHUNK_SAMPLES, before):
            start, end = max(start, word.start_sample), min(end, word.end_sample)
        own += speech.samples_within(start, end)
    return own


def clamped(
    words: Sequence[Word], speech: SpeechTrack, since_sample: int = 0, copied: Collection[int] = ()
) -> tuple[Word, ...]:
    """Put words, said behind `since_sample`, where they were said, by the speech around them.

    The aligner gives all time to some word, so that one beside a pause reaches into it: it is where most of
    its speech is. A word that was given silence alone is in the speech between its neighbours, if any is;
    what only repeats those before it (`copied`, their indices) is not in the last of their speech, which the
    detector hears for a while behind a word. Words without a pause in them keep their times.
    """
    placed: list[Word] = []
    for index, word in enumerate(words):
        before = placed[-1].end_sample if placed else since_sample
        after = words[index + 1].start_sample if index + 1 < len(words) else speech.end_sample
        if speech.samples_within(word.start_sample, word.end_sample) < CHUNK_SAMPLES:
            placed.append(_moved(word, before, after, speech, is_copy=index in copied))
        else:
            placed.append(_clamped(word, speech))
    return tuple(placed)


def _moved(word: Word, before: int, after: int, speech: SpeechTrack, *, is_copy: bool) -> Word:
    goes_on = is_copy and speech.samples_within(before - CHUNK_SAMPLES, before) > 0
    near = [
        (start, end)
        for start, end in speech.stretches(before, after)
        if start < word.end_sample + REACH_SAMPLES
        and end > word.start_sample - REACH_SAMPLES
        and not (goes_on and start <= before)
    ]
    if not near:
        return word
    start, end = max(near, key=lambda stretch: stretch[1] - stretch[0])
    return replace(word, start_sample=start, end_sample=min(end, start + longest_spoken(word)))


def _clamped(word: Word, speech: SpeechTrack) -> Word:
    start, end = word.start_sample, min(word.end_sample, max(word.start_sample, speech.end_sample))
    stretches = speech.stretches(start, end)
    edges = [start, *(sample for stretch in stretches for sample in stretch), end]
    if max(after - before for before, after in zip(edges[::2], edges[1::2], strict=True)) < PAUSE_SAMPLES:
        return word
    first, last = _where_said(word, stretches)
    return replace(
        word,
        start_sample=max(start, first - LEEWAY_SAMPLES),
        end_sample=min(word.end_sample, last + LEEWAY_SAMPLES),
    )


def _where_said(word: Word, stretches: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Choose the stretch that a word was said in, of several with pauses between.

    Before a pause the detector still hears the word before for a while, so that a word that ends no phrase is
    rather behind the pause, if it fits in there; one with a mark behind it is before it.
    """
    least = SHORTEST_LETTER_SAMPLES * max(1, len(normalized(word.text)))
    fitting = [stretch for stretch in stretches if stretch[1] - stretch[0] >= least]
    if not fitting:
        return max(stretches, key=lambda stretch: stretch[1] - stretch[0])
    return fitting[0] if not word.text[-1:].isalnum() else fitting[-1]
