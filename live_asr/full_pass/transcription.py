"""Recognition of a whole recording in full context: windows of up to 28 s, cut where nobody speaks.

Each window is decoded with timestamps, by which the decoder leaves out less. What it makes of a window is
held against the speech that was detected in it: a window that is doubtful or leaves speech without a word is
decoded in other ways, stretches without a word are decoded alone, and what was shown live is a second witness
for all of it, so that the result is never less than what was shown.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from live_asr.core.expectation import Expectations
from live_asr.core.guards import (
    certainty,
    copied,
    drop_squeezed,
    in_order,
    is_noise,
    is_unplaced,
    without_loops,
    without_marks,
    without_stammer,
)
from live_asr.core.reconciliation import (
    holes,
    with_expected_words,
    with_live_words,
)
from live_asr.core.segmenter import Segmenter, SegmenterOptions, SpeechEnded, SpeechStarted
from live_asr.core.speech import SpeechTrack, clamped
from live_asr.core.types import CHUNK_SAMPLES, DecodeRequest, Hypothesis, Utterance, Word, samples
from live_asr.full_pass.blocks import as_float, quietest_sample
from live_asr.models.interfaces import FloatArray, SpeechDetector, SpeechState
from live_asr.models.whisper import FULL_WINDOW_SAMPLES, WhisperRecognizer

MAX_WINDOW_SAMPLES = samples(28.0)
"""Two seconds of silence behind it fill the model's window: without, it does not find the end."""
SHORTEST_WINDOW_SAMPLES = samples(15.0)
"""A window is cut at the longest pause behind this."""
MAX_PAUSE_SAMPLES = samples(4.0)
"""A longer pause ends the window: what is said after it has another context."""
SHORTEST_HALF_SAMPLES = samples(4.0)
"""A window that runs away is halved down to this."""
MAX_NEW_TOKENS = 200
DETECTOR_CHUNKS = 2048
"""Chunks of 32 ms that are judged at a time: a minute."""
LANGUAGE_WINDOWS = 6
"""So many windows, the ones with most speech, vote on the language, each with as much as it holds."""
UNHEARD_WEIGHT = 0.2
"""How much a window's own language counts that was not heard in it live; one that was counts up to 1 more."""
POOR_LOG_PROBABILITY = -0.5
"""A window below this mean is read in another way too. Clear speech is at -0.1 to -0.3."""
UNREAD_PENALTY = 1.0
"""What a reading loses, in mean log probability, that leaves all speech without a word."""
MARGIN_SAMPLES = samples(0.2)
"""A hole is decoded with so much around it."""
MIN_CERTAINTY = 0.5
"""A window whose words are less probable on average is invented: babble is below 0.5, speech above 0.6."""
MIN_ALONE = 0.6
"""The same for what is decoded alone, which has no context to go by."""
SEGMENTER = SegmenterOptions(end_silence_samples=samples(0.3), post_roll_samples=samples(0.2))

