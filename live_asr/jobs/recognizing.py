"""A recording on the disk to what was said in it and by whom: decoded, gone over, or known already."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

from live_asr.audio.recording import write_file_pcm
from live_asr.core.errors import EngineError, MediaError
from live_asr.core.types import SAMPLE_RATE_HZ, samples
from live_asr.full_pass.process import FullPassJob, FullPassResult
from live_asr.jobs.downloads import Fetched
from live_asr.jobs.results import Options, Outcome, format_of
from live_asr.storage.jobs import JobDatabase

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 2
"""A pass that fails is tried once more; its process is a new one then."""
DECODED = "audio.pcm"

OnProgress = Callable[[str, float], None]


class Pass(Protocol):
    """Where recordings are gone over; see `inference.full_pass.FullPass`."""

    async def run(self, job: FullPassJob, on_progress: OnProgress, *, gives_way: bool) -> FullPassResult:
        """Go over one recording. Raises EngineError; a cancelled call stops the work."""


@dataclass(frozen=True, slots=True)
class Recognized:
    """What a recording came to, and at what cost."""

    outcome: Outcome
    key: str
    """What it is kept under."""
    seconds: float
    """That recognition took; 0 where it was known already."""
    is_new: bool


class Recognizing:
    """Finds out what is said in recordings, each once where there is a database that remembers."""

    def __init__(self, database: JobDatabase | None, *, max_hours: float) -> None:
        self._database = database
        self._longest_samples = samples(max_hours * 3600)

    async def result_of(
        self,
        recording: Fetched,
        options: Options,
        full_pass: Pass,
        on_progress: OnProgress,
        folder: Path,
    ) -> Recognized:
        """Return what was said in a recording; decoded audio lies in `folder` meanwhile.

        Raises MediaError for what is none or too long, EngineError where the models fail twice, StorageError.
        """
        key = options.key(recording.digest)
        kept = None
        if self._database is not None:
            kept = await self._database.call(self._database.kept_result, key)
        if kept is not None:
            try:
                outcome = await asyncio.to_thread(Outcome.from_bytes, kept)
            except (ValueError, KeyError, TypeError) as error:
                log.warning("what was kept of %s cannot be read: %s", recording.name, error)
            else:
                return Recognized(outcome, key, 0.0, is_new=False)
        began = time.monotonic()
        pcm = folder / DECODED
        try:
            on_progress("decoding", 0.0)
            count, container = await self._decoded(recording.path, pcm)
            log.info("%s has %.1f s of %s", recording.name, count / SAMPLE_RATE_HZ, container)
            job = FullPassJob(
                audio_file=pcm,
                language=options.language,
                task="transcribe",
                vocabulary=options.vocabulary,
                diarize=options.diarize,
                recognize=True,
                min_speakers=options.min_speakers,
                max_speakers=options.max_speakers,
            )
            found = await _passed(job, full_pass, on_progress)
        finally:
            await asyncio.to_thread(pcm.unlink, missing_ok=True)
        if found.words is None:
            raise MediaError(
                f"The model knows no {found.language}.",
                "Use a multilingual model.",
                code="language_unsupported",
            )
        outcome = await asyncio.to_thread(Outcome.of, found, count, format_of(recording.name, container))
        return Recognized(outcome, key, time.monotonic() - began, is_new=True)

    async def _decoded(self, source: Path, target: Path) -> tuple[int, str]:
        unwanted = Event()
        decoding = asyncio.create_task(
            asyncio.to_thread(
                write_file_pcm,
                source,
                target,
                longest_samples=self._longest_samples,
                stopped=unwanted.is_set,
            )
        )
        try:
            return await asyncio.shield(decoding)
        except asyncio.CancelledError:
            unwanted.set()  # the folder goes next: nobody writes there any more by then
            await asyncio.gather(decoding, return_exceptions=True)
            raise


async def _passed(job: FullPassJob, full_pass: Pass, on_progress: OnProgress) -> FullPassResult:
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return await full_pass.run(job, on_progress, gives_way=True)
        except EngineError as error:
            log.warning("pass %d failed: %s", attempt, error)
            if attempt == MAX_ATTEMPTS:
                raise
    raise AssertionError("unreachable")
