"""The process of the full pass: does the jobs that come through one socket, when the machine has time.

Models are loaded when the first job needs them. The process ends when the socket does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from live_asr.core.result import final_label
from live_asr.core.speaker_timeline import live_label
from live_asr.core.types import Turn, Word
from live_asr.full_pass.diarization import Diarizer, Pcm
from live_asr.full_pass.process import FullPassJob, FullPassLoad, FullPassResult, Progress
from live_asr.full_pass.transcription import transcribe
from live_asr.inference.ipc import HEADER, Failed, pack, unpack
from live_asr.inference.memory import return_freed_memory
from live_asr.models.interfaces import SpeechDetector
from live_asr.models.whisper import WhisperRecognizer

LOADING_SHARE = 0.03
DIARIZATION_SHARE = 0.55
"""Of the work, where a job asks for speakers and words: what it takes on one core."""
MIN_STEP = 0.002
GPU_BATCH_WINDOWS = 16
FIRST_TO_GO = 500
"""Score that the kernel adds when it looks for a process to end for lack of memory, of 1000."""


def main(descriptor: int) -> None:
    """Serve the socket with this file descriptor until it closes."""
    # It is the server who decides when to end, whatever reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return_freed_memory()
    be_quiet()
    connection = socket.socket(fileno=descriptor)
    incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read_forever, args=(connection, incoming), daemon=True).start()
    load: FullPassLoad = incoming.get()
    if not load.cores:
        step_back()
    sending = threading.Lock()

    def send(message: object) -> None:
        try:
            with sending:
                connection.sendall(pack(message))
        except OSError:
            os._exit(0)  # the server is gone

    worker = Worker(load, send)
    while True:
        worker.do(incoming.get())


def be_quiet() -> None:
    """Say nothing of what pyannote has to say about its own insides: it is no news for who reads a log."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def step_back() -> None:
    """Let everybody else go first: in CPU time, and in being kept when memory runs out."""
    if hasattr(os, "nice"):
        os.nice(19)
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):  # forbidden in some containers
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/oom_score_adj").write_text(str(FIRST_TO_GO))


class Worker:
    """Does jobs one after another with the models that it keeps; `send` takes what answers them."""

    def __init__(self, load: FullPassLoad, send: Callable[[object], None]) -> None:
        self._load = load
        self._send = send
        self._diarizer: Diarizer | None = None
        self._recognizer: tuple[WhisperRecognizer, SpeechDetector] | None = None

    def do(self, job: FullPassJob) -> None:
        """Do a job and send its result, or why there is none."""
        try:
            self._send(self._result(job, _Meter(self._send)))
        except Exception as error:  # whatever a model's library raises is the reason; the asker decides
            self._send(Failed(f"{type(error).__name__}: {error}"))

    def _result(self, job: FullPassJob, meter: _Meter) -> FullPassResult:
        meter.tell("loading", 0.0)
        pcm = open_pcm(job.audio_file, job.channels)
        if job.channels > 1:
            return self._by_channel(job, pcm, meter)
        diarizes = job.diarize and self._load.pipeline is not None
        name = self._load.pipeline.name if self._load.pipeline else ""
        alone = self._load.cores > 0  # nothing live shares the device
        if diarizes and job.recognize and alone and (self._load.cores > 1 or self._load.device != "cpu"):
            return FullPassResult(*self._both(job, pcm, meter), name)
        ends = {True: DIARIZATION_SHARE if job.recognize else 1.0, False: LOADING_SHARE}[diarizes]
        turns = self._turns(job, pcm, meter, ends) if diarizes else None
        words, language = self._words(job, pcm, meter, ends) if job.recognize else (None, job.language)
        return FullPassResult(turns, words, language, name)

    def _by_channel(self, job: FullPassJob, pcm: Pcm, meter: Meter) -> FullPassResult:
        """Recognise each channel by itself: whose words they are is known."""
        found: list[Word] = []
        spoken: Counter[str] = Counter()
        span = (1 - LOADING_SHARE) / job.channels
        for channel in range(job.channels):
            shown = live_label(channel + 1)
            own = replace(job, live=tuple(u for u in job.live if u.words[0].speaker == shown))
            begins = LOADING_SHARE + channel * span
            words, language = self._words(own, pcm[channel], meter, begins, begins + span)
            if words is None:
                return FullPassResult(None, None, language, "")
            found += (replace(word, speaker=final_label(channel)) for word in words)
            if language is not None:
                spoken[language] += len(words)
        language = spoken.most_common(1)[0][0] if spoken else job.language
        return FullPassResult(None, tuple(found), language, "")

    def _both(
        self, job: FullPassJob, pcm: Pcm, meter: _Meter
    ) -> tuple[tuple[Turn, ...], tuple[Word, ...] | None, str | None]:
        """Find the speakers beside recognition: neither needs the other, and both let go of Python's lock."""
        beside = _Beside(meter, DIARIZATION_SHARE)
        with ThreadPoolExecutor(1, "speakers") as threads:
            finding = threads.submit(self._turns, job, pcm, beside.first, 1.0)
            words, language = self._words(job, pcm, beside.second, 0.0)
            return finding.result(), words, language

    def _turns(self, job: FullPassJob, pcm: Pcm, meter: Meter, ends: float) -> tuple[Turn, ...]:
        if not pcm.size:
            return ()
        if self._diarizer is None:
            assert self._load.pipeline is not None
            self._diarizer = Diarizer(self._load.pipeline, self._load.device)
        return self._diarizer.diarize(
            pcm,
            min_speakers=job.min_speakers,
            max_speakers=job.max_speakers,
            live_turns=job.live_turns,
            on_stage=lambda stage, share: meter.tell(stage, LOADING_SHARE + share * (ends - LOADING_SHARE)),
        )

    def _words(
        self, job: FullPassJob, pcm: Pcm, meter: Meter, begins: float, ends: float = 1.0
    ) -> tuple[tuple[Word, ...] | None, str | None]:
        load = self._load
        if self._recognizer is None:
            from live_asr.models.silero import SileroDetector

            recognizer = WhisperRecognizer(
                load.recognizer_folder,
                name=load.recognizer_name,
                device=load.device,
                compute_type=load.compute_type,
                workers=1,
                beam_size=load.beam_size,
                prefix_at_once=False,
            )
            self._recognizer = recognizer, SileroDetector(load.detector_file)
        recognizer, detector = self._recognizer
        meter.tell("recognition", begins)
        if job.language is not None and job.language not in recognizer.info.languages:
            return None, job.language  # the live words are better than any in another language
        return transcribe(
            pcm,
            recognizer,
            detector,
            language=job.language,
            languages=job.languages,
            task=job.task,
            vocabulary=job.vocabulary,
            live=job.live,
            batch_windows=1 if load.device == "cpu" else GPU_BATCH_WINDOWS,
            on_share=lambda share: meter.tell("recognition", begins + share * (ends - begins)),
        )


