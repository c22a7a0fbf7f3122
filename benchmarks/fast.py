"""How fast a file goes through the server (`pace: fast`), beside the policy and its models alone.

Alone is the same session, its models and as many threads in one process: no server, no socket, no disk, no
other process. Both are measured in turn. And what the fast session says is what a real-time one says.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.frozen import text_of
from benchmarks.matching import differences, errors, unlike
from benchmarks.options import Options, default_models_dir
from benchmarks.processes import BenchServer, watched
from benchmarks.report import Row, Table, fact, limit, limits
from benchmarks.rows import BUSY_CORES
from benchmarks.speech import RATE_HZ, Clip
from benchmarks.streaming import Pace, SessionLog, play
from live_asr.core.messages import Start
from live_asr.core.session import Session, SessionState
from live_asr.core.speaker_clusters import SpeakerOptions
from live_asr.inference.ipc import Load
from live_asr.inference.worker import Models, build, warm_up
from live_asr.models.device import cpu_count
from live_asr.models.interfaces import FloatArray, SpeechState
from live_asr.weights.onnx_conversion import converted
from live_asr.weights.store import resolve

SOURCE = "talk5_lj"
SECONDS = 120.0
"""At most; a real-time session takes as long."""
ROUNDS = 3
"""Of server and engine in turn; medians count."""
MIN = 0.9
"""Of the speed that the engine reaches alone."""
AHEAD_SAMPLES = 20 * RATE_HZ
"""Audio that is handed in before the policy has consumed it."""
PINNED = {"LIVE_ASR_STREAMING__STEP": "1.5"}
"""The step that a session cannot be lengthened beyond, however busy the server."""
SPEAKER_TIMEOUT = 5.0
"""Seconds that words of a file wait for their speakers, as in the server."""


@dataclass(frozen=True, slots=True)
class Gone:
    """One way through a clip."""

    seconds: float
    """From its first sample to its last committed word."""
    text: str


# The engine alone ---------------------------------------------------------------------------------


def load_of(model: str, options: Options) -> Load:
    """Return what a server started here, with nothing configured, has its inference process load."""
    models_dir = options.models_dir or default_models_dir()
    return Load(
        recognizer_name=model,
        recognizer_folder=options.weights(model),
        detector_name="silero-vad",
        detector_file=resolve("silero-vad", models_dir=models_dir).model_file,
        device="cpu",
        compute_type="int8",
        workers=min(cpu_count(), 8),
        beam_size=2,
        segmentation_file=converted(resolve("segmentation-3.0", models_dir=models_dir)),
        encoder_file=converted(resolve("campplus", models_dir=models_dir)),
    )


class Alone:
    """One session and its models, with nothing around them.

    What can be computed at the same time is, as in the inference process: speech is judged beside what
    `workers` threads do.
    """

    def __init__(self, session: Session, models: Models, pool: ThreadPoolExecutor) -> None:
        assert models.segmentation is not None and models.encoder is not None, "they were asked for"
        self._session = session
        self._models = models
        self._segmentation, self._encoder = models.segmentation, models.encoder
        self._pool = pool
        self._moved = asyncio.Event()

    async def hear(self, audio: FloatArray) -> Gone:
        """Bring audio, shape (n,), to its committed words."""
        began = time.perf_counter()
        work = [asyncio.create_task(each()) for each in (self._detect, self._recognize, self._tell_apart)]
        try:
            for first in range(0, audio.size, RATE_HZ):
                while self._session.backlog_samples > AHEAD_SAMPLES:
                    await self._next_move(work)
                self._session.receive_audio(audio[first : first + RATE_HZ])
                self._advanced()
                await asyncio.sleep(0)
            self._session.receive_stop()
            self._advanced()
            while self._session.state is not SessionState.FINALIZING:
                await self._next_move(work)
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
        return Gone(time.perf_counter() - began, self._session.transcript.text)

    async def _next_move(self, work: Sequence[asyncio.Task[None]] = ()) -> None:
        """Wait until the session has moved; raises what has ended one of the tasks."""
        for task in work:
            if task.done():
                task.result()
        self._moved.clear()
        await self._moved.wait()

    def _advanced(self) -> None:
        self._session.messages()
        self._moved.set()

    async def _in_thread(self, compute: Any, *arguments: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, compute, *arguments)
        except Exception:
            self._moved.set()  # so that who waits learns of it
            raise

    async def _detect(self) -> None:
        state = SpeechState.initial()
        while True:
            audio = self._session.unjudged()
            if audio is None:
                await self._next_move()
                continue
            probabilities, state = await asyncio.to_thread(self._models.detector.detect, audio, state)
            self._session.receive_probabilities(probabilities)
            self._advanced()

    async def _recognize(self) -> None:
        while True:
            wanted = self._session.decode()
            if wanted is None:
                await self._next_move()
                continue
            request, audio = wanted
            hypothesis = await self._in_thread(self._models.recognizer.recognize, request, audio)
            with suppress(TimeoutError):
                async with asyncio.timeout(SPEAKER_TIMEOUT):
                    while not self._session.knows_speakers_until(request.end_sample):
                        await self._next_move()
            self._session.receive_hypothesis(hypothesis)
            self._advanced()

    async def _tell_apart(self) -> None:
        while True:
            wanted = self._session.wanted_of_speakers()
            if wanted is None:
                await self._next_move()
                continue
            kind, audio = wanted
            if kind == "segmentation":
                # What the server sends to its process is as coarse.
                coarse = np.asarray(np.rint(audio * 32767).astype(np.int16) / 32767, np.float32)
                activity = await self._in_thread(self._segmentation.segment, coarse)
                self._session.receive_activity(activity)
            else:
                self._session.receive_embedding(await self._in_thread(self._encoder.embed, audio))
            self._advanced()


def alone(clip: Clip, models: Models, language: str | None, workers: int) -> Gone:
    """Bring a clip to its words without a server."""
    assert models.encoder is not None, "it was asked for"
    speakers = SpeakerOptions.of_encoder(models.encoder.equal_error_distance)
    start = Start(language=language, pace="fast", final_pass=False)
    with ThreadPoolExecutor(workers) as pool:
        session = Session("bench", start, speakers=speakers)
        return asyncio.run(Alone(session, models, pool).hear(clip.audio.astype(np.float32) / 32768))


# Through the server -------------------------------------------------------------------------------


def through(server: BenchServer, clip: Clip, pace: Pace, language: str | None) -> tuple[Gone, SessionLog]:
    """Play a clip to a server; the time is nan where the session failed."""
    log = asyncio.run(play(server.url, clip, pace=pace, language=language))
    stopped = log.first("stopped")
    if stopped is None or log.failure is not None or not log.sent_times:
        return Gone(float("nan"), text_of(log)), log
    return Gone(stopped.time - log.sent_times[0], text_of(log)), log


@threadpool_limits.wrap(limits=1)  # as in the inference process
def fast(model: str, options: Options, *, seconds: float | None) -> tuple[Table, dict[str, Any]]:
    """Measure server and engine in turn, then compare what fast and real-time sessions say."""
    clip = options.clip(SOURCE, min(seconds or SECONDS, SECONDS))
    load = load_of(model, options)
    models = build(load)
    warm_up(models)
    served: list[Gone] = []
    engine: list[Gone] = []
    failures: list[str] = []

    def go(server: BenchServer, pace: Pace, what: str) -> Gone:
        options.say(f"{model}: {clip.name}, {clip.duration:.0f} s, {what}")
        gone, log = through(server, clip, pace, options.language)
        if log.failure is not None:
            failures.append(f"{what}: {log.failure}\n{server.output()}")
        return gone

    with BenchServer(model, models_dir=options.models_dir) as server, watched(server) as usage:
        for number in range(1, ROUNDS + 1):
            served.append(go(server, "fast", f"through the server, {number} of {ROUNDS}"))
            options.say(f"{model}: the same by the engine alone, {number} of {ROUNDS}")
            engine.append(alone(clip, models, options.language, load.workers))
        live = go(server, "realtime", "in real time")
    with BenchServer(model, models_dir=options.models_dir, settings=PINNED) as server:
        pinned_fast = go(server, "fast", "through the server, steps pinned")
        pinned_live = go(server, "realtime", "in real time, steps pinned")
    rows = [
        *speed_rows(clip, served, engine),
        *likeness_rows(live, served[-1], engine[-1], pinned_live, pinned_fast),
        limit("sessions that failed", len(failures), 0, digits=0),
    ]
    notes = [
        *(f"**failed**: {failure}" for failure in failures),
        *(f"real time → fast: {found}" for found in differences(served[-1].text, live.text)),
        *(f"the same, pinned: {found}" for found in differences(pinned_fast.text, pinned_live.text)),
        f"pinned: {', '.join(f'{name}={value}' for name, value in PINNED.items())}",
        f"engine alone: {load.workers} threads in this process; a busy machine "
        f"(over {BUSY_CORES:g} cores by others) makes real-time sessions lengthen their steps",
    ]
    behind = {
        "server": [asdict(gone) for gone in served],
        "engine": [asdict(gone) for gone in engine],
        "realtime": asdict(live),
        "pinned": {"fast": asdict(pinned_fast), "realtime": asdict(pinned_live)},
        "server_cpu_seconds": usage.cpu_seconds,
    }
    return Table(f"{model}: {clip.duration:.0f} s of {clip.name} as fast as can be", rows, notes), behind


def speed_rows(clip: Clip, served: Sequence[Gone], engine: Sequence[Gone]) -> list[Row]:
    """Hold the server's speed against the engine's, by medians."""

    def speeds(gone: Sequence[Gone]) -> list[float]:
        return [clip.duration / one.seconds for one in gone]

    server, own = statistics.median(speeds(served)), statistics.median(speeds(engine))
    each = {
        "server": ", ".join(f"{speed:.2f}" for speed in speeds(served)),
        "engine alone": ", ".join(f"{speed:.2f}" for speed in speeds(engine)),
    }
    share = server / own
    return [
        Row("speed of the server, of the engine's alone", f"≥ {MIN:g}", f"{share:.2f}", share >= MIN),
        fact("seconds of audio per second", f"{server:.2f} / {own:.2f}", each),
    ]


def likeness_rows(live: Gone, served: Gone, engine: Gone, pinned_live: Gone, pinned_fast: Gone) -> list[Row]:
    """Compare what was said at each pace, letter for letter and after the normaliser."""

    def both(heard: Gone, said: Gone) -> list[float]:
        return [unlike(heard.text.split(), said.text.split()), errors(heard.text, said.text).total]

    return [
        limits(
            "words unlike, fast / real time: as they are / normalised", both(served, live), [0, 0], digits=0
        ),
        limits("the same with steps pinned", both(pinned_fast, pinned_live), [0, 0], digits=0),
        limits("the same, server / engine alone", both(served, engine), [0, 0], digits=0),
        fact("words", str(len(live.text.split()))),
    ]
