"""Voices known so far, as centroids of their embeddings: incremental clustering."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


class SpeakerClusters:
    """Speakers 0, 1, 2 …: one centroid each. `max_speakers` bounds how many there may be."""

    def __init__(self, max_speakers: int | None = None) -> None:
        self._max_speakers = max_speakers
        self._sums: list[FloatArray] = []

    def __len__(self) -> int:
        return len(self._sums)

    def distances(self, embedding: FloatArray) -> FloatArray:
        """Return the cosine distance, 0 to 2, of a voice from each centroid, shape (speakers,)."""
        return np.array(
            [1.0 - float(embedding @ total) / float(np.linalg.norm(total)) for total in self._sums],
            np.float32,
        )

    def distance_between(self, one: int, other: int) -> float:
        """Return the cosine distance of two centroids."""
        return float(self.distances(self._sums[one] / np.linalg.norm(self._sums[one]))[other])

    def add(self, embedding: FloatArray, weight: float) -> int:
        """Take a voice, a vector of length 1, for a new speaker; return its number."""
        self._sums.append(embedding * weight)
        return len(self._sums) - 1

    def update(self, number: int, embedding: FloatArray, weight: float) -> None:
        """Move a centroid towards what its speaker sounds like now; `weight` is in seconds of it."""
        self._sums[number] = self._sums[number] + embedding * weight

    @property
    def is_full(self) -> bool:
        """Whether no further speaker may be added."""
        return self._max_speakers is not None and len(self._sums) >= self._max_speakers
