"""Recognition of a whole recording in full context: windows of up to 28 s, cut where nobody speaks.

Timestamp tokens are not used: windows that end in a pause need none, and words are aligned anyway. What
a window makes of itself is guarded as in live captions, and a window that runs away is halved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from live_asr.core.guards import drop_squeezed, in_order, is_noise, without_loops
from live_asr.core.segmenter import Segmenter, SegmenterOptions, SpeechEnded, SpeechStarted
from live_asr.core.types import DecodeRequest, Hypothesis, Word, samples
from live_asr.inference.blocks import as_float, quietest_sample
from live_asr.inference.interfaces import CHUNK_SAMPLES, FloatArray, SpeechDetector, SpeechState
from live_asr.inference.whisper import FULL_WINDOW_SAMPLES, WhisperRecognizer

LONGEST_WINDOW_SAMPLES = samples(28.0)
"""Two seconds of silence behind it fill the model's window: without, it does not find the end."""
SHORTEST_WINDOW_SAMPLES = samples(15.0)
"""A window is cut at the longest pause behind this."""
LONGEST_PAUSE_SAMPLES = samples(4.0)
"""A longer pause ends the window: what is said after it has another context."""
SHORTEST_HALF_SAMPLES = samples(4.0)
"""A window that runs away is halved down to this."""
MOST_NEW_TOKENS = 200
DETECTOR_CHUNKS = 2048
"""Chunks of 32 ms that are judged at a time: a minute."""
LANGUAGE_WINDOWS = 6
"""So many windows, the ones with most speech, vote on the language, each with as much as it holds."""
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
    task: str = "transcribe",
    vocabulary: tuple[str, ...] = (),
    batch_windows: int = 1,
    on_share: Callable[[float], None] = lambda share: None,
) -> tuple[tuple[Word, ...], str | None]:
    """Recognise a recording, 16 kHz mono, shape (n,): its words in order, and the language.

    Without a `language` the windows with most speech vote on one; None when nobody speaks. Raises
    ValueError for a language that the model does not know.
    """
    spans = windows(speech_spans(pcm, detector), pcm)
    if not spans:
        return (), language
    language = language or _language(pcm, spans, recognizer)
    words: list[Word] = []
    for first in range(0, len(spans), batch_windows):
        batch = spans[first : first + batch_windows]
        decode = _Decode(pcm, recognizer, language, task, vocabulary)
        for span, hypothesis in zip(batch, decode.hypotheses(batch), strict=True):
            words += decode.believed(span, hypothesis)
        on_share((first + len(batch)) / len(spans))
    return in_order(words, 0, pcm.size), language


# Windows ------------------------------------------------------------------------------------------------


def speech_spans(pcm: Pcm, detector: SpeechDetector) -> list[Span]:
    """Find the stretches of speech in a recording, with a little of what lies around each."""
    segmenter, state = Segmenter(SEGMENTER), SpeechState.initial()
    spans: list[Span] = []
    start = 0
    step = DETECTOR_CHUNKS * CHUNK_SAMPLES

    def take(event: SpeechStarted | SpeechEnded | None) -> None:
        nonlocal start
        if isinstance(event, SpeechStarted):
            start = event.start_sample
        elif isinstance(event, SpeechEnded) and min(event.end_sample, pcm.size) > start:
            end = min(event.end_sample, pcm.size)
            spans.append(Span(start, end, end - start))

    for first in range(0, pcm.size, step):
        heard = pcm[first : first + step]
        piece = as_float(np.pad(heard, (0, -heard.size % CHUNK_SAMPLES)))
        probabilities, state = detector.detect(piece, state)
        for probability in probabilities:
            take(segmenter.push(float(probability)))
    if segmenter.in_speech:
        take(segmenter.end())
    return spans


def windows(speech: Sequence[Span], pcm: Pcm) -> list[Span]:
    """Gather stretches of speech into windows of at most 28 s, cut at the longest pauses."""
    found: list[Span] = []
    rest = [part for span in speech for part in _parts(span, pcm)]
    while rest:
        count = _fitting(rest)
        taken, rest = rest[:count], rest[count:]
        found.append(
            Span(taken[0].start_sample, taken[-1].end_sample, sum(part.speech_samples for part in taken))
        )
    return found


