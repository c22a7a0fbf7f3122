"""Detected speech, and words put where it is."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.speech import SpeechTrack, clamped
from live_asr.core.types import CHUNK_SAMPLES, Word, samples


def heard(pattern: str) -> SpeechTrack:
    """A detector's judgement of each 32 ms: `#` is speech."""
    track = SpeechTrack()
    track.extend(float(chunk == "#") for chunk in pattern)
    return track


def word(text: str, start: int, end: int) -> Word:
    """A word from one chunk to another."""
    return Word(text, start * CHUNK_SAMPLES, end * CHUNK_SAMPLES, 0.9)


def chunks(words: Sequence[Word]) -> list[tuple[int, int]]:
    """Where words are, in whole chunks."""
    return [(round(w.start_sample / CHUNK_SAMPLES), round(w.end_sample / CHUNK_SAMPLES)) for w in words]


@given(st.text("#.", max_size=60), st.integers(-600, 40_000), st.integers(-600, 40_000))
def test_speech_is_counted_as_the_chunks_hold_it(pattern: str, start: int, end: int) -> None:
    track = heard(pattern)
    said = {
        sample
        for index, chunk in enumerate(pattern)
        if chunk == "#"
        for sample in range(index * CHUNK_SAMPLES, (index + 1) * CHUNK_SAMPLES)
    }
    assert track.samples_within(start, end) == sum(start <= sample < end for sample in said)


@given(st.text("#.", min_size=1, max_size=60), st.integers(0, 40_000))
def test_what_is_forgotten_changes_nothing_behind_it(pattern: str, sample: int) -> None:
    whole, cut = heard(pattern), heard(pattern)
    cut.discard_before(sample)
    assert cut.end_sample == whole.end_sample
    assert cut.stretches(sample, 50_000) == whole.stretches(sample, 50_000)


def test_stretches_that_are_close_are_one() -> None:
    assert heard("##..##........#").stretches(0, samples(1.0)) == [
        (0, 6 * CHUNK_SAMPLES),
        (14 * CHUNK_SAMPLES, 15 * CHUNK_SAMPLES),
    ]


def test_a_word_that_reaches_into_a_pause_ends_where_its_speech_does() -> None:
    track = heard("#" * 20 + "." * 50 + "#" * 20)
    placed = clamped([word(" said.", 0, 70), word(" No", 70, 80)], track)
    assert chunks(placed) == [(0, 21), (70, 80)]


def test_a_word_that_begins_in_the_pause_before_it_is_behind_it() -> None:
    track = heard("#" * 20 + "." * 50 + "#" * 20)
    # The detector hears the word before for ten chunks more than the aligner gives it.
    placed = clamped([word(" Hello", 0, 10), word(" I", 10, 76), word(" really", 76, 90)], track)
    assert chunks(placed) == [(0, 10), (69, 76), (76, 90)]


def test_a_word_with_a_mark_behind_it_is_before_the_pause() -> None:
    track = heard("#" * 20 + "." * 50 + "#" * 20)
    placed = clamped([word(" Hello.", 0, 76), word(" really", 76, 90)], track)
    assert chunks(placed) == [(0, 21), (76, 90)]


def test_a_word_in_silence_goes_to_the_speech_beside_it() -> None:
    track = heard("#" * 20 + "." * 20 + "#" * 15 + "." * 30)
    placed = clamped([word(" Hello.", 0, 20), word(" Hello.", 34, 38)], track)
    assert chunks(placed) == [(0, 20), (40, 55)]


def test_a_copy_in_silence_is_not_in_the_last_of_the_word_before() -> None:
    # The detector hears the word for six chunks more than the aligner gives it.
    track = heard("#" * 20 + "." * 40)
    said = [word(" No", 5, 14), word(" way", 24, 24)]
    assert chunks(clamped(said, track)) == [(5, 14), (14, 20)]
    said = [word(" No.", 5, 14), word(" No.", 24, 24)]
    assert chunks(clamped(said, track, copied={1})) == [(5, 14), (24, 24)]
    assert chunks(clamped(said[1:], track, 14 * CHUNK_SAMPLES, copied={0})) == [(24, 24)]


def test_a_copy_in_silence_goes_to_speech_that_begins_beside_it() -> None:
    track = heard("#" * 20 + "." * 10 + "#" * 10 + "." * 30)
    placed = clamped([word(" No.", 5, 14), word(" No.", 42, 42)], track, copied={1})
    assert chunks(placed) == [(5, 14), (30, 40)]


def test_words_without_a_pause_in_them_keep_their_times() -> None:
    track = heard("#" * 40)
    said = [word(" one", 0, 12), word(" two", 12, 13), word(" three", 13, 40)]
    assert clamped(said, track) == tuple(said)


def test_words_in_nothing_but_silence_keep_their_times() -> None:
    said = [word(" one", 0, 12)]
    assert clamped(said, heard("." * 40)) == tuple(said)
