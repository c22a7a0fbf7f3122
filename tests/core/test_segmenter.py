"""Probabilities of speech to utterances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.segmenter import Segmenter, SegmenterOptions, SpeechEnded, SpeechStarted
from live_asr.core.types import CHUNK_SAMPLES, samples

END_CHUNKS = -(-samples(0.5) // CHUNK_SAMPLES)
"""Chunks of silence that end an utterance."""


def pushed(segmenter: Segmenter, probabilities: Iterable[float]) -> list[tuple[int, object]]:
    """Return what began or ended, each with the number of the chunk that told."""
    told = ((index, segmenter.push(probability)) for index, probability in enumerate(probabilities))
    return [(index, event) for index, event in told if event is not None]


def test_speech_begins_with_its_second_chunk_and_takes_along_what_lies_before_the_first() -> None:
    events = pushed(Segmenter(), [0.0] * 20 + [0.9] * 2)
    assert events == [(21, SpeechStarted(20 * CHUNK_SAMPLES - samples(0.3)))]


def test_speech_that_begins_at_once_starts_at_the_first_sample() -> None:
    assert pushed(Segmenter(), [0.9, 0.9]) == [(1, SpeechStarted(0))]


def test_a_single_loud_chunk_begins_nothing() -> None:
    assert pushed(Segmenter(), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0] * 5) == []


def test_a_probability_at_the_threshold_begins_and_one_below_it_does_not() -> None:
    assert pushed(Segmenter(), [0.5, 0.5])
    assert not pushed(Segmenter(), [0.4999] * 10)


def test_half_a_second_of_silence_ends_speech_and_some_of_it_is_taken_along() -> None:
    speech = 10
    events = pushed(Segmenter(), [0.9] * speech + [0.0] * END_CHUNKS)
    end_sample = speech * CHUNK_SAMPLES + samples(0.3)
    assert events[1:] == [(speech + END_CHUNKS - 1, SpeechEnded(end_sample))]


def test_a_shorter_silence_ends_nothing() -> None:
    assert len(pushed(Segmenter(), ([0.9] * 3 + [0.0] * (END_CHUNKS - 1)) * 10)) == 1


def test_unsure_speech_goes_on_but_does_not_begin() -> None:
    assert len(pushed(Segmenter(), [0.9, 0.9] + [0.35] * 100)) == 1
    assert pushed(Segmenter(), [0.35] * 100) == []


def test_it_ends_no_utterance_that_was_not_begun_and_begins_none_twice() -> None:
    events = pushed(Segmenter(), ([0.9] * 40 + [0.0] * 40) * 3)
    assert [type(event) for _, event in events] == [SpeechStarted, SpeechEnded] * 3


def test_an_utterance_that_is_ended_in_mid_speech_goes_on_where_it_was_cut() -> None:
    segmenter = Segmenter()
    pushed(segmenter, [0.9] * 10)
    assert segmenter.end() == SpeechEnded(10 * CHUNK_SAMPLES)
    assert not segmenter.in_speech
    assert pushed(segmenter, [0.9] * 2) == [(1, SpeechStarted(10 * CHUNK_SAMPLES))]


def test_a_probability_that_is_no_number_counts_as_silence() -> None:
    assert pushed(Segmenter(), [float("nan")] * 10) == []


@given(st.lists(st.floats(0, 1), max_size=400), st.sampled_from([0.1, 0.5, 2.0]))
def test_utterances_follow_each_other_and_hold_all_speech(
    probabilities: Sequence[float], silence: float
) -> None:
    segmenter = Segmenter(SegmenterOptions(end_silence_samples=samples(silence)))
    last_end = 0
    open_from: int | None = None
    for index, probability in enumerate(probabilities):
        event = segmenter.push(probability)
        now = (index + 1) * CHUNK_SAMPLES
        if isinstance(event, SpeechStarted):
            assert open_from is None
            assert last_end <= event.start_sample < now
            open_from = event.start_sample
        elif isinstance(event, SpeechEnded):
            assert open_from is not None
            assert open_from < segmenter.speech_end_sample <= event.end_sample <= now
            open_from, last_end = None, event.end_sample
        assert segmenter.in_speech == (open_from is not None)
        if segmenter.in_speech and probability >= 0.35:
            assert segmenter.speech_end_sample == now


@pytest.mark.parametrize("roll", [0.0, 0.3, 3.0])
def test_two_utterances_never_share_audio_however_much_is_taken_along(roll: float) -> None:
    segmenter = Segmenter(SegmenterOptions(pre_roll_samples=samples(roll), post_roll_samples=samples(roll)))
    events = [event for _, event in pushed(segmenter, ([0.9] * 5 + [0.0] * END_CHUNKS) * 4)]
    edges = [e.start_sample if isinstance(e, SpeechStarted) else e.end_sample for e in events]
    assert edges == sorted(edges)
