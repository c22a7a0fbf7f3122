"""Settling the voices: every stretch goes to the speaker whom it sounds like."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_asr.core.types import Turn, samples
from live_asr.full_pass.speaker_reassignment import reassign_speakers
from live_asr.models.interfaces import FloatArray

ANNA, BEN = 1000, 8000
"""Two voices: the level at which each speaks."""


def embed(audio: FloatArray) -> FloatArray:
    """Tell the two apart by their level."""
    loud = float(np.abs(audio).mean() * 32768)
    angle = np.pi / 2 * (loud - ANNA) / (BEN - ANNA)
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


def recording(*spoken: tuple[float, float, int]) -> NDArray[np.int16]:
    """Audio in which voices speak between these times."""
    audio = np.zeros(samples(60.0), np.int16)
    for start, end, level in spoken:
        audio[samples(start) : samples(end)] = level
    return audio


def turn(start: float, end: float, speaker: str) -> Turn:
    return Turn(samples(start), samples(end), speaker)


TALK = recording((0, 10, ANNA), (11, 13, BEN), (14, 24, BEN), (25, 30, ANNA))


def settle(turns: tuple[Turn, ...], pcm: NDArray[np.int16], **bounds: Any) -> tuple[Turn, ...]:
    """Settle one guess."""
    return reassign_speakers([turns], pcm, embed, threshold=0.8, equal_error_distance=0.7, **bounds)


def test_a_turn_given_to_the_wrong_speaker_goes_to_the_right_one() -> None:
    wrong = (turn(0, 10, "a"), turn(11, 13, "a"), turn(14, 24, "b"), turn(25, 30, "a"))
    right = (turn(0, 10, "a"), turn(11, 13, "b"), turn(14, 24, "b"), turn(25, 30, "a"))
    assert settle(wrong, TALK) == right


def test_turns_that_are_right_are_left_as_they_are() -> None:
    right = (turn(0, 10, "a"), turn(11, 13, "b"), turn(14, 24, "b"), turn(25, 30, "a"))
    assert settle(right, TALK) == right


def test_a_change_of_speaker_inside_a_turn_is_found_to_two_seconds() -> None:
    pcm = recording((0, 10, ANNA), (10, 20, BEN), (30, 40, ANNA), (40, 50, BEN))
    settled = settle((turn(0, 20, "a"), turn(30, 40, "a"), turn(40, 50, "b")), pcm)
    assert [part.speaker for part in settled] == ["a", "b", "a", "b"]
    assert abs(settled[0].end_sample - samples(10.0)) <= samples(2.5)


def test_who_speaks_over_another_keeps_the_words() -> None:
    pcm = recording((0, 10, ANNA), (10, 24, BEN))
    both = (turn(0, 10, "a"), turn(9, 24, "b"))
    assert settle(both, pcm) == both


def test_a_stretch_too_short_to_tell_stays_with_its_speaker() -> None:
    short = (turn(0, 10, "a"), turn(11, 11.4, "a"), turn(14, 24, "b"))
    assert settle(short, TALK) == short


def test_nothing_is_changed_where_too_few_speakers_would_be_left() -> None:
    pcm = recording((0, 10, ANNA), (10, 20, BEN), (30, 32, ANNA), (32, 33, BEN))
    three = (turn(0, 10, "a"), turn(10, 20, "b"), turn(30, 32.5, "c"))
    assert {part.speaker for part in settle(three, pcm)} == {"a", "b", "c"}
    mixed = (turn(0, 10, "a"), turn(10, 20, "b"), turn(30, 31.6, "c"), turn(31.6, 33, "c"))
    freely = {part.speaker for part in settle(mixed, pcm)}
    assert len(freely) < 3
    assert settle(mixed, pcm, min_speakers=3) == mixed


def test_two_voices_that_were_taken_for_one_all_along_become_two() -> None:
    pcm = recording((0, 10, ANNA), (10, 20, BEN), (30, 40, ANNA), (40, 46, BEN))
    found = settle((turn(0, 20, "a"), turn(30, 46, "a")), pcm)
    first, second = found[0].speaker, found[1].speaker
    assert first != second
    assert [part.speaker for part in found] == [first, second, first, second]


def test_a_voice_that_is_near_to_its_speaker_or_heard_too_shortly_is_nobody_new() -> None:
    talk = (turn(0, 20, "a"), turn(30, 40, "a"))
    alike = recording((0, 10, ANNA), (10, 20, (ANNA + BEN) // 2), (30, 40, ANNA))
    assert {part.speaker for part in settle(talk, alike)} == {"a"}
    short = recording((0, 10, ANNA), (10, 15, BEN), (15, 20, ANNA), (30, 40, ANNA))
    assert {part.speaker for part in settle(talk, short)} == {"a"}


def test_no_voice_becomes_one_speaker_more_than_there_may_be() -> None:
    pcm = recording((0, 10, ANNA), (10, 20, BEN))
    assert settle((turn(0, 20, "a"),), pcm, max_speakers=1) == (turn(0, 20, "a"),)


def test_its_progress_ends_with_all() -> None:
    shares: list[float] = []
    settle((turn(0, 10, "a"), turn(14, 24, "b")), TALK, on_share=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0


# Several guesses ----------------------------------------------------------------------------------------

TWO = (turn(0, 10, "a"), turn(11, 24, "b"), turn(25, 30, "a"))
ONE = (turn(0, 30, "a"),)
THREE = (turn(0, 10, "a"), turn(11, 24, "b"), turn(25, 30, "c"))


def best(*guesses: tuple[Turn, ...], threshold: float = 2.0, **bounds: Any) -> tuple[Turn, ...]:
    """Return the best guess; no voice is far enough from another to become a speaker by itself."""
    return reassign_speakers(guesses, TALK, embed, threshold=threshold, equal_error_distance=0.7, **bounds)


def test_the_guess_whose_speakers_each_sound_like_one_person_is_the_best_in_any_order() -> None:
    assert best(ONE, TWO) == best(TWO, ONE) == TWO
    assert best(TWO, THREE) == best(THREE, TWO) == TWO


def test_of_guesses_that_are_as_good_the_first_stands() -> None:
    other = tuple(Turn(part.start_sample, part.end_sample, f"S{part.speaker}") for part in TWO)
    assert best(TWO, other) == TWO
    assert best(other, TWO) == other


def test_a_guess_within_the_bounds_is_taken_before_a_better_one_outside() -> None:
    assert {part.speaker for part in best(TWO, THREE, min_speakers=3)} == {"a", "b", "c"}
    assert {part.speaker for part in best(TWO, ONE, max_speakers=1)} == {"a"}
    assert best(ONE, TWO, min_speakers=4) == TWO


def test_voices_that_are_near_to_each_other_all_along_are_still_two() -> None:
    near = ANNA + (BEN - ANNA) * 3 // 5  # 0.41 from Anna's voice, as the voices of a telephone call are
    pcm = recording((0, 10, ANNA), (11, 24, near), (25, 30, ANNA))
    assert reassign_speakers([ONE, TWO], pcm, embed, threshold=2.0, equal_error_distance=0.7) == TWO
