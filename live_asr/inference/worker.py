"""The inference process: owns the models, answers one socket.

The reading thread judges speech itself, which takes a fraction of a millisecond; decodes go through the
scheduler's queue to as many threads as the recogniser has workers. The process remembers nothing of a
session between two messages, and ends when the socket does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from live_asr.core.messages import RecognizerInfo
from live_asr.core.types import DecodeRequest, Hypothesis, samples
from live_asr.inference.calibration import measured
from live_asr.inference.deadline_queue import DeadlineQueue
from live_asr.inference.ipc import (
    HEADER,
    HEARTBEAT_INTERVAL,
    NOBODY,
    Alive,
    Batch,
    Begun,
    Detect,
    Detected,
    DetectedMany,
    DetectMany,
    Embed,
    Failed,
    Faulted,
    Load,
    Loaded,
    LoadFailed,
    Recognize,
    Recognized,
    Segment,
    pack,
    unpack,
)
from live_asr.inference.memory import return_freed_memory
from live_asr.models.device import is_device_fault
from live_asr.models.interfaces import (
    BatchRecognizer,
    FloatArray,
    Recognizer,
    SpeakerEncoder,
    SpeechDetector,
    SpeechState,
    Spending,
)
from live_asr.models.segmentation import SpeakerSegmentation

FAULTED = 3
"""Exit status of a process whose device failed, or whose models cannot be loaded."""


def main(descriptor: int) -> None:
    """Serve the socket with this file descriptor until it closes."""
    # Ctrl-C and service managers reach the whole process group: it is the server who decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return_freed_memory()
    connection = socket.socket(fileno=descriptor)
    load = _read(connection)
    if load is None:
        return
    try:
        models, loaded = load_models(load)
    except Exception as error:  # whatever a model's library raises is the reason why it cannot be loaded
        connection.sendall(pack(LoadFailed(reason_of(error))))
        os._exit(FAULTED)  # a device's libraries may fail once more, or hang, when they are unloaded
    try:
        connection.sendall(pack(loaded))
    except OSError:
        return  # the server is gone
    Worker(connection, models, load.workers).serve()


def reason_of(error: Exception) -> str:
    """Say why models cannot be loaded."""
    return str(error) if is_device_fault(error) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True)
class Models:
    """What the process computes with."""

    detector: SpeechDetector | None
    recognizer: Recognizer
    segmentation: SpeakerSegmentation | None
    encoder: SpeakerEncoder | None


class Elsewhere:
    """Stands for a recogniser where another process recognises."""

    info = RecognizerInfo("", (), "cpu", "")

    def recognize(self, request: DecodeRequest, samples: FloatArray) -> Hypothesis:
        """Raise ValueError: nobody should have asked."""
        raise ValueError("this process recognises nothing")

    def warm_up(self, noise: FloatArray) -> None:
        """Do nothing."""


def load_models(load: Load) -> tuple[Models, Loaded]:
    """Load the models and warm them up; say what they are. Raises whatever their libraries raise."""
    models = build(load)
    warm_up(models)
    loaded = Loaded(
        models.recognizer.info,
        load.detector_name,
        models.encoder.equal_error_distance if models.encoder is not None else None,
        load.encoder_file.parent.name if load.encoder_file is not None else None,
        load.workers,
        measured(load, models.recognizer),
        models.recognizer.most_batch if isinstance(models.recognizer, BatchRecognizer) else 1,
    )
    return models, loaded


def build(load: Load) -> Models:
    """Load the models. Raises whatever their libraries raise."""
    detector = None if load.detector_file is None else _detector(load.detector_name, load.detector_file)
    if load.simulated is not None:
        from live_asr.inference.simulated import SimulatedRecognizer

        return Models(detector, SimulatedRecognizer(load.simulated), None, None)
    return Models(detector, _recognizer(load), *_voices(load))


def _detector(name: str, file: Path) -> SpeechDetector:
    from live_asr.inference.simulated import LOUDNESS
    from live_asr.models.scripted import EnergyDetector
    from live_asr.models.silero import SileroDetector

    return EnergyDetector() if name == LOUDNESS else SileroDetector(file)


def _recognizer(load: Load) -> Recognizer:
    if load.recognizer_folder is None:
        return Elsewhere()
    from live_asr.models.whisper import WhisperRecognizer

    return WhisperRecognizer(
        load.recognizer_folder,
        name=load.recognizer_name,
        device=load.device,
        compute_type=load.compute_type,
        workers=load.workers,
        beam_size=load.beam_size,
    )


def _voices(load: Load) -> tuple[SpeakerSegmentation | None, SpeakerEncoder | None]:
    if load.segmentation_file is None or load.encoder_file is None:
        return None, None
    from live_asr.models.embedding import open_encoder

    return SpeakerSegmentation(load.segmentation_file), open_encoder(load.encoder_file)


def warm_up(models: Models) -> None:
    """Compute noise once in every way, so that no caption pays for lazy set-up and a device's fault shows."""
    noise = np.random.default_rng(0).normal(0, 0.01, samples(1.0)).astype(np.float32)
    if models.detector is not None:
        models.detector.detect(noise[: 512 * 8], SpeechState.initial())
    models.recognizer.warm_up(noise)
    if models.segmentation is not None and models.encoder is not None:
        models.segmentation.segment(noise)
        models.encoder.embed(noise)


