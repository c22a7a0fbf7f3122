"""What dialects are made of, by itself: lines that never change, parameters whatever they hold, names."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import FormData, UploadFile

from live_asr.audio.formats import is_container
from live_asr.core.errors import ClientError
from live_asr.core.messages import MAX_VOCABULARY, Commit, Label, Partial, Stopped, UtteranceMessage, WireWord
from live_asr.server.dialects.deepgram.parameters import read_keyterms, read_query
from live_asr.server.dialects.lines import Line, Lines
from live_asr.server.dialects.openai_errors import BadParameter, fault_of, status_of
from live_asr.server.dialects.openai_parameters import (
    KNOWN,
    MAX_ENTRY,
    MAX_PROMPT,
    MAX_WARNINGS,
    Asked,
    entries_of,
    read,
)
from live_asr.server.dialects.openai_speakers import SpeakerNames, letters
from live_asr.sessions.admission import quota_reached


def word(text: str, start: float, speaker: str | None = None) -> WireWord:
    return WireWord(text, start, start + 0.2, 0.9, speaker)


def commit(*words: WireWord, utterance: int = 0) -> Commit:
    return Commit(1, words, "".join(one.text for one in words), utterance)


def over(speaker: str | None = None, utterance: int = 0) -> UtteranceMessage:
    return UtteranceMessage(1, utterance, 0.0, 1.0, "", speaker, "en")


def told(lines: tuple[Line, ...]) -> list[tuple[str, str | None]]:
    return [(line.text, line.speaker) for line in lines]


# Lines --------------------------------------------------------------------------------------------------


def test_a_line_ends_where_a_sentence_a_speaker_or_an_utterance_does() -> None:
    lines = Lines(waits_for_speakers=True)
    assert lines.apply(commit(word(" Yes.", 0, "S1"))) == (), "a quote may still belong to it"
    assert told(lines.apply(commit(word('"', 0.3, "S1"), word(" No", 0.5, "S1")))) == [('Yes."', "S1")]
    assert told(lines.apply(commit(word(" but", 1, "S2")))) == [("No", "S1")]
    assert told(lines.apply(over())) == [("but", "S2")]
    assert lines.pending == []


def test_words_wait_for_their_speaker_to_the_end_of_the_utterance_at_most() -> None:
    lines = Lines(waits_for_speakers=True)
    assert lines.apply(commit(word(" One.", 0), word(" Two.", 1), word(" Three", 2))) == ()
    assert told(lines.apply(Label(1, 0.0, 0.5, "S2"))) == [("One.", "S2")]
    assert told(lines.apply(over())) == [("Two.", "S2"), ("Three", "S2")], "as who spoke before"
    assert lines.apply(Label(1, 0.0, 9.0, "S1")) == (), "what was shown stays as it is"


def test_a_long_sentence_is_cut_between_words_and_never_within_one() -> None:
    lines = Lines(waits_for_speakers=False)
    spoken = [word(" well" if number % 2 == 0 else "-known", number * 0.1) for number in range(40)]
    (first, second, *_), texts = lines.apply(commit(*spoken)), []
    texts = [first.text, second.text]
    assert all(text.startswith("well-known") and text.endswith("well-known") for text in texts)


def test_the_tail_is_what_lies_behind_the_last_commit() -> None:
    lines = Lines(waits_for_speakers=False)
    lines.apply(Partial(" a b", (word(" a", 0), word(" b", 1)), 0.0, 1.2))
    assert [one.text for one in lines.tail] == [" a", " b"]
    lines.apply(commit(word(" a", 0)))
    assert [one.text for one in lines.tail] == [" b"]


WORDS = st.builds(
    lambda text, speaker: (text, speaker),
    st.sampled_from([" a", " b.", "c", "'s", " 你", "好。", " …"]),
    st.sampled_from([None, "S1", "S2"]),
)
STEPS = st.lists(
    st.one_of(st.lists(WORDS, max_size=5), st.sampled_from(["S1", "S2", None, "label"])), max_size=20
)


@given(STEPS, st.booleans())
def test_lines_hold_every_word_once_and_in_order(steps: list[Any], waits: bool) -> None:
    lines = Lines(waits_for_speakers=waits)
    said, shown, time = [], [], 0.0
    for step in steps:
        if isinstance(step, list):
            words = []
            for text, speaker in step:
                words.append(word(text, time, speaker))
                time += 0.25
            said += [one.text for one in words]
            shown += lines.apply(commit(*words))
        elif step == "label":
            shown += lines.apply(Label(1, max(0.0, time - 1.0), time, "S2"))
        else:
            shown += lines.apply(over(step))
    shown += lines.apply(Stopped(1, time, ""))
    assert [one.text for line in shown for one in line.words] == said
    assert lines.pending == [] and lines.tail == ()


# Parameters ---------------------------------------------------------------------------------------------

NAMES = st.sampled_from([name + end for name in sorted(KNOWN) for end in ("", "[]", "[type]", "[0]")])
VALUES = st.one_of(
    st.text(max_size=30), st.sampled_from(["whisper-1", "true", "json", "auto", "data:;base64,"])
)


@given(st.lists(st.tuples(st.one_of(NAMES, st.text(max_size=10)), VALUES), max_size=12), st.booleans())
def test_any_form_is_read_or_refused(fields: list[tuple[str, str]], complete: bool) -> None:
    form = FormData([*fields, ("model", "whisper-1")] if complete else fields)
    for task in ("transcribe", "translate"):
        try:
            asked = read(form, "tiny.en", task=task)
        except ClientError as error:
            assert error.message
        else:
            assert isinstance(asked, Asked) and asked.start.task == task


@given(st.text())
def test_entries_of_a_prompt_fit_a_vocabulary(prompt: str) -> None:
    entries = list(entries_of(prompt))
    assert all(0 < len(entry) <= MAX_ENTRY for entry in entries)
    kept = "".join(entries).replace(" ", "")
    assert set(kept) <= set(prompt)


@pytest.mark.parametrize(
    ("prompt", "entries"),
    [
        ("Diane, Sheila;\nNew Jersey...", ["Diane", "Sheila", "New Jersey"]),
        ("at 3.5,\nnode.js\n, and", ["at 3.5", "node.js", "and"]),
        ("." * MAX_PROMPT + "a", ["." * MAX_ENTRY]),
    ],
)
def test_a_prompt_is_cut_between_its_phrases(prompt: str, entries: list[str]) -> None:
    assert list(entries_of(prompt)) == entries


def test_objects_and_lists_are_read_in_each_spelling() -> None:
    form = FormData(
        [
            ("model", "tiny.en"),
            ("response_format", "verbose_json"),
            ("timestamp_granularities[0]", "word"),
            ("timestamp_granularities[1]", "segment"),
            ("keywords[]", "Diane"),
            ("chunking_strategy[type]", "server_vad"),
            ("chunking_strategy[threshold]", "0.3"),
        ]
    )
    asked = read(form, "tiny.en")
    assert asked.with_words and asked.with_segments
    assert asked.start.vocabulary == ("Diane",)
    assert [warning.split(":")[0] for warning in asked.warnings] == ["chunking_strategy"]


@pytest.mark.parametrize("data", ["AAA", "é", "AA=A"])
def test_a_reference_that_is_no_base64_is_refused(data: str) -> None:
    form = [("model", "tiny.en"), ("response_format", "diarized_json"), ("known_speaker_names", "Anna")]
    form.append(("known_speaker_references", f"data:audio/wav;base64,{data}"))
    with pytest.raises(ClientError, match="base64"):
        read(FormData(form), "tiny.en")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("language[code]", "en"),
        ("temperature[x]", "0"),
        ("prompt", UploadFile(BytesIO(b"Diane"))),
        ("file", "speech"),
    ],
)
def test_a_parameter_that_is_spelt_as_something_else_is_refused_by_its_name(key: str, value: Any) -> None:
    with pytest.raises(BadParameter) as refused:
        read(FormData([("model", "tiny.en"), (key, value)]), "tiny.en")
    assert refused.value.param == key.partition("[")[0]


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        (", ".join(f"name {number}" for number in range(MAX_VOCABULARY + 1)), MAX_VOCABULARY),
        ("Diane, " + "." * MAX_PROMPT + " Sheila", 2),
    ],
)
def test_what_of_a_prompt_is_too_much_is_told(prompt: str, count: int) -> None:
    asked = read(FormData([("model", "tiny.en"), ("prompt", prompt)]), "tiny.en")
    assert len(asked.start.vocabulary) <= count
    assert [warning.partition(":")[0] for warning in asked.warnings] == ["prompt, keywords"]


def test_what_has_no_effect_is_named_and_what_has_one_is_not() -> None:
    form = [("model", "whisper-1"), ("known_speaker_references[]", "data:,"), ("language", "en")]
    form.append(("languages[]", "de"))
    asked = read(FormData(form), "small", task="translate")
    assert [warning.partition(":")[0] for warning in asked.warnings] == [
        *("languages", "known_speaker_references")
    ]
    assert asked.start.language == "en"
    unknown = [(f"unknown_{number}", "x") for number in range(3 * MAX_WARNINGS)]
    assert len(read(FormData([*form, *unknown]), "small").warnings) == MAX_WARNINGS


def test_a_keyword_that_is_too_long_is_refused_by_the_name_that_the_client_knows() -> None:
    with pytest.raises(BadParameter) as refused:
        read(FormData([("model", "tiny.en"), ("keywords[]", "x" * 101)]), "tiny.en")
    assert refused.value.param == "keywords" and "vocabulary" not in str(refused.value)
    with pytest.raises(ClientError, match="`keyterm") as refused_there:
        read_query([("keyterm", "x" * 101)], is_live=True)
    assert "vocabulary" not in str(refused_there.value)


def test_a_token_whose_day_is_used_up_is_told_so_as_openai_does() -> None:
    error = quota_reached(2)
    assert (status_of(error), fault_of(error)["code"]) == (429, "insufficient_quota")


def test_of_deepgrams_parameters_what_does_not_count_is_told() -> None:
    asked = read_query(
        [
            *(("keywords", "Diane:2"), ("keywords", "Sheila:3"), ("keywords", "noise:-5")),
            *(("language", "en"), ("language_hint", "de"), ("utterances", "true")),
            *(("tag", "t"), ("extra", "k:v")),
        ],
        is_live=True,
    )
    assert asked.start.vocabulary == ("Diane", "Sheila"), "a negative weight is not to be expected"
    assert [warning.split("`")[1] for warning in asked.warnings] == [
        *("language_hint", "keywords", "keywords", "paragraphs")
    ]
    assert asked.told == {"tags": ("t",), "extra": {"k": "v"}, "warnings": asked.warnings}
    with pytest.raises(ClientError, match="thresholds"):
        read_keyterms({"type": "Configure", "keyterms": ["a"], "thresholds": {"eot_threshold": 0.5}})


def test_a_refusal_repeats_no_more_than_the_beginning_of_what_was_sent() -> None:
    with pytest.raises(ClientError) as refused:
        read(FormData([("model", "m" * 10_000)]), "tiny.en")
    assert len(str(refused.value)) < 300


# Names and first bytes ------------------------------------------------------------------------------------


def test_letters_go_on_behind_z() -> None:
    assert [letters(number) for number in (0, 1, 25, 26, 27, 701, 702)] == [
        *("A", "B", "Z", "AA", "AB", "ZZ", "AAA")
    ]


def test_a_known_voice_gets_its_name_once_and_nobody_else_gets_it() -> None:
    anna, ben = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    names = SpeakerNames([("Anna", anna), ("B", ben)], 0.7)
    names.recognize({"S1": [(0.8, 0.1)], "S2": [(3.0, 0.0)]})
    assert (names.of("S2"), names.of("S1")) == ("Anna", "A")
    names.recognize({"S3": [(0.9, 0.0)]})
    assert (names.of("S3"), names.of("S4"), names.of("S2")) == ("C", "D", "Anna"), "B is somebody's name"


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b"\x1a\x45\xdf\xa3" + bytes(12), True),
        (b"OggS" + bytes(12), True),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", True),
        (b"RIFF\x00\x00\x00\x00AVI LIST", False),
        (bytes(4) + b"ftypisom" + bytes(4), True),
        (b"\x89PNG\r\n\x1a\n" + bytes(8), True),
        (bytes(16), False),
        (b"{" * 16, False),
    ],
)
def test_containers_are_known_by_their_first_bytes(head: bytes, is_one: bool) -> None:
    assert is_container(head) is is_one
