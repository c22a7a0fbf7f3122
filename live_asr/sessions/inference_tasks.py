"""Has the windows of one session recognised, and eases off where the recogniser is loaded."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from live_asr.core.messages import Notice, ServerMessage
from live_asr.core.session import Session
from live_asr.core.types import samples
from live_asr.errors import EngineError
from live_asr.inference.engine import Engine
from live_asr.inference.scheduler import FILE_BUDGET, FINAL_BUDGET, STEP_BUDGET
from live_asr.sessions.cadence import Cadence
from live_asr.sessions.following import SpeakerFollower
from live_asr.sessions.metrics import Metrics

log = logging.getLogger(__name__)

LATENCY_WEIGHT = 0.3
"""Of the newest answer in the running mean of how late answers are."""


class Recognition:
    """Recognise what a session wants recognised; `moved` and `advanced` are as for `SpeakerFollower`."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        speakers: SpeakerFollower,
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
