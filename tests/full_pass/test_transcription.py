"""Recognition of a whole recording: windows that end in pauses, words where they are said."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from whisper_normalizer.english import EnglishTextNormalizer

from live_asr.core.types import DecodeRequest, Hypothesis, Utterance, Word, samples
from live_asr.full_pass.transcription import (
    MAX_WINDOW_SAMPLES,
    Span,
    probabilities,
    speech_spans,
    transcribe,
    windows,
)
from live_asr.models.silero import SileroDetector
from live_asr.models.whisper import WhisperRecognizer
from live_asr.weights.store import resolve

Pcm = NDArray[np.int16]
NOTHING = np.zeros(0, np.int16)


@pytest.fixture(scope="module")
def tiny(recognizer_dir: Path) -> WhisperRecognizer:
    return WhisperRecognizer(recognizer_dir, name="tiny.en", workers=1)


@pytest.fixture(scope="module")
def detector(detector_file: Path) -> SileroDetector:
    return SileroDetector(detector_file)


@pytest.fixture(scope="module")
def call(sample_pcm: bytes) -> Pcm:
    return np.frombuffer(sample_pcm, np.int16)


@pytest.fixture(scope="module")
def said(sample_wav: Path) -> str:
    lines = sample_wav.with_suffix(".stm").read_text(encoding="utf-8").splitlines()
    return " ".join(line.split(maxsplit=5)[5] for line in lines)


def span(start: float, end: float) -> Span:
    return Span(samples(start), samples(end), samples(end) - samples(start))


def word_errors(truth: str, words: tuple[Word, ...]) -> float:
    normalize = EnglishTextNormalizer()
    return float(jiwer.wer(normalize(truth), normalize("".join(word.text for word in words))))


def spans_of(pcm: Pcm, detector: SileroDetector) -> list[Span]:
    return speech_spans(probabilities(pcm, detector), pcm.size)


# Windows ------------------------------------------------------------------------------------------------


def test_speech_that_fits_is_one_window() -> None:
    assert windows([span(1, 9), span(10, 20), span(21, 28)], NOTHING) == [
        Span(samples(1), samples(28), samples(25))
    ]


def test_a_window_ends_at_the_longest_pause_that_leaves_it_long_enough() -> None:
    speech = [span(0, 10), span(11, 16), span(18, 22), span(22.5, 27), span(27.2, 40)]
    assert [found.end_sample for found in windows(speech, NOTHING)] == [samples(16), samples(40)]


def test_after_a_long_silence_another_window_begins() -> None:
    assert len(windows([span(0, 5), span(10, 15)], NOTHING)) == 2


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    pcm = np.random.default_rng(0).integers(-9000, 9000, samples(50.0)).astype(np.int16)
    pcm[samples(20.0) : samples(20.5)] = 0
    first, second = windows([span(0, 45)], pcm)
    assert first.end_sample == second.start_sample
    assert abs(first.end_sample - samples(20.25)) <= samples(0.1)


@given(st.lists(st.tuples(st.floats(0.05, 6.0), st.floats(0.1, 40.0)), min_size=1, max_size=30))
def test_all_speech_is_in_exactly_one_window_and_none_is_too_long(gaps: list[tuple[float, float]]) -> None:
    speech, at = [], 0.0
    for pause, length in gaps:
        speech.append(span(at + pause, at + pause + length))
        at += pause + length
    found = windows(speech, np.zeros(samples(at), np.int16))
    assert all(window.length_samples <= MAX_WINDOW_SAMPLES for window in found)
    assert all(a.end_sample <= b.start_sample for a, b in itertools.pairwise(found))
    assert sum(window.speech_samples for window in found) == sum(part.speech_samples for part in speech)
    for part in speech:
        covered = sum(
            max(0, min(window.end_sample, part.end_sample) - max(window.start_sample, part.start_sample))
            for window in found
        )
        assert covered == part.length_samples


def test_speech_is_found_where_it_is_and_silence_holds_none(detector: SileroDetector, call: Pcm) -> None:
    found = spans_of(call, detector)
    assert samples(6.0) < found[0].start_sample < samples(7.0)  # by its RTTM the call begins at 6.69 s
    assert found[-1].end_sample <= call.size
    assert spans_of(np.zeros(samples(70.0), np.int16), detector) == []
    assert spans_of(NOTHING, detector) == []


# Words --------------------------------------------------------------------------------------------------


def test_the_call_is_recognised_about_as_well_as_the_model_can(
    tiny: WhisperRecognizer, detector: SileroDetector, call: Pcm, said: str
) -> None:
    shares: list[float] = []
    words, language = transcribe(call, tiny, detector, on_share=shares.append)
    assert word_errors(said, words) < 0.2
    assert language == "en"
    assert shares[-1] == 1.0
    assert all(a.end_sample <= b.start_sample for a, b in itertools.pairwise(words))


def test_word_times_count_from_the_start_of_the_recording(
    tiny: WhisperRecognizer, detector: SileroDetector, call: Pcm
) -> None:
    later = np.concatenate([np.zeros(samples(60.0), np.int16), call])
    words, _ = transcribe(later, tiny, detector, language="en")
    (yankee,) = (word for word in words if "Yankee" in word.text)
    assert samples(84.0) < yankee.start_sample < samples(88.0)


def test_windows_decoded_together_give_the_words_they_give_alone(
    tiny: WhisperRecognizer, detector: SileroDetector, call: Pcm
) -> None:
    pcm = np.concatenate([call, call[samples(6.0) :]])
    together, _ = transcribe(pcm, tiny, detector, language="en", batch_windows=4)
    alone, _ = transcribe(pcm, tiny, detector, language="en")
    assert [word.text for word in together] == [word.text for word in alone]
    assert max(abs(a.start_sample - b.start_sample) for a, b in zip(together, alone, strict=True)) <= 320


def test_the_windows_vote_on_the_language_where_none_is_given(
    models_dir: Path, detector: SileroDetector, call: Pcm, said: str
) -> None:
    base = WhisperRecognizer(resolve("base", models_dir=models_dir).folder, name="base", workers=1)
    words, language = transcribe(call, base, detector)
    assert language == "en"
    assert word_errors(said, words) < 0.25


def with_one_heard_otherwise(words: tuple[Word, ...], language: str, *, by: float = 0.05) -> list[Utterance]:
    """What was shown live: the same, but the least probable word was heard otherwise, so much more surely."""
    least = min(words, key=lambda word: word.probability)
    other = replace(least, text=" Hanky", probability=least.probability + by)
    said = tuple(other if word is least else word for word in words)
    return [Utterance(0, said[0].start_sample, said[-1].end_sample, said, language=language)]


def test_what_was_heard_live_more_surely_stays_and_says_so(
    tiny: WhisperRecognizer, detector: SileroDetector, call: Pcm
) -> None:
    alone, _ = transcribe(call, tiny, detector, language="en")
    words, _ = transcribe(call, tiny, detector, language="en", live=with_one_heard_otherwise(alone, "en"))
    assert len(words) == len(alone)
    assert [(word.text, word.source) for word in words if word.source] == [(" Hanky", "live")]


def test_what_was_heard_live_less_surely_changes_nothing(
    tiny: WhisperRecognizer, detector: SileroDetector, call: Pcm
) -> None:
    alone, _ = transcribe(call, tiny, detector, language="en")
    live = with_one_heard_otherwise(alone, "en", by=-0.05)
    words, _ = transcribe(call, tiny, detector, language="en", live=live)
    assert words == alone


def test_what_was_heard_live_in_another_language_is_no_witness(
    tiny: WhisperRecognizer, detector: SileroDetector, call: Pcm
) -> None:
    alone, _ = transcribe(call, tiny, detector, language="en")
    words, _ = transcribe(call, tiny, detector, language="en", live=with_one_heard_otherwise(alone, "de"))
    assert words == alone


def test_words_to_expect_that_nobody_says_change_nothing(
    tiny: WhisperRecognizer, detector: SileroDetector, call: Pcm
) -> None:
    alone, _ = transcribe(call, tiny, detector, language="en")
    names = ("Margaret", "Thornton", "Núñez", "Sheela")
    words, _ = transcribe(call, tiny, detector, language="en", vocabulary=names)
    assert len(words) == len(alone)
    changed = [(a.text, b.text) for a, b in zip(alone, words, strict=True) if a.text != b.text]
    assert all("Sheela" in after for _, after in changed)


class Torn(WhisperRecognizer):
    """A recogniser that takes windows of less than five seconds for Welsh, rather surely."""

    def __init__(self) -> None:
        self.languages: set[str | None] = set()

    def detect_language(self, samples: np.ndarray) -> dict[str, float]:  # type: ignore[override]
        return {"cy": 0.9, "en": 0.1} if samples.size < 5 * 16_000 else {"en": 0.8, "cy": 0.2}

    def recognize_batch(self, requests: list[DecodeRequest], windows: list[object]) -> list[Hypothesis]:  # type: ignore[override]
        self.languages |= {request.language for request in requests}
        return [Hypothesis((), request.end_sample) for request in requests]


def test_a_window_votes_on_the_language_with_as_much_speech_as_it_holds(
    detector: SileroDetector, call: Pcm
) -> None:
    hello, pause = call[samples(6.5) : samples(8.5)], np.zeros(samples(5.0), np.int16)
    torn = Torn()
    pcm = np.concatenate([hello, pause, hello, pause, call[samples(9.0) :]])
    assert len(windows(spans_of(pcm, detector), pcm)) == 3
    assert transcribe(pcm, torn, detector) == ((), "en")
    assert torn.languages == {"en"}


def test_where_nobody_speaks_there_are_no_words(tiny: WhisperRecognizer, detector: SileroDetector) -> None:
    assert transcribe(np.zeros(samples(5.0), np.int16), tiny, detector) == ((), None)


def test_a_language_that_the_model_does_not_know_is_refused(
    tiny: WhisperRecognizer, detector: SileroDetector, call: Pcm
) -> None:
    with pytest.raises(ValueError, match="does not know the language 'de'"):
        transcribe(call, tiny, detector, language="de")


class Runaway(WhisperRecognizer):
    """A recogniser that says one phrase over and over where a window is longer than eight seconds."""

    def __init__(self) -> None:
        self.lengths_samples: list[int] = []

    def recognize_batch(self, requests: list[DecodeRequest], windows: list[object]) -> list[Hypothesis]:  # type: ignore[override]
        answers = []
        for request in requests:
            length = request.end_sample - request.start_sample
            self.lengths_samples.append(length)
            texts = [" go", " on"] * 40 if length > samples(8.0) else [" heard"]
            step = length // len(texts)
            words = tuple(
                Word(text, request.start_sample + i * step, request.start_sample + (i + 1) * step, 0.9)
                for i, text in enumerate(texts)
            )
            answers.append(Hypothesis(words, request.end_sample, language="en"))
        return answers


def test_a_window_that_runs_away_is_decoded_in_halves(detector: SileroDetector, call: Pcm) -> None:
    runaway = Runaway()
    words, _ = transcribe(call[samples(21.0) :], runaway, detector, language="en")
    assert {word.text for word in words} == {" heard"}
    assert runaway.lengths_samples[0] > samples(8.0) >= runaway.lengths_samples[-1]
