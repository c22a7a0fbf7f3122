"""Raw audio: any chunking gives the same samples, and the buffer keeps what it was told to keep."""

from __future__ import annotations

import struct
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.core.audio import SAMPLE_BYTES, AudioBuffer, PcmDecoder, Samples

encodings = st.sampled_from(sorted(SAMPLE_BYTES))


def ramp(start: int, end: int) -> Samples:
    return np.arange(start, end, dtype=np.float32)


@settings(deadline=None)
@given(encodings, st.integers(1, 2), st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_any_chunking_of_the_same_bytes_gives_the_same_samples(
    encoding: str, channels: int, data: bytes, cuts: list[int]
) -> None:
    whole = PcmDecoder(encoding, channels).feed(data)
    decoder = PcmDecoder(encoding, channels)
    edges = [0, *sorted(cuts), len(data)]
    pieces = [decoder.feed(data[a:b]) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)
    frame_bytes = SAMPLE_BYTES[encoding] * channels
    assert whole.shape == (channels, len(data) // frame_bytes)
    assert decoder.rest_bytes == len(data) % frame_bytes


@settings(deadline=None)
@given(encodings, st.integers(1, 2), st.binary(max_size=300))
def test_samples_are_finite_float32_from_minus_one_to_one(encoding: str, channels: int, data: bytes) -> None:
    samples = PcmDecoder(encoding, channels).feed(data)
    assert samples.dtype == np.float32
    assert np.all(np.abs(samples) <= 1)


def test_16_bit_samples_become_fractions_of_full_scale() -> None:
    samples = PcmDecoder("pcm_s16le").feed(struct.pack("<4h", 0, 16384, -32768, 32767))
    assert samples.tolist() == [[0.0, 0.5, -1.0, 32767 / 32768]]


def test_float_samples_are_clipped_and_those_that_are_no_number_are_silent() -> None:
    data = struct.pack("<6f", 0.25, float("nan"), float("inf"), -float("inf"), 7.0, -7.0)
    assert PcmDecoder("pcm_f32le").feed(data).tolist() == [[0.25, 0.0, 0.0, 0.0, 1.0, -1.0]]


def test_stereo_comes_as_two_channels() -> None:
    data = struct.pack("<4h", 16384, -16384, 16384, 0)
    assert PcmDecoder("pcm_s16le", channels=2).feed(data).tolist() == [[0.5, 0.5], [-0.5, 0.0]]


@pytest.mark.parametrize(("encoding", "codec"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
def test_every_byte_of_g711_expands_as_in_ffmpeg(encoding: str, codec: str) -> None:
    data = bytes(range(256))
    context = av.CodecContext.create(codec, "r")
    context.sample_rate, context.layout = 8000, "mono"
    expected = np.concatenate([f.to_ndarray().reshape(-1) for f in context.decode(av.Packet(data))])
    np.testing.assert_array_equal(PcmDecoder(encoding).feed(data)[0] * 32768, expected)


def test_a_slice_is_addressed_by_the_samples_of_the_session() -> None:
    buffer = AudioBuffer()
    buffer.append(ramp(0, 100))
    buffer.append(ramp(100, 250))
    buffer.discard_before(60)
    assert (buffer.start_sample, buffer.end_sample, len(buffer)) == (60, 250, 190)
    np.testing.assert_array_equal(buffer.slice(60, 250), ramp(60, 250))
    np.testing.assert_array_equal(buffer.slice(99, 101), ramp(99, 101))
    assert len(buffer.slice(250, 250)) == 0


@pytest.mark.parametrize(("start", "end"), [(59, 70), (200, 251), (-1, 3), (120, 110), (0, 0), (251, 251)])
def test_a_slice_of_what_is_not_kept_is_an_error(start: int, end: int) -> None:
    buffer = AudioBuffer()
    buffer.append(ramp(0, 250))
    buffer.discard_before(60)
    with pytest.raises(IndexError, match="there are 60 to 250"):
        buffer.slice(start, end)


def test_a_slice_stays_what_it_was_when_the_buffer_goes_on() -> None:
    buffer = AudioBuffer()
    buffer.append(ramp(0, 1000))
    taken = buffer.slice(0, 1000)
    buffer.discard_before(1000)
    for start in range(1000, 400_000, 10_000):
        buffer.append(ramp(start, start + 10_000) * 0)
        buffer.discard_before(start)
    np.testing.assert_array_equal(taken, ramp(0, 1000))


def test_a_buffer_may_start_anywhere_in_the_session() -> None:
    buffer = AudioBuffer(start_sample=5_000_000)
    buffer.append(ramp(0, 3))
    assert buffer.slice(5_000_001, 5_000_003).tolist() == [1.0, 2.0]


def test_samples_of_two_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="one dimension"):
        AudioBuffer().append(np.zeros((2, 2), np.float32))


operations = st.lists(
    st.tuples(st.sampled_from(["append", "discard"]), st.integers(0, 100_000)), min_size=1, max_size=30
)


@settings(deadline=None)
@given(operations)
def test_whatever_is_appended_and_discarded_the_rest_is_as_it_came(steps: list[tuple[str, int]]) -> None:
    buffer = AudioBuffer()
    for operation, amount in steps:
        if operation == "append":
            buffer.append(ramp(buffer.end_sample, buffer.end_sample + amount))
        else:
            buffer.discard_before(buffer.start_sample + amount)
    kept = buffer.slice(buffer.start_sample, buffer.end_sample)
    np.testing.assert_array_equal(kept, ramp(buffer.start_sample, buffer.end_sample))


def test_memory_is_flat_over_an_hour_and_shrinks_after_a_backlog() -> None:
    buffer, piece = AudioBuffer(), np.zeros(16_000, np.float32)
    for _ in range(600):
        buffer.append(piece)
    backlog_bytes = buffer.capacity_bytes
    buffer.discard_before(buffer.end_sample - 160_000)
    sizes = []
    for _ in range(3600):
        buffer.append(piece)
        buffer.discard_before(buffer.end_sample - 160_000)
        sizes.append(buffer.capacity_bytes)
    assert buffer.end_sample == 4200 * 16_000
    assert max(sizes[-1800:]) <= 4 * 4 * 176_000 < backlog_bytes
