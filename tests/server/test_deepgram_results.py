"""What Deepgram's clients are told, from what a session says; and what their queries ask of it."""

from __future__ import annotations

from typing import Any

import pytest

from live_asr.core.errors import ClientError
from live_asr.core.messages import (
    Commit,
    Finalized,
    Label,
    Lag,
    Partial,
    ServerMessage,
    Speech,
    Stopped,
    UtteranceMessage,
    WireWord,
)
from live_asr.server.dialects.deepgram.parameters import Asked, read_query
from live_asr.server.dialects.deepgram.results import Channel, Request, bare

RAW = {"encoding": "linear16", "sample_rate": "16000"}


def request() -> Request:
    return Request("tiny.en")


def asked(**query: str) -> Asked:
    return read_query({"model": "nova-3", **RAW, **query}.items(), is_live=True)


def words(*texts: str, start: float = 1.0, speaker: str | None = None) -> tuple[WireWord, ...]:
    """Make words of 0.4 s, one every half second."""
    return tuple(
        WireWord(text, start + index / 2, start + index / 2 + 0.4, 0.5 + index / 10, speaker)
        for index, text in enumerate(texts)
    )


def commit(said: tuple[WireWord, ...], utterance: int = 0) -> Commit:
    return Commit(1, said, "".join(word.text for word in said), utterance)


def utterance(start: float, end: float, speaker: str | None = None) -> UtteranceMessage:
    return UtteranceMessage(2, 0, start, end, "", speaker, "en")


def told(channel: Channel, *messages: ServerMessage) -> list[dict[str, Any]]:
    return [result for message in messages for result in channel.apply(message)]


def text(result: dict[str, Any]) -> str:
    return result["channel"]["alternatives"][0]["transcript"]


SAID = words(" It's", " Monday,", " Mr.", " Smith.")


# Results ------------------------------------------------------------------------------------------------


def test_words_are_bare_unless_punctuation_is_asked_for() -> None:
    plain, written = (
        Channel(request(), asked()),
        Channel(request(), asked(smart_format="true")),
    )
    for channel, transcript in ((plain, "it's monday mr smith"), (written, "It's Monday, Mr. Smith.")):
        results = told(channel, commit(SAID), utterance(1.0, 2.9))
        assert " ".join(map(text, results)) == transcript
        first = results[0]["channel"]["alternatives"][0]["words"][0]
        assert (first["word"], first["start"], first["end"], first["confidence"]) == ("it's", 1.0, 1.4, 0.5)
        assert first.get("punctuated_word") == ("It's" if channel is written else None)
        assert "speaker" not in first


def test_a_text_is_as_sure_as_its_words_on_average() -> None:
    (result,) = told(Channel(request(), asked()), commit(words(" a", " b")), utterance(1.0, 1.9))
    assert result["channel"]["alternatives"][0]["confidence"] == 0.55
    assert (result["start"], result["duration"], result["is_final"]) == (1.0, 0.9, True)


def test_what_is_final_is_never_said_again_and_what_is_not_holds_all_the_rest() -> None:
    channel = Channel(request(), asked(punctuate="true", interim_results="true"))
    said, more = words(" One.", " Two"), words(" three.", start=2.0)
    results = told(channel, Partial(" One. Two", said, 1.0, 1.9))
    results += told(channel, commit(said), Partial(" three.", more, 2.0, 2.4), commit(more))
    results += told(channel, utterance(1.0, 2.4))
    assert [(text(result), result["is_final"]) for result in results] == [
        ("One. Two", False),
        ("One.", True),
        ("Two three.", False),
        ("Two three.", True),
    ]
    end = 0.0
    for result in results:
        assert result["start"] >= end
        if result["is_final"]:
            end = result["start"] + result["duration"]


def test_speech_is_final_where_silence_ended_it_and_only_there() -> None:
    for query, expected in ({}, [False, True]), ({"endpointing": "false"}, [False, False]):
        channel = Channel(request(), asked(**query))
        results = told(channel, Speech("started", 0.9), commit(words(" a")), utterance(1.0, 1.4))
        results += told(channel, commit(words(" b", start=2.0), 1), Speech("ended", 2.6))
        results += told(channel, utterance(2.0, 2.4))
        assert [result["speech_final"] for result in results] == expected


