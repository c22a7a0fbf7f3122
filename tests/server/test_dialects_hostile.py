"""Whatever foreign clients send is read or refused, by sentences and not by tracebacks."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.errors import ClientError
from live_asr.server.dialects.deepgram.parameters import NOTHING, REFUSED, WARNED, read_keyterms, read_query
from live_asr.server.dialects.json_objects import read_object
from live_asr.server.dialects.realtime.conversation import LARGEST_CHARACTERS, read_event
from live_asr.server.dialects.realtime.settings import LOGPROBS, SessionSettings
from live_asr.server.dialects.wyoming import start_of

NAMES = (
    *("model", "encoding", "sample_rate", "channels", "multichannel", "language", "language_hint", "keyterm"),
    *("keywords", "detect_language", "diarize", "interim_results", "endpointing", "utterance_end_ms", "tag"),
    *("punctuate", "smart_format", "vad_events", "paragraphs", "utterances", "extra", "diarize_model"),
    *(*NOTHING, *REFUSED, *WARNED),
)
VALUES = (
    "linear16",
    "mulaw",
    "16000",
    "8000",
    "1",
    "2",
    "true",
    "false",
    "en",
    "multi",
    "",
    "-1",
    "1e9",
    "۳",
)
FIELDS = (
    *(
        "type",
        "audio",
        "input",
        "format",
        "rate",
        "transcription",
        "language",
        "languages",
        "model",
        "prompt",
    ),
    *("keywords", "turn_detection", "threshold", "silence_duration_ms", "eagerness", "include"),
    *("delay", "noise_reduction", "input_audio_format", "input_audio_transcription", "prefix_padding_ms"),
)
WORDS = (
    "transcription",
    "server_vad",
    "semantic_vad",
    "audio/pcm",
    "audio/pcmu",
    "pcm16",
    "en",
    LOGPROBS,
    "high",
)
spelt = st.text(st.characters(categories=["Cs", "Ll"]), max_size=3)
"""With lone surrogates, which JSON can spell."""
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | spelt
    | st.sampled_from(WORDS)
)
json_values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(
    st.lists(st.tuples(st.sampled_from(NAMES) | st.text(), st.sampled_from(VALUES) | st.text())),
    st.booleans(),
)
def test_any_query_is_read_or_refused(items: list[tuple[str, str]], is_live: bool) -> None:
    try:
        asked = read_query(items, is_live=is_live)
    except ClientError as error:
        assert error.message
    else:
        assert asked.start.heard_channels == asked.channels
        assert len(set(asked.warnings)) == len(asked.warnings)


@given(st.dictionaries(st.sampled_from(["keyterms", "features", "type"]), json_values))
def test_any_configure_is_read_or_refused(message: dict[str, Any]) -> None:
    try:
        assert isinstance(read_keyterms(message), list)
    except ClientError as error:
        assert error.message


@given(json_values)
def test_any_session_is_read_or_refused_and_what_was_read_can_be_shown_and_opened(session: object) -> None:
    settings = SessionSettings()
    for given_session in (session, {"type": "transcription", "audio": {"input": session}}):
        try:
            settings = settings.changed(given_session)
        except ClientError as error:
            assert error.message
    json.dumps([settings.shown("s"), settings.shown_as_beta("s")])
    assert settings.start().audio == settings.audio
    assert settings.update().language


@given(st.dictionaries(spelt, spelt | st.lists(spelt, max_size=2), max_size=3).map(json.dumps))
def test_what_was_read_can_be_told_back(text: str) -> None:
    try:
        value = read_object(text.encode())
    except ClientError as error:
        assert "surrogate" in error.message
    else:
        assert orjson.loads(orjson.dumps(value)) == value


@given(json_values.map(json.dumps) | st.text())
def test_any_event_is_read_or_refused(frame: str) -> None:
    try:
        assert isinstance(read_event(frame)["type"], str)
    except ClientError as error:
        assert error.message


@given(
    st.dictionaries(
        st.sampled_from(["language", "name", "transcript_names", "transcript_terms"]), json_values
    ),
    st.dictionaries(st.sampled_from(["rate", "width", "channels", "timestamp"]), json_values),
)
def test_any_transcribe_is_read_or_refused(wanted: dict[str, Any], audio: dict[str, Any]) -> None:
    try:
        assert start_of(wanted, audio).audio.encoding == "pcm_s16le"
    except ClientError as error:
        assert error.message


@pytest.mark.parametrize("audio", ["AAA", "§", 7, None])
def test_audio_that_is_no_base64_is_refused(audio: object) -> None:
    with pytest.raises(ClientError, match="base64"):
        read_event(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("utterance_end_ms", "000000001000" + "9" * 5000),
        ("sample_rate", "000000016000" + "9"),
        ("endpointing", "0000005000" + "0" * 20),
    ],
)
def test_a_number_is_read_to_its_last_digit(name: str, value: str) -> None:
    items = {"encoding": "linear16", "sample_rate": "16000", "interim_results": "true", name: value}
    with pytest.raises(ClientError, match=name):
        read_query(items.items(), is_live=True)


def test_an_event_has_no_bytes_but_those_of_its_audio_and_is_small_without() -> None:
    assert read_event('{"type": "input_audio_buffer.commit", "bytes": 5}') == {
        "type": "input_audio_buffer.commit"
    }
    with pytest.raises(ClientError, match="characters"):
        read_event(json.dumps({"type": "session.update", "session": "," * LARGEST_CHARACTERS}))


@pytest.mark.parametrize("text", ["[]", "7", '"x"', "{", "[" * 100_000, '{"a": "\\ud800"}'])
def test_what_is_no_object_is_told_without_advice_about_our_own_frames(text: str) -> None:
    with pytest.raises(ClientError) as refused:
        read_object(text, "body")
    assert str(refused.value).startswith("The body ") and "frame" not in str(refused.value)
