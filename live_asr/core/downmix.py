"""Several channels to one, without losing what cancels between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from live_asr.core.audio import Samples, bounded

BLOCKS_PER_SECOND = 50
"""The choice between the mix and one channel is made anew so often."""
MEMORY = 0.5
"""Seconds after which a level counts 1/e, so that a choice rests on syllables and not on single blocks."""
CANCELLED = 0.4
"""Mix over what its loudest channel alone would add to it, as power: in stereo 10 dB below that channel."""
ALONE = 0.1
"""So far below one channel, as power, are the mix and all others together where it alone is heard."""
HYSTERESIS = 2.0
"""What was chosen stays until the reason for it is missed by this factor, as power."""

_SIDES = math.sqrt(0.5)
_WEIGHTS = {
    "FC": math.sqrt(2.0),
    "LFE": 0.0,
    "LFE2": 0.0,
    **dict.fromkeys(("BL", "BR", "SL", "SR", "BC"), _SIDES),
}


def mono_weights(channels: Sequence[str]) -> tuple[float, ...]:
    """Return how much of each channel goes into the mix, by FFmpeg's names of channels; they add up to 1.

    As in ITU-R BS.775: what surrounds 3 dB lower, the centre to both sides, no low-frequency effects.
    Channels of other names count alike.
    """
    weights = [_WEIGHTS.get(name, 1.0) for name in channels]
    total = sum(weights)
    return tuple(weight / total if total else 1 / len(weights) for weight in weights)


class Downmixer:
    """Mix the channels of a stream to one; take the loudest alone where the mix would lose it.

    That is so where channels cancel (a cable with the wrong polarity), and where one of many speaks and
    the rest would only make it quieter. A change is faded over one block of 20 ms, by which the output lags
    as well where there is more than one channel. Any chunking of the same samples gives the same output.
    """

    def __init__(self, weights: Sequence[float], rate_hz: int) -> None:
        self._weights = [np.float32(weight) for weight in weights]
        self._shares = np.square(np.asarray(weights, np.float64))
        self._block_samples = max(rate_hz // BLOCKS_PER_SECOND, 2)
        self._decay = math.exp(-1 / (BLOCKS_PER_SECOND * MEMORY))
        self._rest = np.empty((len(weights), 0), np.float32)
        self._levels = np.zeros(len(weights) + 1)
        """Power of each channel and, last, of the mix."""
        self._chosen: int | None = None
        """The channel that is taken alone; None for the mix."""

    def feed(self, channels: NDArray[np.float32]) -> Samples:
        """Take samples, shape (channels, samples); return what is mixed: shape (samples,), -1 to 1.

        Where a sum is no finite number, all channels are silent.
        """
        channels = _finite(channels)
        if len(self._weights) == 1:
            alone: Samples = channels[0]
            return alone
        joined = np.concatenate((self._rest, channels), axis=1)
        whole = joined.shape[1] - joined.shape[1] % self._block_samples
        self._rest = joined[:, whole:].copy()
        return self._mixed(joined[:, :whole])

    def finish(self) -> Samples:
        """Return what waits for its block to be complete; nothing may be fed after it."""
        rest, self._rest = self._rest, self._rest[:, :0]
        return self._taken(rest, self._mix(rest), self._chosen)

    def _mixed(self, channels: NDArray[np.float32]) -> Samples:
        mix = self._mix(channels)
        everything = np.concatenate((channels, mix[None]))
        blocks = everything.reshape(len(everything), -1, self._block_samples)
        # Differences, since hum and offsets say little about speech and often differ between channels.
        levels = np.square(np.diff(blocks, axis=2)).sum(axis=2, dtype=np.float64)
        pieces = []
        for number, level in enumerate(levels.T):
            before, self._chosen = self._chosen, self._choice(level)
            here = slice(number * self._block_samples, (number + 1) * self._block_samples)
            piece = self._taken(channels[:, here], mix[here], self._chosen)
            if before != self._chosen:
                fade = np.linspace(0, 1, self._block_samples, dtype=np.float32)
                piece = piece * fade + self._taken(channels[:, here], mix[here], before) * (1 - fade)
            pieces.append(piece)
        return np.concatenate(pieces) if pieces else mix

    def _choice(self, level: NDArray[np.float64]) -> int | None:
        """Take note of a block's levels; return the channel to take, None for the mix."""
        self._levels = self._levels * self._decay + level
        channels, mix = self._levels[:-1], self._levels[-1]
        loudest, slack = int(np.argmax(channels)), 1.0
        if self._chosen is not None:
            slack = HYSTERESIS
            if channels[loudest] <= HYSTERESIS * channels[self._chosen]:
                loudest = self._chosen
        power = channels[loudest]
        if mix < slack * CANCELLED * self._shares[loudest] * power:
            return loudest
        others = channels.sum() - power
        return loudest if max(mix, others) < slack * ALONE * power else None

    def _mix(self, channels: NDArray[np.float32]) -> Samples:
        mix: Samples = channels[0] * self._weights[0]
        for weight, channel in zip(self._weights[1:], channels[1:], strict=True):
            mix += channel * weight
        return mix

    @staticmethod
    def _taken(channels: NDArray[np.float32], mix: Samples, chosen: int | None) -> Samples:
        return mix if chosen is None else channels[chosen]


def _finite(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples from -1 to 1; a damaged stream may hold anything."""
    if not channels.size or (channels.min() >= -1 and channels.max() <= 1):  # neither is so of a NaN
        return channels
    with np.errstate(invalid="ignore", over="ignore"):
        is_broken = ~np.isfinite(channels.sum(axis=0))
    found = channels.copy()
    found[:, is_broken] = 0
    return bounded(found)
