"""Has the audio of one session judged: is it speech?"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from live_asr.core.session import Session
from live_asr.errors import EngineError
from live_asr.inference.channel import Detected
from live_asr.inference.engine import Engine
from live_asr.inference.interfaces import FloatArray, SpeechState

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
"""Speech that nobody judges is speech that is lost, so a detection that fails is asked for again."""


class SpeechWatch:
    """Judge one channel of a session; `moved` and `advanced` are as for `SpeakerFollower`."""

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
        for attempt in range(1, MOST_ATTEMPTS):
            try:
                return await self._engine.detect(audio, self._state)
            except EngineError as error:
                log.warning("session %s: detection %d failed: %s", self._session.id, attempt, error)
        return await self._engine.detect(audio, self._state)
