"""The arithmetic of the suite `words`."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.matching import Errors, errors
from benchmarks.packaged import Prompt, plain, read_asterisk_texts, read_fillets_texts
from benchmarks.speaker_measures import Said
from benchmarks.speech import RATE_HZ, Clip, noise, to_int16
from benchmarks.streaming import Arrival, SessionLog
from benchmarks.words_languages import table_of as table_of_languages
from benchmarks.words_languages import told_of
from benchmarks.words_material import (
    CONDITIONS,
    FOREIGN,
    MANY,
    RECORDINGS,
    Material,
    case_of,
    chosen,
    in_turn,
    interrupted,
    laid_out,
    level_db,
    levelled,
    sounding,
)
from benchmarks.words_measures import (
    Gap,
    Outcome,
    Version,
    Word,
    final_words,
    gaps,
    live_words,
    merged,
    own_names,
    sources,
    too_many,
    unsaid,
    without,
    worse_than_better,
)
from benchmarks.words_recordings import by_recording, earlier, table_of
from benchmarks.words_repetition import Written, count_word
from benchmarks.words_repetition import table_of as table_of_repetition
from benchmarks.words_sounds import Heard, breaths
from benchmarks.words_sounds import table_of as table_of_sounds
from benchmarks.words_talks import Told, fits, windows
from benchmarks.words_talks import table_of as table_of_talks
from benchmarks.words_times import Placed, timed
from benchmarks.words_times import table_of as table_of_times


def tone(seconds: float, level: float = 0.1) -> np.ndarray:
    return to_int16(
        level * np.sqrt(2) * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
    )


def version(wrong: int, words: int = 100) -> Version:
    return Version("…", words, Errors(words, 0, 0, wrong))


def outcome(live: int, final: int, single: int, *, words: int = 100, recording: str = "one") -> Outcome:
    texts = (version(wrong, words) for wrong in (live, final, single))
    return Outcome(recording, "plain", "en", 60.0, *texts)


# Packages -------------------------------------------------------------------------------------------------


def test_texts_of_prompts_are_read() -> None:
    text = "\ufeff; Core sounds\n\nagent-pass: Please  enter\tit.\ndigits/5: five\nhello: Hello: world\n"
    assert read_asterisk_texts(text) == {
        "agent-pass": "Please enter it.",
        "digits/5": "five",
        "hello": "Hello: world",
    }


def test_texts_of_dialogs_are_read() -> None:
    text = (
        '\ndialogId("let-m-divna", "font_small", "What kind of ship (that)?")\n'
        'dialogStr("Wat is dit \\"voor\\" schip?")\n\n\n'
        'dialogId("let-v-oko", "font_big", "An eye.")\ndialogStr("Een oog.")\n'
    )
    assert read_fillets_texts(text) == {
        "let-m-divna": 'Wat is dit "voor" schip?',
        "let-v-oko": "Een oog.",
    }


@pytest.mark.parametrize(
    ("language", "text", "kept"),
    [
        ("en", "Please try again.", True),
        ("en", "Goodbye now.", False),
        ("it", "... interno ...", False),
        ("en", "Please dial 2 now.", False),
        ("en", "Please press the * key.", False),
        ("en", "A long (beep) is heard.", False),
        ("en", "Who is there? Please say your name.", True),
        ("it", "La chiamata non pu? essere completata.", False),
        ("it", "Se questo ? corretto, premi.", False),
        ("ja", "こんにちは世界。", True),
    ],
)
def test_only_prompts_whose_text_is_what_is_said_are_played(language: str, text: str, kept: bool) -> None:
    assert plain(Prompt("x", language, Path("x.wav"), text)) is kept


# Material -------------------------------------------------------------------------------------------------


def test_turns_alternate_and_their_words_stand_where_they_are_said() -> None:
    audio, spoken = in_turn([[(tone(1.0), "a"), (tone(1.0), "c")], [(tone(2.0), "b")]], 0.5)
    assert [(said.start, said.end, said.text) for said in spoken] == [
        (0.5, 1.5, "a"),
        (2.0, 4.0, "b"),
        (4.5, 5.5, "c"),
    ]
    assert len(audio) == 6.0 * RATE_HZ
    assert level_db(audio, [(2.0, 4.0)]) == pytest.approx(-20.0, abs=0.01)
    assert level_db(audio, [(1.5, 2.0)]) < -100


def test_overlapped_turns_are_added_up() -> None:
    audio, spoken = laid_out([(tone(2.0), "a"), (tone(2.0), "b")], [-1.0, 0.0])
    assert [(said.start, said.end) for said in spoken] == [(0.5, 2.5), (1.5, 3.5)]
    assert level_db(audio, [(1.6, 2.4)]) == pytest.approx(-14.0, abs=0.1)


def test_who_interrupts_is_another_one_and_every_turn_is_said_once() -> None:
    speakers = [[(tone(2.0), f"{who}{turn}") for turn in range(3)] for who in "abc"]
    _, spoken = interrupted(speakers)
    said = [one.text for one in spoken]
    assert sorted(said) == sorted(f"{who}{turn}" for who in "abc" for turn in range(3))
    assert any(later.start < before.end for before, later in pairwise(spoken))
    assert all(before[0] != later[0] for before, later in pairwise(said[:-2]))


@pytest.mark.parametrize(("condition", "level"), [("level40", -40.0), ("level52", -52.0)])
def test_speech_is_brought_to_a_level(condition: str, level: float) -> None:
    audio = np.concatenate([tone(1.0), tone(1.0, 0.0)])
    case = case_of(Material(Clip("x", audio, "said"), "en", [(0.0, 1.0)]), condition)
    assert case is not None
    assert level_db(case.clip.audio, [(0.0, 1.0)]) == pytest.approx(level, abs=0.05)
    assert level_db(levelled(audio, -26.0, [(0.0, 1.0)]), [(0.0, 1.0)]) == pytest.approx(-26.0, abs=0.05)


@pytest.mark.parametrize("condition", ["white", "pink"])
def test_noise_is_fifteen_decibels_below_the_speech(condition: str) -> None:
    audio = np.concatenate([tone(1.0), tone(4.0, 0.0)])
    case = case_of(Material(Clip("x", audio, "said"), "en", [(0.0, 1.0)]), condition)
    assert case is not None
    assert level_db(case.clip.audio - audio) == pytest.approx(-35.0, abs=0.1)
    assert level_db(to_int16(noise(RATE_HZ, 0.0))) == pytest.approx(-26.0, abs=0.1)


def test_vocabularies_are_as_many_as_a_session_takes() -> None:
    material = Material(Clip("x", tone(1.0), "so said Margaret to him"), "en", [(0.0, 1.0)])
    words = {name: case.vocabulary for name in CONDITIONS if (case := case_of(material, name)) is not None}
    assert words["own_names"][0] == "Margaret"
    assert words["foreign_names"] == tuple(FOREIGN) and len(FOREIGN) == 20
    assert len(set(words["many_names"])) == len(MANY) == 200
    assert not words["plain"]
    assert case_of(Material(Clip("x", tone(1.0), None), "en", []), "own_names") is None


def test_conditions_are_chosen_by_name_all_or_in_turn() -> None:
    assert chosen("sample", "plain,white") == ("plain", "white")
    assert chosen("sample", "all") == CONDITIONS
    given = [chosen(name, "some") for name in RECORDINGS]
    assert {len(set(conditions)) for conditions in given} == {2}
    assert {condition for conditions in given for condition in conditions} == set(CONDITIONS)
    assert chosen("talk5_lj@90", "some") == chosen("talk5_lj", "some")
    material = Material(Clip("x", tone(1.0), None), "en", [])
    with pytest.raises(ValueError, match="no louder; there are"):
        case_of(material, "louder")


# Measures -------------------------------------------------------------------------------------------------


def test_other_languages_have_the_basic_normaliser() -> None:
    assert errors("Por favor, el número.", "por favor el numero", "es") == Errors(4, 0, 0, 0)
    assert errors("你好世界", "你好。时间", "zh") == Errors(4, 0, 0, 2)
    assert errors("He's twenty one", "he is 21") == Errors(3, 0, 0, 0)
    assert errors("1-2-3, go.", "one two three go") == Errors(2, 0, 0, 0)


def test_words_are_read_from_a_session_with_their_sources() -> None:
    log = SessionLog(Clip("x", tone(1.0), None))
    one = {"text": " one", "start": 0.1, "end": 0.4, "source": "pass"}
    two = {"text": " two", "start": 0.5, "end": 0.9, "source": "live"}
    final = {"type": "final", "segments": [{"words": [one]}, {"words": [two, one]}]}
    log.arrivals = [Arrival(0.0, 1, {"type": "commit", "words": [two]}), Arrival(1.0, 1, final)]
    assert live_words(log) == [Word(" two", 0.5, 0.9)]
    assert [word.text for word in final_words(log)] == [" one", " two", " one"]
    assert sources(log) == {"pass": 2, "live": 1}


def test_stretches_are_joined_and_cut() -> None:
    assert merged([(3, 4), (0, 1), (1.2, 2)], 0.3) == [(0, 2), (3, 4)]
    assert without([(0, 10)], [(2, 3), (8, 12), (2.5, 4)]) == [(0, 2), (4, 8)]
    assert without([(0, 1)], [(2, 3)]) == [(0, 1)]
    assert without([(0, 1)], [(0, 1)]) == []


def test_a_gap_is_a_stretch_of_speech_that_another_text_has_words_for() -> None:
    speech = [(0.0, 6.0), (10.0, 13.0), (20.0, 23.0)]
    final = [Word(" a", 0.0, 1.0), Word(" b", 5.0, 6.0)]
    live = [Word(" x", 2.0, 2.5), Word(" y", 3.0, 3.5)]
    single = [Word(" z", 11.0, 12.0), Word(" w", 15.0, 16.0)]
    assert gaps(speech, final, live, single) == [Gap(1.0, 5.0, "x y", ""), Gap(10.0, 13.0, "", "z")]
    assert gaps([(0.0, 1.4)], [], [Word(" x", 0.2, 0.5)], []) == []


def test_own_names_are_names_and_then_rare_words() -> None:
    text = "Then Margaret saw Mister Hale. Nobody else saw Margaret; extraordinary is what I call it"
    assert own_names(text, 5) == ["Margaret", "Mister", "Hale", "extraordinary", "nobody"]


def test_names_that_nobody_said_are_told() -> None:
    truth = "Margaret went home"
    assert unsaid(["Margaret", "Núñez", "San José"], "Margaret, Margaret and Núñez", truth) == [
        "margaret",
        "núñez",
    ]


@pytest.mark.parametrize(
    ("wrong", "bound", "words", "told"),
    [(12, 10, 100, False), (13, 10, 100, True), (15, 10, 1000, False), (16, 10, 1000, True)],
)
def test_two_words_or_half_a_point_are_allowed(wrong: int, bound: int, words: int, told: bool) -> None:
    assert too_many(Errors(words, 0, 0, wrong), bound) is told


def test_the_final_text_is_held_against_the_better_of_the_two() -> None:
    assert worse_than_better(outcome(10, 13, 20))
    assert worse_than_better(outcome(20, 13, 10))
    assert not worse_than_better(outcome(11, 13, 20))


# Tables ---------------------------------------------------------------------------------------------------


def test_a_final_text_that_is_no_worse_holds() -> None:
    rows = {row.metric: row for row in table_of("base", [outcome(10, 9, 9)], None, []).rows}
    assert rows["mean WER live / final / single pass"].measured == "10.0 / 9.0 / 9.0 %"
    assert all(row.passed is not False for row in rows.values())


def test_a_worse_mean_a_bad_recording_and_a_gap_are_misses() -> None:
    bad = outcome(4, 8, 6, recording="bad")
    bad.gaps = [Gap(2.0, 4.0, "two words", "")]
    table = table_of("base", [outcome(10, 9, 9), bad], None, [])
    missed = [row.metric for row in table.rows if row.passed is False]
    assert missed == [
        "mean WER of the final text above the single pass's",
        "mean WER of the final text above the live text's",
        "recordings on which the final text is worse than the better of the two",
        "stretches of 1.5 s of speech without a word in the final text where another has words",
    ]
    assert "bad, plain: nothing from 2.0 to 4.0 s; live 'two words', single pass ''" in table.notes
    assert by_recording("base", [bad]).rows[0].each == {"plain": "4.0 / 8.0 / 6.0 **worse**"}


def test_live_words_are_compared_with_an_earlier_run(tmp_path: Path) -> None:
    def kept(recording: str, wrong: int) -> dict[str, object]:
        found = {"words": 100, "lost": 0, "invented": 0, "changed": wrong}
        return {"recording": recording, "condition": "plain", "live": {"errors": found}, "failure": None}

    path = tmp_path / "words.json"
    then = {"base": {"recordings": {"outcomes": [kept("one", 10), kept("two", 10), kept("gone", 1)]}}}
    path.write_text(json.dumps({"details": then}))
    now = [
        outcome(7, 7, 7, recording="one"),
        outcome(14, 7, 7, recording="two"),
        outcome(9, 7, 7, recording="new"),
    ]
    rows = {row.metric: row for row in table_of("base", now, earlier(path, "base"), []).rows}
    mean = rows["mean WER of the live text above the earlier one's, 2 recordings"]
    worse = rows["recordings on which the live text is worse than the earlier one"]
    assert (mean.measured, mean.passed) == ("0.50 points", False)
    assert (worse.measured, worse.each) == ("1", {"plain": "two"})
    with pytest.raises(ValueError, match=r"no outcomes of tiny\.en in it"):
        earlier(path, "tiny.en")


# The other parts ------------------------------------------------------------------------------------------


def utterances(*languages: str | None, text: str = "said") -> SessionLog:
    log = SessionLog(Clip("fr: one + two", tone(1.0), "dit dit"))
    log.arrivals = [
        Arrival(0.0, 1, {"type": "utterance", "text": text, "language": language}) for language in languages
    ]
    return log


def test_a_language_is_judged_at_the_end_of_each_utterance() -> None:
    told = [
        told_of("fr", utterances("fr", "fr"), "fr"),
        told_of("fr", utterances("en", "fr"), "fr"),
        told_of("fr", utterances("fr"), "it"),
        told_of("fr", utterances("fr", text=" "), "fr"),
    ]
    assert [one.wrong(0) for one in told] == [False, True, False, None]
    assert [one.wrong(1) for one in told] == [False, False, None, None]
    rows = {row.metric: row for row in table_of_languages("base", told).rows}
    first = rows["language wrong at the end of the first utterance"]
    assert (first.measured, first.passed, first.each) == ("33.3 %", False, {"fr": "1 of 3"})
    assert rows["at the end of the second"].measured == "0.0 %"
    assert rows["wrong by the model itself, of the whole clip"].measured == "25.0 %"
    assert rows["wrong at the first, of clips that the model itself gets right"].measured == "1 of 2"
    assert rows["clips of which nothing was heard"].measured == "1"


def test_words_out_of_noise_are_misses_and_babble_has_the_single_passes() -> None:
    heard = [
        Heard("hum", "", "", 0, 0, None, None),
        Heard("laughter", "Ha.", "", 1, 0, None, None),
        Heard("babble", "two words", "and these three", 2, 3, 2, None),
    ]
    rows = {row.metric: row.passed for row in table_of_sounds("base", heard).rows}
    assert rows == {
        "words out of sounds without words, live": False,
        "words out of sounds without words, final": True,
        "words out of babble, live, at most the single pass's": True,
        "words out of babble, final, at most the single pass's": False,
        "sessions that failed": True,
    }


def test_breaths_are_soft_and_pause() -> None:
    audio = breaths(8.0).audio
    assert level_db(audio[round(3.3 * RATE_HZ) : 4 * RATE_HZ]) < -100
    assert -50 < level_db(audio) < -25


@pytest.mark.parametrize(
    ("word", "text", "count"),
    [
        ("no", "No, no. Not now; no-no!", 4),
        ("sorry", "We're sorry. We're sorry", 2),
        ("5", "555-5512", 5),
        ("5", "Five, five 5 fifty", 3),
        ("0", "20,000 zero", 5),
    ],
)
def test_words_said_again_are_counted_however_they_are_written(word: str, text: str, count: int) -> None:
    assert count_word(word, text) == count


def test_as_often_as_said_or_once_less_is_right() -> None:
    written = [Written("6 × no", 6, live, 5, "…", "…", None) for live in (4, 5, 6, 7)]
    assert [one.right(one.live) for one in written] == [False, True, True, False]
    assert [row.measured for row in table_of_repetition("base", written).rows] == ["2", "0", "0"]


def test_a_prompt_is_cut_to_its_sound() -> None:
    audio = np.concatenate([tone(0.3, 0.0), tone(0.5), tone(0.4, 0.001)])
    assert len(sounding(audio)) == round(0.5 * RATE_HZ)


def test_first_words_are_timed_against_the_begin_of_their_sound() -> None:
    placed = [Placed("five", 2.0), Placed("Please try again", 5.0), Placed("two", 9.0)]
    words = [
        Word(" 5,", 2.04, 2.4),
        Word(" please", 4.2, 5.4),
        Word(" again", 5.5, 6.0),
        Word(" uh", 7.0, 7.1),
    ]
    found = timed(Clip("x", tone(1.0), None), "live", placed, words)
    assert (found.errors, found.expected) == ([0.04, -0.8], 3)
    assert found.early == ["please at 5.00 s said to begin at 4.20"]
    rows = {row.metric: row for row in table_of_times("base", [found], 0).rows}
    assert rows["begin of a first word, live: median error"].measured == "0.420 s"
    assert rows["95 % below, found, live"].measured == "0.76 s, 2 of 3"
    assert rows["over 0.5 s too early, live"].passed is False
    assert rows["begin of a first word, final: median error"].passed is False  # nothing was heard


def test_talks_are_cut_where_two_people_speak_long_enough() -> None:
    said = [Said(6.0 * turn, 6.0 * turn + 5.5, "ab"[turn % 2], "…") for turn in range(10)]
    for first, last in windows(said, 4):
        length = said[last].end - said[first].start
        assert 15.0 <= length + 0.3 <= 30.0
    assert len(windows(said, 4)) == 4
    assert not fits(said[:2])
    assert not fits([said[0], said[2], said[4]])
    assert not fits([*said[:3], Said(18.0, 20.0, "c", "…")])


def test_final_labels_may_not_be_worse_than_the_live_ones() -> None:
    told = [Told("one", 20.0, 50, 50, 1, 0, 2, 2, None), Told("two", 20.0, 50, 50, 0, 5, 2, 3, None)]
    rows = {row.metric: row for row in table_of_talks("base", told).rows}
    assert rows["words with the wrong speaker, live / final"].measured == "1.0 / 5.0 %"
    assert rows["words with the wrong speaker, final above live"].passed is False
    miscounted = rows["talks with another number of speakers than two, final, at most the live ones"]
    assert (miscounted.measured, miscounted.passed) == ("1", False)
