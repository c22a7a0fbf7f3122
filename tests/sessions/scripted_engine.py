"""A scripted recogniser for a session's runner, and what it is to say."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

from live_asr.core.errors import EngineError
from live_asr.core.types import DecodeRequest, Word, samples
from live_asr.inference.engine import Newest, StaleWork
from live_asr.inference.ipc import Detected, Recognized
from live_asr.models.interfaces import FloatArray, SpeechState
from live_asr.models.scripted import EnergyDetector, ScriptedRecognizer, audio_of, spoken

SCRIPT = spoken("one two three four five six seven eight nine ten", 0.5, gap=0.1)
SECONDS = 6.0
SECOND_BYTES = 32_000
TEXT = " one two three four five six seven eight nine ten"


class ScriptedEngine:
    """Answers as the inference process does, from a script; `faults` are what it raises first."""

    def __init__(self, script: tuple[Word, ...] = SCRIPT) -> None:
        self._detector = EnergyDetector()
        self._recognizer = ScriptedRecognizer(script)
        self.detect_faults: Iterator[EngineError] = iter(())
        self.recognize_faults: Iterator[EngineError] = iter(())
        self.waited = 0.0
        """Seconds for which each decode says that it waited."""
        self.changed_at = -math.inf
        self.may_work = asyncio.Event()
        self.may_work.set()

    async def detect(self, audio: FloatArray, state: SpeechState) -> Detected:
        await self.may_work.wait()
        for fault in self.detect_faults:
            raise fault
        return Detected(*self._detector.detect(audio, state))

    async def recognize(
        self, request: DecodeRequest, audio: FloatArray, budget: float, *, newest: Newest | None = None
    ) -> Recognized:
        await self.may_work.wait()
        wanted = (request, audio) if newest is None else newest()
        if wanted is None:
            raise StaleWork("Nobody wants this any more.")
        request, audio = wanted
        for fault in self.recognize_faults:
            raise fault
        return Recognized(self._recognizer.recognize(request, audio), self.waited, 0.0)


def pcm(duration: float = SECONDS) -> bytes:
    return (audio_of(SCRIPT, samples(duration)) * 32767).astype("<i2").tobytes()