Pcm = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the recording."""

    start_sample: int
    end_sample: int
    speech_samples: int
    """How much of it is speech."""

    @property
    def length_samples(self) -> int:
        """Its length."""
        return self.end_sample - self.start_sample


def transcribe(
    pcm: Pcm,
    recognizer: WhisperRecognizer,
    detector: SpeechDetector,
    *,
    language: str | None = None,
    languages: tuple[str, ...] = (),
    task: str = "transcribe",
    vocabulary: tuple[str, ...] = (),
    live: Sequence[Utterance] = (),
    batch_windows: int = 1,
    on_share: Callable[[float], None] = lambda share: None,
) -> tuple[tuple[Word, ...], str | None]:
    """Recognise a recording, 16 kHz mono, shape (n,): its words in order, and the language of most of it.

    `live` is what was shown of it. Without a `language` the windows with most speech vote on one of
    `languages`, any where there are none; where several were heard live, each window has its own. None when
    nobody speaks. Raises ValueError for a language that the model does not know.
    """
    judged = probabilities(pcm, detector)
    speech = SpeechTrack()
    speech.extend(judged)
    changes = () if language else _language_changes(live)
    spans = windows(speech_spans(judged, pcm.size), pcm, changes)
    if not spans:
        return (), language
    if language is None and not changes:
        language = _language(pcm, spans, recognizer, languages)
    spoken = [language or _language_of(pcm, span, recognizer, live, languages) for span in spans]
    reader = _Reader(pcm, speech, recognizer, task, Expectations(vocabulary))
    shown = _by_span(live, spans, spoken)
    words: list[Word] = []
    first = 0
    while first < len(spans):
        last = first + 1
        while last < min(len(spans), first + batch_windows) and spoken[last] == spoken[first]:
            last += 1
        for reading in reader.readings(spans[first:last], spoken[first]):
            words += with_live_words(reader.settled(reading), shown[reading.span], speech)
        on_share(last / len(spans))
        first = last
    weights: Counter[str] = Counter()
    for span, code in zip(spans, spoken, strict=True):
        weights[code] += span.speech_samples
    return in_order(words, 0, pcm.size), weights.most_common(1)[0][0]


# Windows ------------------------------------------------------------------------------------------------


def probabilities(pcm: Pcm, detector: SpeechDetector) -> NDArray[np.float32]:
    """Have a recording judged: the probability of speech of each chunk of 32 ms, shape (chunks,)."""
    state, judged = SpeechState.initial(), [np.zeros(0, np.float32)]
    step = DETECTOR_CHUNKS * CHUNK_SAMPLES
    for first in range(0, pcm.size, step):
        heard = pcm[first : first + step]
        piece = as_float(np.pad(heard, (0, -heard.size % CHUNK_SAMPLES)))
        found, state = detector.detect(piece, state)
        judged.append(np.asarray(found, np.float32))
    return np.concatenate(judged)


def speech_spans(judged: NDArray[np.float32], length_samples: int) -> list[Span]:
    """Find the stretches of speech in a recording, with a little of what lies around each."""
    segmenter = Segmenter(SEGMENTER)
    spans: list[Span] = []
    start = 0

    def take(event: SpeechStarted | SpeechEnded | None) -> None:
        nonlocal start
        if isinstance(event, SpeechStarted):
            start = event.start_sample
        elif isinstance(event, SpeechEnded) and min(event.end_sample, length_samples) > start:
            end = min(event.end_sample, length_samples)
            spans.append(Span(start, end, end - start))

    for chance in judged:
        take(segmenter.push(float(chance)))
    if segmenter.in_speech:
        take(segmenter.end())
    return spans


def windows(speech: Sequence[Span], pcm: Pcm, changes: Sequence[int] = ()) -> list[Span]:
    """Gather stretches of speech into windows of at most 28 s, cut at the longest pauses.

    None reaches over one of the `changes`, samples at which another language begins.
    """
    found: list[Span] = []
    rest = [part for span in speech for piece in _cut_at(span, changes) for part in _parts(piece, pcm)]
    while rest:
        apart = next((change for change in changes if change > rest[0].start_sample), None)
        count = _fitting([part for part in rest if apart is None or part.start_sample < apart])
        taken, rest = rest[:count], rest[count:]
        found.append(
            Span(taken[0].start_sample, taken[-1].end_sample, sum(part.speech_samples for part in taken))
        )
    return found


def _cut_at(span: Span, changes: Sequence[int]) -> list[Span]:
    cuts = [change for change in changes if span.start_sample < change < span.end_sample]
    edges = [span.start_sample, *cuts, span.end_sample]
    return [Span(start, end, end - start) for start, end in pairwise(edges)]


def _parts(span: Span, pcm: Pcm) -> list[Span]:
    """Divide speech without a pause until it fits into windows, where it is quietest."""
    if span.length_samples <= MAX_WINDOW_SAMPLES:
        return [span]
    cut = quietest_sample(
        pcm, span.start_sample + SHORTEST_WINDOW_SAMPLES, span.start_sample + MAX_WINDOW_SAMPLES
    )
    first = Span(span.start_sample, cut, cut - span.start_sample)
    return [first, *_parts(Span(cut, span.end_sample, span.end_sample - cut), pcm)]


def _fitting(speech: Sequence[Span]) -> int:
    """Return how many of the next stretches go into one window."""
    start = speech[0].start_sample
    best, longest_pause = 1, -1
    for count in range(1, len(speech) + 1):
        end = speech[count - 1].end_sample
        if end - start > MAX_WINDOW_SAMPLES:
            return best
        pause = speech[count].start_sample - end if count < len(speech) else MAX_PAUSE_SAMPLES
        if pause >= MAX_PAUSE_SAMPLES:
            return count
        if end - start < SHORTEST_WINDOW_SAMPLES or pause >= longest_pause:
            best, longest_pause = count, pause if end - start >= SHORTEST_WINDOW_SAMPLES else -1
    return best


# Reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one decode of a window comes to."""

    span: Span
    language: str
    words: tuple[Word, ...]
    mean_log_probability: float
    ran_away: bool
    holes: tuple[tuple[int, int], ...]

    @property
    def is_poor(self) -> bool:
        """Whether it should be read in another way."""
        return self.ran_away or bool(self.holes) or self.mean_log_probability < POOR_LOG_PROBABILITY

    @property
    def quality(self) -> float:
        """The higher the better: how sure it is, less for speech that it leaves without a word."""
        unread = sum(end - start for start, end in self.holes) / max(1, self.span.speech_samples)
        return self.mean_log_probability - UNREAD_PENALTY * (unread + self.ran_away)


