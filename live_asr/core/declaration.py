"""Raw audio that is not what was declared, told from its first seconds.

Nothing in raw audio says what it is. But sound read as another encoding is noise, while read as what it is
it hardly changes from one sample to the next; real noise is noise however it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from live_asr.core.audio import SAMPLE_BYTES, alaw_table, mulaw_table
from live_asr.core.messages import AudioFormat, Notice

BEGINNING_BYTES = 4096
"""So much tells whether it is a file, or text."""
WINDOW = 1.0
"""Seconds of audio, as declared, that are looked at together."""
MAX_WINDOWS = 10
"""So many are looked at: the first may be silent."""
WINDOWS_AGREED = 2
"""So many have to say the same, since one may be a tone or a hiss."""
SMOOTH = 0.4
"""Roughness that sound stays below where it is read as what it is, apart from noise."""
PLAIN = 0.2
"""So much smoother is the right reading than the declared one: real sound has been seen down to 0.24."""
ALIKE, UNLIKE = 0.25, 0.5
"""Distances of two distributions, from 0 to 1: below and above, they are taken for the same and for two."""
MIN_VARIED = 0.3
"""Part of a window's stretches of 8 bytes that are unlike all others; silence and pure tones tell nothing."""
MIN_TELLING = 0.1
"""Part of its bytes that are neither 0 nor 255, which silence has."""
MIN_CHARACTERS = 16
"""Text has so many different ones at least; a constant is not text."""

Doubles = NDArray[np.float64]

