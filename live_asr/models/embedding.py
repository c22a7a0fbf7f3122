"""Speaker embeddings on onnxruntime: what a voice sounds like, as a point in space."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_asr.core.types import SAMPLE_RATE_HZ
from live_asr.models.interfaces import FloatArray, SpeakerEncoder
from live_asr.models.onnx import open_model

MEL_BINS = 80
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
FFT_SAMPLES = 512
LOWEST_HZ = 20.0
PREEMPHASIS = 0.97
SHORTEST_SAMPLES = SAMPLE_RATE_HZ // 4
"""Of less, no embedding says anything."""
GE2E_MEL_BINS = 40
GE2E_FRAMES = 160
GE2E_STEP_FRAMES = 80
GE2E_LEVEL = 10 ** (-30 / 20)
"""Effective value that quieter audio is raised to."""


def open_encoder(model_file: Path) -> SpeakerEncoder:
    """Open a speaker encoder in ONNX, whichever it is: its input tells which features it takes.

    40 mel bins are GE2E's; 80 are Kaldi's, as CAM++ and WeSpeaker's models take them. Raises ValueError for
    anything else.
    """
    model = open_model(model_file)
    inputs = model.get_inputs()
    bins = inputs[0].shape[-1]
    if len(inputs) > 1 or bins not in (GE2E_MEL_BINS, MEL_BINS):
        raise ValueError(f"{model_file.name} is no speaker encoder that takes 40 or 80 mel bins")
    return Ge2eEncoder(model) if bins == GE2E_MEL_BINS else KaldiEncoder(model)


class KaldiEncoder:
    """An encoder on Kaldi's features; CAM++ is good from 1.5 s of a voice on, and better the longer it is."""

    equal_error_distance = 0.71
    """Of CAM++, at 1.5 s of a voice; measured in docs/decisions/0008."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._input = model.get_inputs()[0].name
        # WeSpeaker's models call their input so, and were trained with another window than CAM++.
        self._window = np.hamming if self._input == "feats" else _povey

    def embed(self, samples: FloatArray) -> FloatArray:
        """Embed a voice; see `SpeakerEncoder.embed`."""
        _check_length(samples)
        features = kaldi_features(samples, self._window)
        features -= features.mean(axis=0)
        return _unit(self._model.run(None, {self._input: features[None]})[0][0])


class Ge2eEncoder:
    """GE2E on windows of 1.6 s, whose embeddings are averaged: it needs less of a voice than CAM++."""

    equal_error_distance = 0.41
    """At 1.5 s of a voice; measured in docs/decisions/0008."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def embed(self, samples: FloatArray) -> FloatArray:
        """Embed a voice; see `SpeakerEncoder.embed`."""
        _check_length(samples)
        features = mel_energies(samples)
        missing = GE2E_FRAMES - len(features)
        if missing > 0:  # what there is of the voice is repeated: silence would be heard as part of it
            features = np.pad(features, ((0, missing), (0, 0)), mode="wrap")
        starts = range(0, len(features) - GE2E_FRAMES + 1, GE2E_STEP_FRAMES)
        windows = np.stack([features[start : start + GE2E_FRAMES] for start in starts])
        return _unit(self._model.run(None, {"features": windows})[0].mean(axis=0))


def mel_energies(samples: FloatArray) -> FloatArray:
    """Return mel energies as GE2E takes them, shape (frames, 40): 25 ms frames every 10 ms, no logarithm."""
    level = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    louder = samples * np.float32(max(1.0, GE2E_LEVEL / max(level, 1e-9)))
    padded = np.pad(louder, FRAME_SAMPLES // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME_SAMPLES)[::HOP_SAMPLES]
    # A periodic Hann window, as short-time spectra are made with.
    spectrum = np.fft.rfft(frames * np.hanning(FRAME_SAMPLES + 1)[:-1])
    power = spectrum.real**2 + spectrum.imag**2
    return np.asarray(power @ _slaney_filters(), np.float32)


def _check_length(samples: FloatArray) -> None:
    if samples.size < SHORTEST_SAMPLES:
        raise ValueError(f"{samples.size} samples are too few to tell a voice by")


def _unit(embedding: FloatArray) -> FloatArray:
    return np.asarray(embedding / np.linalg.norm(embedding), np.float32)


def _povey(length: int) -> NDArray[np.float64]:
    """Return Kaldi's own window: Hann's to the power of 0.85."""
    return np.asarray(np.hanning(length) ** 0.85)


def kaldi_features(samples: FloatArray, window: Callable[[int], NDArray[np.float64]] = _povey) -> FloatArray:
    """Return log mel energies as Kaldi computes them, shape (frames, 80): 25 ms frames every 10 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), FRAME_SAMPLES)[
        ::HOP_SAMPLES
    ]
    frames = frames - frames.mean(axis=1, keepdims=True)
    emphasised = frames.copy()
    emphasised[:, 1:] -= PREEMPHASIS * frames[:, :-1]
    emphasised[:, 0] *= 1 - PREEMPHASIS
    spectrum = np.fft.rfft(emphasised * window(FRAME_SAMPLES).astype(np.float32), FFT_SAMPLES)[:, :-1]
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    energies: FloatArray = np.log(np.maximum(power @ _mel_filters(), np.finfo(np.float32).eps))
    return energies


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


@cache
def _slaney_filters() -> FloatArray:
    """Return Slaney's triangular filters of equal area, shape (201, 40): octaves above 1 kHz."""
    step = math.log(6.4) / 27

    def hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        above = 1000.0 * np.exp(step * (mel - 15.0))
        return np.where(mel < 15.0, mel * (200.0 / 3.0), above)

    highest = 15.0 + math.log(SAMPLE_RATE_HZ / 2 / 1000.0) / step
    edges = hz(np.linspace(0.0, highest, GE2E_MEL_BINS + 2))
    bins = np.fft.rfftfreq(FRAME_SAMPLES, 1 / SAMPLE_RATE_HZ)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))
    return np.asarray(filters, np.float32)
