"""The replay's lines and summary: pure, so a message in is lines out."""

from __future__ import annotations

import pytest
from scripted_peer import commit

from live_asr.core.errors import ConfigError
from live_asr.core.messages import (
    Commit,
    Final,
    FinalSegment,
    FinalSpeaker,
    Label,
    Lag,
    Stopped,
    UtteranceMessage,
    WireWord,
)
from live_asr.replay.lines import Line, Lines
from live_asr.replay.speakers import speaker_limits
from live_asr.replay.summary import clock, colour_of, summary, timeline

SENTENCE = " This sentence is long enough to be shown on a line of its own."


def ended(seq: int, utterance: int = 0, speaker: str | None = None) -> UtteranceMessage:
    return UtteranceMessage(seq, utterance, 0.0, 1.0, "", speaker, "en")


# Lines --------------------------------------------------------------------------------------------


def test_a_line_waits_for_the_end_of_its_utterance() -> None:
    lines = Lines()
    assert lines.apply(commit(1, " Hello", "S1")) == []
    assert lines.apply(commit(2, " there", "S1")) == []
    assert lines.pending == [Line(0.0, "S1", "Hello there")]
    assert lines.apply(ended(3)) == [Line(0.0, "S1", "Hello there")]
    assert lines.pending == []


def test_a_sentence_that_fills_a_line_does_not_wait() -> None:
    lines = Lines()
    assert lines.apply(commit(1, SENTENCE, "S1")) == [Line(0.0, "S1", SENTENCE.strip())]


def test_a_change_of_speaker_within_an_utterance_ends_the_line() -> None:
    lines = Lines()
    lines.apply(commit(1, " Hello", "S1"))
    assert lines.apply(commit(2, " Hi", "S2")) == [Line(0.0, "S1", "Hello")]
    assert lines.pending == [Line(1.0, "S2", "Hi")]


def test_a_word_of_no_speaker_yet_does_not_end_the_line_before_it() -> None:
    lines = Lines()
    lines.apply(commit(1, " Hello", "S1"))
    assert lines.apply(commit(2, " there")) == []
    lines.apply(Label(3, 1.0, 2.0, "S1"))
    assert lines.apply(ended(4)) == [Line(0.0, "S1", "Hello there")]


def test_a_label_changes_what_is_not_printed_yet_and_only_the_words_it_covers() -> None:
    lines = Lines()
    lines.apply(commit(1, " Hello", "S1"))
    lines.apply(commit(2, " there", "S1"))
    lines.apply(Label(3, 1.2, 2.0, "S2"))
    assert [line.speaker for line in lines.pending] == ["S2"]
    assert lines.pending[0].text == "there"


def test_a_complete_utterance_waits_for_its_label() -> None:
    lines = Lines()
    lines.apply(commit(1, " Hello"))
    assert lines.apply(ended(2)) == []
    assert lines.apply(Label(3, 0.0, 1.0, "S1")) == [Line(0.0, "S1", "Hello")]


def test_the_speaker_of_a_complete_utterance_is_that_of_its_words_without_one() -> None:
    lines = Lines()
    lines.apply(commit(1, " Hello"))
    assert lines.apply(ended(2, speaker="S1")) == [Line(0.0, "S1", "Hello")]


@pytest.mark.parametrize("later", [Lag(9.0, 6.0, 3.0), commit(6, " well", utterance=1)])
def test_an_utterance_is_not_kept_back_for_ever_for_a_label_that_does_not_come(later: object) -> None:
    lines = Lines()
    lines.apply(commit(1, " Hello"))
    assert lines.apply(ended(2)) == []
    assert lines.apply(Lag(9.0, 5.9, 3.0)) == []
    assert lines.apply(later) == [Line(0.0, None, "Hello")]


def test_lines_come_in_the_order_of_speech_whichever_label_comes_first() -> None:
    lines = Lines()
    lines.apply(commit(1, " Hello"))
    lines.apply(ended(2))
    lines.apply(commit(3, " Hi", utterance=1))
    assert lines.apply(Label(4, 2.0, 3.0, "S2")) == []
    assert lines.apply(Label(5, 0.0, 1.0, "S1")) == [Line(0.0, "S1", "Hello")]
    assert lines.apply(ended(6, utterance=1)) == [Line(2.0, "S2", "Hi")]


def test_where_nobody_is_told_apart_nothing_waits_for_a_label() -> None:
    lines = Lines(with_speakers=False)
    lines.apply(commit(1, " Hello"))
    assert lines.apply(ended(2)) == [Line(0.0, None, "Hello")]


