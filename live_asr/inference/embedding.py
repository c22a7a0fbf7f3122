"""Speaker embeddings on onnxruntime: what a voice sounds like, as a point in space."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from live_asr.core.types import SAMPLE_RATE_HZ
from live_asr.inference.interfaces import FloatArray
from live_asr.inference.onnx import open_model

MEL_BINS = 80
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
FFT_SAMPLES = 512
LOWEST_HZ = 20.0
PREEMPHASIS = 0.97
SHORTEST_SAMPLES = SAMPLE_RATE_HZ // 4
"""Of less, no embedding says anything."""


class CamPlusEncoder:
    """CAM++ on its Kaldi features: 192 numbers a voice, better the longer it speaks, from 1.5 s on good."""

    sample_rate_hz = SAMPLE_RATE_HZ
    dimension = 192

    def __init__(self, model_file: Path) -> None:
        self._model = open_model(model_file)

    def embed(self, samples: FloatArray) -> FloatArray:
        """Embed one speaker's audio, shape (n,), 16 kHz mono in -1 … 1.

        Returns a vector of length 1, shape (192,). Raises ValueError below a quarter of a second.
        """
        if samples.size < SHORTEST_SAMPLES:
            raise ValueError(f"{samples.size} samples are too few to tell a voice by")
        features = kaldi_features(samples)
        features -= features.mean(axis=0)
        (embedding,) = self._model.run(None, {"features": features[None]})[0]
        return np.asarray(embedding / np.linalg.norm(embedding), np.float32)


def kaldi_features(samples: FloatArray) -> FloatArray:
    """Return log mel energies as Kaldi computes them, shape (frames, 80): 25 ms frames every 10 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), FRAME_SAMPLES)[
        ::HOP_SAMPLES
    ]
    frames = frames - frames.mean(axis=1, keepdims=True)
    emphasised = frames.copy()
    emphasised[:, 1:] -= PREEMPHASIS * frames[:, :-1]
    emphasised[:, 0] *= 1 - PREEMPHASIS
    spectrum = np.fft.rfft(emphasised * _window(), FFT_SAMPLES)[:, :-1]
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    energies: FloatArray = np.log(np.maximum(power @ _mel_filters(), np.finfo(np.float32).eps))
    return energies


@cache
def _window() -> FloatArray:
    """Povey's window: Hann's to the power of 0.85."""
    return (np.hanning(FRAME_SAMPLES) ** 0.85).astype(np.float32)


@cache
def _mel_filters() -> FloatArray:
    """Return the triangular filters, shape (256, 80), even on the mel scale."""

    def mel(hz: FloatArray | float) -> FloatArray:
        return np.asarray(1127.0 * np.log1p(np.asarray(hz) / 700.0))

    edges = np.linspace(mel(LOWEST_HZ), mel(SAMPLE_RATE_HZ / 2), MEL_BINS + 2)
    bins = mel(np.arange(FFT_SAMPLES // 2) * (SAMPLE_RATE_HZ / FFT_SAMPLES))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
