"""The recordings that snippets and scripts of other programs' clients read."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import soxr

FIRST, FRAMES = 14 * 16_000, 5 * 16_000
"""What is played to them, of the call."""


def put_recordings(call: Path, folder: Path) -> None:
    """Put five seconds of the call into a folder: `talk.wav` at 16 kHz, and the same at 24 kHz."""
    with wave.open(str(call)) as file:
        file.setpos(FIRST)
        speech = np.frombuffer(file.readframes(FRAMES), "<i2")
    for name, rate_hz in (("talk.wav", 16_000), ("talk-24-khz.wav", 24_000)):
        with wave.open(str(folder / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate_hz)
            file.writeframes(soxr.resample(speech, 16_000, rate_hz).tobytes())
