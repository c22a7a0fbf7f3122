"""What a session asks of the inference process: is it speech, what was said, who said it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from live_asr.core.errors import EngineError
from live_asr.core.messages import Notice, ServerMessage
from live_asr.core.session import Session
from live_asr.core.types import samples
from live_asr.inference.ipc import Detected
from live_asr.inference.local_engine import Engine
from live_asr.inference.scheduler import FILE_BUDGET, FINAL_BUDGET, SPEAKER_BUDGET, STEP_BUDGET
from live_asr.models.interfaces import FloatArray, SpeechState
from live_asr.sessions.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Cadence:
    """How steps lengthen when the inference process is loaded."""

    step_samples: int = samples(0.7)
    """Where answers come in time."""
    loaded_step_samples: int = samples(1.0)
    """Where they take longer than `loaded_latency`, waiting included."""
    overloaded_step_samples: int = samples(1.5)
    """Where they take longer than `overloaded_latency`."""
    loaded_latency: float = 0.5
    overloaded_latency: float = 1.0

    def step_for(self, latency: float) -> int:
        """Return the step for answers that take so many seconds, on average."""
        if latency > self.overloaded_latency:
            return max(self.step_samples, self.overloaded_step_samples)
        if latency > self.loaded_latency:
            return max(self.step_samples, self.loaded_step_samples)
        return self.step_samples


log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Speech that nobody judges is speech that is lost, so a detection that fails is asked for again."""


class DetectionTask:
    """Judge one channel of a session; `moved` and `advanced` are as for `SpeakerTask`."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        moved: Callable[[], Awaitable[None]],
        advanced: Callable[[], None],
        channel: int = 0,
    ) -> None:
        self._channel = channel
        self._session = session
        self._engine = engine
        self._moved = moved
        self._advanced = advanced
        self._state = SpeechState.initial()

    async def run(self) -> None:
        """Work until cancelled. Raises EngineError when a detection fails again and again."""
        while True:
            audio = self._session.unjudged(self._channel)
            if audio is None:
                await self._moved()
                continue
            answer = await self._judge(audio)
            self._state = answer.state
            self._session.receive_probabilities(answer.probabilities, self._channel)
            self._advanced()

    async def _judge(self, audio: FloatArray) -> Detected:
        for attempt in range(1, MAX_ATTEMPTS):
            try:
                return await self._engine.detect(audio, self._state)
            except EngineError as error:
                log.warning("session %s: detection %d failed: %s", self._session.id, attempt, error)
        return await self._engine.detect(audio, self._state)


log = logging.getLogger(__name__)

MAX_BEHIND_SAMPLES = samples(6.0)
"""Live labels that are farther behind leave something out; each window looks 8 s back."""
TIMEOUT = 0.1
"""Seconds that words wait for their speakers; what comes later is told by a `label`."""


class SpeakerTask:
    """Computes what a session wants in order to tell its speakers apart.

    `moved` waits until the session may want something else, `advanced` is called when it has moved.
    """

    def __init__(
        self,
        session: Session,
        engine: Engine,
        moved: Callable[[], Awaitable[None]],
        advanced: Callable[[], None],
    ) -> None:
        self._session = session
        self._engine = engine
        self._moved = moved
        self._advanced = advanced
        self._live = session.start.pace == "realtime"

    async def run(self) -> None:
        """Work until cancelled; what cannot be computed costs labels and nothing else."""
        budget = SPEAKER_BUDGET if self._live else FILE_BUDGET
        while True:
            if self._live:
                self._session.skip_speakers_behind(MAX_BEHIND_SAMPLES)
            wanted = self._session.wanted_of_speakers()
            if wanted is None:
                await self._moved()
                continue
            kind, audio = wanted
            try:
                if kind == "segmentation":
                    self._session.receive_activity(await self._engine.segment(audio, budget))
                else:
                    self._session.receive_embedding(await self._engine.embed(audio, budget))
            except EngineError as error:
                log.warning("session %s: speakers could not be told apart: %s", self._session.id, error)
                self._session.receive_speaker_failure()
            self._advanced()

    async def known_until(self, end_sample: int) -> None:
        """Wait a moment for the speakers of what was recognised, so that words have them from the start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT if self._live else FILE_BUDGET):
                while not self._session.knows_speakers_until(end_sample):
                    await self._moved()


log = logging.getLogger(__name__)

LATENCY_WEIGHT = 0.3
"""Of the newest answer in the running mean of how late answers are."""


class RecognitionTask:
    """Recognise what a session wants recognised; `moved` and `advanced` are as for `SpeakerTask`."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        speakers: SpeakerTask,
        moved: Callable[[], Awaitable[None]],
        advanced: Callable[[], None],
        *,
        cadence: Cadence,
        metrics: Metrics,
        tell: Callable[[ServerMessage], None],
    ) -> None:
        self._session = session
        self._engine = engine
        self._speakers = speakers
        self._moved = moved
        self._advanced = advanced
        self._cadence = cadence
        self._metrics = metrics
        self._tell = tell
        self._live = session.start.pace == "realtime"
        self._latency = 0.0

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            wanted = self._session.decode()
            if wanted is None:
                await self._moved()
                continue
            request, audio = wanted
            budget = (FINAL_BUDGET if request.final else STEP_BUDGET) if self._live else FILE_BUDGET
            try:
                answer = await self._engine.recognize(request, audio, budget)
            except EngineError as error:
                log.warning("session %s: a step could not be recognised: %s", self._session.id, error)
                self._tell(Notice("step_failed", "A stretch of speech could not be recognised."))
                self._session.receive_decode_failure()
            else:
                self._metrics.decode_seconds.observe(answer.took)
                self._metrics.queue_seconds.observe(answer.waited)
                await self._speakers.known_until(request.end_sample)
                self._session.receive_hypothesis(answer.hypothesis)
                self._adapt(answer.waited + answer.took)
            self._advanced()

    def _adapt(self, latency: float) -> None:
        """Lengthen the steps of a live session where answers come late, and let it skip where too late."""
        if not self._live:
            return
        before = self._cadence.step_for(self._latency)
        self._latency += LATENCY_WEIGHT * (latency - self._latency)
        now = self._cadence.step_for(self._latency)
        self._session.set_step(now, overloaded=samples(self._latency) > 0.9 * now)
        if now > before and now == self._cadence.overloaded_step_samples:
            self._tell(Notice("degraded", "The server is busy: captions come later than usual."))
