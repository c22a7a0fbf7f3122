"""The protocol against bytes that are nearly messages: refused as documented, and soon, or read as one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.core.errors import ClientError
from live_asr.core.messages import CLIENT_TYPES, Message, decode_client, decode_server, encode, error_message

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
MAX_SENTENCE = 1_000
MAX_CPU_SECONDS = 5.0
"""For a frame of the largest size, many times what it takes: on any machine, only what grows faster than the
frame takes longer."""
LARGEST_FRAME_BYTES = 1024 * 1024

Decode = Callable[[str | bytes], Message]


def examples() -> list[bytes]:
    """The documentation's messages: each kind, with all its fields."""
    blocks = re.findall(r"^```json\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [json.dumps(json.loads(block), ensure_ascii=False).encode() for block in blocks]


EXAMPLES = examples()


def decoder_of(example: bytes) -> Decode:
    return decode_client if json.loads(example)["type"] in CLIENT_TYPES else decode_server


def read(decode: Decode, frame: str | bytes) -> Message | None:
    """Read a frame; None where it is refused, which must be as documented."""
    try:
        message = decode(frame)
    except ClientError as error:
        assert error.code in ("not_json", "bad_message")
        assert error.close_code == 1007
        assert error.message and error.hint
        assert len(str(error)) <= MAX_SENTENCE
        told = decode_server(encode(error_message(error)))
        assert told == error_message(error)
        return None
    return message


def assert_read_or_refused(decode: Decode, frame: bytes) -> None:
    """Check all that must hold of any frame."""
    message = read(decode, frame)
    if message is not None:
        written = encode(message)
        assert encode(decode(written)) == written
    try:
        text = frame.decode()
    except UnicodeDecodeError:
        assert message is None
    else:
        assert read(decode, text) == message


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Decode, bytes]:
    """A message with bytes flipped, cut out, put in or taken from another one."""
    example = draw(st.sampled_from(EXAMPLES))
    data = bytearray(example)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        other = draw(st.sampled_from(EXAMPLES))
        middle = draw(st.integers(0, len(other)))
        data[start:end] = draw(
            st.binary(max_size=8)
            | st.sampled_from([other[middle:], other[:middle], b"", bytes(data[start:end]) * 2])
        )
    return decoder_of(example), bytes(data)


@settings(deadline=None, max_examples=400)
@given(damaged())
def test_a_damaged_message_is_read_or_refused_as_documented(case: tuple[Decode, bytes]) -> None:
    assert_read_or_refused(*case)


ODD = st.sampled_from(
    [
        *("null", "-1", "-0.0", "1e400", "5e-324", "NaN", "9223372036854775808", "1" * 4301, "0.0005", "01"),
        *('""', '"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', '"\n"', "[]", "{}", "[[]]", '{"a":1,"a":2}'),
        *('0,"type":"start"', '"http://[::1"', '"x"' + " " * 500, "[" * 900 + "]" * 900, "'a'"),
    ]
) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
).map(json.dumps)


def places(value: Any) -> list[tuple[Any, Any]]:
    """List (object or array, key) of everything inside a JSON value."""
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    found = [(value, key) for key, _ in entries]
    for holder, key in tuple(found):
        found += places(holder[key])
    return found


@st.composite
def changed(draw: st.DrawFn) -> tuple[Decode, bytes]:
    """A message in which one value, at any depth, is another one, or a key is written otherwise."""
    example = draw(st.sampled_from(EXAMPLES))
    value = json.loads(example)
    holder, key = draw(st.sampled_from(places(value)))
    if isinstance(holder, dict) and draw(st.booleans()):
        holder[draw(st.text(max_size=12) | st.just(key[:-1]) | st.just(key + "s"))] = holder.pop(key)
        text = json.dumps(value)
    else:
        holder[key] = "@here@"
        text = json.dumps(value).replace('"@here@"', draw(ODD))
    return decoder_of(example), text.encode("utf-8", "surrogatepass")


@settings(deadline=None, max_examples=400)
@given(changed())
def test_a_message_with_any_value_or_key_anywhere_is_read_or_refused_as_documented(
    case: tuple[Decode, bytes],
) -> None:
    assert_read_or_refused(*case)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type":"start","vocabulary":[' + b'"x",' * 250_000 + b'"x"]}',
        b'{"type":"start","metadata":{' + b",".join(b'"k%d":0' % n for n in range(90_000)) + b"}}",
        b'{"type":"start","language":"' + b"\\u0000" * 170_000 + b'"}',
        b'{"type":"start",' + b",".join(b'"typ%d":0' % n for n in range(75_000)) + b"}",
        b'{"type":"' + b"start" * 200_000 + b'"}',
        b'{"type":"start","min_speakers":' + b"1" * 1_000_000 + b"}",
        b'{"type":"start","min_speakers":0.' + b"1" * 1_000_000 + b"}",
        b'{"type":"start","min_speakers":1e' + b"9" * 1_000_000 + b"}",
        b'{"type":"start","webhook":{"url":"http://' + b"a." * 500_000 + b'"}}',
        b'{"type":"commit","seq":1,"text":"","utterance":0,"words":[' + b"{}," * 340_000 + b"{}]}",
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b'{"a":[' * 150_000,
        b'"' * 1_000_000,
        b'"' + b"\\ud800" * 170_000 + b'"',
        b"\xff" * 1_000_000,
        b" " * 1_000_000,
        b"-" * 1_000_000,
    ],
    ids=lambda frame: repr(frame[:40]),
)
@pytest.mark.parametrize("decode", [decode_client, decode_server], ids=["client", "server"])
def test_the_largest_frame_is_refused_in_bounded_time_and_in_few_words(decode: Decode, frame: bytes) -> None:
    assert len(frame) <= LARGEST_FRAME_BYTES
    began = time.process_time()
    read(decode, frame)
    assert time.process_time() - began < MAX_CPU_SECONDS
