"""The wire messages: what is written is read back, and anything else gets an error that helps."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.core.clock import utc_text
from live_asr.core.errors import ClientError, MediaError, Unavailable
from live_asr.core.languages import NAMES
from live_asr.core.messages import (
    CLIENT_TYPES,
    ENCODINGS,
    EPHEMERAL,
    KEPT,
    SERVER_TYPES,
    Ack,
    AudioFormat,
    ClientMessage,
    ClockPoint,
    Commit,
    Error,
    Final,
    Finalize,
    Finalized,
    FinalSegment,
    FinalSpeaker,
    Label,
    Lag,
    Models,
    Notice,
    Partial,
    Pause,
    Paused,
    Progress,
    Ready,
    RecognizerInfo,
    Resume,
    ServerInfo,
    ServerMessage,
    Speech,
    SpeechDetectorInfo,
    Start,
    Stop,
    Stopped,
    Time,
    Timed,
    Update,
    Updated,
    UtteranceMessage,
    Webhook,
    WireWord,
    decode_client,
    decode_server,
    encode,
    error_message,
    wire_word,
)
from live_asr.core.types import Word

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"

text = st.text(max_size=30)
count = st.integers(0, 2**53)
time = st.integers(0, 10**9).map(lambda ms: ms / 1000)
fraction = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
maybe_text = st.none() | text
name = st.text(min_size=1, max_size=30)
speakers = st.sampled_from([(None, None), (1, None), (None, 4), (2, 2), (1, 32)])
scalars = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | text
scalars |= st.floats(allow_nan=False, allow_infinity=False)


def several(entry: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(entry, max_size=3).map(tuple)


words = several(st.builds(WireWord, text, time, time, fraction, maybe_text))
languages = st.sampled_from(sorted(NAMES)) | st.sampled_from(["tlh", "no language"])
starts = speakers.flatmap(
    lambda bounds: st.builds(
        Start,
        audio=st.builds(AudioFormat, st.sampled_from(ENCODINGS), st.integers(8000, 48000), st.integers(1, 2)),
        language=st.none() | languages,
        languages=st.lists(languages, max_size=3, unique=True).map(tuple),
        task=st.sampled_from(["transcribe", "translate"]),
        vocabulary=several(name),
        diarize=st.booleans(),
        min_speakers=st.just(bounds[0]),
        max_speakers=st.just(bounds[1]),
        interim=st.booleans(),
        pace=st.sampled_from(["realtime", "fast"]),
        final_pass=st.booleans(),
        webhook=st.none() | st.builds(Webhook, st.sampled_from(["https://a.example/b?c", "http://[::1]:8/"])),
        metadata=st.dictionaries(text, scalars, max_size=4),
        resume=st.none() | st.builds(Resume, name, name, count),
    )
)
updates = st.builds(
    Update,
    st.none() | languages | st.just("auto"),
    st.none() | st.lists(languages, max_size=3, unique=True).map(tuple),
    st.none() | several(name),
    st.none() | st.booleans(),
)
moments = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)).map(utc_text)
positions = st.tuples(count, st.none()) | st.tuples(st.none(), time)
client_messages: st.SearchStrategy[ClientMessage] = st.one_of(
    starts,
    updates,
    st.builds(lambda at, position: Time(at, *position), moments, positions),
    st.builds(Pause, st.booleans()),
    st.just(Finalize()),
    st.just(Stop()),
)
models = st.builds(
    Models,
    st.builds(RecognizerInfo, text, several(text), text, text),
    st.builds(SpeechDetectorInfo, text),
)
server_messages: st.SearchStrategy[ServerMessage] = st.one_of(
    st.builds(Ready, text, text, count, count, count, models, st.builds(ServerInfo, text, text), maybe_text),
    st.builds(Ack, count),
    st.builds(Speech, st.sampled_from(["started", "ended"]), time),
    st.builds(Partial, text, words, time, time),
    st.builds(Commit, st.integers(1, 2**53), words, text, count),
    st.builds(Label, st.integers(1, 2**53), time, time, text),
    st.builds(UtteranceMessage, st.integers(1, 2**53), count, time, time, text, maybe_text, maybe_text),
    st.builds(Lag, time, time, time),
    st.builds(Finalized, time),
    st.builds(
        Updated,
        st.integers(1, 2**53),
        time,
        maybe_text,
        several(text),
        several(text),
        st.booleans(),
    ),
    st.builds(Timed, st.integers(1, 2**53), time, moments),
    st.builds(Paused, st.integers(1, 2**53), time, st.booleans()),
    st.builds(Stopped, st.integers(1, 2**53), time, text),
    st.builds(Progress, text, fraction),
    st.builds(
        Final,
        st.integers(1, 2**53),
        count,
        time,
        maybe_text,
        text,
        several(st.builds(FinalSegment, time, time, maybe_text, text, words)),
        several(st.builds(FinalSpeaker, text, several(text), time, count)),
        st.dictionaries(text, text, max_size=3),
        started_at=maybe_text,
        clock=several(st.builds(ClockPoint, time, moments)),
    ),
    st.builds(Notice, text, text),
    st.builds(Error, text, text, text, st.none() | time),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
field_names = st.sampled_from(sorted(Start.__slots__)) | st.text()


def refusal(frame: str | bytes | dict[str, Any]) -> ClientError:
    with pytest.raises(ClientError) as caught:
        decode_client(json.dumps(frame) if isinstance(frame, dict) else frame)
    error = caught.value
    assert error.close_code == 1007
    assert error.message.isascii() and error.hint
    return error


@settings(deadline=None)
@given(client_messages)
def test_every_client_message_reads_back_as_it_was_written(message: ClientMessage) -> None:
    assert decode_client(encode(message)) == message


@settings(deadline=None)
@given(server_messages)
def test_every_server_message_reads_back_as_it_was_written(message: ServerMessage) -> None:
    assert decode_server(encode(message)) == message
    assert decode_server(encode(message).decode()) == message


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_bytes_that_are_no_message_are_refused_on_both_sides(frame: bytes | str) -> None:
    for decode in (decode_client, decode_server):
        with pytest.raises(ClientError) as caught:
            decode(frame)
        assert caught.value.code in ("not_json", "bad_message")
        assert caught.value.close_code == 1007


@settings(deadline=None)
@given(st.sampled_from(sorted(CLIENT_TYPES)), st.dictionaries(field_names, json_values, max_size=4))
def test_a_client_message_with_any_fields_is_read_or_refused_with_bad_message(
    type_name: str, values: dict[str, Any]
) -> None:
    frame = json.dumps(values | {"type": type_name})
    try:
        message = decode_client(frame)
    except ClientError as error:
        assert error.code in ("bad_message", "not_json")
    else:
        assert decode_client(encode(message)) == message


@settings(deadline=None)
@given(st.sampled_from(sorted(SERVER_TYPES)), st.data())
def test_a_server_message_with_any_value_in_a_field_is_read_or_refused(type_name: str, data: Any) -> None:
    values = {n.rstrip("_"): data.draw(json_values) for n in SERVER_TYPES[type_name].__slots__}
    try:
        decode_server(json.dumps(values | {"type": type_name}))
    except ClientError as error:
        assert error.code in ("bad_message", "not_json")


@pytest.mark.parametrize(
    ("frame", "named", "hint"),
    [
        ({"type": "start", "audio": {"encoding": "mp3"}}, "`audio.encoding`", "'pcm_s16le', 'pcm_f32le'"),
        ({"type": "start", "audio": {"encoding": "pcm_s16"}}, "`audio.encoding`", "'pcm_s16le'"),
        ({"type": "start", "audio": {"sample_rate": 4000}}, "`audio.sample_rate`", "8000"),
        ({"type": "start", "audio": {"sample_rate": True}}, "`audio.sample_rate`", "8000 to 48000"),
        ({"type": "start", "audio": {"channels": 7}}, "`audio.channels`", "2"),
        ({"type": "start", "audio": {"channel": 1}}, "`audio.channel`", "`audio.channels`, which is 1"),
        ({"type": "start", "audio": {"channels": 2, "channel": 2}}, "`audio.channel`", "1"),
        ({"type": "start", "end_silence": 0.1}, "`end_silence`", "0.2 to 5"),
        ({"type": "start", "vad_threshold": 1}, "`vad_threshold`", "0.1 to 0.9"),
        ({"type": "start", "audio": {"rate": 8000}}, "`audio.rate`", "`audio.sample_rate`"),
        ({"type": "start", "audio": "pcm_s16le"}, "`audio`", "an object"),
        ({"type": "start", "sampleRate": 8000}, "`sampleRate`", "`audio.sample_rate`"),
        ({"type": "start", "lang": "en"}, "`lang`", "`language`"),
        ({"type": "start", "language": ""}, "`language`", "1 to 35 characters"),
        ({"type": "start", "language": 3}, "`language`", "a string"),
        ({"type": "start", "task": "translation"}, "`task`", "'translate'"),
        ({"type": "start", "pace": "quick"}, "`pace`", "'realtime' or 'fast'"),
        ({"type": "start", "vocabulary": "Berlin"}, "`vocabulary`", "an array"),
        ({"type": "start", "vocabulary": ["x"] * 201}, "`vocabulary`", "at most 200 entries"),
        ({"type": "start", "vocabulary": ["a", "x" * 101]}, "`vocabulary[1]`", "1 to 100 characters"),
        ({"type": "start", "interim": "yes"}, "`interim`", "true or false"),
        ({"type": "start", "min_speakers": 3, "max_speakers": 2}, "`min_speakers`", "`max_speakers`"),
        ({"type": "start", "max_speakers": 0}, "`max_speakers`", "1"),
        ({"type": "start", "webhook": {"url": "ftp://a.example"}}, "`webhook.url`", "http"),
        ({"type": "start", "webhook": {"url": "http://[::1"}}, "`webhook.url`", "http"),
        ({"type": "start", "webhook": {}}, "`webhook.url` is missing", "`webhook.url`"),
        ({"type": "start", "metadata": {"a": {"b": 1}}}, "`metadata.a`", "string"),
        ({"type": "start", "metadata": {"a": 2**64}}, "`metadata.a`", "string"),
        ({"type": "start", "metadata": {"a": "x" * 17_000}}, "`metadata`", "16384 bytes"),
        ({"type": "start", "metadata": []}, "`metadata`", "an object"),
        ({"type": "start", "resume": {"session": "s", "tokn": "t"}}, "`resume.token` is missing", "'tokn'"),
        ({"type": "time", "at": "2026-11-21T14:05:09", "sample": 0}, "`at`", "with its zone"),
        ({"type": "time", "at": "yesterday", "sample": 0}, "`at`", "2026-11-21T14:05:09.120Z"),
        ({"type": "time", "at": 1795269909, "sample": 0}, "`at`", "ISO 8601"),
        ({"type": "time", "at": "1969-12-31T23:59:59Z", "sample": 0}, "`at`", "ISO 8601"),
        ({"type": "time", "at": "9999-12-31T23:59:59-01:00", "sample": 0}, "`at`", "ISO 8601"),
        ({"type": "time", "sample": 0}, "`at` is missing", "`at`"),
        ({"type": "time", "at": "2026-11-21T14:05:09Z"}, "`audio_seconds`", "one of both"),
        (
            {"type": "time", "at": "2026-11-21T14:05:09Z", "sample": 1, "audio_seconds": 1},
            "one",
            "one of both",
        ),
        ({"type": "time", "at": "2026-11-21T14:05:09Z", "sample": -1}, "`sample`", "0"),
        ({"type": "time", "at": "2026-11-21T14:05:09Z", "audio_secs": 1}, "`audio_secs`", "`audio_seconds`"),
        ({"type": "begin"}, "`type`", "'start', 'update', 'time', 'finalize', 'pause', 'keepalive', 'stop'"),
        ({"type": "strat"}, "`type`", "'start'"),
        ({"type": ["start"]}, "`type`", "'start'"),
        ({"audio": {}}, "`type`", "'start'"),
        ('{"type": "start", "task": "transcribe", "task": "translate"}', "`task`", "once"),
        ('{"type": "start", "language": "\\ud800"}', "`language`", "surrogates"),
        ('{"type": "start", "audio": {"sample_rate": 1e999}}', "`audio.sample_rate`", "8000 to 48000"),
        ("[]", "message", "JSON object"),
        ("3", "message", "JSON object"),
        ("null", "message", "JSON object"),
    ],
)
def test_a_refused_field_is_named_with_what_is_allowed(
    frame: str | dict[str, Any], named: str, hint: str
) -> None:
    error = refusal(frame)
    assert error.code == "bad_message"
    assert named in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "hello",
        "{",
        b"\xff\xfe",
        b"\x00\x01\x02",
        '{"type": "start", "min_speakers": NaN}',
        '{"type": "start", "min_speakers": -Infinity}',
        "[" * 200_000,
        '{"a":' * 200_000,
        "1" * 5000,
        '\ufeff{"type": "stop"}',
    ],
    ids=lambda frame: repr(frame[:20]),
)
def test_what_is_not_json_is_refused_as_not_json(frame: str | bytes) -> None:
    assert refusal(frame).code == "not_json"


def test_an_unknown_field_that_resembles_none_is_ignored() -> None:
    assert decode_client('{"type": "start", "zzz": 1, "audio": {"qqq": 2}}') == Start()


def test_null_in_an_optional_field_stands_for_its_default() -> None:
    assert decode_client('{"type": "start", "audio": null, "interim": null, "metadata": null}') == Start()


def test_a_client_reads_messages_of_a_newer_server() -> None:
    assert decode_server('{"type": "ack", "bytes": 4, "byte": 5, "more": {}}') == Ack(4)


def test_a_mebibyte_of_unknown_names_is_compared_with_the_known_ones_only_at_its_start() -> None:
    frame = json.dumps({"type": "stop"} | {f"{n:09}": 0 for n in range(60_000)} | {"typo": 1})
    assert decode_client(frame) == Stop()


@pytest.mark.parametrize("number", ["9223372036854775807", "9223372036854775808", "9.2e18", "5e-324"])
def test_the_largest_and_smallest_numbers_that_are_read_can_be_written_and_read_again(number: str) -> None:
    message = decode_server(f'{{"type": "finalized", "time": {number}}}')
    assert encode(decode_server(encode(message))) == encode(message)


@pytest.mark.parametrize("number", ["9223372036854777856", "1e19", "1e999", "-1e999", "1" * 4000])
def test_a_number_beyond_64_bits_is_refused_as_such(number: str) -> None:
    with pytest.raises(ClientError, match="`time` must be a number within 64 bits"):
        decode_server(f'{{"type": "finalized", "time": {number}}}')


@pytest.mark.parametrize(
    "at", ["2026-11-21T14:05:09.12Z", "2026-11-21 15:05:09.1204+01:00", "2026-11-21T06:05:09.120-08:00"]
)
def test_a_wall_clock_time_is_read_in_utc_to_the_millisecond(at: str) -> None:
    read = decode_client(json.dumps({"type": "time", "at": at, "audio_seconds": 1.00049}))
    assert read == Time("2026-11-21T14:05:09.120Z", audio_seconds=1.0)


def test_times_leave_with_three_decimals() -> None:
    assert encode(Finalized(1 / 3)) == b'{"type":"finalized","time":0.333}'


def test_text_leaves_as_utf_8_and_a_lone_surrogate_as_a_question_mark() -> None:
    assert (
        encode(Notice("n", "Nguyễn \ud800")) == '{"type":"notice","code":"n","message":"Nguyễn ?"}'.encode()
    )


def test_only_kept_messages_carry_seq() -> None:
    assert {cls.type for cls in KEPT} == {
        "commit",
        "label",
        "utterance",
        "updated",
        "timed",
        "paused",
        "stopped",
        "final",
    }
    assert all("seq" in cls.__slots__ for cls in KEPT)
    assert not any("seq" in cls.__slots__ for cls in EPHEMERAL)


def test_a_word_on_the_wire_keeps_its_leading_space_and_has_seconds() -> None:
    word = Word(" hello", 8_000, 24_001, 0.98765, tokens=(1, 2), speaker="S1")
    assert wire_word(word) == WireWord(" hello", 0.5, 1.5, 0.988, "S1")


def test_an_error_becomes_the_message_that_tells_about_it() -> None:
    full = Unavailable("server_full", "All taken.", "Come back.", retry_after=20)
    assert error_message(full) == Error("server_full", "All taken.", "Come back.", 20)
    assert error_message(MediaError("No audio.", "Send some.")) == Error(
        "not_audio", "No audio.", "Send some."
    )


def examples() -> list[dict[str, Any]]:
    blocks = re.findall(r"^```json\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [json.loads(block) for block in blocks]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example["type"])
def test_an_example_in_the_documentation_is_a_message_and_shows_all_its_fields(
    example: dict[str, Any],
) -> None:
    frame = json.dumps(example)
    message = decode_client(frame) if example["type"] in CLIENT_TYPES else decode_server(frame)
    written = json.loads(encode(message))
    assert {key: written.get(key) for key in example} == example | {
        key: written[key] for key in ("audio",) if key in example
    }


def test_the_documentation_shows_every_message() -> None:
    assert {example["type"] for example in examples()} == {*CLIENT_TYPES, *SERVER_TYPES}


def test_the_documentation_lists_every_field_of_start() -> None:
    document = DOCUMENT.read_text("utf-8")
    for name in (*(set(Start.__slots__) - {"audio"}), *(f"audio.{n}" for n in AudioFormat.__slots__)):
        assert f"`{name}`" in document
