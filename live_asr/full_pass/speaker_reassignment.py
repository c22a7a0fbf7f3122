"""Settle the voices: every stretch of a diarization compared once more with all speakers.

pyannote's segmentation sometimes takes two people who speak in turn for one, if their voices are alike;
the embedding of such a pair belongs to the one who speaks longer, and the other's turn goes with it. Where
it does so all along, two people become one. A stretch by itself has an embedding of its own. By these it is
told, too, which of several guesses is the best: the one whose speakers each sound like one person.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from live_asr.core.types import Turn, samples
from live_asr.full_pass.blocks import as_float
from live_asr.models.interfaces import FloatArray

SHORTEST_SAMPLES = samples(0.5)
"""A shorter stretch says too little about its voice."""
MAX_SAMPLES = samples(2.5)
"""A longer one is divided: it may hold a change of speaker."""
MARGIN = 0.05
"""So much more a stretch must be like another speaker, in cosine, than like its own."""
MAX_ROUNDS = 3
MIN_SAMPLES = samples(6.0)
"""So long a voice must be heard in all to be another speaker than the pipeline found."""
MAX_COMPARED = 1000
"""Stretches that are compared with each other: that takes memory by the square of it."""
MIN_EQUAL_ERROR_DISTANCE = 0.4
"""Nearer stretches are one person's on any line."""


def reassign_speakers(
    guesses: Sequence[Sequence[Turn]],
    pcm: NDArray[np.int16],
    embed: Callable[[FloatArray], FloatArray],
    *,
    threshold: float,
    equal_error_distance: float,
    min_speakers: int = 1,
    max_speakers: int | None = None,
    on_share: Callable[[float], None] = lambda share: None,
) -> tuple[Turn, ...]:
    """Give each stretch of one voice to the speaker whom it sounds like, in each guess; return the best.

    `embed` turns samples in -1 … 1 into a vector of length 1. Voices of one speaker that are further apart
    than `threshold` become several, `max_speakers` in all. Stretches in which several speak stay as they are.
    Where fewer than `min_speakers` would be left, nothing is changed.

    The best is whose speakers go best with the voices, within these bounds if one is; of equals the first.
    `equal_error_distance` is the cosine distance from which two stretches are two people's rather than
    one's. Where voices are nearer to each other, as on the telephone, it is found in the distances
    themselves.
    """
    edges = sorted(
        {edge for turns in guesses for turn in turns for edge in (turn.start_sample, turn.end_sample)}
    )
    known: dict[tuple[int, int], FloatArray] = {}

    def voice(turn: Turn) -> FloatArray:
        span = turn.start_sample, turn.end_sample
        if span not in known:
            known[span] = embed(as_float(pcm[slice(*span)]))
        return known[span]

    def settle(index: int) -> _Settled:
        return _settle(
            guesses[index],
            edges,
            voice,
            threshold,
            equal_error_distance,
            min_speakers,
            max_speakers,
            lambda share: on_share((index + share) / len(guesses)),
        )

    settled = [settle(index) for index in range(len(guesses))]
    allowed = [
        one
        for one in settled
        if min_speakers <= one.speakers and (max_speakers is None or one.speakers <= max_speakers)
    ]
    return max(allowed or settled, key=lambda one: one.agreement).turns


@dataclass(frozen=True, slots=True)
class _Settled:
    """A guess whose voices are settled."""

    turns: tuple[Turn, ...]
    agreement: float
    """How well speakers go with voices, -1 to 1."""

    @property
    def speakers(self) -> int:
        return len({turn.speaker for turn in self.turns})


def _settle(
    turns: Sequence[Turn],
    edges: Sequence[int],
    voice: Callable[[Turn], FloatArray],
    threshold: float,
    equal_error_distance: float,
    min_speakers: int,
    max_speakers: int | None,
    on_share: Callable[[float], None],
) -> _Settled:
    speakers = sorted({turn.speaker for turn in turns})
    alone, together = _stretches(turns, edges)
    long_enough = [index for index, turn in enumerate(alone) if _length(turn) >= SHORTEST_SAMPLES]
    if not long_enough:
        return _Settled(tuple(turns), 0.0)
    embedded = []
    for done, index in enumerate(long_enough, start=1):
        embedded.append(voice(alone[index]))
        on_share(done / len(long_enough))
    voices = np.array(embedded, np.float32)
    lengths = np.array([_length(alone[index]) for index in long_enough], np.float32)
    given = np.array([speakers.index(alone[index].speaker) for index in long_enough])
    before = _told_apart(voices, lengths, given, len(speakers), threshold, max_speakers)
    names = speakers + [f"another {number}" for number in range(len(speakers), int(before.max()) + 1)]
    settled = _settled(voices, lengths, before, len(names))
    for index, number in zip(long_enough, settled, strict=True):
        alone[index] = replace(alone[index], speaker=names[number])
    found = joined([*alone, *together])
    if len({turn.speaker for turn in found}) < min(min_speakers, len(names)):
        found, settled = tuple(turns), given
    return _Settled(found, _agreement(voices, lengths, settled, equal_error_distance))


