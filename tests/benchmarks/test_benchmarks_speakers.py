"""The arithmetic of the suite `speakers`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.options import default_models_dir
from benchmarks.report import Table
from benchmarks.speaker_measures import (
    DiarizationErrors,
    Labelling,
    Said,
    Turn,
    diarization_errors,
    labelling,
    passages,
    read_rttm,
    read_stm,
    speech_seconds,
    unmapped,
    words_of,
    wrong_speakers,
)
from benchmarks.speaker_rows import table_of
from benchmarks.speakers import Cost, Outcome, Revision, SpeakerRuns, Words
from benchmarks.speech import RATE_HZ, Clip
from benchmarks.streaming import Arrival, SessionLog

Message = dict[str, Any]


def log_of(*messages: tuple[float, Message]) -> SessionLog:
    log = SessionLog(Clip("made up", np.zeros(60 * RATE_HZ, np.int16), None))
    log.arrivals = [Arrival(time, 1, body) for time, body in messages]
    return log


def commit(start: float, speaker: str | None, utterance: int = 0, count: int = 1) -> Message:
    """Words of a second each."""
    words = [
        {"text": " so", "start": start + place, "end": start + place + 1, "speaker": speaker}
        for place in range(count)
    ]
    return {"type": "commit", "words": words, "utterance": utterance}


def label(start: float, end: float, speaker: str) -> Message:
    return {"type": "label", "from": start, "to": end, "speaker": speaker}


def utterance(number: int, speaker: str | None) -> Message:
    return {"type": "utterance", "utterance": number, "speaker": speaker}


STOPPED: Message = {"type": "stopped"}


# Turns --------------------------------------------------------------------------------------------


def test_missed_speech_false_alarms_and_confusion_are_told_apart_whatever_the_labels_are_called() -> None:
    said = [Turn(0, 4, "anna"), Turn(4, 8, "ben")]
    found = [Turn(0, 5, "S2"), Turn(5, 7, "S1"), Turn(8, 10, "S1")]
    errors = diarization_errors(said, found, 12.0)
    assert (errors.speech, errors.missed, errors.false_alarm, errors.confused) == (8, 1, 2, 1)
    assert errors.percent == pytest.approx(50.0)
    assert str(errors) == "50.0 (12.5 + 25.0 + 12.5)"


def test_overlapped_speech_counts_for_each_who_speaks() -> None:
    errors = diarization_errors([Turn(0, 4, "a"), Turn(2, 4, "b")], [Turn(0, 4, "S1")], 4.0)
    assert (errors.speech, errors.missed) == (6, 2)


def test_silence_that_is_found_silent_has_no_error_rate() -> None:
    assert diarization_errors([], [], 4.0).percent != diarization_errors([], [], 4.0).percent  # nan


def test_rttm_is_read_and_anything_else_refused() -> None:
    assert read_rttm("SPEAKER x 1 1.5 2.0 <NA> <NA> S1 <NA> <NA>\n\n") == [Turn(1.5, 3.5, "S1")]
    with pytest.raises(ValueError, match="no line of RTTM"):
        read_rttm('{"detail": "not found"}')


def test_speech_at_once_is_speech_once() -> None:
    assert speech_seconds([Turn(5, 6, "a"), Turn(0, 4, "a"), Turn(2, 3, "b"), Turn(3, 4.5, "b")]) == 5.5


# Words --------------------------------------------------------------------------------------------


def test_stm_is_read_without_tags_and_in_order() -> None:
    text = ";; note\nx 1 B 2.0 3.0 Hi there\nx 1 A 0.5 1.0 <o,f0,A> hello\n"
    assert read_stm(text) == [Said(0.5, 1.0, "A", "hello"), Said(2.0, 3.0, "B", "Hi there")]


def test_pieces_of_a_word_are_one_word() -> None:
    words = [
        {"text": text, "start": place, "end": place + 1, "speaker": "S1"}
        for place, text in enumerate([" forty", "-two", " cats"])
    ]
    assert words_of({"segments": [{"words": words}]}) == [
        Said(0, 2, "S1", "forty-two"),
        Said(2, 3, "S1", "cats"),
    ]


def test_neighbouring_words_of_one_speaker_are_a_passage() -> None:
    words = [Said(0, 1, "S1", "a"), Said(1, 2, "S1", "b"), Said(2, 3, None, "c"), Said(3, 4, "S1", "d")]
    assert [passage.text for passage in passages(words)] == ["a b", "c", "d"]


def test_a_word_with_another_speaker_is_wrong_and_so_is_one_without_any() -> None:
    said = [Said(0, 4, "anna", "one two three four"), Said(4, 6, "ben", "five six")]
    heard = [
        Said(0, 3, "S2", "one too three"),
        Said(3, 4, "S1", "four"),
        Said(4, 5, None, "five"),
        Said(5, 6, "S1", "six"),
        Said(6, 7, "S1", "seven"),
    ]
    assert wrong_speakers(said, heard) == (2, 6)


def test_two_labels_for_one_person_are_wrong_for_the_lesser_part() -> None:
    said = [Said(0, 4, "anna", "one two three four")]
    heard = [Said(0, 3, "S1", "one two three"), Said(3, 4, "S2", "four")]
    assert wrong_speakers(said, heard) == (1, 4)


def test_nothing_heard_is_nothing_to_compare() -> None:
    assert wrong_speakers([Said(0, 1, "a", "one")], []) == (0, 0)


def test_cp_word_errors_count_words_of_the_wrong_speaker_as_lost_and_as_invented() -> None:
    pytest.importorskip("meeteval")
    from benchmarks.speaker_measures import cp_word_errors

    said = [Said(0, 4, "anna", "cats dogs mice birds"), Said(4, 8, "ben", "red green blue white")]
    heard = [Said(0, 3, "S1", "cats dogs mice"), Said(3, 8, "S2", "birds red green blue white")]
    assert cp_word_errors(said, heard) == (pytest.approx(25.0), 0.0)


# Labels while the session is live -------------------------------------------------------------------


def test_words_have_their_label_at_once_or_later_or_never() -> None:
    found = labelling(
        log_of(
            (1.0, commit(0, "S1", 0, count=2)),
            (2.0, commit(2, None, 1)),
            (3.5, label(2, 3, "S2")),
            (4.0, commit(3, None, 2)),
            (6.0, utterance(2, "S1")),
            (7.0, commit(4, None, 3)),
            (8.0, utterance(3, None)),
            (9.0, STOPPED),
        )
    )
    assert (found.words, found.at_once, found.never, found.delays) == (5, 2, 1, [1.5, 2.0])
    assert found.shown == {"S1", "S2"}


def test_a_shown_label_that_becomes_another_is_one_change_however_many_words_it_has() -> None:
    found = labelling(
        log_of(
            (1.0, commit(0, "S1", count=40)),
            (2.0, label(10, 20, "S2")),
            (3.0, label(10, 20, "S2")),  # says nothing new
            (4.0, STOPPED),
        )
    )
    assert (found.changes, found.changed_words, found.early_changes) == (1, 10, 0)
    assert found.shown == {"S1", "S2"}


def test_a_first_label_is_no_change_and_the_first_half_minute_counts_apart() -> None:
    found = labelling(
        log_of(
            (1.0, commit(0, None, count=5)),
            (2.0, label(0, 5, "S1")),
            (3.0, label(0, 5, "S2")),
            (4.0, STOPPED),
            (5.0, label(0, 5, "S3")),
        )
    )
    assert (found.changes, found.early_changes) == (0, 1)


def test_what_several_sessions_showed_adds_up() -> None:
    one = labelling(log_of((1.0, commit(0, "S1")), (2.0, STOPPED)))
    other = labelling(log_of((1.0, commit(0, None)), (3.0, label(0, 1, "S2")), (4.0, STOPPED)))
    both = one + other
    assert (both.words, both.at_once, both.delays, both.shown) == (2, 1, [2.0], {"S1", "S2"})


def test_a_label_that_no_final_speaker_claims_is_unmapped() -> None:
    final = {"type": "final", "speakers": [{"label": "SPEAKER_00", "live_labels": ["S1", "S3"]}]}
    assert unmapped(log_of((1.0, final)), {"S1", "S2", "S3"}) == ["S2"]
    assert unmapped(log_of(), {"S1"}) == ["S1"]


# The table ----------------------------------------------------------------------------------------


def outcome(
    name: str,
    *,
    live: tuple[float, float, float] = (2.0, 2.0, 2.0),
    full: tuple[float, float, float] = (1.0, 1.0, 1.0),
    stock: tuple[float, float, float] = (1.0, 1.0, 1.0),
    found: int = 2,
    wrong: int = 1,
    changes: int = 0,
    unmapped: tuple[str, ...] = (),
    seconds: float = 60.0,
) -> Outcome:
    """A session of 100 s of speech in 330 s of sound, so that errors in seconds are errors in percent."""
    return Outcome(
        name=name,
        pace="realtime",
        duration=330.0,
        speech=100.0,
        speakers=2,
        live=Revision(DiarizationErrors(100.0, *live), 2, Words(10.0, 12.0, 5, 100)),
        full=Revision(DiarizationErrors(100.0, *full), found, Words(9.0, 10.0, wrong, 100)),
        labels="full",
        stock=DiarizationErrors(100.0, *stock),
        labelling=Labelling(100, 90, 1, [0.5, 1.5], changes),
        unmapped=list(unmapped),
        full_pass_seconds=seconds,
        breaches=[],
    )


def missed(table: Table) -> list[str]:
    return [row.metric for row in table.rows if row.passed is False]


def table_with(**measured: Any) -> Table:
    names = ("sample", "conv2_public")
    return table_of(
        SpeakerRuns("base", [outcome(name, **measured) for name in names], Cost("conv2_public", 0.5, 0.45))
    )


def test_a_run_that_holds_everything_misses_nothing() -> None:
    table = table_with()
    assert missed(table) == []
    assert "3.0 (1.0 + 1.0 + 1.0)" in table.markdown()


@pytest.mark.parametrize(
    ("measured", "what"),
    [
        ({"full": (2.0, 2.0, 2.1), "stock": (5.0, 2.0, 2.0)}, "DER of the full pass"),
        ({"live": (8.0, 2.0, 2.1)}, "DER of the live labels"),
        ({"stock": (1.0, 0.9, 1.0)}, "full pass above pyannote"),
        ({"live": (0.0, 0.0, 4.6)}, "live confusion"),
        ({"found": 3}, "speakers miscounted"),
        ({"wrong": 7}, "words with the wrong speaker, full pass"),
        ({"changes": 1}, "visible label changes"),
        ({"unmapped": ("S3",)}, "live labels that no final speaker claims"),
        ({"seconds": 166.0}, "real-time factor of the full pass, of"),
    ],
)
def test_each_promise_is_missed_by_what_breaks_it(measured: dict[str, Any], what: str) -> None:
    (miss,) = missed(table_with(**measured))
    assert miss.startswith(what)


def test_a_session_without_a_result_is_a_miss() -> None:
    failed = Outcome("conv2_public", "fast", 10.0, 5.0, 2, failure="closed with 1011")
    table = table_of(SpeakerRuns("base", [outcome("sample"), failed]))
    assert "sessions that failed" in missed(table)
    assert "conv2_public failed: closed with 1011" in table.notes


def test_the_harness_own_variable_is_no_setting_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVE_ASR_BENCH_SPEECH", "somewhere")
    monkeypatch.setenv("LIVE_ASR_MODELS__DIR", "/models")
    assert str(default_models_dir()) == "/models"
