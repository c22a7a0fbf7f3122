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
    """What tunes the clustering; distances are cosine distances, 0 to 2."""

    window_samples: int = samples(8.0)
    """What is segmented at once; the model was trained on 10 s, and costs by the second."""
    step_samples: int = samples(0.88)
    """New audio between two windows."""
    speech_probability: float = 0.35
    """Steps without any chunk of at least this are silence, which costs nothing."""
    tau_active: float = 0.5
    """Probability from which a local speaker counts as speaking."""
    match_samples: int = samples(0.8)
    """A voice is listened to first after so much of it alone."""
    rho_update_samples: int = samples(1.5)
    """A voice that goes on is listened to again after so much more of it alone."""
    new_samples: int = samples(2.0)
    """A new speaker is taken for one after so much of the voice alone."""
    new_soon_samples: int = samples(1.3)
    """After so much, where the voice is as far from all known ones as `delta_far`."""
    longest_embedding_samples: int = samples(3.0)
    """More of a voice is not listened to at once."""
    delta_new: float = 0.62
    """A voice that is farther from all known ones is somebody new."""
    delta_far: float = 0.8
    """One that is as far as this is so beyond doubt."""
    eager: float = 0.75
    """While fewer speakers are known than there are, both distances are taken as so much of themselves."""
    well_known: float = 2.5
    """Seconds of the nearest voice, as far as they sound alike, from which that holds: one of which less is
    known may sound different from itself."""
    delta_switch: float = 0.15
    """A voice that goes on is somebody else's if it is nearer to theirs by so much."""
    delta_sure: float = 0.15
    """What is nearer to one voice than to any other by so much, teaches what that voice sounds like."""
    delta_alike: float = 0.6
    """Two known voices that are nearer to each other are told apart by the segmentation model rather."""
    trust: float = 0.1
    """By so much a voice is taken to be nearer to whom the segmentation model takes it for."""
    pause_samples: int = samples(0.3)
    """A local speaker who pauses for longer may be somebody else afterwards."""
    inertia: float = 0.15
    """So much more of a word is needed to be somebody else's than the word before."""
    least_share: float = 0.1
    """Who speaks during less of a word did not say it."""
    blend: float = 0.5
    """Weight of the newest window where it looks again at what earlier ones have seen."""
    memory_samples: int = samples(90.0)
    """How far back activity is remembered."""

    @classmethod
    def of_encoder(cls, equal_error_distance: float) -> SpeakerOptions:
        """Return the options for an encoder that is indifferent at this distance.

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
