"""Words × turns: whose a word is where turns are clear, where they overlap, and where there are none."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.attribution import (
    MAX_SEGMENT_SAMPLES,
    PAUSE_SAMPLES,
    attribute,
    final_segments,
    live_to_final,
    turns_of,
)
from live_asr.core.types import Turn, Word, samples


def word(start: float, end: float, speaker: str | None = None, text: str = " word") -> Word:
    return Word(text, samples(start), samples(end), 0.9, (), speaker)


def turn(start: float, end: float, speaker: str) -> Turn:
    return Turn(samples(start), samples(end), speaker)


def speakers(words: list[Word], turns: list[Turn]) -> str:
    """Return who said each word: one letter a word, a dash for nobody."""
    return "".join(word.speaker or "-" for word in attribute(words, turns))


def spoken(count: int, start: float = 0.0, each: float = 0.5) -> list[Word]:
    return [word(start + each * index, start + each * (index + 1)) for index in range(count)]


# Whose a word is ----------------------------------------------------------------------------------


def test_a_word_belongs_to_the_speaker_who_covers_most_of_it() -> None:
    assert speakers([word(0.0, 1.0)], [turn(0.0, 0.4, "A"), turn(0.4, 2.0, "B")]) == "B"
    assert speakers([word(0.0, 1.0)], [turn(0.0, 0.6, "A"), turn(0.6, 2.0, "B")]) == "A"


def test_several_turns_of_one_speaker_in_a_word_count_together() -> None:
    turns = [turn(0.0, 0.3, "A"), turn(0.3, 0.7, "B"), turn(0.7, 1.0, "A")]
    assert speakers([word(0.0, 1.0)], turns) == "A"


def test_who_was_speaking_keeps_the_words_that_somebody_speaks_into() -> None:
    assert speakers(spoken(6), [turn(0.0, 3.0, "A"), turn(1.0, 2.0, "B")]) == "AAAAAA"


def test_who_is_spoken_into_keeps_the_word_until_the_other_is_alone() -> None:
    assert speakers(spoken(6), [turn(0.0, 2.0, "A"), turn(1.0, 3.0, "B")]) == "AAAABB"


def test_overlapped_words_at_the_beginning_belong_to_who_goes_on() -> None:
    assert speakers(spoken(4), [turn(0.0, 1.0, "A"), turn(0.0, 2.0, "B")]) == "BBBB"


def test_a_word_outside_all_turns_belongs_to_the_nearest_within_reach() -> None:
    turns = [turn(0.0, 1.0, "A"), turn(2.0, 3.0, "B")]
    assert speakers([word(0.2, 0.8), word(1.2, 1.4), word(1.6, 1.8)], turns) == "AAB"


def test_a_word_far_from_all_turns_belongs_to_who_spoke_before_it() -> None:
    turns = [turn(0.0, 1.0, "A"), turn(5.0, 6.0, "B")]
    assert speakers([word(0.2, 0.8), word(3.5, 4.0), word(5.2, 5.8)], turns) == "AAB"


def test_a_word_far_before_all_turns_belongs_to_the_first_who_speaks() -> None:
    assert speakers([word(0.0, 0.5), word(5.2, 5.8)], [turn(5.0, 6.0, "B")]) == "BB"
    assert speakers([word(0.0, 0.5)], [turn(5.0, 6.0, "B")]) == "B"


def test_a_turn_that_ended_long_ago_and_began_late_is_not_taken_for_the_nearest() -> None:
    turns = [turn(0.0, 9.8, "A"), turn(1.0, 2.0, "B")]
    assert speakers([word(9.9, 10.0)], turns) == "A"


def test_without_turns_no_word_has_a_speaker() -> None:
    assert speakers([word(0.0, 1.0, "S1")], []) == "-"


@pytest.mark.parametrize("length", [0.0, 0.001])
def test_a_word_without_length_belongs_to_who_speaks_then(length: float) -> None:
    assert speakers([word(2.5, 2.5 + length)], [turn(0.0, 2.0, "A"), turn(2.0, 3.0, "B")]) == "B"


def sentence(text: str, start: float = 0.0, each: float = 0.5) -> list[Word]:
    return [word(start + each * n, start + each * (n + 1), None, f" {w}") for n, w in enumerate(text.split())]


def test_a_change_of_speaker_is_moved_to_the_end_of_the_sentence_that_is_spoken_into() -> None:
    said = sentence("I said so already. Yes you did.")
    # Sooner, later, and where the sentence ends: of the words between both are heard near.
    for change in (1.2, 1.5, 2.0, 2.4):
        turns = [turn(0.0, change, "A"), turn(change - 0.4, 3.5, "B")]
        assert speakers(said, turns) == "AAAABBB", change


def test_a_change_of_speaker_that_nobody_disputes_stays_within_its_sentence() -> None:
    said = sentence("I said so already you know and yes you did.")
    assert speakers(said, [turn(0.0, 2.0, "A"), turn(2.0, 5.0, "B")]) == "AAAABBBBBB"
    far = [*sentence("I wanted"), *sentence("to go. Where?", start=4.0)]
    assert speakers(far, [turn(0.0, 1.0, "A"), turn(4.0, 6.0, "B")]) == "AABBB"


def test_a_piece_of_a_word_belongs_to_who_said_its_beginning() -> None:
    pieces = [word(0.0, 0.5), word(0.5, 1.0, None, " forty"), word(1.0, 1.5, None, "-two"), word(1.5, 2.0)]
    assert speakers(pieces, [turn(0.0, 1.0, "A"), turn(1.0, 2.0, "B")]) == "AAAB"
    without_spaces = [word(0.5 * n, 0.5 * n + 0.5, None, text) for n, text in enumerate("今天早上")]
    assert speakers(without_spaces, [turn(0.0, 1.0, "A"), turn(1.0, 2.0, "B")]) == "AABB"


def test_short_answers_keep_their_speakers() -> None:
    said = sentence("Really? Yes. Good. I know.")
    turns = [turn(0.0, 0.5, "A"), turn(0.5, 1.0, "B"), turn(1.0, 1.5, "A"), turn(1.5, 2.5, "B")]
    assert speakers(said, turns) == "ABABB"


moments = st.integers(0, samples(60.0))
lengths = st.integers(0, samples(3.0))


def lists_of_words(*texts: str) -> st.SearchStrategy[list[Word]]:
    return st.lists(
        st.builds(
            lambda start, length, speaker, text: Word(text, start, start + length, 0.5, (7,), speaker),
            moments,
            lengths,
            st.sampled_from([None, "S1", "S2", "S3"]),
            st.sampled_from(texts),
        ),
        max_size=40,
    )


some_words = lists_of_words(" w", " w.", "w")
some_turns = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(start, start + length, speaker),
        moments,
        lengths,
        st.sampled_from(["A", "B", "C"]),
    ),
    max_size=20,
)


@given(some_words, some_turns)
def test_any_words_come_back_in_order_and_each_with_somebody_who_speaks(
    words: list[Word], turns: list[Turn]
) -> None:
    attributed = attribute(words, turns)
    assert [replace(word, speaker=None) for word in attributed] == [
        replace(word, speaker=None) for word in words
    ]
    labels = {turn.speaker for turn in turns}
    assert all(word.speaker in labels for word in attributed) if turns else True
    assert all(word.speaker is None for word in attributed) if not turns else True


@given(lists_of_words(" w"), some_turns)
def test_no_word_within_a_sentence_goes_to_somebody_who_covers_less_of_it_than_another(
    words: list[Word], turns: list[Turn]
) -> None:
    for word in attribute(words, turns):
        cover: dict[str, set[int]] = {}
        for one in turns:
            start, end = max(one.start_sample, word.start_sample), min(one.end_sample, word.end_sample)
            cover.setdefault(one.speaker, set()).update(range(-(-start // 100), -(-end // 100)))
        most = max(map(len, cover.values()), default=0)
        # Each hundredth sample was counted, so a turn may seem longer by one.
        assert word.speaker is None or len(cover[word.speaker]) >= most - len(turns)


# Live labels --------------------------------------------------------------------------------------


def test_a_live_label_becomes_the_speaker_who_said_most_of_its_words() -> None:
    live = [word(0.0, 1.0, "S1"), word(1.0, 2.0, "S2"), word(2.0, 3.0, "S1"), word(3.0, 3.2, "S3")]
    turns = [turn(0.0, 1.0, "A"), turn(1.0, 2.0, "B"), turn(2.0, 4.0, "A")]
    assert live_to_final(live, turns) == {"S1": "A", "S2": "B", "S3": "A"}


def test_live_labels_are_mapped_by_length_of_words_and_not_by_their_number() -> None:
    live = [word(0.0, 0.1, "S1"), word(0.1, 0.2, "S1"), word(1.0, 3.0, "S1")]
    assert live_to_final(live, [turn(0.0, 0.5, "A"), turn(1.0, 3.0, "B")]) == {"S1": "B"}


def test_live_labels_can_be_mapped_by_the_final_words() -> None:
    live = [word(0.0, 1.0, "S1"), word(1.0, 2.0, "S2"), word(2.0, 3.0, None)]
    assert live_to_final(live, [word(0.0, 1.0, "A"), word(1.1, 2.2, "B")]) == {"S1": "A", "S2": "B"}


@given(some_words, some_turns.filter(bool))
def test_every_live_label_is_mapped_as_long_as_anybody_speaks(words: list[Word], turns: list[Turn]) -> None:
    mapped = live_to_final(words, turns)
    assert set(mapped) == {word.speaker for word in words if word.speaker is not None}
    assert set(mapped.values()) <= {turn.speaker for turn in turns}


# Segments and turns -------------------------------------------------------------------------------


def test_a_segment_ends_where_the_speaker_changes_and_at_a_pause() -> None:
    words = [word(0.0, 0.5, "A"), word(0.5, 1.0, "B"), word(1.0, 1.5, "B"), word(3.0, 3.5, "B")]
    segments = final_segments(words)
    assert [(len(segment.words), segment.speaker) for segment in segments] == [(1, "A"), (2, "B"), (1, "B")]
    assert (segments[1].start_sample, segments[1].end_sample) == (samples(0.5), samples(1.5))


def test_a_segment_that_is_long_enough_ends_with_its_sentence() -> None:
    texts = [" Yes.", " That", " is", " what", " I", " wanted", " to", " say", " here.", " And", " more."]
    words = [word(0.5 * n, 0.5 * n + 0.5, "A", text) for n, text in enumerate(texts)]
    assert [segment.text for segment in final_segments(words)] == [
        "Yes. That is what I wanted to say here.",
        "And more.",
    ]


def test_speech_without_full_stops_is_cut_all_the_same() -> None:
    segments = final_segments(spoken(200))
    longest = max(segment.end_sample - segment.start_sample for segment in segments)
    assert longest <= MAX_SEGMENT_SAMPLES
    assert sum(len(segment.words) for segment in segments) == 200


@given(some_words)
def test_segments_hold_every_word_once_in_order_and_of_one_speaker(words: list[Word]) -> None:
    segments = final_segments(words)
    assert [word for segment in segments for word in segment.words] == words
    for segment in segments:
        assert {word.speaker for word in segment.words} == {segment.speaker}
        assert all(b.start_sample - a.end_sample < PAUSE_SAMPLES for a, b in pairwise(segment.words))


def test_turns_of_words_join_what_one_speaker_says_on_end() -> None:
    words = [
        *(word(0.0, 0.5, "A"), word(0.6, 1.0, "A"), word(1.6, 2.0, "A")),
        *(word(2.0, 2.4, "B"), word(2.4, 2.7, "A"), word(2.7, 3.0, None), word(3.0, 3.2, "A")),
    ]
    assert turns_of(words) == (
        *(turn(0.0, 1.0, "A"), turn(1.6, 2.0, "A"), turn(2.0, 2.4, "B"), turn(2.4, 3.2, "A")),
    )


@given(some_words)
def test_turns_of_words_are_in_order_and_cover_all_that_has_a_speaker(words: list[Word]) -> None:
    turns = turns_of(words)
    assert list(turns) == sorted(turns, key=lambda turn: turn.start_sample)
    for one in words:
        assert one.speaker is None or any(
            turn.speaker == one.speaker
            and turn.start_sample <= one.start_sample
            and one.end_sample <= turn.end_sample
            for turn in turns
        )