class Lanes:
    """Threads that work off what is asked, the most urgent first.

    `send` is called, in any of them, with the number of what was asked, each message that answers it, and for
    how many seconds it was worked on.
    """

    def __init__(self, models: Models, workers: int, send: Callable[[int, Any, float], None]) -> None:
        self._models = models
        self._send_on = send
        self._queue: DeadlineQueue[tuple[int, Recognize | Segment | Embed | Batch, float]] = DeadlineQueue()
        self._queued = threading.Condition()
        for _ in range(workers):
            threading.Thread(target=self._work_forever, daemon=True).start()

    def take(self, number: int, work: Detect | DetectMany | Recognize | Segment | Embed | Batch) -> None:
        """Take work; detections are done at once."""
        if isinstance(work, Detect):
            self._answer(number, lambda: self._detect(work))
            return
        if isinstance(work, DetectMany):
            self._send(NOBODY, DetectedMany(tuple((each, self._judge(one)) for each, one in work.works)))
            return
        arrived = time.monotonic()
        with self._queued:
            self._queue.push((number, work, arrived), arrived + work.budget)
            self._queued.notify()

    def _work_forever(self) -> None:
        while True:
            with self._queued:
                while not self._queue:
                    self._queued.wait()
                number, work, arrived = self._queue.pop()
            if isinstance(work, Batch):
                self._answer_batch(work, arrived)
                continue
            self._send(number, Begun())
            self._answer(number, lambda work=work, arrived=arrived: self._compute(work, arrived))

    def _answer_batch(self, batch: Batch, arrived: float) -> None:
        """Decode windows at once; where that fails, one by one, so that a bad one costs no other anything."""
        recognizer = self._models.recognizer
        assert isinstance(recognizer, BatchRecognizer), "the server was told whether it is one"
        for number, _ in batch.works:
            self._send(number, Begun())
        began = time.monotonic()
        works = [work for _, work in batch.works]
        try:
            hypotheses = recognizer.recognize_many(
                [work.request for work in works], [work.samples for work in works]
            )
        except Exception as error:  # whoever is to blame hears it below
            if self._is_fault(error):
                self._send(NOBODY, Faulted(str(error)))
            for number, work in batch.works:
                self._answer(number, lambda work=work: self._recognize(work, arrived))
            return
        took = time.monotonic() - began
        for (number, _), hypothesis in zip(batch.works, hypotheses, strict=True):
            self._send(number, Recognized(hypothesis, began - arrived, took), took / len(works))

    def _detect(self, work: Detect) -> Detected:
        assert self._models.detector is not None, "the server was told that there is one"
        probabilities, state = self._models.detector.detect(work.samples, work.state)
        return Detected(probabilities, state)

    def _judge(self, work: Detect) -> Detected | Failed:
        try:
            return self._detect(work)
        except Exception as error:  # as in `_answer`
            return Failed(f"{type(error).__name__}: {error}")

    def _compute(self, work: Recognize | Segment | Embed, arrived: float) -> Any:
        if isinstance(work, Recognize):
            return self._recognize(work, arrived)
        if self._models.segmentation is None or self._models.encoder is None:
            raise ValueError("no models were loaded that tell speakers apart")
        if isinstance(work, Segment):
            return self._models.segmentation.segment(np.asarray(work.samples / 32767, np.float32))
        return self._models.encoder.embed(work.samples)

    def _recognize(self, work: Recognize, arrived: float) -> Recognized:
        began = time.monotonic()
        hypothesis = self._models.recognizer.recognize(work.request, work.samples)
        return Recognized(hypothesis, began - arrived, time.monotonic() - began)

    def _answer(self, number: int, compute: Any) -> None:
        began = time.monotonic()
        try:
            answer = compute()
        except Exception as error:  # one bad window must cost nobody else anything: the asker is told
            answer = Failed(f"{type(error).__name__}: {error}")
            if self._is_fault(error):
                answer = Faulted(str(error))
        self._send(number, answer, time.monotonic() - began)

    def _is_fault(self, error: Exception) -> bool:
        """Tell whether it was the device that failed."""
        return self._models.recognizer.info.device != "cpu" and is_device_fault(error)

    def _send(self, number: int, answer: Any, seconds: float = 0.0) -> None:
        self._send_on(number, answer, seconds)


class Worker:
    """Answers requests from one socket."""

    def __init__(self, connection: socket.socket, models: Models, workers: int) -> None:
        self._connection = connection
        self._models = models
        self._workers = workers
        self._sending = threading.Lock()

    def serve(self) -> None:
        """Read and answer until the socket closes."""
        if isinstance(self._models.recognizer, Spending):
            self._models.recognizer.spent.take()  # to be warm is nobody's work
        lanes = Lanes(self._models, self._workers, self._send)
        threading.Thread(target=self._beat_forever, daemon=True).start()
        while (message := _read(self._connection)) is not None:
            lanes.take(*message)
        # Threads may be deep in a decode that nobody waits for any more.
        os._exit(0)

    def _beat_forever(self) -> None:
        while True:
            recognizer = self._models.recognizer
            spent = recognizer.spent.take() if isinstance(recognizer, Spending) else ()
            self._send(NOBODY, Alive(*spent))
            time.sleep(HEARTBEAT_INTERVAL)

    def _send(self, number: int, answer: Any, seconds: float = 0.0) -> None:
        """Send an answer, and for how long it was worked on."""
        packed = pack((number, answer, seconds))
        with self._sending:
            try:
                self._connection.sendall(packed)
            except OSError:
                os._exit(0)  # the server is gone
            if isinstance(answer, Faulted):
                os._exit(FAULTED)  # after a fault a device answers nothing, or wrongly: the next process may


def _read(connection: socket.socket) -> Any:
    """Return the next message; None when the socket is closed."""
    header = _read_exactly(connection, HEADER.size)
    if header is None:
        return None
    body = _read_exactly(connection, HEADER.unpack(header)[0])
    return None if body is None else unpack(body)


def _read_exactly(connection: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        try:
            count = connection.recv_into(view[filled:])
        except OSError:
            return None
        if not count:
            return None
        filled += count
    return data


if __name__ == "__main__":
    main(int(sys.argv[1]))