def test_the_end_of_the_live_transcript_brings_all_that_is_left() -> None:
    lines = Lines()
    lines.apply(commit(1, " Hello"))
    assert lines.apply(Stopped(2, 1.0, " Hello")) == [Line(0.0, None, "Hello")]
    assert lines.flush() == []


def test_a_commit_without_words_and_words_of_spaces_make_no_line() -> None:
    lines = Lines()
    assert lines.apply(Commit(1, (), "", 0)) == []
    lines.apply(Commit(2, (WireWord(" ", 0.0, 0.1, 1.0, "S1"),), " ", 0))
    assert lines.apply(ended(3)) == []
    assert lines.pending == []


# Summary ------------------------------------------------------------------------------------------


def final_of(*speakers: FinalSpeaker, labels: str = "full") -> Final:
    segments = (
        FinalSegment(0.0, 30.0, "SPEAKER_00", "", ()),
        FinalSegment(30.0, 60.0, "SPEAKER_01", "", ()),
    )
    return Final(9, 1, 60.0, "en", "", segments, speakers, {}, labels)


def test_the_summary_has_who_talked_longest_first_and_what_became_of_the_live_labels() -> None:
    speakers = FinalSpeaker("SPEAKER_00", ("S2",), 15.0, 1), FinalSpeaker("SPEAKER_01", ("S1", "S3"), 45.0, 3)
    lines = [line.plain for line in summary(final_of(*speakers), with_timeline=False)]
    assert lines == [
        "2 speakers",
        "  SPEAKER_01  00:45   75%  3 turns  live S1, S3",
        "  SPEAKER_00  00:15   25%  1 turn  live S2",
    ]


def test_a_speaker_keeps_the_colour_of_its_first_live_label() -> None:
    lines = summary(final_of(FinalSpeaker("SPEAKER_00", ("S2",), 15.0, 1)), with_timeline=False)
    assert colour_of("S2") != colour_of("SPEAKER_00")
    assert any(colour_of("S2") in str(span.style) for span in lines[1].spans)


def test_the_summary_says_where_only_the_live_labels_are_known() -> None:
    lines = summary(final_of(FinalSpeaker("SPEAKER_00", (), 15.0, 1), labels="live"), with_timeline=False)
    assert lines[0].plain == "1 speaker, as told apart live"


def test_a_result_without_speakers_has_no_summary() -> None:
    assert summary(final_of(), with_timeline=True) == []


def test_the_timeline_is_filled_where_the_speaker_speaks() -> None:
    segments = (
        FinalSegment(0.0, 15.0, "A", "", ()),
        FinalSegment(15.0, 45.0, "B", "", ()),
        FinalSegment(58.1, 58.2, "A", "", ()),
        FinalSegment(59.0, 90.0, "A", "", ()),  # past the end
    )
    drawn = timeline(segments, "A", 60.0)
    assert len(drawn) == 30
    assert drawn[:8] == "███████▒"
    assert drawn[8:29].strip() == ""
    assert drawn[29] != " "


def test_first_speakers_have_the_first_colour_live_and_in_the_end_and_any_label_has_one() -> None:
    assert colour_of("S1") == colour_of("SPEAKER_00")
    assert colour_of("S1") != colour_of("S2")
    assert colour_of("") == colour_of("anna")


@pytest.mark.parametrize(("position", "written"), [(None, "?"), (61.9, "01:01"), (3661.0, "1:01:01")])
def test_times_are_written_as_clocks_do(position: float | None, written: str) -> None:
    assert clock(position) == written


# Options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "limits"),
    [((None, None, None), (None, None)), ((3, None, None), (3, 3)), ((None, 2, 4), (2, 4))],
)
def test_a_number_of_speakers_is_both_limits(
    given: tuple[int | None, ...], limits: tuple[int | None, ...]
) -> None:
    assert speaker_limits(*given) == limits


@pytest.mark.parametrize("given", [(3, 2, None), (3, None, 4), (None, 4, 2)])
def test_limits_that_contradict_each_other_are_refused(given: tuple[int | None, ...]) -> None:
    with pytest.raises(ConfigError, match="speakers"):
        speaker_limits(*given)


def test_a_number_of_speakers_that_nobody_counts_is_refused() -> None:
    with pytest.raises(ConfigError, match="--no-diarize"):
        speaker_limits(2, None, None, diarize=False)