class Meter(Protocol):
    """Is told how far a piece of work is."""

    def tell(self, stage: str, fraction: float) -> None:
        """Take note of the stage, and of the share that is done, 0 to 1."""


class _Beside:
    """The meters of two pieces of work that go on beside each other: what is told is the share of both."""

    def __init__(self, meter: _Meter, first_share: float) -> None:
        self._meter = meter
        self._done = [0.0, 0.0]
        self._shares = [first_share, 1 - first_share]
        self._lock = threading.Lock()
        self.first, self.second = _Part(self, 0), _Part(self, 1)

    def tell(self, index: int, fraction: float) -> None:
        """Take note of how far one of them is."""
        with self._lock:
            self._done[index] = max(self._done[index], fraction)
            both = sum(share * done for share, done in zip(self._shares, self._done, strict=True))
            self._meter.tell("recognition", both)


class _Part:
    """The meter of one of them."""

    def __init__(self, both: _Beside, index: int) -> None:
        self._both = both
        self._index = index

    def tell(self, stage: str, fraction: float) -> None:
        """Take note of how far it is; two stages at once are none to be told of."""
        self._both.tell(self._index, fraction)


class _Meter:
    """Tells how far a job is, but not at every step."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._stage = ""
        self._fraction = -1.0
        self._told_at = 0.0

    def tell(self, stage: str, fraction: float) -> None:
        """Send the stage and the share of the whole, if they have changed enough."""
        now = time.monotonic()
        if stage == self._stage and (fraction - self._fraction < MIN_STEP or now - self._told_at < 0.1):
            return
        self._stage, self._fraction, self._told_at = stage, fraction, now
        self._send(Progress(stage, min(1.0, fraction)))


def open_pcm(path: Path, channels: int = 1) -> Pcm:
    """Open raw pcm_s16le, of which the system keeps in memory what it has room for.

    Its shape is (n,), or (channels, n) where there are several.
    """
    count = path.stat().st_size // 2 // channels * channels
    pcm = np.memmap(path, "<i2", "r", shape=(count,)) if count else np.zeros(0, np.int16)
    return pcm if channels == 1 else pcm.reshape(-1, channels).T


def _read_forever(connection: socket.socket, incoming: queue.SimpleQueue[Any]) -> None:
    """Take messages in while the main thread works; end the process when the socket closes."""
    stream: BinaryIO = connection.makefile("rb")
    while len(header := stream.read(HEADER.size)) == HEADER.size:
        body = stream.read(HEADER.unpack(header)[0])
        incoming.put(unpack(body))
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
