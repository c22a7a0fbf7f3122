"""Speakers heard live, laid over the speech that the pipeline found."""

from __future__ import annotations

from live_asr.core.types import Turn, samples
from live_asr.full_pass.live_speakers import with_live_speakers


def turn(start: float, end: float, speaker: str) -> Turn:
    return Turn(samples(start), samples(end), speaker)


def test_two_who_were_taken_for_one_are_told_apart_where_one_stopped_and_the_other_began() -> None:
    found = with_live_speakers([turn(0, 10, "a")], [turn(0, 4, "S1"), turn(4, 10, "S2")])
    assert found == (turn(0, 4, "S1"), turn(4, 10, "S2"))


def test_one_who_was_taken_for_two_is_one() -> None:
    found = with_live_speakers([turn(0, 4, "a"), turn(5, 9, "b")], [turn(0, 4, "S1"), turn(5, 9, "S1")])
    assert found == (turn(0, 4, "S1"), turn(5, 9, "S1"))


def test_when_somebody_speaks_is_what_the_pipeline_says() -> None:
    found = with_live_speakers([turn(1, 4, "a"), turn(5, 9, "b")], [turn(0.8, 3, "S1"), turn(5.3, 10, "S2")])
    assert found == (turn(1, 4, "S1"), turn(5, 9, "S2"))


def test_a_tenth_of_a_second_at_an_edge_is_no_turn() -> None:
    found = with_live_speakers([turn(0, 4, "a"), turn(4, 9, "b")], [turn(0, 4.1, "S1"), turn(4.1, 9, "S2")])
    assert found == (turn(0, 4, "S1"), turn(4, 9, "S2"))


def test_what_was_not_heard_live_goes_to_who_is_heard_next_to_it() -> None:
    found = with_live_speakers([turn(0, 10, "a")], [turn(0, 3, "S1"), turn(5, 10, "S2")])
    assert found == (turn(0, 4, "S1"), turn(4, 10, "S2"))


def test_two_who_speak_at_once_both_keep_their_turns() -> None:
    found = with_live_speakers([turn(0, 6, "a"), turn(4, 10, "b")], [turn(0, 5, "S1"), turn(5, 10, "S2")])
    assert found == (turn(0, 6, "S1"), turn(4, 10, "S2"))


def test_who_only_speaks_while_somebody_else_does_is_the_other_one_heard_then() -> None:
    both = [turn(0, 10, "a"), turn(4, 5, "b")]
    assert with_live_speakers(both, [turn(0, 10, "S1"), turn(4, 5, "S2")]) == (
        turn(0, 10, "S1"),
        turn(4, 5, "S2"),
    )


def test_a_turn_that_nobody_was_heard_in_is_whose_the_speakers_other_turns_are() -> None:
    found = with_live_speakers([turn(0, 4, "a"), turn(20, 24, "a")], [turn(0, 4, "S1"), turn(5, 9, "S2")])
    assert found == (turn(0, 4, "S1"), turn(20, 24, "S1"))


def test_one_who_was_never_heard_live_stays_somebody_else() -> None:
    found = with_live_speakers([turn(0, 4, "a"), turn(20, 24, "b")], [turn(0, 4, "S1")])
    assert found[0] == turn(0, 4, "S1")
    assert (found[1].start_sample, found[1].end_sample) == (samples(20), samples(24))
    assert found[1].speaker != "S1"
