"""Long recordings in blocks: cut in pauses, and one person keeps one number in all of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.types import samples
from live_asr.full_pass.blocks import cut_in_pauses, link_speakers
from live_asr.models.interfaces import FloatArray


def voice(angle: float, size: float = 1.0) -> FloatArray:
    """A voice in a plane: two of them are alike as far as their angles are."""
    return np.array([size * np.cos(angle), size * np.sin(angle)], np.float32)


def linked(*blocks: Sequence[float], **bounds: int) -> list[list[int]]:
    """Link blocks of speakers, each given by its angle and speaking equally long."""
    voices = [[voice(angle) for angle in block] for block in blocks]
    lengths = [[100.0] * len(block) for block in blocks]
    return link_speakers(voices, lengths, threshold=0.8, **bounds)


def noise_with_pauses(duration: float, *pauses: float) -> np.ndarray:
    """Noise with half a second of silence around each of the given times."""
    audio = np.random.default_rng(0).integers(-9000, 9000, samples(duration)).astype(np.int16)
    for pause in pauses:
        audio[samples(pause - 0.25) : samples(pause + 0.25)] = 0
    return audio


# Cutting ------------------------------------------------------------------------------------------------


def test_a_recording_that_fits_is_one_block() -> None:
    pcm = noise_with_pauses(10.0)
    assert cut_in_pauses(pcm, samples(10.0)) == [(0, samples(10.0))]


def test_blocks_are_cut_in_the_pause_nearest_to_equal_lengths() -> None:
    pcm = noise_with_pauses(100.0, 20.0, 46.0, 80.0)
    (_, first_end), (second_start, end) = cut_in_pauses(pcm, samples(60.0))
    assert first_end == second_start
    assert abs(first_end - samples(46.0)) <= samples(0.1)
    assert end == pcm.size


@given(
    length=st.integers(0, samples(40.0)),
    longest=st.integers(samples(1.0), samples(15.0)),
)
def test_blocks_follow_each_other_and_none_is_much_longer_than_allowed(length: int, longest: int) -> None:
    blocks = cut_in_pauses(np.zeros(length, np.int16), longest)
    assert blocks[0][0] == 0 and blocks[-1][1] == length
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(blocks))
    assert all(end - start <= 1.5 * longest for start, end in blocks)


# Linking ------------------------------------------------------------------------------------------------


def test_like_voices_of_different_blocks_are_one_speaker() -> None:
    assert linked([0.0, 1.5], [1.6, 0.1], [0.05]) == [[0, 1], [1, 0], [0]]


def test_two_speakers_of_one_block_stay_two_however_alike() -> None:
    first, second = linked([0.0, 0.1])[0]
    assert first != second


def test_unlike_voices_stay_apart() -> None:
    assert linked([0.0], [1.5], [3.0]) == [[0], [1], [2]]


def test_voices_further_apart_than_the_threshold_are_linked_where_there_would_be_too_many() -> None:
    assert linked([0.0], [1.0], [3.0], max_speakers=2) == [[0], [0], [1]]


def test_fewer_links_are_made_where_there_would_be_too_few() -> None:
    assert len({number for (number,) in linked([0.0], [0.1], [0.3], min_speakers=2)}) == 2


def test_the_greatest_number_holds_even_where_step_by_step_links_end_in_a_corner() -> None:
    # The nearest pairs link crosswise; then every further link would join two of one block.
    blocks = [[0.0, 1.0], [0.05, 1.9], [1.05, 1.95]]
    numbers = linked(*blocks, max_speakers=2)
    assert {number for block in numbers for number in block} == {0, 1}
    assert all(len(set(block)) == 2 for block in numbers)


def test_how_loud_an_embedding_is_does_not_matter() -> None:
    voices = [[voice(0.0, 5.0)], [voice(0.1, 0.1)]]
    assert link_speakers(voices, [[1.0], [1.0]], threshold=0.8) == [[0], [0]]


@pytest.mark.parametrize("nothing", [voice(0.0, 0.0), np.array([np.nan, np.nan], np.float32)])
def test_a_speaker_without_a_voice_is_linked_to_nobody(nothing: FloatArray) -> None:
    assert link_speakers([[voice(0.0)], [nothing]], [[1.0], [1.0]], threshold=0.8) == [[0], [1]]


@given(
    st.lists(st.lists(st.floats(-3.1, 3.1), min_size=0, max_size=3), min_size=1, max_size=5),
    st.integers(1, 4),
)
def test_bounds_are_kept_where_the_blocks_allow_it(blocks: list[list[float]], most: int) -> None:
    most = max([most, *(len(block) for block in blocks)])
    numbers = linked(*blocks, max_speakers=most)
    assert [len(block) for block in numbers] == [len(block) for block in blocks]
    assert len({number for block in numbers for number in block}) <= most
    assert all(len(set(block)) == len(block) for block in numbers)
