"""Raw audio: bytes of the client's encoding to samples, and a buffer addressed by sample.

Samples are float32, mono, from -1 to 1. Any chunking of the same bytes gives the same samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Shape (samples,), float32, mono."""

SMALLEST_CAPACITY_SAMPLES = 1 << 16


def mulaw_table() -> Samples:
    """Return the sample for each mu-law byte, by the expansion of ITU-T G.711, table 2."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def alaw_table() -> Samples:
    """Return the sample for each A-law byte, by the expansion of ITU-T G.711, table 1."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    linear, curved = (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0)
    magnitude = np.where(exponent == 0, linear, curved)
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
"""Bytes of one sample of one channel, for each raw encoding."""


def bytes_per_second(encoding: str, sample_rate: int, channels: int) -> int:
    """Return how many bytes a second of raw audio takes; `encoding` is one of `SAMPLE_BYTES`."""
    return SAMPLE_BYTES[encoding] * channels * sample_rate


class PcmDecoder:
    """Turn raw audio of any chunking into samples at the rate they came in.

    `encoding` is one of `SAMPLE_BYTES`; `channels` are interleaved. Bytes of an unfinished frame wait for
    the next call, so the last few bytes of a stream may give no sample.
    """

    def __init__(self, encoding: str, channels: int = 1) -> None:
        self._encoding = encoding
        self._channels = channels
        self._frame_bytes = SAMPLE_BYTES[encoding] * channels
        self._rest = b""
        self._table = {"mulaw": mulaw_table, "alaw": alaw_table}.get(encoding, lambda: None)()

    @property
    def rest_bytes(self) -> int:
        """How many bytes of an unfinished frame wait."""
        return len(self._rest)

    def feed(self, data: bytes) -> NDArray[np.float32]:
        """Return the samples that `data` completes: shape (channels, samples), float32, -1 to 1."""
        joined = self._rest + data if self._rest else data
        whole = len(joined) - len(joined) % self._frame_bytes
        self._rest = bytes(joined[whole:])
        return self._read(memoryview(joined)[:whole]).reshape(-1, self._channels).T

    def _read(self, data: memoryview) -> Samples:
        if self._table is not None:
            expanded: Samples = self._table[np.frombuffer(data, np.uint8)]
            return expanded
        if self._encoding == "pcm_s16le":
            whole = np.frombuffer(data, "<i2").astype(np.float32)
            whole /= np.float32(32768)
            return whole
        return bounded(np.frombuffer(data, "<f4").astype(np.float32))


def floats(found: NDArray[Any], channels: int, *, is_planar: bool) -> NDArray[np.float32]:
    """Return samples of any type, as FFmpeg hands them out, as floats: shape (channels, samples).

    Integers are brought to -1 to 1, floats stay as they are, beyond that too.
    """
    if not is_planar:
        found = found.reshape(-1, channels).T
    if not np.issubdtype(found.dtype, np.integer):
        with np.errstate(over="ignore"):
            return found.astype(np.float32, copy=False)
    full_scale = np.float32(2 ** (8 * found.itemsize - 1))
    zero = full_scale if np.issubdtype(found.dtype, np.unsignedinteger) else np.float32(0)
    scaled: NDArray[np.float32] = (found.astype(np.float32) - zero) / full_scale
    return scaled


def bounded(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip samples to -1 to 1 in place, and silence those that are no finite number."""
    np.nan_to_num(samples, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(samples, -1.0, 1.0, out=samples)


class AudioBuffer:
    """Hold a stretch of a session's audio, addressed by the index of its samples in the session.

    Appending costs a copy of the new samples, on average; memory is at most about four times what is
    kept, so it stays flat over hours where `discard_before` is called.
    """

    def __init__(self, start_sample: int = 0) -> None:
        self._store = np.empty(SMALLEST_CAPACITY_SAMPLES, np.float32)
        self._first = 0  # where in the store `start_sample` lies
        self._start_sample = start_sample
        self._end_sample = start_sample

    @property
    def start_sample(self) -> int:
        """The first sample that is kept."""
        return self._start_sample

    @property
    def end_sample(self) -> int:
        """One past the last sample; the next one appended gets this index."""
        return self._end_sample

    @property
    def capacity_bytes(self) -> int:
        """The memory that is taken."""
        return self._store.nbytes

    def __len__(self) -> int:
        return self._end_sample - self._start_sample

    def append(self, samples: Samples) -> None:
        """Add samples, shape (samples,), at the end."""
        if samples.ndim != 1:
            raise ValueError(f"samples must have one dimension, not shape {samples.shape}")
        if self._first + len(self) + len(samples) > len(self._store):
            self._make_room(len(samples))
        last = self._first + len(self)
        self._store[last : last + len(samples)] = samples
        self._end_sample += len(samples)

    def slice(self, start_sample: int, end_sample: int) -> Samples:
        """Return a copy of the samples from `start_sample` up to, not including, `end_sample`.

        Raises IndexError where part of it is discarded, or has not come yet, or the end lies before the
        start.
        """
        if not self._start_sample <= start_sample <= end_sample <= self._end_sample:
            asked, kept = f"{start_sample} to {end_sample}", f"{self._start_sample} to {self._end_sample}"
            raise IndexError(f"samples {asked} are not all kept; there are {kept}")
        shift = self._first - self._start_sample
        return self._store[start_sample + shift : end_sample + shift].copy()

    def discard_before(self, sample: int) -> None:
        """Forget what lies before `sample`, as far as it is there; idempotent."""
        start_sample = min(max(sample, self._start_sample), self._end_sample)
        self._first += start_sample - self._start_sample
        self._start_sample = start_sample

    def _make_room(self, more_samples: int) -> None:
        """Move what is kept to the front of a store with room for as much again."""
        wanted = max(2 * (len(self) + more_samples), SMALLEST_CAPACITY_SAMPLES)
        kept = self._store[self._first : self._first + len(self)]
        fits = wanted <= len(self._store) <= 2 * wanted
        store = self._store if fits else np.empty(wanted, np.float32)
        store[: len(kept)] = kept
        self._store, self._first = store, 0
