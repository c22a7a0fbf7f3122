"""CAM++, the speaker embedding network, in torch; it is converted to ONNX once and run from there.

Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking",
Interspeech 2023, arXiv 2303.00332. The module names are those of the published state dict.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

MEL_BINS = 80
HEAD_CHANNELS = 32
GROWTH = 32
BOTTLENECK = 128
EMBEDDING_SIZE = 192
SEGMENT_FRAMES = 100
"""The mask of a frame hears its segment of so many frames and the whole."""
BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each densely connected block."""


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, (stride, 1), 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, channels, 1, (stride, 1), bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


class _Head(nn.Module):
    """Two-dimensional convolutions: (batch, mel, frames) → (batch, channels * mel / 8, frames)."""

    def __init__(self) -> None:
        super().__init__()
        c = HEAD_CHANNELS
        self.conv1 = nn.Conv2d(1, c, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.layer1 = nn.Sequential(_ResidualBlock(c, 2), _ResidualBlock(c, 1))
        self.layer2 = nn.Sequential(_ResidualBlock(c, 2), _ResidualBlock(c, 1))
        self.conv2 = nn.Conv2d(c, c, 3, (2, 1), 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x.unsqueeze(1))))
        y = functional.relu(self.bn2(self.conv2(self.layer2(self.layer1(y)))))
        return y.flatten(1, 2)


class _Nonlinear(nn.Module):
    def __init__(self, channels: int, *, affine: bool = True, relu: bool = True) -> None:
        super().__init__()
        self.batchnorm = nn.BatchNorm1d(channels, affine=affine)
        self._relu = relu

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.batchnorm(x)
        return functional.relu(y) if self._relu else y


class _TimeDelay(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Conv1d(HEAD_CHANNELS * MEL_BINS // 8, BOTTLENECK, 5, 2, 2, bias=False)
        self.nonlinear = _Nonlinear(BOTTLENECK)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.nonlinear(self.linear(x))
        return y


class _ContextAwareMask(nn.Module):
    """A convolution whose channels are masked by what the whole and the frame's segment sound like."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(BOTTLENECK, GROWTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(BOTTLENECK, BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(BOTTLENECK // 2, GROWTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = x.mean(-1, keepdim=True) + _segment_means(x)
        mask = torch.sigmoid(self.linear2(functional.relu(self.linear1(context))))
        masked: Tensor = self.linear_local(x) * mask
        return masked


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _Nonlinear(channels)
        self.linear1 = nn.Conv1d(channels, BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _Nonlinear(BOTTLENECK)
        self.cam_layer = _ContextAwareMask(dilation)

    def forward(self, x: Tensor) -> Tensor:
        new = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))
        return torch.cat([x, new], dim=1)


class _Transit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.nonlinear = _Nonlinear(channels)
        self.linear = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(self.nonlinear(x))
        return y


class _Dense(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels, EMBEDDING_SIZE, 1, bias=False)
        self.nonlinear = _Nonlinear(EMBEDDING_SIZE, affine=False, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.nonlinear(self.linear(x.unsqueeze(-1)))
        return y.squeeze(-1)


class CamPlus(nn.Module):
    """Features (batch, frames, 80) → embeddings (batch, 192), not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _Head()
        layers: dict[str, nn.Module] = {"tdnn": _TimeDelay()}
        channels = BOTTLENECK
        for number, (count, dilation) in enumerate(BLOCKS, start=1):
            block: dict[str, nn.Module] = {}
            for layer in range(count):
                block[f"tdnnd{layer + 1}"] = _DenseLayer(channels, dilation)
                channels += GROWTH
            layers[f"block{number}"] = _Chain(block)
            layers[f"transit{number}"] = _Transit(channels)
            channels //= 2
        layers["out_nonlinear"] = _Nonlinear(channels)
        self.xvector = _Chain(layers | {"stats": _Statistics(), "dense": _Dense(2 * channels)})

    def forward(self, features: Tensor) -> Tensor:
        """Embed each item of the batch."""
        y: Tensor = self.xvector(self.head(features.transpose(1, 2)))
        return y


class _Chain(nn.Module):
    """Named modules, one after another."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.children():
            x = module(x)
        return x


class _Statistics(nn.Module):
    """Mean and standard deviation over time: (batch, channels, frames) → (batch, 2 * channels)."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1)
        centred = x - mean.unsqueeze(-1)
        count = x.shape[-1]
        # Bessel's correction written out: ONNX has only the variance of the population.
        deviation = ((centred * centred).sum(-1) / (count - 1)).sqrt()
        return torch.cat([mean, deviation], dim=-1)


def _segment_means(x: Tensor) -> Tensor:
    """Return for each frame the mean of its segment of `SEGMENT_FRAMES` frames, the last may be shorter."""
    frames = x.shape[-1]
    means = functional.avg_pool1d(x, SEGMENT_FRAMES, SEGMENT_FRAMES, ceil_mode=True)
    repeated = means.unsqueeze(-1).expand(*means.shape, SEGMENT_FRAMES).reshape(*means.shape[:-1], -1)
    return repeated[..., :frames]


def load(checkpoint: Path) -> CamPlus:
    """Load the published weights; raises RuntimeError where they are not those of this network."""
    network = CamPlus()
    network.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    return network.eval()
