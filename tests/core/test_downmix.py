"""Channels to one, without losing what cancels between them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from live_asr.core.downmix import Downmixer, mono_weights

RATE_HZ = 16_000
HALVES = (0.5, 0.5)


def mixed(*channels: NDArray[np.float32], weights: tuple[float, ...] = HALVES) -> NDArray[np.float32]:
    mixer = Downmixer(weights, RATE_HZ)
    return np.concatenate([mixer.feed(np.stack(channels)), mixer.finish()])


def power(audio: NDArray[np.float32]) -> float:
    return float(np.mean(np.square(audio)))


def test_channels_that_are_alike_are_averaged(sample_audio: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(mixed(sample_audio, sample_audio), sample_audio, atol=1e-6)


def test_a_channel_that_cancels_the_other_is_left_out(sample_audio: NDArray[np.float32]) -> None:
    """By its RTTM the call begins at 6.69 s."""
    speech = sample_audio[6 * RATE_HZ :]
    assert power(mixed(speech, -speech)) > 0.9 * power(speech)


def test_speech_in_one_channel_of_many_is_heard_as_loud_as_it_is(sample_audio: NDArray[np.float32]) -> None:
    speech = sample_audio[6 * RATE_HZ :]
    silence = np.zeros_like(speech)
    found = mixed(speech, silence, silence, silence, weights=(0.25,) * 4)
    assert power(found) > 0.9 * power(speech)


def test_two_people_in_two_channels_are_both_heard(sample_audio: NDArray[np.float32]) -> None:
    one = sample_audio[6 * RATE_HZ : 18 * RATE_HZ]
    other = sample_audio[18 * RATE_HZ :]
    np.testing.assert_allclose(mixed(one, other), (one + other) / 2, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, 8000), max_size=8), flip=st.booleans())
def test_any_chunking_gives_the_same(sample_audio: NDArray[np.float32], cuts: list[int], flip: bool) -> None:
    speech = sample_audio[7 * RATE_HZ : 7 * RATE_HZ + 8000]
    channels = np.stack([speech, -speech if flip else speech[::-1]])
    mixer, edges = Downmixer(HALVES, RATE_HZ), [0, *sorted(cuts), 8000]
    pieces = [mixer.feed(channels[:, a:b]) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate([*pieces, mixer.finish()]), mixed(*channels))


def test_what_is_no_number_is_silent() -> None:
    broken = np.full(1600, np.nan, np.float32)
    assert np.all(np.isfinite(mixed(broken, broken)))


@pytest.mark.parametrize(
    "names", [("FL", "FR"), ("FL", "FR", "FC", "LFE", "BL", "BR"), ("FC",), ("LFE",), ("?",)]
)
def test_weights_add_up_to_one(names: tuple[str, ...]) -> None:
    assert sum(mono_weights(names)) == pytest.approx(1.0)