def test_finalize_marks_the_result_that_it_made_or_an_empty_one() -> None:
    channel = Channel(request(), asked())
    channel.finalize()
    results = told(channel, commit(words(" a")), utterance(1.0, 1.4), Label(3, 1.0, 1.4, "S1"))
    assert results == [], "whether it is the last one is not known yet"
    results = told(channel, Finalized(1.5))
    assert [(text(result), result["from_finalize"]) for result in results] == [("a", True)]
    channel.finalize()
    results = told(channel, Finalized(1.6))
    assert [(text(result), result["from_finalize"], result["is_final"]) for result in results] == [
        ("", True, True)
    ]
    channel.finalize()
    results = told(channel, commit(words(" b", start=2.0)), utterance(2.0, 2.4), Speech("started", 2.5))
    assert [(text(result), result["from_finalize"]) for result in results] == [("b", False)]


def test_speakers_are_numbers_and_words_wait_for_them() -> None:
    channel = Channel(request(), asked(diarize="true"))
    said = words(" a", " b", " c")
    assert told(channel, commit(said)) == []
    results = told(channel, Label(2, 1.0, 1.9, "S2"), Label(3, 2.0, 2.4, "S1"), utterance(1.0, 2.4, "S2"))
    assert [
        [word["speaker"] for word in result["channel"]["alternatives"][0]["words"]] for result in results
    ] == [[1, 1], [0]]
    (unknown,) = told(channel, commit(words(" d", start=4.0)), utterance(4.0, 4.4))
    assert unknown["channel"]["alternatives"][0]["words"][0]["speaker"] == 0


def test_an_utterance_ends_once_no_word_has_come_for_long_enough() -> None:
    channel = Channel(request(), asked(interim_results="true", utterance_end_ms="1000"))
    ends = told(channel, commit(words(" a")), utterance(1.0, 1.4), Lag(2.2, 2.2, 0.0))
    assert not [end for end in ends if end["type"] == "UtteranceEnd"]
    ends = told(channel, Lag(2.5, 2.5, 0.0), Lag(3.5, 3.5, 0.0))
    assert ends == [{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 1.4}]
    told(channel, commit(words(" b", start=4.0), 1), utterance(4.0, 4.4))
    ends = told(channel, commit(words(" c", start=5.5), 2))
    assert [end["last_word_end"] for end in ends] == [4.4], "before the word that is later than that"


def test_channels_have_numbers_and_hear_what_is_theirs() -> None:
    wanted = asked(
        channels="2", multichannel="true", vad_events="true", interim_results="true", diarize="true"
    )
    assert wanted.start.channel_speakers and wanted.start.heard_channels == 2
    assert not wanted.start.final_pass and "one speaker" in wanted.warnings[0]
    left, right = (Channel(request(), wanted, index) for index in (0, 1))
    hers, his = words(" a", speaker="S1"), words(" b", start=1.2, speaker="S2")
    said = [
        Speech("started", 0.9, 1),
        Partial(" a b", (*hers, *his), 1.0, 1.6),
        commit(hers),
        utterance(1.0, 1.4, "S1"),
        commit(his, 1),
        Stopped(4, 3.0, " a b"),
    ]
    started, interim, result = told(right, *said)
    assert started == {"type": "SpeechStarted", "channel": [1], "timestamp": 0.9}
    assert (interim["is_final"], interim["channel"]["alternatives"][0]["transcript"]) == (False, "b")
    assert (result["is_final"], result["channel_index"]) == (True, [1, 2])
    assert [word["speaker"] for word in result["channel"]["alternatives"][0]["words"]] == [0]
    interim, result = told(left, *said)
    assert [one["channel"]["alternatives"][0]["transcript"] for one in (interim, result)] == ["a", "a"]


