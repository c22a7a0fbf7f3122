"""Corrections by hand: what becomes of words, times, speakers and turns."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.editing import REVISION, Edit, EditError, Merge, Reassign, Reword, edited
from live_asr.core.messages import Final, FinalSegment, FinalSpeaker, WireWord
from live_asr.core.result import Result
from live_asr.core.types import Turn, samples

ANNA, BEN, CARL = "SPEAKER_00", "SPEAKER_01", "SPEAKER_02"


def line(text: str, start: float, speaker: str | None, *, space: str = " ") -> FinalSegment:
    """Say words of a second each, half a second apart."""
    words = tuple(
        WireWord(space + part, start + 1.5 * at, start + 1.5 * at + 1.0, 0.5, speaker)
        for at, part in enumerate(text.split())
    )
    return FinalSegment(start, words[-1].end, speaker, "".join(word.text for word in words).strip(), words)


def final_of(*segments: FinalSegment) -> Final:
    speakers = tuple(
        FinalSpeaker(label, (live,), 1.0, 1)
        for label, live in ((ANNA, "S1"), (BEN, "S2"), (CARL, "S3"))
        if any(segment.speaker == label for segment in segments)
    )
    text = "".join(word.text for segment in segments for word in segment.words)
    return Final(9, 1, 60.0, "en", text, segments, speakers, {"json": "/x"}, "full")


TALK = final_of(
    line("Misses Thornton was there", 0, ANNA),
    line("Was she", 10, BEN),
    line("Yes she was", 20, ANNA),
    line("I see", 30, CARL),
)


def edit(*edits: Edit, final: Final = TALK, turns: tuple[Turn, ...] = ()) -> Result:
    return edited(final, turns, edits)


def timed(result: Result, segment: int) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in result.final.segments[segment].words]


def who(result: Result) -> list[tuple[str, tuple[str, ...]]]:
    return [(speaker.label, speaker.live_labels) for speaker in result.final.speakers]


def test_a_word_is_replaced_in_its_own_time_and_all_else_stays() -> None:
    result = edit(Reword(0, "Margaret", word=0))
    assert timed(result, 0)[:2] == [(" Margaret", 0.0, 1.0), (" Thornton", 1.5, 2.5)]
    changed, kept = result.final.segments[0].words[:2]
    assert (changed.source, changed.probability, changed.speaker) == ("hand", 1.0, ANNA)
    assert (kept.source, kept.probability) == (None, 0.5)
    assert result.final.revision == REVISION == 2
    assert result.final.segments[0].text == "Margaret Thornton was there"
    assert result.final.text == " Margaret Thornton was there Was she Yes she was I see"
    assert result.final.segments[1:] == TALK.segments[1:]
    assert TALK.segments[0].text == "Misses Thornton was there", "the original stays"


def test_new_words_share_the_time_of_those_that_they_replace() -> None:
    assert timed(edit(Reword(0, "Mrs Ann Thornton was here")), 0) == [
        (" Mrs", 0.0, 0.5),
        (" Ann", 0.5, 1.0),
        (" Thornton", 1.5, 2.5),
        (" was", 3.0, 4.0),
        (" here", 4.5, 5.5),
    ]
    assert timed(edit(Reword(1, "Well was she")), 1) == [
        (" Well", 10.0, 10.571),
        (" was", 10.571, 11.0),
        (" she", 11.5, 12.5),
    ]


def test_words_that_come_in_between_take_time_from_the_one_beside_them() -> None:
    assert timed(edit(Reword(1, "x Was y she z")), 1) == [
        (" x", 10.0, 10.2),
        (" Was", 10.2, 10.8),
        (" y", 10.8, 11.0),
        (" she", 11.5, 12.25),
        (" z", 12.25, 12.5),
    ]


def test_an_emptied_line_goes_and_the_numbers_of_the_others_count_as_before() -> None:
    result = edit(Reword(1, " "), Reword(2, "No", word=0))
    assert [segment.text for segment in result.final.segments] == [
        "Misses Thornton was there",
        "No she was",
        "I see",
    ]


def test_a_language_without_spaces_keeps_the_words_around_a_change() -> None:
    spoken = final_of(line("今天 早上 好", 0, ANNA, space=""))
    assert timed(edit(Reword(0, "今天晚上好"), final=spoken), 0) == [
        ("今天", 0.0, 1.0),
        ("晚上", 1.5, 2.5),
        ("好", 3.0, 4.0),
    ]
    assert [text for text, *_ in timed(edit(Reword(0, "今天早上很好"), final=spoken), 0)] == [
        "今天",
        "早上很",
        "好",
    ]
    assert [text for text, *_ in timed(edit(Reword(0, "啊今天早上好"), final=spoken), 0)] == [
        "啊今天",
        "早上",
        "好",
    ]


def test_a_line_goes_to_another_speaker_with_its_words_and_its_time() -> None:
    turns = (
        Turn(samples(0), samples(25), ANNA),
        Turn(samples(10), samples(12.5), BEN),
        Turn(samples(30), samples(32), CARL),
    )
    result = edit(Reassign(2, BEN), turns=turns)
    said = result.final.segments[2]
    assert (said.speaker, {word.speaker for word in said.words}) == (BEN, {BEN})
    assert result.turns == (
        Turn(samples(0), samples(20), ANNA),
        Turn(samples(10), samples(12.5), BEN),
        Turn(samples(20), samples(24), BEN),
        Turn(samples(24), samples(25), ANNA),
        Turn(samples(30), samples(32), CARL),
    )
    assert [(one.label, one.duration, one.turns) for one in result.final.speakers] == [
        (ANNA, 21.0, 2),
        (BEN, 6.5, 2),
        (CARL, 2.0, 1),
    ]


def test_a_speaker_may_be_one_that_nobody_was_before_but_only_the_next() -> None:
    assert [segment.speaker for segment in edit(Reassign(1, "SPEAKER_03")).final.segments] == [
        ANNA,
        "SPEAKER_03",
        ANNA,
        CARL,
    ]
    with pytest.raises(EditError, match="the next new one would be SPEAKER_03"):
        edit(Reassign(1, "SPEAKER_07"))
    alone = edit(Reassign(0, ANNA), final=final_of(line("Who is it", 0, None)))
    assert who(alone) == [(ANNA, ())]


def test_merged_speakers_are_one_and_every_label_is_accounted_for() -> None:
    result = edit(Merge(CARL, ANNA))
    assert [segment.speaker for segment in result.final.segments] == [ANNA, BEN, ANNA, ANNA]
    assert who(result) == [(ANNA, ("S1", "S3", CARL)), (BEN, ("S2",))]
    assert {turn.speaker for turn in result.turns} == {ANNA, BEN}
    # Whose last line is given away became whoever got it.
    assert who(edit(Reassign(1, CARL))) == [(ANNA, ("S1",)), (CARL, ("S2", BEN, "S3"))]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (Reword(4, "x"), "There is no segment 4; there are 4"),
        (Reword(1, "x", word=2), "Segment 1 has no word 2; it has 2 words"),
        (Reword(1, "two\nlines"), "line breaks"),
        (Merge("SPEAKER_09", ANNA), "There is no speaker SPEAKER_09"),
        (Merge(ANNA, "SPEAKER_09"), "There is no speaker SPEAKER_09"),
        (Merge(ANNA, ANNA), "the same speaker"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(change: Edit, complaint: str) -> None:
    with pytest.raises(EditError, match=complaint):
        edit(change)


tokens = st.lists(st.sampled_from(["was", "she", "there", "a", "Thornton"]), max_size=8)


@given(tokens.filter(bool), tokens.filter(bool))
def test_any_line_says_what_was_written_in_the_time_of_what_was_said(
    before: list[str], after: list[str]
) -> None:
    spoken = final_of(line(" ".join(before), 5, ANNA))
    result = edit(Reword(0, " ".join(after)), final=spoken)
    (segment,) = result.final.segments
    assert segment.text == " ".join(after)
    assert "".join(word.text for word in segment.words) == " " + segment.text == result.final.text
    assert all(one.end <= other.start for one, other in pairwise(segment.words))
    assert segment.start >= 5 and segment.end <= spoken.segments[0].end
    assert all(word.end > word.start for word in segment.words)
