"""Exports: files that other people's parsers read, and captions that people can."""

from __future__ import annotations

import io
import json
import re
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.cues import LINE_COLUMNS, Cue
from live_asr.core.cues import cues as cues_of
from live_asr.core.export import (
    FORMATS,
    Record,
    named_segments,
    to_json,
    to_rttm,
    to_srt,
    to_txt,
    to_vtt,
)
from live_asr.core.messages import Commit, Final, FinalSegment, FinalSpeaker, Stopped, wire_word
from live_asr.core.transcript import Transcript
from live_asr.core.types import Segment, Turn, Word, samples, seconds


def cues(made: Record, *, label_turns: bool = False) -> tuple[Cue, ...]:
    return cues_of(named_segments(made), made.duration_samples, label_turns=label_turns)


def words(text: str, start: float = 0.0, each: float = 0.3, speaker: str | None = None) -> tuple[Word, ...]:
    """Make words of equal length from text, each with its leading space."""
    return tuple(
        Word(f" {part}", samples(start + each * index), samples(start + each * (index + 1)), 0.9, (), speaker)
        for index, part in enumerate(text.split())
    )


def segment(content: tuple[Word, ...], speaker: str | None = None) -> Segment:
    return Segment(content[0].start_sample, content[-1].end_sample, content, speaker)


def record(*segments: Segment, language: str | None = "en") -> Record:
    duration_samples = max((segment.end_sample for segment in segments), default=0)
    return Record("s1", segments, duration_samples, language)


def one(text: str, **how: float) -> Record:
    return record(segment(words(text, **how)))


SPEECH = (
    "Good morning, everyone, and thank you for coming to this rather early session. "
    "Today I would like to talk about captions: who reads them, when they read them, and why so many of "
    "them are unreadable. Yes. Really. A caption that breaks in the middle of a phrase costs the reader "
    "a second look, and nobody has the time for that when the speaker goes on."
)


# Readable cues ------------------------------------------------------------------------------------


def test_cues_hold_every_word_once_and_in_order() -> None:
    shown = " ".join(line for cue in cues(one(SPEECH)) for line in cue.lines)
    assert shown == SPEECH


def test_a_sentence_that_fits_is_not_torn_apart() -> None:
    shown = [
        " ".join(cue.lines)
        for cue in cues(one("This one ends here. The next one is a little longer, but it fits."))
    ]
    assert all(text[-1] in ".," for text in shown), shown


def test_a_long_sentence_breaks_at_its_clause_and_not_wherever_the_line_is_full() -> None:
    clause = "When the hall was finally quiet and the last of the doors had been closed,"
    rest = "she walked to the lectern and began."
    assert [" ".join(cue.lines) for cue in cues(one(f"{clause} {rest}"))] == [clause, rest]


def test_a_piece_of_a_sentence_is_not_shown_with_a_piece_of_another() -> None:
    text = (
        "For although they took impressions from wood blocks engraved in relief for centuries before the "
        "cutters of the lowlands by a similar process. Produced the block books which were the immediate "
        "predecessors of the true printed book."
    )
    shown = [" ".join(cue.lines) for cue in cues(one(text))]
    assert not any("process. Produced" in cue for cue in shown), shown


def test_a_cue_ends_at_a_pause_rather_than_a_word_later() -> None:
    before = words("This goes on and on until somebody runs out of their breath")
    after = words("because there is a limit to what a person says", start=0.3 * len(before) + 0.5)
    shown = [" ".join(cue.lines) for cue in cues(record(segment(before + after)))]
    assert shown[0].endswith("breath")


def test_short_sentences_share_a_cue_and_do_not_flash_by() -> None:
    assert [cue.lines for cue in cues(one("Yes. Really. No.", each=0.2))] == [("Yes. Really. No.",)]


def test_no_cue_spans_a_long_pause() -> None:
    early, late = words("Before the"), words("break.", start=5.0)
    assert [cue.lines for cue in cues(record(segment(early + late)))] == [("Before the",), ("break.",)]


def test_utterances_of_one_speaker_with_a_breath_between_share_a_cue() -> None:
    spoken = record(segment(words("So")), segment(words("let us begin.", start=0.9)))
    assert [cue.lines for cue in cues(spoken)] == [("So let us begin.",)]


def test_two_lines_are_of_like_length() -> None:
    (cue,) = cues(one("This sentence is just a bit too long to fit on one line."))
    upper, lower = map(len, cue.lines)
    assert abs(upper - lower) < 8