@dataclass(frozen=True, slots=True)
class _Reader:
    """What all windows of a recording are read with."""

    pcm: Pcm
    speech: SpeechTrack
    recognizer: WhisperRecognizer
    task: str
    expectations: Expectations

    def readings(self, spans: Sequence[Span], language: str) -> list[_Reading]:
        """Read windows together, as they are usually read."""
        return self._read([self._request(span, language) for span in spans], spans)

    def settled(self, reading: _Reading) -> tuple[Word, ...]:
        """Return the words of a window; what is poor is read again in other ways."""
        span = reading.span
        if reading.is_poor:
            for other in self._other_readings(span, reading):
                reading = max(reading, other, key=lambda found: found.quality)
                if not reading.is_poor:
                    break
        words = self._with_holes_filled(reading)
        entries = self.expectations.resembling([word.text for word in words])
        if entries:
            asked = replace(self._request(span, reading.language), vocabulary=entries)
            biased = self._read([asked], [span])[0]
            words = with_expected_words(words, biased.words, entries, self.speech)
        return words

    def _other_readings(self, span: Span, reading: _Reading) -> Iterator[_Reading]:
        yield self._read([replace(self._request(span, reading.language), timestamps=False)], [span])[0]
        if span.length_samples < 2 * SHORTEST_HALF_SAMPLES:
            return
        middle, quarter = span.start_sample + span.length_samples // 2, span.length_samples // 4
        cut = quietest_sample(self.pcm, middle - quarter, middle + quarter)
        parts = [self._part(span.start_sample, cut), self._part(cut, span.end_sample)]
        yield self._joined(span, parts, reading.language)

    def _joined(self, span: Span, parts: Sequence[Span], language: str) -> _Reading:
        """Read a window in parts, each as well as it can be."""
        words: list[Word] = []
        log_probability, ran_away = 0.0, False
        for part in parts:
            reading = self.readings([part], language)[0]
            if reading.ran_away:
                for other in self._other_readings(part, reading):
                    reading = max(reading, other, key=lambda found: found.quality)
            words += (replace(word, source="again") for word in reading.words)
            log_probability += reading.mean_log_probability * part.length_samples / span.length_samples
            ran_away = ran_away or reading.ran_away
        return self._reading(span, language, tuple(words), log_probability, ran_away=ran_away)

    def _with_holes_filled(self, reading: _Reading) -> tuple[Word, ...]:
        """Read stretches of speech alone that have no word."""
        words = list(reading.words)
        for start, end in reading.holes:
            span = reading.span
            alone = self._part(
                max(span.start_sample, start - MARGIN_SAMPLES), min(span.end_sample, end + MARGIN_SAMPLES)
            )
            found = [
                replace(word, source="again")
                for word in self.readings([alone], reading.language)[0].words
                if start <= (word.start_sample + word.end_sample) // 2 < end
            ]
            if found and certainty(found) >= MIN_ALONE:
                # A word whose time reaches into the hole ends where the hole begins.
                words = [
                    replace(word, end_sample=start) if word.start_sample < start < word.end_sample else word
                    for word in words
                ]
                words = sorted([*words, *found], key=lambda word: word.start_sample)
        return tuple(words)

    def _read(self, requests: list[DecodeRequest], spans: Sequence[Span]) -> list[_Reading]:
        hypotheses = self.recognizer.recognize_batch(requests, [_audio(self.pcm, span) for span in spans])
        return [
            self._believed(span, asked.language or "en", hypothesis)
            for span, asked, hypothesis in zip(spans, requests, hypotheses, strict=True)
        ]

    def _believed(self, span: Span, language: str, hypothesis: Hypothesis) -> _Reading:
        """Return what is to be believed of a hypothesis."""
        if (
            is_noise(hypothesis, span.speech_samples, final=True)
            or is_unplaced(hypothesis.words)
            or certainty(hypothesis.words) < MIN_CERTAINTY
        ):
            return self._reading(span, language, (), hypothesis.mean_log_probability)
        heard = without_stammer(without_marks(hypothesis.words), self.speech)
        written = clamped(heard, self.speech, copied=copied(heard))
        words = drop_squeezed(without_loops(written, (), self.speech), self.speech)
        ran_away = hypothesis.capped or len(words) < len(written)
        return self._reading(span, language, words, hypothesis.mean_log_probability, ran_away=ran_away)

    def _reading(
        self,
        span: Span,
        language: str,
        words: tuple[Word, ...],
        log_probability: float,
        *,
        ran_away: bool = False,
    ) -> _Reading:
        found = holes(words, self.speech, span.start_sample, span.end_sample)
        return _Reading(span, language, words, log_probability, ran_away, tuple(found))

    def _request(self, span: Span, language: str) -> DecodeRequest:
        return DecodeRequest(
            span.start_sample,
            span.end_sample,
            prefix=(),
            max_new_tokens=MAX_NEW_TOKENS,
            min_window_samples=FULL_WINDOW_SAMPLES,
            padding_samples=0,
            language=language,
            task=self.task,
            new_speech_samples=span.speech_samples,
            final=True,
            timestamps=True,
        )

    def _part(self, start: int, end: int) -> Span:
        return Span(start, end, self.speech.samples_within(start, end))