def test_speech_is_told_only_if_asked_for() -> None:
    assert told(Channel(request(), asked()), Speech("started", 0.9)) == []


@pytest.mark.parametrize(
    ("written", "expected"),
    [(" Hello,", "hello"), (" “It’s”", "it’s"), (" $5.50.", "$5.50"), (" …", "…"), (" 50%", "50%"), ("", "")],
)
def test_a_bare_word_has_no_punctuation_around_it(written: str, expected: str) -> None:
    assert bare(written) == expected


# Queries ------------------------------------------------------------------------------------------------


def test_a_query_becomes_a_session() -> None:
    wanted = read_query(
        [
            *{
                **RAW,
                "encoding": "mulaw",
                "sample_rate": "8000",
                "channels": "2",
                "language": "en-US",
            }.items(),
            *(
                ("keyterm", "Yankee"),
                ("keyterm", "Sheila"),
                ("keywords", "Chicago:2"),
                ("tag", "a"),
                ("tag", "b"),
            ),
            *(("endpointing", "750"), ("interim_results", "true"), ("diarize", "true"), ("extra", "job:7")),
        ],
        is_live=True,
    )
    start = wanted.start
    assert (start.audio.encoding, start.audio.sample_rate, start.audio.channels) == ("mulaw", 8000, 2)
    assert (start.language, start.vocabulary) == ("en", ("Yankee", "Sheila", "Chicago"))
    assert (start.end_silence, start.interim, start.diarize, start.final_pass) == (0.75, True, True, False)
    assert (wanted.tags, wanted.extra) == (("a", "b"), {"job": "7"})
    assert len(wanted.warnings) == 1 and "`keywords`" in wanted.warnings[0]


def test_without_an_encoding_audio_names_itself() -> None:
    for query in [], [("encoding", "flac")], [("encoding", "ogg-opus"), ("sample_rate", "48000")]:
        assert read_query(query, is_live=False).start.audio.encoding == "container"


def test_what_has_no_effect_is_said_and_what_is_off_is_not() -> None:
    wanted = asked(numerals="true", dictation="false", endpointing="10", no_such_thing="1", redact="")
    assert [warning.split("`")[1] for warning in wanted.warnings] == [
        "endpointing",
        "numerals",
        "no_such_thing",
    ]
    assert wanted.start.end_silence == 0.2


def test_languages_are_hinted_at_or_detected() -> None:
    multi = read_query(
        [*RAW.items(), ("language", "multi"), ("language_hint", "es"), ("language_hint", "en")], is_live=True
    )
    assert (multi.start.language, multi.start.languages, multi.wants_languages) == (None, ("es", "en"), True)
    detected = read_query([("detect_language", "true")], is_live=False)
    assert (detected.start.language, detected.start.languages, detected.wants_languages) == (None, (), True)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"encoding": "linear32"}, "linear32"),
        ({"encoding": "opus"}, "opus"),
        ({"encoding": "linear16"}, "sample_rate"),
        ({**RAW, "sample_rate": "4000"}, "sample_rate"),
        ({**RAW, "sample_rate": "fast"}, "fast"),
        ({**RAW, "channels": "3"}, "channels"),
        ({**RAW, "redact": "pci"}, "redact"),
        ({**RAW, "callback": "ftp://example.org/"}, "callback"),
        ({**RAW, "callback": "https://example.org/", "callback_method": "put"}, "callback_method"),
        ({**RAW, "profanity_filter": "true"}, "profanity_filter"),
        ({**RAW, "utterance_end_ms": "1000"}, "interim_results"),
        ({**RAW, "interim_results": "true", "utterance_end_ms": "500"}, "utterance_end_ms"),
        ({**RAW, "endpointing": "soon"}, "endpointing"),
        ({**RAW, "punctuate": "maybe"}, "punctuate"),
        ({**RAW, "keyterm": "x" * 101}, "keyterm"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(query: dict[str, str], named: str) -> None:
    with pytest.raises(ClientError) as refused:
        read_query(query.items(), is_live=True)
    assert named in refused.value.message