def test_a_short_cue_is_held_for_a_second_if_nothing_follows() -> None:
    first, _ = cues(record(segment(words("Yes.", each=0.2)), segment(words("Good.", start=8.0))))
    assert first.end_ms - first.start_ms == 1000


def test_a_word_that_seems_to_last_a_minute_is_shown_for_seven_seconds() -> None:
    (cue,) = cues(record(segment((Word(" Um", 0, samples(60.0), 0.5),))))
    assert (cue.start_ms, cue.end_ms) == (0, 7000)


def test_speech_of_two_speakers_at_once_makes_cues_one_after_the_other() -> None:
    talking = record(
        segment(words("I think that we should", speaker="A"), "A"),
        segment(words("No wait", start=0.5, speaker="B"), "B"),
    )
    first, second = cues(talking)
    assert first.end_ms <= second.start_ms
    assert first.end_ms - first.start_ms >= 500


def test_chinese_breaks_between_any_words_but_never_before_its_punctuation() -> None:
    text = "今天我们要讨论字幕，谁在读，什么时候读，为什么这么多字幕没有办法读。"
    text += "大家早上好，谢谢大家来参加今天早上的会议。"
    content = tuple(
        Word(character, samples(0.2 * index), samples(0.2 * (index + 1)), 0.9)
        for index, character in enumerate(text)
    )
    lines = [line for cue in cues(record(segment(content), language="zh")) for line in cue.lines]
    assert "".join(lines) == text
    assert all(line[0] not in "，。" for line in lines)
    assert all(len(line) <= LINE_COLUMNS // 2 for line in lines)


def test_a_clitic_stays_with_its_word() -> None:
    content = (
        *words("It is what it"),
        Word("'s", samples(1.2), samples(1.3), 0.9),
        *words("worth.", start=1.3),
    )
    assert cues(record(segment(content)))[0].lines == ("It is what it's worth.",)


def test_a_word_wider_than_a_line_is_split_over_lines() -> None:
    lines = [line for cue in cues(one("a" * 200)) for line in cue.lines]
    assert "".join(lines) == "a" * 200
    assert max(map(len, lines)) <= LINE_COLUMNS


def columns(line: str) -> int:
    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in line
    )


some_text = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=0, max_size=60)
some_word = st.tuples(st.booleans(), some_text, st.integers(0, 80_000), st.integers(0, 40_000))
some_segment = st.tuples(st.sampled_from([None, "S1", "S & <2>"]), st.lists(some_word, max_size=12))


@given(st.lists(some_segment, max_size=6))
def test_any_record_gives_cues_within_the_limits_and_files_that_parse(spec: list) -> None:
    segments, position = [], 0
    for speaker, spec_words in spec:
        content = []
        for spaced, text, gap_samples, length_samples in spec_words:
            start = position + gap_samples
            position = start + length_samples
            content.append(Word(f" {text}" if spaced else text, start, position, 0.5, (), speaker))
        first = content[0].start_sample if content else position
        segments.append(Segment(first, position, tuple(content), speaker))
    made = Record("s", tuple(segments), position)

    shown = cues(made)

    assert all(len(cue.lines) in (1, 2) for cue in shown)
    assert all(0 < columns(line) <= LINE_COLUMNS or columns(line) == 0 for cue in shown for line in cue.lines)
    assert all(0 < cue.end_ms - cue.start_ms <= 7000 for cue in shown)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(shown))
    kept = "".join("".join(word.text.split()) for s in made.segments for word in s.words)
    assert "".join("".join(line.split()) for cue in shown for line in cue.lines) == kept
    assert len(webvtt.from_buffer(io.BytesIO(to_vtt(made).encode()), "vtt").captions) == len(shown)
    assert len(list(srt.parse(to_srt(made)))) == len(cues(made, label_turns=True))


# WebVTT -------------------------------------------------------------------------------------------


def parse_vtt(text: str) -> webvtt.WebVTT:
    return webvtt.from_buffer(io.BytesIO(text.encode()), "vtt")


