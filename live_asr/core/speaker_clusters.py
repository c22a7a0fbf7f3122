"""Voices: how alike they must be to be one person's, and the centroids of those known so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from live_asr.core.types import samples

FloatArray = NDArray[np.float32]


FARTHEST = 2.0
"""The cosine distance of opposites."""
TUNED_EQUAL_ERROR_DISTANCE = 0.71
"""Cosine distance at which two voices of CAM++ are as likely one person's as two."""


@dataclass(frozen=True, slots=True)
class SpeakerOptions:
    """What tunes live diarization, by the stage that it belongs to.

    Distances are cosine distances, 0 to 2, tuned on CAM++. All values were chosen in docs/decisions/0008.
    """

    # 1. Segmentation: who speaks within one window.
    window_samples: int = samples(8.0)
    """Length of a window. The model was trained on 10 s, and costs by the second."""
    step_samples: int = samples(0.88)
    """New audio between two windows."""
    speech_probability: float = 0.35
    """A step in which no chunk is this likely to be speech is skipped."""
    tau_active: float = 0.5
    """Probability from which a local speaker counts as speaking."""
    pause_samples: int = samples(0.3)
    """After a longer pause, a local speaker may be another person."""
    blend: float = 0.5
    """Weight of the newest window where windows overlap, 0 to 1."""
    memory_samples: int = samples(90.0)
    """How far back activity is kept."""

    # 2. Embedding: when a voice is listened to.
    match_samples: int = samples(0.8)
    """Speech of one person alone before a voice is embedded for the first time."""
    rho_update_samples: int = samples(1.5)
    """Further speech alone before it is embedded again."""
    longest_embedding_samples: int = samples(3.0)
    """At most so much of a voice is embedded at once."""

    # 3. Clustering: whose voice it is.
    delta_new: float = 0.62
    """A voice farther than this from every known speaker is a new speaker's …"""
    new_samples: int = samples(2.0)
    """… once so much of it was heard alone."""
    delta_far: float = 0.8
    """A voice farther than this from every known speaker is a new speaker's …"""
    new_soon_samples: int = samples(1.3)
    """… once so much of it was heard alone."""
    eager: float = 0.75
    """Factor on both distances while fewer speakers are known than the client said there are …"""
    well_known: float = 2.5
    """… and the nearest speaker was heard for at least so many seconds."""
    delta_switch: float = 0.15
    """A voice that goes on changes its speaker only if it is nearer to another one by this much."""
    delta_sure: float = 0.15
    """A centroid learns only from voices that are nearer to it than to any other by this much."""
    delta_alike: float = 0.6
    """Two speakers whose centroids are nearer than this are told apart by segmentation instead."""
    trust: float = 0.1
    """Subtracted from the distance to the speaker that segmentation suggests."""

    # 4. Words: who said one.
    inertia: float = 0.15
    """Share of a word, 0 to 1, by which another speaker must lead over the one of the word before."""
    least_share: float = 0.1
    """Who speaks during a smaller share of a word did not say it."""

    @classmethod
    def of_encoder(cls, equal_error_distance: float) -> SpeakerOptions:
        """Return the options for an encoder with this equal error distance.

        The defaults were tuned on CAM++; another encoder's distances are taken in proportion.
        """
        scale = equal_error_distance / TUNED_EQUAL_ERROR_DISTANCE
        options = cls()
        scaled = ("delta_new", "delta_far", "delta_switch", "delta_sure", "delta_alike", "trust")
        return replace(options, **{name: getattr(options, name) * scale for name in scaled})


class SpeakerClusters:
    """Speakers 0, 1, 2 …: one centroid each.

    `max_speakers` bounds how many there may be, `min_speakers` says how many there are at least.
    """

    def __init__(self, max_speakers: int | None = None, *, min_speakers: int | None = None) -> None:
        self._max_speakers = max_speakers
        self._min_speakers = min_speakers or 0
        self._sums: list[FloatArray] = []

    def __len__(self) -> int:
        return len(self._sums)

    def restore(self, sums: Sequence[FloatArray], count: int) -> None:
        """Begin with the centroids of `count` speakers; those that are not there are alike to nobody."""
        size = len(sums[0]) if sums else 1
        missing = [np.zeros(size, np.float32)] * max(0, count - len(sums))
        self._sums = [*sums, *missing]

    @property
    def sums(self) -> tuple[FloatArray, ...]:
        """Each speaker's centroid, as the sum of what was heard of them."""
        return tuple(self._sums)

    def distances(self, embedding: FloatArray) -> FloatArray:
        """Return the cosine distance, 0 to 2, of a voice from each centroid, shape (speakers,)."""
        return np.array([_distance(embedding, total) for total in self._sums], np.float32)

    def distance_between(self, one: int, other: int) -> float:
        """Return the cosine distance of two centroids."""
        norm = float(np.linalg.norm(self._sums[one]))
        return FARTHEST if norm == 0.0 else _distance(self._sums[one] / norm, self._sums[other])

    def add(self, embedding: FloatArray, weight: float) -> int:
        """Take a voice, a vector of length 1, for a new speaker; return its number."""
        self._sums.append(embedding * weight)
        return len(self._sums) - 1

    def update(self, number: int, embedding: FloatArray, weight: float) -> None:
        """Move a centroid towards what its speaker sounds like now; `weight` is in seconds of it."""
        self._sums[number] = self._sums[number] + embedding * weight

    def seconds_alike(self, number: int) -> float:
        """Return how many seconds are known of a voice, as far as they sound alike."""
        return float(np.linalg.norm(self._sums[number]))

    @property
    def lacks_speakers(self) -> bool:
        """Whether there are more speakers than those."""
        return len(self._sums) < self._min_speakers

    @property
    def is_full(self) -> bool:
        """Whether no further speaker may be added."""
        return self._max_speakers is not None and len(self._sums) >= self._max_speakers


def _distance(embedding: FloatArray, total: FloatArray) -> float:
    """Return the cosine distance of a vector of length 1 from a centroid; `FARTHEST` from an unknown one."""
    norm = float(np.linalg.norm(total))
    return FARTHEST if norm == 0.0 else 1.0 - float(embedding @ total) / norm
