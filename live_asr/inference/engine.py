"""What the server asks of whoever recognises: in a process beside it, or elsewhere.

Questions and answers are plain values and arrays, without paths: any transport can carry them. A repeated
question has the same answer, so one that was lost may be asked again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from live_asr.core.errors import EngineError
from live_asr.core.types import DecodeRequest
from live_asr.inference.ipc import Detected, Loaded, Recognized
from live_asr.models.interfaces import FloatArray, SpeechState

Newest = Callable[[], tuple[DecodeRequest, FloatArray] | None]
"""What to decode by now, instead of what was asked for earlier; None where nothing is wanted any more."""


class StaleWork(EngineError):
    """Nobody wanted a piece of work any more when its turn came."""


class Engine(Protocol):
    """Speech detection, recognition and voices for all sessions of one server.

    Each question raises EngineError where it cannot be answered.
    """

    @property
    def loaded(self) -> Loaded | None:
        """Which models there are; None until they are loaded for the first time."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether questions are answered at this moment."""
        ...

    @property
    def warning(self) -> str:
        """Why the models run on a slower device than there is; "" where they do not."""
        ...

    @property
    def waiting_count(self) -> int:
        """How many questions wait for their answers."""
        ...

    @property
    def changed_at(self) -> float:
        """When a process or a worker last died or came back, by `time.monotonic`; -inf where none has."""
        ...

    async def start(self) -> Loaded:
        """Load the models. Raises EngineError where that cannot be done."""
        ...

    async def wait(self) -> Loaded:
        """Wait until the models are loaded for the first time."""
        ...

    async def close(self) -> None:
        """Answer nothing any more. Idempotent."""
        ...

    async def detect(self, samples: FloatArray, state: SpeechState) -> Detected:
        """Judge chunks of 32 ms, shape (samples,): is it speech? See `SpeechDetector.detect`."""
        ...

    async def recognize(
        self, request: DecodeRequest, samples: FloatArray, budget: float, *, newest: Newest | None = None
    ) -> Recognized:
        """Decode a window, shape (samples,), wanted within `budget` seconds.

        `newest` is called when its turn comes, and says what to decode instead; where that is nothing,
        StaleWork is raised.
        """
        ...

    async def segment(self, samples: FloatArray, budget: float) -> FloatArray:
        """Tell who of a window speaks when; see `SpeakerSegmentation.segment`."""
        ...

    async def embed(self, samples: FloatArray, budget: float) -> FloatArray:
        """Embed a voice; see `SpeakerEncoder.embed`."""
        ...
