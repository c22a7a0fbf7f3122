"""The streaming policy by itself: real decodes, a virtual clock, no server.

Each variant of the policy hears the same clips; a decode takes as long on the virtual clock as it took
of CPU. So latencies are those of a machine that does nothing else, and the text is the one that a
server gives that keeps up: what the policy decides depends on the audio alone.

    python -m benchmarks.policy --model tiny.en --clips talk5_lj conv2_public --variants recipe step-1.0
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from live_asr.core.captioner import CaptionOptions, Captioner, Committed, MarkReached, TailChanged
from live_asr.core.types import SAMPLE_RATE_HZ, Word, samples
from live_asr.inference.interfaces import FloatArray, SpeechState
from live_asr.inference.silero import SileroDetector
from live_asr.inference.whisper import WhisperRecognizer

Arrivals = list[tuple[float, str, tuple[Word, ...]]]


@dataclass(slots=True)
class Run:
    """What one variant made of one clip."""

    committed: list[tuple[Word, float]]
    """Each committed word, with when it was committed, in seconds of the virtual clock."""
    arrivals: Arrivals
    """Everything shown, in order: when, `commit` or `partial`, which words."""
    cpu: float
    """CPU seconds of all decodes."""
    decodes: int
    end: float
    """When `stop` was reached, in seconds of the virtual clock."""

    @property
    def text(self) -> str:
        return "".join(word.text for word, _ in self.committed)


def simulate(
    audio: FloatArray, recognizer: WhisperRecognizer, detector: SileroDetector, options: CaptionOptions
) -> Run:
    """Let one policy hear one clip, shape (n,), 16 kHz mono."""
    captioner = Captioner(options, language="en", live=False)
    captioner.receive_audio(audio)
    state = SpeechState.initial()
    run = Run([], [], 0.0, 0, 0.0)
    now = 0.0
    stopped = False

    def collect() -> None:
        nonlocal stopped
        consumed = (captioner.received_sample - captioner.backlog_samples) / SAMPLE_RATE_HZ
        at = max(now, consumed)
        for event in captioner.events():
            match event:
                case Committed(words, _):
                    run.committed += [(word, at) for word in words]
                    run.arrivals.append((at, "commit", words))
                case TailChanged(words):
                    run.arrivals.append((at, "partial", words))
                case MarkReached():
                    stopped = True
                    run.end = at

    while (chunk := captioner.unjudged(512)) is not None:
        probabilities, state = detector.detect(chunk, state)
        captioner.receive_probabilities(probabilities)
        collect()
        now = answer(captioner, recognizer, run, now, collect)
    captioner.mark("stop")
    collect()
    answer(captioner, recognizer, run, now, collect)
    if not stopped:
        raise RuntimeError("the policy did not come to its end")
    return run


def answer(captioner: Captioner, recognizer: WhisperRecognizer, run: Run, now: float, collect: Any) -> float:
    """Do all decodes that are wanted; return the virtual time after them."""
    while (wanted := captioner.decode()) is not None:
        consumed = (captioner.received_sample - captioner.backlog_samples) / SAMPLE_RATE_HZ
        before = time.process_time()
        hypothesis = recognizer.recognize(*wanted)
        spent = time.process_time() - before
        run.cpu += spent
        run.decodes += 1
        now = max(now, consumed) + spent
        captioner.receive_hypothesis(hypothesis)
        collect()
    return now
