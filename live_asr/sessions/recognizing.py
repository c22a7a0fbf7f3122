"""Has the windows of one session recognised, and eases off where the recogniser is loaded."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from live_asr.core.messages import Notice, ServerMessage
from live_asr.core.session import Session
from live_asr.core.types import SAMPLE_RATE_HZ
from live_asr.errors import EngineError
from live_asr.inference.engine import Engine, StaleWork
from live_asr.inference.scheduling import budget_of
from live_asr.sessions.cadence import Cadence
from live_asr.sessions.following import SpeakerFollower
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.shedding import Shed, Shedding

log = logging.getLogger(__name__)

NOTICES = {
    Shed.CADENCE: "The server is busy: captions come later than usual.",
    Shed.AGREEMENT: "The server is very busy: words are heard once rather than twice before they stand.",
}
"""What people are told, once in a session; what is shed before that, they hardly notice."""


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
            self._shed(Shed.NOTHING)

    async def _run(self) -> None:
        while True:
            wanted = self._session.decode()
            if wanted is None:
                await self._moved()
                continue
            request, audio = wanted
            behind = self._session.backlog_samples / SAMPLE_RATE_HZ
            budget = budget_of(final=request.final, live=self._live, lag=behind)
            try:
                answer = await self._engine.recognize(request, audio, budget, newest=self._session.newest)
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

    def _adapt(self, waited: float, took: float) -> None:
        """Have a live session do without this and that where answers come late."""
        if not self._live:
            return
        shedding = self._shedding
        shedding.note(waited, took)
        step = shedding.step_samples
        self._session.set_step(step, overloaded=shedding.is_overloaded, relief=shedding.level.relief)
        self._shed(shedding.level)
        is_seen = self._level is not Shed.CADENCE or step >= shedding.cadence.overloaded_step_samples
        if is_seen and self._level in NOTICES and self._level not in self._told:
            self._told.add(self._level)
            self._tell(Notice("degraded", NOTICES[self._level]))

    def _shed(self, level: Shed) -> None:
        self._speakers.give_way = level >= Shed.SPEAKERS
        for shed in Shed:
            if self._level < shed <= level:
                self._metrics.shed.labels(shed.name.lower()).inc()
            elif level < shed <= self._level:
                self._metrics.shed.labels(shed.name.lower()).dec()
        self._level = level
