"""Whatever foreign clients send is read or refused, by sentences and not by tracebacks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.errors import ClientError
from live_asr.server.dialects.deepgram.parameters import NOTHING, REFUSED, WARNED, read_keyterms, read_query
from live_asr.server.dialects.realtime.conversation import read_event
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
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
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
