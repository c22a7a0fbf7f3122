"""Where somebody speaks in a recording, by the server's own detector of speech."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.options import Options
from benchmarks.speech import RATE_HZ, Samples
from benchmarks.words_measures import Stretch, merged

THRESHOLD = 0.5
JOINED_BELOW = 0.3
SHORTEST = 0.25
"""Seconds."""


def open_detector(options: Options) -> Any:
    """Load the server's own detector of speech."""
    from live_asr.models.silero import SileroDetector

    return SileroDetector(next(options.weights("silero-vad").glob("*.onnx")))


class SpeechFinder:
    """Silero over whole recordings."""

    def __init__(self, options: Options) -> None:
        self._detector = open_detector(options)

    def __call__(self, audio: Samples) -> list[Stretch]:
        """Return the stretches of speech, seconds."""
        from live_asr.core.types import CHUNK_SAMPLES
        from live_asr.models.interfaces import SpeechState

        whole = audio[: len(audio) // CHUNK_SAMPLES * CHUNK_SAMPLES].astype(np.float32) / 32768
        probabilities, _ = self._detector.detect(whole, SpeechState.initial())
        chunk = CHUNK_SAMPLES / RATE_HZ
        voiced = np.flatnonzero(probabilities >= THRESHOLD)
        found = merged(((at * chunk, (at + 1) * chunk) for at in voiced.tolist()), JOINED_BELOW)
        return [(start, end) for start, end in found if end - start >= SHORTEST]
