"""Long recordings in blocks: where to cut, and which speakers of different blocks are one.

Speakers are linked by agglomerative clustering of their mean embeddings, the centroid method on vectors
of length 1, as pyannote clusters within a block; but two speakers of one block are never linked, since
the pipeline has told them apart having heard both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from live_asr.core.types import samples
from live_asr.models.interfaces import FloatArray

SEARCH_SAMPLES = samples(60.0)
"""A cut is looked for within so much before and after where it would make blocks of one length."""
PAUSE_SAMPLES = samples(0.5)
STEP_SAMPLES = samples(0.1)


def as_float(pcm: NDArray[np.int16]) -> FloatArray:
    """Return samples in -1 … 1."""
    return pcm.astype(np.float32) / np.float32(32768)


def cut_in_pauses(pcm: NDArray[np.int16], longest_samples: int) -> list[tuple[int, int]]:
    """Divide a recording into blocks of about equal length, (start, end), cut where it is quietest.

    Up to `longest_samples` it is one block; no block is longer than that by more than the search.
    """
    count = max(1, math.ceil(pcm.size / longest_samples))
    search = min(SEARCH_SAMPLES, longest_samples // 4)
    cuts = [0]
    for index in range(1, count):
        middle = pcm.size * index // count
        cuts.append(quietest_sample(pcm, middle - search, middle + search))
    cuts.append(pcm.size)
    return list(itertools.pairwise(cuts))


def quietest_sample(pcm: NDArray[np.int16], start_sample: int, end_sample: int) -> int:
    """Return the middle of the quietest half second between two samples."""
    start_sample = max(0, start_sample)
    stretch = pcm[start_sample:end_sample].astype(np.float32)
    steps = len(stretch) // STEP_SAMPLES
    width = PAUSE_SAMPLES // STEP_SAMPLES
    if steps <= width:
        return start_sample + len(stretch) // 2
    energy = np.square(stretch[: steps * STEP_SAMPLES]).reshape(steps, STEP_SAMPLES).mean(axis=1)
    quietest = int(np.argmin(np.convolve(energy, np.ones(width), mode="valid")))
    return start_sample + quietest * STEP_SAMPLES + PAUSE_SAMPLES // 2


@dataclass(slots=True)
class _Cluster:
    """Speakers of different blocks taken for one."""

    members: list[tuple[int, int]]
    """(block, speaker)."""
    total: FloatArray
    """Sum of the members' voices, each of length 1, weighted by how long they speak."""
    weight: float

    @property
    def blocks(self) -> set[int]:
        return {block for block, _ in self.members}


def link_speakers(
    voices: Sequence[Sequence[FloatArray]],
    lengths: Sequence[Sequence[float]],
    *,
    threshold: float,
    min_speakers: int = 1,
    max_speakers: int | None = None,
) -> list[list[int]]:
    """Number the speakers of all blocks, the same number for one person: result[block][speaker].

    `voices` holds each block's mean embeddings (zeros where a speaker has none), `lengths` how long each
    speaks. Links are made up to the Euclidean distance `threshold`, further where there would be more than
    `max_speakers`, and none that leave fewer than `min_speakers`.
    """
    clusters = [
        _Cluster([(block, speaker)], _unit(voice) * weight, weight)
        for block, of_block in enumerate(voices)
        for speaker, voice in enumerate(of_block)
        for weight in [max(1.0, float(lengths[block][speaker]))]
    ]
    while len(clusters) > min_speakers:
        pair = _nearest(clusters)
        if pair is None:
            break
        distance, first, second = pair
        if distance > threshold and (max_speakers is None or len(clusters) <= max_speakers):
            break
        joined = clusters.pop(second)
        kept = clusters[first]
        kept.members += joined.members
        kept.total = kept.total + joined.total
        kept.weight += joined.weight
    if max_speakers is not None and len(clusters) > max_speakers:
        return _assigned(voices, clusters, max_speakers)
    numbers = [[0] * len(of_block) for of_block in voices]
    for number, cluster in enumerate(clusters):
        for block, speaker in cluster.members:
            numbers[block][speaker] = number
    return numbers


def _nearest(clusters: Sequence[_Cluster]) -> tuple[float, int, int] | None:
    """Return the two nearest clusters that share no block: distance and indices; None when all do."""
    best: tuple[float, int, int] | None = None
    for second in range(1, len(clusters)):
        for first in range(second):
            a, b = clusters[first], clusters[second]
            if not a.total.any() or not b.total.any() or a.blocks & b.blocks:
                continue
            distance = float(np.linalg.norm(a.total / a.weight - b.total / b.weight))
            if best is None or distance < best[0]:
                best = distance, first, second
    return best


def _assigned(
    voices: Sequence[Sequence[FloatArray]], clusters: Sequence[_Cluster], count: int
) -> list[list[int]]:
    """Match each block's speakers with the `count` heaviest clusters: no two of a block with the same one."""
    from scipy.optimize import linear_sum_assignment

    heaviest = sorted(clusters, key=lambda cluster: -cluster.weight)[:count]
    known = np.array([_unit(cluster.total) for cluster in heaviest])
    numbers = []
    for of_block in voices:
        likeness = np.array([known @ _unit(voice) for voice in of_block]).reshape(len(of_block), len(known))
        rows, columns = linear_sum_assignment(likeness, maximize=True)
        chosen = dict(zip(rows.tolist(), columns.tolist(), strict=True))
        numbers.append([chosen.get(row, int(np.argmax(likeness[row]))) for row in range(len(of_block))])
    return numbers


def _unit(voice: FloatArray) -> FloatArray:
    length = float(np.linalg.norm(voice))
    return voice / length if np.isfinite(length) and length > 0 else np.zeros_like(voice)
