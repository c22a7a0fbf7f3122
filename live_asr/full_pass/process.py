"""The full pass over a whole recording, in a process of its own: what is asked, what comes back, who asks.

The process is started when there is a job and ends when none waits, as torch's memory must not lie beside
live sessions; where there are none it stays. It may be killed at any moment; whoever asked is told and may
ask again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from live_asr.core.errors import EngineError
from live_asr.core.types import Turn, Utterance, Word
from live_asr.full_pass.diarization import LocalPipeline, PretrainedPipeline
from live_asr.inference.ipc import Failed, end, pack, receive, spawn

MAX_SILENCE = 1800.0
"""Seconds without a word of progress after which the process counts as hung. It may be starved for long:
whatever else runs on the machine comes first."""

OnProgress = Callable[[str, float], None]
"""Called with the stage and the share of the whole pass that is done, 0 to 1, never falling."""


@dataclass(frozen=True, slots=True)
class FullPassLoad:
    """What the process is to load."""

    recognizer_name: str
    recognizer_folder: Path
    detector_file: Path
    device: str
    """`cpu` or `cuda`."""
    compute_type: str
    """Arithmetic of the recogniser."""
    beam_size: int
    pipeline: LocalPipeline | PretrainedPipeline | None
    """Who finds the speakers; None where its weights are not to be had: then no job is diarized."""
    cores: int = 0
    """CPU cores that the process has for itself: it takes its place among others then, finds speakers beside
    recognition where there are two, and stays for the next job. 0 where live sessions go on beside it, which
    come first."""


@dataclass(frozen=True, slots=True)
class FullPassJob:
    """One recording, and what to find in it."""

    audio_file: Path
    """Raw pcm_s16le, 16 kHz, mono or with so many `channels` interleaved."""
    language: str | None
    """Code as Whisper spells it; None to detect it."""
    task: str
    """`transcribe`, or `translate` into English."""
    vocabulary: tuple[str, ...]
    """Words to expect."""
    diarize: bool
    recognize: bool
    min_speakers: int | None
    max_speakers: int | None
    live: tuple[Utterance, ...] = ()
    """What was shown of it."""
    live_turns: tuple[Turn, ...] = ()
    """Who spoke when as heard live; empty where nobody listened for that."""
    languages: tuple[str, ...] = ()
    """Those to choose from where the language is detected; empty for all that the model knows."""
    channels: int = 1
    """Where there are several each is a speaker, and recognised by itself; nothing is diarized then."""


@dataclass(frozen=True, slots=True)
class FullPassResult:
    """What was found in a recording."""

    turns: tuple[Turn, ...] | None
    """Who speaks when, by start, overlaps kept; speakers are SPEAKER_00, SPEAKER_01 … in the order in which
    they are first heard. None where it was not asked for or there is no pipeline."""
    words: tuple[Word, ...] | None
    """In order, with speakers where channels are; None where recognition was not asked for."""
    language: str | None
    """The language recognised in."""
    pipeline: str
    """Name of the diarization pipeline, for people; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Progress:
    """From the process: how far it is."""

    stage: str
    """`loading`, `segmentation`, `embeddings`, `clustering` or `recognition`."""
    fraction: float
    """Of the whole pass, 0 to 1."""


