"""What a model must offer, whichever it is: shapes, units, errors.

Models keep no memory of a session between calls: what has to be remembered travels with the call, so
that the process they live in may die and be replaced without any session noticing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from live_asr.core.messages import RecognizerInfo
from live_asr.core.types import DecodeRequest, Hypothesis

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpeechMemory:
    """A speech detector's recurrent state, before anything was heard where none is given."""

    hidden: FloatArray = field(default_factory=lambda: np.zeros((1, 1, 128), np.float32))
    """Shape (1, 1, 128)."""
    cell: FloatArray = field(default_factory=lambda: np.zeros((1, 1, 128), np.float32))
    """Shape (1, 1, 128)."""


@dataclass(frozen=True, slots=True)
class SpeechState:
    """What a speech detector remembers between two calls of one session."""

    memory: SpeechMemory
    """What the probabilities come from."""
    context: FloatArray
    """The last samples of the call before, shape (64,)."""
    successor: SpeechMemory
    """What takes the memory's place once it has heard enough; blank while it is not wanted."""
    quiet_chunks: int
    """How many chunks in a row held no speech, since the memory was last replaced."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Have it pickled as one run of bytes: it goes to the detector and back several times a second."""
        parts = (
            *(self.memory.hidden, self.memory.cell, self.successor.hidden, self.successor.cell),
            self.context,
        )
        return _unpacked, (b"".join(part.tobytes() for part in parts), self.quiet_chunks)

    @classmethod
    def initial(cls) -> SpeechState:
        """Return the state before a session's first sample."""
        return cls(SpeechMemory(), np.zeros(64, np.float32), SpeechMemory(), 0)


def _unpacked(packed: bytes, quiet_chunks: int) -> SpeechState:
    """Return the state that was pickled."""
    values = np.frombuffer(packed, np.float32)
    hidden, cell, next_hidden, next_cell = values[: 4 * 128].reshape(4, 1, 1, 128)
    return SpeechState(
        SpeechMemory(hidden, cell), values[4 * 128 :], SpeechMemory(next_hidden, next_cell), quiet_chunks
    )


class SpeechDetector(Protocol):
    """Tells speech from everything else."""

    def detect(self, samples: FloatArray, state: SpeechState) -> tuple[FloatArray, SpeechState]:
        """Judge `samples`, shape (n * 512,), 16 kHz mono in -1 … 1.

        Returns the probability of speech in each 32 ms chunk, shape (n,), and the state for the next
        call. Raises ValueError when the length is not a multiple of 512.
        """
        ...


class Recognizer(Protocol):
    """Turns a window of speech into words."""

    info: RecognizerInfo

    def recognize(self, request: DecodeRequest, samples: FloatArray) -> Hypothesis:
        """Decode `samples`, the request's window, shape (end_sample - start_sample,), 16 kHz mono.

        Word times in the answer are absolute samples. Raises ValueError when the window is longer than
        30 s or the language is not one of `info.languages`.
        """
        ...

    def warm_up(self, noise: FloatArray) -> None:
        """Make every kind of call once with `noise`, shape (n,). Raises whatever its library raises."""
        ...


@dataclass(slots=True)
class Spent:
    """What a recogniser has done since somebody last asked; any thread may add to it."""

    encoder_seconds: float = 0.0
    """Seconds of encoding, of all threads together."""
    tokens: int = 0
    """Written by the decoder, those that were forced not among them."""
    _adding: Lock = field(default_factory=Lock)

    def add(self, *, encoder_seconds: float = 0.0, tokens: int = 0) -> None:
        """Add to it."""
        with self._adding:
            self.encoder_seconds += encoder_seconds
            self.tokens += tokens

    def take(self) -> tuple[float, int]:
        """Return seconds and tokens, and begin again at nothing."""
        with self._adding:
            taken = self.encoder_seconds, self.tokens
            self.encoder_seconds, self.tokens = 0.0, 0
        return taken


@runtime_checkable
class Spending(Protocol):
    """A recogniser that tells what it does."""

    spent: Spent


@runtime_checkable
class BatchRecognizer(Protocol):
    """A recogniser that decodes windows of several sessions at once, with their prefixes."""

    most_batch: int
    """So many at once."""

    def recognize_many(
        self, requests: Sequence[DecodeRequest], windows: Sequence[FloatArray]
    ) -> list[Hypothesis]:
        """Decode several windows of one kind (see `scheduler.kind_of`), as `recognize` does each of them.

        Raises what `recognize` raises for any of them.
        """
        ...


class SpeakerEncoder(Protocol):
    """Turns a voice into a point in space: the same person's lie near each other."""

    equal_error_distance: float
    """Cosine distance at which two voices are as likely one person's as two."""

    def embed(self, samples: FloatArray) -> FloatArray:
        """Embed one speaker's audio, shape (n,), 16 kHz mono in -1 … 1.

        Returns a vector of length 1, shape (dimension,). Raises ValueError below a quarter of a second.
        """
        ...