def _agreement(
    voices: FloatArray, lengths: FloatArray, speakers: NDArray[np.int64], equal_error_distance: float
) -> float:
    """Tell how well speakers go with voices, -1 to 1: one's stretches are alike, two's are not.

    Each pair of stretches counts by how long they are and by how clearly they are one person's or two's.
    """
    chosen = np.arange(0, len(voices), max(1, -(-len(voices) // MAX_COMPARED)))
    voices, lengths, speakers = voices[chosen], lengths[chosen], speakers[chosen]
    one, other = np.triu_indices(len(chosen), 1)
    if not one.size:
        return 0.0
    distances = (1 - voices @ voices.T)[one, other]
    weights = lengths[one] * lengths[other]
    likeness = weights * (
        _divide(distances, weights).clip(MIN_EQUAL_ERROR_DISTANCE, equal_error_distance) - distances
    )
    right = np.where(speakers[one] == speakers[other], likeness, -likeness)
    return float(right.sum()) / max(float(np.abs(likeness).sum()), 1e-9)


def _divide(distances: FloatArray, weights: FloatArray) -> np.float64:
    """Return the distance that divides these best into small and large ones, by Otsu's method."""
    order = np.argsort(distances)
    values, shares = distances[order].astype(np.float64), weights[order] / weights.sum(dtype=np.float64)
    below = shares.cumsum()[:-1]
    mean_below = (shares * values).cumsum()[:-1]
    mean = float((shares * values).sum())
    between = np.square(mean * below - mean_below) / np.maximum(below * (1 - below), 1e-12)
    cut = int(between.argmax()) if between.size else 0
    return np.float64(values[cut : cut + 2].mean())


def _told_apart(
    voices: FloatArray,
    lengths: FloatArray,
    speakers: NDArray[np.int64],
    count: int,
    threshold: float,
    most: int | None,
) -> NDArray[np.int64]:
    """Number voices that are further than `threshold` from all `count` speakers: the speaker of each."""
    divided = speakers.copy()
    others: list[NDArray[np.intp]] = []
    known: list[FloatArray] = []
    for speaker in range(count):
        groups = _groups(voices, lengths, np.flatnonzero(speakers == speaker), threshold)
        others += groups[1:]  # who is heard longest is the speaker
        known += [_mean(voices, lengths, group) for group in groups[:1]]
    for group in others:
        voice = _mean(voices, lengths, group)
        is_new = lengths[group].sum() >= MIN_SAMPLES and max(other @ voice for other in known) < 1 - threshold
        if is_new and (most is None or count < most):
            known.append(voice)
            divided[group] = count
            count += 1
    return divided


def _groups(
    voices: FloatArray, lengths: FloatArray, own: NDArray[np.intp], threshold: float
) -> list[NDArray[np.intp]]:
    """Return which of these stretches sound alike, those first that are heard longest."""
    from scipy.cluster.hierarchy import fcluster, linkage

    own = own[:: max(1, -(-len(own) // MAX_COMPARED))]
    if len(own) < 2:
        return [own] if len(own) else []
    labels = fcluster(linkage(voices[own], "average", metric="cosine"), threshold, "distance")
    groups = [own[labels == label] for label in np.unique(labels)]
    return sorted(groups, key=lambda group: -float(lengths[group].sum()))


def _mean(voices: FloatArray, lengths: FloatArray, group: NDArray[np.intp]) -> FloatArray:
    """Return what these stretches sound like together, length 1; all zeros for none."""
    mean: FloatArray = voices[group].T @ lengths[group]
    return mean / max(float(np.linalg.norm(mean)), 1e-9)


def _settled(
    voices: FloatArray, lengths: FloatArray, before: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Move stretches to the speaker nearest to them until none moves: the speaker of each, shape (n,)."""
    now = before
    for _ in range(MAX_ROUNDS):
        centroids = np.array(
            [_mean(voices, lengths, np.flatnonzero(now == number)) for number in range(count)]
        )
        likeness = voices @ centroids.T
        nearest = likeness.argmax(axis=1)
        rows = np.arange(len(voices))
        moved = np.where(likeness[rows, nearest] > likeness[rows, before] + MARGIN, nearest, before)
        if np.array_equal(moved, now):
            break
        now = moved
    return now


def _stretches(turns: Iterable[Turn], edges: Iterable[int] = ()) -> tuple[list[Turn], list[Turn]]:
    """Divide turns into stretches in which one speaks, of at most 2.5 s, and those in which several do.

    They are divided at `edges` too.
    """
    changes = sorted(
        [(turn.start_sample, 1, turn.speaker) for turn in turns]
        + [(turn.end_sample, -1, turn.speaker) for turn in turns]
        + [(edge, 0, "") for edge in edges]
    )
    alone: list[Turn] = []
    together: list[Turn] = []
    speaking: dict[str, int] = {}
    last = 0
    for sample, change, speaker in changes:
        now = [name for name, count in speaking.items() if count]
        if sample > last and len(now) == 1:
            alone += _divided(Turn(last, sample, now[0]))
        elif sample > last:
            together += [Turn(last, sample, name) for name in now]
        speaking[speaker] = speaking.get(speaker, 0) + change
        last = sample
    return alone, together


def _divided(turn: Turn) -> list[Turn]:
    parts = -(-_length(turn) // MAX_SAMPLES)
    edges = [turn.start_sample + _length(turn) * part // parts for part in range(parts + 1)]
    return [Turn(start, end, turn.speaker) for start, end in itertools.pairwise(edges)]


def joined(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Join stretches of one speaker that follow each other without a gap; by start."""
    merged: dict[str, list[Turn]] = {}
    for turn in sorted(turns, key=lambda turn: (turn.start_sample, turn.end_sample)):
        own = merged.setdefault(turn.speaker, [])
        if own and own[-1].end_sample >= turn.start_sample:
            own[-1] = replace(own[-1], end_sample=max(own[-1].end_sample, turn.end_sample))
        else:
            own.append(turn)
    flat = (turn for own in merged.values() for turn in own)
    return tuple(sorted(flat, key=lambda turn: (turn.start_sample, turn.end_sample)))


def _length(turn: Turn) -> int:
    return turn.end_sample - turn.start_sample