def test_vtt_read_by_another_parser_has_the_cues_with_their_times() -> None:
    made = one(SPEECH)
    parsed = parse_vtt(to_vtt(made)).captions
    assert [caption.text for caption in parsed] == ["\n".join(cue.lines) for cue in cues(made)]
    assert [(caption.start_in_seconds, caption.end_in_seconds) for caption in parsed] == [
        (cue.start_ms // 1000, cue.end_ms // 1000) for cue in cues(made)
    ]


def test_vtt_names_the_speaker_in_a_voice_tag() -> None:
    spoken = record(segment(words("Hello."), "SPEAKER_00"), segment(words("Hi.", start=1.0), "SPEAKER_01"))
    parsed = parse_vtt(to_vtt(spoken)).captions
    assert [(caption.voice, caption.text) for caption in parsed] == [
        ("Speaker 1", "Hello."),
        ("Speaker 2", "Hi."),
    ]


def test_vtt_escapes_what_would_be_markup_or_an_arrow() -> None:
    made = to_vtt(one("R&D <b>bold</b> a --> b"))
    assert "R&amp;D &lt;b&gt;bold&lt;/b&gt; a --&gt; b" in made
    assert made.count("-->") == 1


def test_a_line_break_inside_a_word_does_not_end_the_cue() -> None:
    made = record(segment((Word(" a\n\nb", 0, 16000, 0.5),)))
    assert [caption.text for caption in parse_vtt(to_vtt(made)).captions] == ["a b"]


def test_an_empty_transcript_is_a_vtt_without_cues() -> None:
    assert to_vtt(record()) == "WEBVTT\n"
    assert parse_vtt(to_vtt(record())).captions == []


# SRT ----------------------------------------------------------------------------------------------


def test_srt_read_by_another_parser_counts_from_one_and_has_the_same_times() -> None:
    made = one(SPEECH)
    parsed = list(srt.parse(to_srt(made)))
    assert [subtitle.index for subtitle in parsed] == list(range(1, len(parsed) + 1))
    assert [(subtitle.start, subtitle.end, subtitle.content) for subtitle in parsed] == [
        (timedelta(milliseconds=cue.start_ms), timedelta(milliseconds=cue.end_ms), "\n".join(cue.lines))
        for cue in cues(made)
    ]


def test_srt_writes_milliseconds_after_a_comma() -> None:
    assert to_srt(one("Hi.", start=1.5)).splitlines()[1] == "00:00:01,500 --> 00:00:01,800"


def test_srt_names_the_speaker_where_the_turn_begins_and_only_there() -> None:
    spoken = record(segment(words(SPEECH), "S1"), segment(words("Thanks.", start=40.0), "S2"))
    made = to_srt(spoken)
    assert made.count("Speaker 1: ") == 1
    assert "Speaker 2: Thanks." in made


HEBREW = " שלום לכולם וברוכים הבאים"


def direction(line: str) -> str:
    """Return how a player lays out a line: as its first letter runs, passing over what is isolated."""
    bare = re.sub("\u2068.*?\u2069", "", line)
    return next(kind for kind in map(unicodedata.bidirectional, bare) if kind in ("L", "R", "AL"))


@pytest.mark.parametrize("render", [to_srt, to_txt])
@pytest.mark.parametrize(
    ("speaker", "text", "runs"),
    [
        ("Ada", HEBREW, "R"),
        ("שרה", HEBREW, "R"),
        ("שרה", " Good evening", "L"),
        ("Ada", " Good evening", "L"),
    ],
)
def test_a_name_does_not_turn_the_line_that_it_stands_before(
    render: Callable[[Record], str], speaker: str, text: str, runs: str
) -> None:
    made = replace(record(segment(words(text), "S1")), names={"S1": speaker})
    line = next(line for line in render(made).splitlines() if text.strip() in line)
    assert direction(line) == runs
    plain = line.translate({0x2068: None, 0x2069: None})
    assert plain == f"{speaker}: {text.strip()}"
    is_mixed = (speaker == "Ada") is (text == HEBREW)
    assert (line != plain) is is_mixed, "no marks where none are needed"


def test_an_arrow_in_the_text_does_not_read_as_a_timing_line() -> None:
    assert [s.content for s in srt.parse(to_srt(one("a --> b")))] == ["a → b"]


def test_an_empty_transcript_is_an_empty_srt() -> None:
    assert to_srt(record()) == ""


@pytest.mark.parametrize(("render", "separator"), [(to_vtt, "."), (to_srt, ",")])
def test_times_beyond_99_hours_get_a_third_digit(render, separator: str) -> None:
    assert f"100:00:00{separator}000 --> " in render(one("Still here.", start=360_000.0))


# Text and JSON ------------------------------------------------------------------------------------


def test_txt_starts_a_paragraph_at_a_new_speaker_and_after_a_long_pause() -> None:
    spoken = record(
        segment(words("Hello there."), "S1"),
        segment(words("How are you?", start=1.0), "S1"),
        segment(words("Fine.", start=6.0), "S1"),
        segment(words("Good.", start=7.0), "S2"),
    )
    assert to_txt(spoken) == "Speaker 1: Hello there.\nHow are you?\n\nSpeaker 1: Fine.\n\nSpeaker 2: Good.\n"


def test_txt_has_a_line_for_each_utterance_and_goes_on_where_one_ends_within_a_sentence() -> None:
    spoken = record(
        segment(words("Good morning.")),
        segment(words("Let us", start=1.0)),
        segment(words("begin. With the first.", start=2.0)),
        segment(words("Then the second.", start=4.0)),
    )
    assert to_txt(spoken) == "Good morning.\nLet us begin. With the first.\nThen the second.\n"


def test_txt_of_speech_without_full_stops_has_lines_of_bounded_length() -> None:
    spoken = record(*(segment(words("and so on and on", start=2.0 * n)) for n in range(100)))
    lines = to_txt(spoken).splitlines()
    assert len(lines) > 4
    assert max(map(len, lines)) < 400


def test_txt_of_a_language_without_spaces_gets_none() -> None:
    spoken = record(
        *(
            segment(tuple(Word(c, samples(n + 0.1 * i), samples(n + 0.1 * i + 0.1), 0.9) for i, c in chars))
            for n, chars in enumerate(
                [list(enumerate("今天")), list(enumerate("早上好。")), list(enumerate("谢谢。"))]
            )
        ),
        language="zh",
    )
    assert to_txt(spoken) == "今天早上好。\n谢谢。\n"


def late(text: str, start: float) -> Segment:
    """Make a segment whose first word has no space before it: it begins with a mark that came late."""
    first, *rest = words(text, start=start)
    return segment((Word(first.text.strip(), *first_samples(first), 0.9), *rest))


def first_samples(word: Word) -> tuple[int, int]:
    return word.start_sample, word.end_sample


@pytest.mark.parametrize("render", [to_txt, to_vtt, to_srt])
def test_a_mark_that_came_late_ends_the_text_before_it_in_every_format_but_json(render) -> None:
    spoken = record(segment(words("in the exhibition")), late(". The first", 3.5), late(", in being", 7.0))
    shown = render(spoken)
    assert "in the exhibition.\n" in shown
    assert "The first,\n" in shown
    assert "in being" in shown
    assert not any(line.lstrip().startswith((",", ".")) for line in shown.splitlines())
    assert to_json(spoken)["text"] == "in the exhibition. The first, in being"


@pytest.mark.parametrize("text", [" …and then", " .5 percent", " – never"])
def test_a_mark_that_opens_a_word_stays_with_it(text: str) -> None:
    spoken = record(segment(words("It was")), segment((Word(text, samples(3.0), samples(4.0), 0.9),)))
    assert to_txt(spoken).splitlines()[-1] == text.strip()


def test_a_decimal_point_is_not_torn_from_its_digits() -> None:
    content = (*words("it is 3"), Word(".5", samples(0.9), samples(1.2), 0.9), *words("metres.", start=1.2))
    assert to_txt(record(segment(content))) == "it is 3.5 metres.\n"


def test_an_empty_transcript_is_an_empty_text() -> None:
    assert to_txt(record()) == ""


def test_json_has_the_wires_names_and_seconds() -> None:
    assert to_json(one("Hi.", start=1.5)) == {
        "session": "s1",
        "revision": 0,
        "language": "en",
        "duration": 1.8,
        "started_at": None,
        "clock": [],
        "text": "Hi.",
        "names": {},
        "segments": [
            {
                "start": 1.5,
                "end": 1.8,
                "speaker": None,
                "text": "Hi.",
                "words": [{"text": " Hi.", "start": 1.5, "end": 1.8, "probability": 0.9, "speaker": None}],
            }
        ],
    }


def test_every_format_renders_text_and_the_json_one_parses() -> None:
    made = one("Grüße, 世界")
    assert set(FORMATS) == {"json", "vtt", "srt", "txt", "rttm"}
    assert json.loads(FORMATS["json"].render(made)) == to_json(made)
    assert all("Grüße" in form.render(made) for name, form in FORMATS.items() if name != "rttm")


# Who speaks when ------------------------------------------------------------------------------------


def turn(start: float, end: float, speaker: str) -> Turn:
    return Turn(samples(start), samples(end), speaker)


def test_rttm_read_by_pyannote_has_the_turns_overlaps_included(tmp_path: Path) -> None:
    turns = (turn(0.5, 2.25, "SPEAKER_00"), turn(2.0, 3.125, "SPEAKER_01"))
    file = tmp_path / "talk.rttm"
    file.write_text(to_rttm(Record("abc123", (), samples(4.0), turns=turns)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that it is made of
        from pyannote.database.util import load_rttm

        annotation = load_rttm(file)["abc123"]
    assert [(s.start, s.end, label) for s, _, label in annotation.itertracks(yield_label=True)] == [
        (0.5, 2.25, "SPEAKER_00"),
        (2.0, 3.125, "SPEAKER_01"),
    ]


def test_rttm_of_nobody_is_empty_and_a_turn_of_no_length_is_left_out() -> None:
    assert to_rttm(record()) == ""
    assert to_rttm(Record("s", (), 0, turns=(turn(1.0, 1.0, "SPEAKER_00"),))) == ""


def applied(*said: tuple[float, str], final: bool = True) -> Transcript:
    """Make the transcript of a session: (start, speaker) of each sentence, then its `final`."""
    transcript = Transcript()
    content = [words("Hello there.", start=start, speaker=speaker) for start, speaker in said]
    for seq, sentence in enumerate(content, 1):
        transcript.apply(Commit(seq, tuple(map(wire_word, sentence)), " Hello there.", seq))
    transcript.apply(Stopped(len(said) + 1, 10.0, ""))
    if final:
        turns = (
            FinalSpeaker("SPEAKER_00", ("S1", "S3"), 1.2, 2),
            FinalSpeaker("SPEAKER_01", ("S2",), 0.6, 1),
        )
        spoken_by = {"S1": "SPEAKER_00", "S3": "SPEAKER_00", "S2": "SPEAKER_01"}
        segments = tuple(
            FinalSegment(
                seconds(sentence[0].start_sample),
                seconds(sentence[-1].end_sample),
                spoken_by[speaker],
                "Hello there.",
                tuple(map(wire_word, sentence)),
            )
            for sentence, (_, speaker) in zip(content, said, strict=True)
        )
        transcript.apply(Final(len(said) + 2, 1, 10.0, "en", "", segments, turns, {}, "full"))
    return transcript


def test_the_best_revision_has_the_full_pass_s_turns_and_the_live_one_those_of_its_words() -> None:
    transcript = applied((0.0, "S1"), (2.0, "S2"))
    turns = (turn(0.0, 0.7, "SPEAKER_00"), turn(1.9, 2.7, "SPEAKER_01"))
    assert Record.of("s", transcript, turns=turns).turns == turns
    live = (turn(0.0, 0.6, "S1"), turn(2.0, 2.6, "S2"))
    assert Record.of("s", transcript, live=True, turns=turns).turns == live
    assert Record.of("s", applied((0.0, "S1"), (2.0, "S2"), final=False), turns=turns).turns == live


def test_names_stand_in_place_of_labels_but_not_in_rttm_and_the_segments_of_json() -> None:
    transcript = applied((0.0, "S1"), (2.0, "S2"))
    made = Record.of("s", transcript, names={"SPEAKER_00": "Anna & <Co>"})
    assert [caption.voice for caption in parse_vtt(to_vtt(made)).captions] == [
        "Anna &amp; &lt;Co&gt;",
        "Speaker 2",
    ]
    assert "Anna & <Co>: Hello there." in to_srt(made)
    assert to_txt(made) == "Anna & <Co>: Hello there.\n\nSpeaker 2: Hello there.\n"
    assert "Anna" not in to_rttm(made)
    shown = to_json(made)
    assert [one["speaker"] for one in shown["segments"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert shown["names"]["SPEAKER_00"] == "Anna & <Co>"


def test_a_name_for_a_live_label_counts_for_what_it_became_unless_that_has_its_own() -> None:
    transcript = applied((0.0, "S1"), (2.0, "S2"), (4.0, "S3"))

    def text(names: dict[str, str], *, live: bool = False) -> list[str]:
        made = to_txt(Record.of("s", transcript, live=live, names=names))
        return [line.split(":")[0] for line in made.splitlines() if line]

    assert text({"S3": "Anna"}) == ["Anna", "Speaker 2", "Anna"]
    assert text({"S1": "Ann", "SPEAKER_00": "Anna"}) == ["Anna", "Speaker 2", "Anna"]
    assert text({"S1": "Ann", "SPEAKER_00": "Anna"}, live=True) == ["Ann", "Speaker 2", "Anna"]


def test_who_has_the_same_name_as_the_speaker_before_goes_on_in_the_same_paragraph() -> None:
    transcript = applied((0.0, "S1"), (1.0, "S2"))
    made = Record.of("s", transcript, names={"SPEAKER_00": "Anna", "SPEAKER_01": "Anna"})
    assert to_txt(made) == "Anna: Hello there.\nHello there.\n"
