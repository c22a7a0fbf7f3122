"""What a session asks of the inference process: is it speech, what was said, who said it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from live_asr.core.errors import EngineError
from live_asr.core.messages import Notice, ServerMessage
from live_asr.core.session import Session
from live_asr.core.types import SAMPLE_RATE_HZ, DecodeRequest, samples
from live_asr.inference.engine import Engine, StaleWork
from live_asr.inference.ipc import Detected, Recognized
from live_asr.inference.scheduler import FILE_BUDGET, SPEAKER_BUDGET, budget_of
from live_asr.models.interfaces import FloatArray, SpeechState
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.shedding import Cadence, Shed, Shedding
from live_asr.sessions.tracing import span

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Speech that nobody judges is speech that is lost, so a detection that fails is asked for again."""


Until: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]
"""Waits until a session has come to where the condition that is given holds."""


class DetectionTask:
    """Judge one channel of a session; `until` and `advanced` are as for `SpeakerTask`."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        until: Until,
        advanced: Callable[[], None],
        channel: int = 0,
    ) -> None:
        self._channel = channel
        self._session = session
        self._engine = engine
        self._until = until
        self._advanced = advanced
        self._state = SpeechState.initial()

    async def run(self) -> None:
        """Work until cancelled. Raises EngineError when a detection fails again and again."""
        while True:
            await self._until(lambda: self._session.has_unjudged(self._channel))
            audio = self._session.unjudged(self._channel)
            if audio is None:
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


MAX_BEHIND_SAMPLES = samples(6.0)
"""Live labels that are farther behind leave something out; each window looks 8 s back."""
LATE_SPEAKER_BUDGET = 4.0
"""Seconds within which that is wanted where the recogniser is loaded."""
LABEL_TIMEOUT = 0.1
"""Seconds that words wait for their speakers; what comes later is told by a `label`."""


class SpeakerTask:
    """Computes what a session wants in order to tell its speakers apart.

    `until` waits until a condition holds, `advanced` is called when the session has moved.
    """

    def __init__(
        self,
        session: Session,
        engine: Engine,
        until: Until,
        advanced: Callable[[], None],
    ) -> None:
        self._session = session
        self._engine = engine
        self._until = until
        self._advanced = advanced
        self._live = session.start.pace == "realtime"
        self.give_way = False
        """Whether captions come before all of this: the recogniser is loaded."""

    async def run(self) -> None:
        """Work until cancelled; what cannot be computed costs labels and nothing else."""
        while True:
            await self._until(lambda: self._session.wants_speakers)
            if self._live:
                self._session.skip_speakers_behind(MAX_BEHIND_SAMPLES)
            wanted = self._session.wanted_of_speakers()
            if wanted is None:
                continue
            kind, audio = wanted
            busy_budget = LATE_SPEAKER_BUDGET if self.give_way else SPEAKER_BUDGET
            budget = busy_budget if self._live else FILE_BUDGET
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
        if self.give_way:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LABEL_TIMEOUT if self._live else FILE_BUDGET):
                await self._until(lambda: self._session.knows_speakers_until(end_sample))


NOTICES = {
    Shed.CADENCE: "The server is busy: captions come later than usual.",
    Shed.AGREEMENT: "The server is very busy: words are heard once rather than twice before they stand.",
}
"""What people are told, once in a session; what is shed before that, they hardly notice."""


class RecognitionTask:
    """Recognise what a session wants recognised; `until` and `advanced` are as for `SpeakerTask`."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        speakers: SpeakerTask,
        until: Until,
        advanced: Callable[[], None],
        *,
        cadence: Cadence,
        metrics: Metrics,
        tell: Callable[[ServerMessage], None],
    ) -> None:
        self._session = session
        self._engine = engine
        self._speakers = speakers
        self._until = until
        self._advanced = advanced
        self._shedding = Shedding(cadence)
        self._level = Shed.NOTHING
        self._told: set[Shed] = set()
        self._metrics = metrics
        self._tell = tell
        self._live = session.start.pace == "realtime"

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            await self._run()
        finally:
            self._speakers.give_way = False
            self._shed(Shed.NOTHING)

    async def _run(self) -> None:
        while True:
            await self._until(lambda: self._session.wants_decode)
            wanted = self._session.decode()
            if wanted is None:
                continue
            request, audio = wanted
            behind = self._session.backlog_samples / SAMPLE_RATE_HZ
            budget = budget_of(final=request.final, live=self._live, lag=behind)
            try:
                answer = await self._recognized(request, audio, budget)
            except StaleWork:
                pass
            except EngineError as error:
                log.warning("session %s: a step could not be recognised: %s", self._session.id, error)
                self._tell(Notice("step_failed", "A stretch of speech could not be recognised."))
                self._session.receive_decode_failure()
            else:
                self._metrics.decode_seconds.observe(answer.took)
                self._metrics.queue_seconds.observe(answer.waited)
                await self._speakers.known_until(answer.hypothesis.end_sample)
                self._session.receive_hypothesis(answer.hypothesis)
                self._adapt(answer.waited, answer.took)
            self._advanced()

    async def _recognized(self, request: DecodeRequest, audio: FloatArray, budget: float) -> Recognized:
        """Have a window decoded, as one span. Raises as `Engine.recognize`."""
        with span("decode", final=request.final, budget=budget) as told:
            answer = await self._engine.recognize(request, audio, budget, newest=self._session.newest)
            told.set_attribute("live_asr.waited", answer.waited)
            told.set_attribute("live_asr.took", answer.took)
            told.set_attribute("live_asr.words", len(answer.hypothesis.words))
        return answer

    def _adapt(self, waited: float, took: float) -> None:
        """Have a live session do without this and that where answers come late."""
        if not self._live:
            return
        shedding = self._shedding
        shedding.note(waited, took, since_change=time.monotonic() - self._engine.changed_at)
        step = shedding.step_samples
        self._session.set_step(step, overloaded=shedding.is_overloaded, relief=shedding.relief)
        self._speakers.give_way = shedding.speakers_give_way
        self._shed(shedding.level)
        is_seen = self._level is not Shed.CADENCE or step >= shedding.cadence.overloaded_step_samples
        if is_seen and self._level in NOTICES and self._level not in self._told:
            self._told.add(self._level)
            self._tell(Notice("degraded", NOTICES[self._level]))

    def _shed(self, level: Shed) -> None:
        for shed in Shed:
            if self._level < shed <= level:
                self._metrics.shed.labels(shed.name.lower()).inc()
            elif level < shed <= self._level:
                self._metrics.shed.labels(shed.name.lower()).dec()
        self._level = level