def _parts(span: Span, pcm: Pcm) -> list[Span]:
    """Divide speech without a pause until it fits into windows, where it is quietest."""
    if span.length_samples <= LONGEST_WINDOW_SAMPLES:
        return [span]
    cut = quietest_sample(
        pcm, span.start_sample + SHORTEST_WINDOW_SAMPLES, span.start_sample + LONGEST_WINDOW_SAMPLES
    )
    first = Span(span.start_sample, cut, cut - span.start_sample)
    return [first, *_parts(Span(cut, span.end_sample, span.end_sample - cut), pcm)]


def _fitting(speech: Sequence[Span]) -> int:
    """Return how many of the next stretches go into one window."""
    start = speech[0].start_sample
    best, longest_pause = 1, -1
    for count in range(1, len(speech) + 1):
        end = speech[count - 1].end_sample
        if end - start > LONGEST_WINDOW_SAMPLES:
            return best
        pause = speech[count].start_sample - end if count < len(speech) else LONGEST_PAUSE_SAMPLES
        if pause >= LONGEST_PAUSE_SAMPLES:
            return count
        if end - start < SHORTEST_WINDOW_SAMPLES or pause >= longest_pause:
            best, longest_pause = count, pause if end - start >= SHORTEST_WINDOW_SAMPLES else -1
    return best


# Decoding -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Decode:
    """What all windows of a recording are decoded with."""

    pcm: Pcm
    recognizer: WhisperRecognizer
    language: str
    task: str
    vocabulary: tuple[str, ...]

    def hypotheses(self, spans: Sequence[Span]) -> list[Hypothesis]:
        """Decode windows together."""
        return self.recognizer.recognize_batch(
            [
                DecodeRequest(
                    span.start_sample,
                    span.end_sample,
                    prefix=(),
                    max_new_tokens=MOST_NEW_TOKENS,
                    min_window_samples=FULL_WINDOW_SAMPLES,
                    padding_samples=0,
                    language=self.language,
                    task=self.task,
                    vocabulary=self.vocabulary,
                    new_speech_samples=span.speech_samples,
                    final=True,
                )
                for span in spans
            ],
            [_audio(self.pcm, span) for span in spans],
        )

    def believed(self, span: Span, hypothesis: Hypothesis) -> list[Word]:
        """Return what is to be believed of a window; what ran away is decoded again in halves."""
        if is_noise(hypothesis, span.speech_samples, final=True):
            return []
        kept = without_loops(hypothesis.words, (), capped=hypothesis.capped)
        ran_away = hypothesis.capped or kept is None or len(kept) < len(hypothesis.words)
        if ran_away and span.length_samples >= 2 * SHORTEST_HALF_SAMPLES:
            middle, quarter = span.start_sample + span.length_samples // 2, span.length_samples // 4
            cut = quietest_sample(self.pcm, middle - quarter, middle + quarter)
            halves = [
                Span(start, end, span.speech_samples * (end - start) // span.length_samples)
                for start, end in ((span.start_sample, cut), (cut, span.end_sample))
            ]
            return [word for half in halves for word in self.believed(half, self.hypotheses([half])[0])]
        return list(drop_squeezed(kept or ()))


def _language(pcm: Pcm, spans: Sequence[Span], recognizer: WhisperRecognizer) -> str:
    """Let the windows with most speech vote on the language."""
    belief: dict[str, float] = {}
    for span in sorted(spans, key=lambda span: -span.speech_samples)[:LANGUAGE_WINDOWS]:
        for language, probability in recognizer.detect_language(_audio(pcm, span)).items():
            belief[language] = belief.get(language, 0.0) + probability * span.speech_samples
    return max(belief, key=lambda code: belief[code])


def _audio(pcm: Pcm, span: Span) -> FloatArray:
    return as_float(pcm[span.start_sample : span.end_sample])
