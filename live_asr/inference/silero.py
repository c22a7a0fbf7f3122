"""Silero VAD on onnxruntime: 32 ms chunks, many in one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from live_asr.inference.interfaces import CHUNK_SAMPLES, FloatArray, SpeechState
from live_asr.inference.onnx import open_model

CONTEXT_SAMPLES = 64


class SileroDetector:
    """Silero VAD 6 in the form that takes a run of chunks at once.

    It gives the same numbers as the chunk-by-chunk model, bit for bit, at half the cost for runs of
    eight (0.04 ms a chunk). One instance serves any number of sessions and threads.
    """

    def __init__(self, model_file: Path) -> None:
        self._model = open_model(model_file)

    def detect(self, samples: FloatArray, state: SpeechState) -> tuple[FloatArray, SpeechState]:
        """Judge each 32 ms chunk; see `SpeechDetector.detect`."""
        if samples.size % CHUNK_SAMPLES:
            raise ValueError(
                f"{samples.size} samples are not a whole number of {CHUNK_SAMPLES}-sample chunks"
            )
        if not samples.size:
            return np.zeros(0, np.float32), state
        with_context = np.concatenate([state.context, samples]).astype(np.float32, copy=False)
        chunks = np.lib.stride_tricks.sliding_window_view(with_context, CONTEXT_SAMPLES + CHUNK_SAMPLES)[
            ::CHUNK_SAMPLES
        ]
        probabilities, hidden, cell = self._model.run(
            None, {"input": np.ascontiguousarray(chunks), "h": state.hidden, "c": state.cell}
        )
        return probabilities, SpeechState(hidden, cell, with_context[-CONTEXT_SAMPLES:])
