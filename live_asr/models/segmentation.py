"""pyannote's speaker segmentation on onnxruntime: who of up to three speaks when, in a window of 10 s."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from live_asr.models.interfaces import FloatArray
from live_asr.models.onnx import open_model

FRAME_SAMPLES = 320
"""The answer has a row every 20 ms."""
HOP_SAMPLES = 270
"""The model's own frames are 16.875 ms apart …"""
CENTRE_SAMPLES = 495
"""… and the first is centred here."""
SPEAKERS_OF_CLASS = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32
)
"""Which of three speakers each of the model's classes stands for (the powerset of at most two)."""


class SpeakerSegmentation:
    """Plaquet and Bredin, "Powerset multi-class cross entropy loss for neural speaker diarization",
    Interspeech 2023: segmentation-3.0. One instance serves any number of sessions and threads."""

    def __init__(self, model_file: Path) -> None:
        self._model = open_model(model_file)

    def segment(self, samples: FloatArray) -> FloatArray:
        """Tell who speaks when in `samples`, shape (n,), 16 kHz mono, at most 10 s and at least 80 ms.

        Returns the probability that each of three local speakers speaks, shape (ceil(n / 320), 3).
        """
        (log_probabilities,) = self._model.run(None, {"samples": samples[None, None]})[0]
        activity = np.exp(log_probabilities) @ SPEAKERS_OF_CLASS
        centres = (np.arange(-(-samples.size // FRAME_SAMPLES)) + 0.5) * FRAME_SAMPLES
        nearest = np.rint((centres - CENTRE_SAMPLES) / HOP_SAMPLES).astype(np.intp)
        return np.asarray(activity[np.clip(nearest, 0, len(activity) - 1)], np.float32)
