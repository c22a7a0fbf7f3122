"""Has the speakers of one live session followed, beside its captions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from live_asr.core.session import Session
from live_asr.core.types import samples
from live_asr.errors import EngineError
from live_asr.inference.engine import Engine
from live_asr.inference.scheduler import FILE_BUDGET, SPEAKER_BUDGET

log = logging.getLogger(__name__)

MOST_BEHIND_SAMPLES = samples(6.0)
"""Live labels that are farther behind leave something out; each window looks 8 s back."""
LATE_SPEAKER_BUDGET = 4.0
"""Seconds within which that is wanted where the recogniser is loaded."""
PATIENCE = 0.1
"""Seconds that words wait for their speakers; what comes later is told by a `label`."""


class SpeakerFollower:
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
        self.give_way = False
        """Whether captions come before all of this: the recogniser is loaded."""

    async def run(self) -> None:
        """Work until cancelled; what cannot be computed costs labels and nothing else."""
        while True:
            if self._live:
                self._session.skip_speakers_behind(MOST_BEHIND_SAMPLES)
            wanted = self._session.wanted_of_speakers()
            if wanted is None:
                await self._moved()
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
            async with asyncio.timeout(PATIENCE if self._live else FILE_BUDGET):
                while not self._session.knows_speakers_until(end_sample):
                    await self._moved()