_MAGIC = (
    (rb"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    (rb"OggS", "Ogg"),
    (rb"fLaC", "FLAC"),
    (rb"RIFF....WAVE|RF64....WAVE", "WAV"),
    (rb"FORM....AIF[FC]", "AIFF"),
    (rb"caff\x00\x01", "Core Audio"),
    (rb"ID3[\x02-\x04]", "MP3"),
    (rb"....ftyp", "MP4"),
    (rb"#!AMR", "AMR"),
)
_TEXT = re.compile(rb"[\t\r\n -~]+\Z")
_BASE64 = re.compile(rb"(data:[^,]*,)?[A-Za-z0-9+/=_\r\n-]+\Z")

_MP3_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_LOW_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MP3_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


class Declaration:
    """Looks at the first seconds of raw audio, declared as `audio`, for signs that it is something else."""

    def __init__(self, audio: AudioFormat) -> None:
        self._audio = audio
        frame_bytes = SAMPLE_BYTES[audio.encoding] * audio.channels
        self._window_bytes = round(WINDOW * audio.sample_rate) * frame_bytes
        self._is_begun = False
        self._seen = bytearray()
        self._windows: list[str | None] = []
        """What each window so far looks like."""
        self._is_settled = False

    def look(self, data: bytes) -> Notice | None:
        """Take the next bytes of the stream; return what to tell the client, once at most."""
        while data and not self._is_settled:
            wanted = self._window_bytes if self._is_begun else BEGINNING_BYTES
            missing = wanted - len(self._seen)
            self._seen += data[:missing]
            data = data[missing:]
            if len(self._seen) < wanted:
                break
            found = self._found(bytes(self._seen))
            if found is not None:
                self._is_settled = True
                message = f"The audio is declared as {self._audio.encoding}, but looks like {found}"
                return Notice("audio_looks_wrong", f"{message} It is treated as declared.")
        return None

    def _found(self, seen: bytes) -> str | None:
        if not self._is_begun:
            self._is_begun = True  # what was seen belongs to the first window as well
            return container_in(seen)
        self._seen.clear()
        found = another_in(seen, self._audio)
        self._windows.append(found)
        self._is_settled = len(self._windows) >= MAX_WINDOWS
        return found if self._windows.count(found) >= WINDOWS_AGREED else None


def container_in(beginning: bytes) -> str | None:
    """Say as which kind of file or text a stream begins, and what to do; None where it may be raw audio."""
    for magic, name in _MAGIC:
        if re.match(magic, beginning, re.DOTALL):
            return f"{name}: declare `audio.encoding` as container."
    if _is_mpeg_audio(beginning):
        return "MP3 or AAC: declare `audio.encoding` as container."
    if len(set(beginning)) >= MIN_CHARACTERS and _TEXT.match(beginning):
        if _BASE64.match(beginning):
            return "base64: decode it and send the bytes in binary frames."
        return "text: send the samples themselves in binary frames."
    return None


def another_in(window: bytes, audio: AudioFormat) -> str | None:
    """Say as what other raw audio these bytes make sound, and what to do; None where they are as declared."""
    stretches = np.frombuffer(window[: len(window) - len(window) % 8], np.uint64)
    if len(np.unique(stretches)) < MIN_VARIED * len(stretches):
        return None
    declared = READINGS[audio.encoding](window)
    if SAMPLE_BYTES[audio.encoding] == 1:
        # Read as logarithms, samples of several bytes are not always noise; but their bytes differ by place,
        # as those of two channels may, too.
        is_wider = audio.channels == 1 and _difference(window, 2) > UNLIKE
        return _smoother(window, audio, declared, 0.5) if is_wider else None
    if _has_bytes_as_samples(window):
        return "8-bit samples: declare `audio.encoding` as mulaw or alaw, if they are, and their sample rate."
    if audio.encoding == "pcm_f32le" and _is_unscaled(declared):
        return "floats that are not from -1 to 1: divide them by full scale, 32768 for 16-bit samples."
    other = _smoother(window, audio, declared, PLAIN)
    if other is None and audio.channels == 1 and _is_interleaved(declared):
        return "two channels in turn: declare `audio.channels` as 2."
    return other


def _smoother(window: bytes, audio: AudioFormat, declared: Doubles, ratio: float) -> str | None:
    """Say as what other samples of several bytes these are far smoother."""
    limit = min(SMOOTH, ratio * roughness(declared, audio.channels))
    others = {
        name: roughness(read(window), audio.channels)
        for name, read in READINGS.items()
        if name not in ("mulaw", "alaw", audio.encoding)
    }
    if others.get("pcm_f32le", np.inf) < SMOOTH:  # other bytes are hardly ever floats at all
        return _advice("pcm_f32le")
    least = min(others.values())
    if least >= limit:
        return None
    return _advice(next(name for name, rough in others.items() if rough <= 1.2 * least))


def roughness(samples: Doubles, channels: int = 1) -> float:
    """Return how much samples change from one to the next, over what white noise of their power does.

    Sound has 0.01 to 0.7, noise 1. The lesser is taken of the next sample and the next but one, of the same
    channel. What holds values that no sound has is as rough as can be.
    """
    if not np.all(np.isfinite(samples)) or not 1e-6 < np.abs(samples).max(initial=0.0) < 1e10:
        return np.inf
    centred = samples - samples.mean()
    power = 2 * np.mean(np.square(centred))
    if not power:
        return np.inf
    return float(
        min(np.mean(np.square(centred[lag:] - centred[:-lag])) for lag in (channels, 2 * channels)) / power
    )


def _read(dtype: str) -> Callable[[bytes], Doubles]:
    size_bytes = np.dtype(dtype).itemsize

    def read(data: bytes) -> Doubles:
        with np.errstate(invalid="ignore"):  # what is no number when read so
            return np.frombuffer(data[: len(data) - len(data) % size_bytes], dtype).astype(np.float64)

    return read


READINGS: dict[str, Callable[[bytes], Doubles]] = {
    "pcm_s16le": _read("<i2"),
    "pcm_f32le": _read("<f4"),
    "mulaw": lambda data: mulaw_table()[np.frombuffer(data, np.uint8)].astype(np.float64),
    "alaw": lambda data: alaw_table()[np.frombuffer(data, np.uint8)].astype(np.float64),
    "16-bit big-endian": _read(">i2"),
}
"""How bytes are read, by what may be declared and by what may not. Whole stretches, cut where they begin."""


def _advice(name: str) -> str:
    if name in SAMPLE_BYTES:
        return f"{name}: declare `audio.encoding` as {name}."
    return f"{name}, which cannot be declared: convert the samples to 16-bit little-endian (pcm_s16le)."


def _difference(data: bytes, period: int) -> float:
    """Return how much the first of every `period` bytes are distributed otherwise than the last, 0 to 1.

    Bytes without a bit, and with all, are left out: silence has them in every place, whatever it is.
    """
    places = np.frombuffer(data[: len(data) - len(data) % period], np.uint8).reshape(-1, period)
    first, last = (np.bincount(places[:, place], minlength=256)[1:-1] for place in (0, -1))
    return float(np.abs(first - last).sum() / max(first.sum() + last.sum(), 1))


def _has_bytes_as_samples(data: bytes) -> bool:
    """Tell whether bytes of all places are distributed alike, and not evenly as those of noise are."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)[1:-1]
    if counts.sum() < MIN_TELLING * len(data):
        return False
    is_even = float(np.abs(counts / counts.sum() - 1 / len(counts)).sum()) / 2 < ALIKE
    return not is_even and max(_difference(data, 2), _difference(data, 3)) < ALIKE


def _is_unscaled(samples: Doubles) -> bool:
    return bool(np.all(np.isfinite(samples))) and float(np.mean(np.abs(samples) > 4)) > 0.2


def _is_interleaved(samples: Doubles) -> bool:
    """Tell whether a stream of one channel is two in turn.

    Then the steps to every second sample differ from those between, or one half is far louder, while
    each half is smooth by itself. In one channel both halves are alike.
    """
    even, odd = samples[0::2], samples[1::2]
    size = min(len(even), len(odd)) - 1
    even, odd, next_even = even[:size], odd[:size], even[1 : size + 1]
    within, between = np.mean(np.square(odd - even)), np.mean(np.square(next_even - odd))
    power_even, power_odd = np.mean(np.square(even)), np.mean(np.square(odd))
    is_smooth = all(roughness(half) < SMOOTH for half in (even, odd) if half.any())
    is_uneven = max(within, between) > 2 * min(within, between)
    is_lopsided = max(power_even, power_odd) > 2 * min(power_even, power_odd)
    return bool(is_smooth and (is_uneven or is_lopsided))


def _is_mpeg_audio(data: bytes) -> bool:
    """Tell whether three frames of MPEG audio or ADTS follow each other at the very beginning."""
    position = 0
    for _ in range(3):
        length_bytes = _frame_bytes(data[position : position + 6])
        if not length_bytes:
            return False
        position += length_bytes
    return True


def _frame_bytes(head: bytes) -> int:
    """Return how long the frame is that begins here, 0 where none does (ISO/IEC 11172-3, 13818-7)."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    if head[1] & 0xF6 == 0xF0:  # ADTS
        return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    version, layer, padding = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 1 & 1
    rate_index, kbps_index = head[2] >> 2 & 3, head[2] >> 4
    if version not in _MP3_RATES_HZ or layer != 1 or rate_index == 3 or not 0 < kbps_index < 15:
        return 0
    kbps = (_MP3_KBPS if version == 3 else _MP3_LOW_KBPS)[kbps_index]
    return (144 if version == 3 else 72) * kbps * 1000 // _MP3_RATES_HZ[version][rate_index] + padding