def _by_span(
    live: Sequence[Utterance], spans: Sequence[Span], spoken: Sequence[str]
) -> dict[Span, list[Word]]:
    """Give each live word to the window that it lies in, or is nearest to.

    Words that were heard in another language than is `spoken` in their window are no witness of anything.
    """
    found: dict[Span, list[Word]] = {span: [] for span in spans}
    # Halfway between two windows the later one begins.
    begins = [(before.end_sample + after.start_sample) // 2 for before, after in pairwise(spans)]
    for utterance in live:
        for word in utterance.words:
            index = bisect_right(begins, (word.start_sample + word.end_sample) // 2)
            if utterance.language in (None, spoken[index]):
                found[spans[index]].append(word)
    return found


# Languages ----------------------------------------------------------------------------------------------


def _language(
    pcm: Pcm, spans: Sequence[Span], recognizer: WhisperRecognizer, languages: tuple[str, ...]
) -> str:
    """Let the windows with most speech vote on the language."""
    belief: dict[str, float] = {}
    for span in sorted(spans, key=lambda span: -span.speech_samples)[:LANGUAGE_WINDOWS]:
        for language, believed in _beliefs(pcm, span, recognizer, languages).items():
            belief[language] = belief.get(language, 0.0) + believed * span.speech_samples
    return max(belief, key=lambda code: belief[code])


def _beliefs(
    pcm: Pcm, span: Span, recognizer: WhisperRecognizer, languages: tuple[str, ...]
) -> dict[str, float]:
    found = recognizer.detect_language(_audio(pcm, span))
    return {code: believed for code, believed in found.items() if code in languages} or found


def _language_changes(live: Sequence[Utterance]) -> tuple[int, ...]:
    """Return where another language was heard live than before, samples."""
    known = [utterance for utterance in live if utterance.language is not None]
    return tuple(after.start_sample for before, after in pairwise(known) if after.language != before.language)


def _language_of(
    pcm: Pcm,
    span: Span,
    recognizer: WhisperRecognizer,
    live: Sequence[Utterance],
    languages: tuple[str, ...],
) -> str:
    """Judge the language of one window where several were heard; what was heard live in it weighs."""
    heard: Counter[str] = Counter()
    for utterance in live:
        within = min(utterance.end_sample, span.end_sample) - max(utterance.start_sample, span.start_sample)
        if utterance.language is not None and within > 0:
            heard[utterance.language] += within
    total = max(1, heard.total())
    beliefs = _beliefs(pcm, span, recognizer, languages)
    return max(beliefs, key=lambda code: beliefs[code] * (UNHEARD_WEIGHT + heard[code] / total))


def _audio(pcm: Pcm, span: Span) -> FloatArray:
    return as_float(pcm[span.start_sample : span.end_sample])