class FullPass:
    """Run full passes one at a time in a low-priority process.

    Several may be asked for at once; they wait for each other in the order in which they came, but for those
    that give way to all others.
    """

    _module = "live_asr.full_pass.worker"
    """What the process runs."""

    def __init__(self, load: FullPassLoad) -> None:
        self._load = load
        self._turn = asyncio.Lock()
        self._waiting_count = 0
        self._urgent_count = 0
        """Of those that wait, who give way to nobody."""
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._running: asyncio.Task[FullPassResult] | None = None
        self._running_gives_way = False
        self._closed = False

    @property
    def can_diarize(self) -> bool:
        """Whether there is a pipeline to find speakers with."""
        return self._load.pipeline is not None

    @property
    def process_id(self) -> int | None:
        """Id of the process, while there is one."""
        return self._process.pid if self._process else None

    @property
    def load(self) -> FullPassLoad:
        """What the processes load that are started from now on."""
        return self._load

    def use(self, load: FullPassLoad) -> None:
        """Load this in the processes that are started from now on."""
        self._load = load

    async def run(
        self, job: FullPassJob, on_progress: OnProgress, *, gives_way: bool = False
    ) -> FullPassResult:
        """Do one job and return what it found, telling how far it is.

        One that `gives_way` lets all others go first: it is broken off for them, and begun again. Raises
        EngineError when the process cannot be started, dies or cannot do it: it may be asked again, but what
        failed twice will fail a third time. Cancelling the caller kills the process.
        """
        while True:
            await self._take_turn(gives_way=gives_way)
            try:
                if self._closed:
                    raise EngineError("The full pass is shut down.")
                self._running = asyncio.create_task(self._do(job, on_progress), name="full pass")
                self._running_gives_way = gives_way
                try:
                    result = await self._running
                except asyncio.CancelledError:
                    await self._end()
                    asking = asyncio.current_task()
                    if asking is not None and asking.cancelling():
                        raise
                    if gives_way and not self._closed:
                        continue
                    raise EngineError("The full pass is shut down.") from None
                except BaseException:
                    await self._end()
                    raise
                if not self._waiting_count and not self._load.cores:
                    await self._end()
                return result
            finally:
                self._running = None
                self._turn.release()

    async def _take_turn(self, *, gives_way: bool) -> None:
        """Wait until nobody else runs, and nobody else waits where this one gives way."""
        self._waiting_count += 1
        if not gives_way:
            self._urgent_count += 1
            if self._running is not None and self._running_gives_way:
                self._running.cancel()
        try:
            await self._turn.acquire()
            while gives_way and self._urgent_count:
                self._turn.release()
                await self._turn.acquire()  # behind all who wait
        except asyncio.CancelledError:
            if self._waiting_count == 1 and not self._turn.locked():
                await self._end()  # it was kept for this job alone
            raise
        finally:
            self._waiting_count -= 1
            if not gives_way:
                self._urgent_count -= 1

    async def close(self) -> None:
        """Kill the process. Whoever waits for a pass gets an EngineError. Idempotent."""
        self._closed = True
        if self._running is not None:
            self._running.cancel()
        async with self._turn:
            await self._end()

    async def _do(self, job: FullPassJob, on_progress: OnProgress) -> FullPassResult:
        on_progress("loading", 0.0)
        if self._process is None:
            await self._start()
        assert self._reader is not None and self._writer is not None
        self._writer.write(pack(job))
        done = 0.0
        while True:
            answer = await self._read()
            if isinstance(answer, FullPassResult):
                return answer
            if isinstance(answer, Failed):
                raise EngineError(f"The full pass failed: {answer.reason}")
            if not isinstance(answer, Progress):
                raise EngineError("The process of the full pass died.")
            done = max(done, answer.fraction)
            on_progress(answer.stage, done)

    async def _start(self) -> None:
        try:
            self._process, self._reader, self._writer = await spawn(
                self._module,
                stdout=asyncio.subprocess.DEVNULL,  # pyannote prints there what concerns nobody
                environment=self._environment(),
            )
        except OSError as error:  # no memory, process or descriptor is left: for a while, perhaps
            reason = error.strerror or error
            raise EngineError(f"The process of the full pass cannot be started: {reason}.") from error
        self._writer.write(pack(self._first_message))

    @property
    def _first_message(self) -> object:
        """What the process is told first."""
        return self._load

    def _environment(self) -> dict[str, str]:
        """Return what its libraries read from the environment when they are imported."""
        environment = {"PYANNOTE_METRICS_ENABLED": "0"}
        if self._load.pipeline is None or self._load.pipeline.is_local:
            environment["HF_HUB_OFFLINE"] = "1"
        return environment

    async def _read(self) -> object:
        """Return the next message; None when the process is gone. Raises EngineError when it hangs."""
        assert self._reader is not None
        try:
            async with asyncio.timeout(MAX_SILENCE):
                return await receive(self._reader)
        except TimeoutError:
            raise EngineError("The process of the full pass hangs.") from None

    async def _end(self) -> None:
        """End the process, if there is one: at the end of a job there is nothing that it could lose."""
        process, writer = self._process, self._writer
        self._process = self._reader = self._writer = None
        if writer is not None:
            writer.close()
        if process is not None:
            await asyncio.shield(end(process))
