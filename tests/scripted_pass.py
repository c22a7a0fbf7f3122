"""A full pass that does as it is told, through the seam that the real one comes in by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from live_asr.core.errors import EngineError
from live_asr.core.types import Turn, Word, samples
from live_asr.full_pass.process import FullPassJob, FullPassResult

PIPELINE = "scripted"


def turn(start: float, end: float, speaker: str) -> Turn:
    return Turn(samples(start), samples(end), speaker)


def words(text: str, start: float = 0.0, each: float = 0.5) -> tuple[Word, ...]:
    """Make words of equal length from text, each with its leading space."""
    return tuple(
        Word(f" {part}", samples(start + each * n), samples(start + each * (n + 1)), 0.9)
        for n, part in enumerate(text.split())
    )


class ScriptedPass:
    """Answers each job with the next of `answers`, and with the last one for ever."""

    def __init__(
        self, *answers: FullPassResult | EngineError, progress: tuple[tuple[str, float], ...] = ()
    ) -> None:
        self.answers = list(answers)
        self.progress = progress
        self.can_diarize = True
        self.jobs: list[FullPassJob] = []
        self.heard: list[NDArray[np.int16]] = []
        """The audio of each job."""
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.cancelled = 0
        self.closed = False

    async def run(
        self, job: FullPassJob, on_progress: Callable[[str, float], None], *, gives_way: bool = False
    ) -> FullPassResult:
        self.jobs.append(job)
        self.heard.append(np.fromfile(job.audio_file, "<i2"))
        self.began.set()
        for stage, fraction in self.progress:
            on_progress(stage, fraction)
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, EngineError):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


def found(
    text: str = "won too three for",
    turns: tuple[Turn, ...] | None = (turn(0.0, 1.0, "SPEAKER_00"), turn(1.0, 2.0, "SPEAKER_01")),
    language: str | None = "en",
) -> FullPassResult:
    """Make what a pass found: these words from the beginning on, and these turns."""
    return FullPassResult(turns, words(text) if text else None, language, PIPELINE)
