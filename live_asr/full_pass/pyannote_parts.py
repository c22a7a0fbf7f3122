"""What pyannote's pipeline is given in place of its own parts. Importing this imports pyannote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio import Model
from pyannote.audio.core.plda import PLDA
from torch import Tensor

from live_asr.core.types import SAMPLE_RATE_HZ, samples
from live_asr.models.embedding import FRAME_SAMPLES, HOP_SAMPLES, kaldi_features
from live_asr.models.interfaces import FloatArray
from live_asr.models.onnx import open_model

DIMENSION = 192
MIN_FRAMES = 25
"""Fewer frames of 10 ms are repeated until there are so many."""
MIN_SAMPLES = samples(0.4)
"""With less of it outside overlaps, a voice is taken from all that is there."""


class CamPlusModel(Model):  # type: ignore[misc]
    """CAM++ on onnxruntime behind the interface of pyannote's embedding models.

    A speaker's frames are picked out of the features of the whole window, which are computed once for all
    its speakers; picking samples and computing features of what is left gave the same error rates.
    """

    def __init__(self, encoder_file: Path) -> None:
        super().__init__(sample_rate=SAMPLE_RATE_HZ, num_channels=1)
        self._encoder = open_model(encoder_file)

    @property
    def dimension(self) -> int:
        """Numbers in an embedding."""
        return DIMENSION

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embed the weighted frames of each waveform: (batch, 1, samples), (batch, frames) → (batch, 192).

        Embeddings have length 1, or are zero where no frame has weight. Raises ValueError for waveforms
        that are too short to tell a voice by: that is how pyannote asks for the shortest.
        """
        if waveforms.shape[-1] < MIN_SAMPLES:
            raise ValueError(f"{waveforms.shape[-1]} samples are too few to tell a voice by")
        embeddings = np.zeros((len(waveforms), DIMENSION), np.float32)
        before: FloatArray | None = None
        for index, waveform in enumerate(waveforms[:, 0].cpu().numpy()):
            mask = None if weights is None else weights[index].cpu().numpy() > 0.5
            if mask is not None and not mask.any():
                continue
            # The speakers of one window come one after another.
            if before is None or not np.array_equal(before, waveform):
                before, features = waveform, kaldi_features(waveform)
            embeddings[index] = self._embed(
                features if mask is None else features[_of_frames(mask, len(features), waveform.size)]
            )
        return torch.from_numpy(embeddings)

    def _embed(self, features: FloatArray) -> FloatArray:
        if not len(features):
            return np.zeros(DIMENSION, np.float32)
        if len(features) < MIN_FRAMES:
            features = np.resize(features, (MIN_FRAMES, features.shape[1]))
        centred = features - features.mean(axis=0)
        (embedding,) = self._encoder.run(None, {"features": centred[None]})[0]
        return np.asarray(embedding / np.linalg.norm(embedding), np.float32)


class NoPlda(PLDA):  # type: ignore[misc]
    """Stands where the pipeline insists on a PLDA that its clustering does not use."""

    def __init__(self) -> None:
        pass


def _of_frames(mask: NDArray[np.bool_], frames: int, window_samples: int) -> NDArray[np.bool_]:
    """Return what the mask, whose frames share the window evenly, says at each feature frame's middle."""
    middles = np.arange(frames) * HOP_SAMPLES + FRAME_SAMPLES // 2
    return np.asarray(mask[middles * len(mask) // window_samples], np.bool_)
