"""GE2E, the speaker embedding network, in torch; it is converted to ONNX once and run from there.

Wan et al., "Generalized End-to-End Loss for Speaker Verification", ICASSP 2018, arXiv 1710.10467. The
module names are those of the published state dict.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

MEL_BINS = 40
SIZE = 256
LAYERS = 3


class Ge2e(nn.Module):
    """Features (batch, 160 frames, 40) → embeddings (batch, 256) of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MEL_BINS, SIZE, LAYERS, batch_first=True)
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, features: Tensor) -> Tensor:
        """Embed each item of the batch."""
        _, (hidden, _) = self.lstm(features)
        return functional.normalize(functional.relu(self.linear(hidden[-1])), dim=1)


def load(checkpoint: Path) -> Ge2e:
    """Load the published weights; raises RuntimeError where they are not those of this network."""
    network = Ge2e()
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model_state"]
    # What scales similarities while it is trained is not part of the network.
    network.load_state_dict({name: value for name, value in state.items() if "similarity" not in name})
    return network.eval()
