"""A simulated device in place of Whisper, for servers that are measured: with this folder in PYTHONPATH, the
inference process of whichever checkout reads words off a script, in the time that the H200's costs say.

The first checkouts cannot simulate a device: there, one window at a time is read by their own script.
"""

from __future__ import annotations

import sys
import threading
import time
from types import ModuleType
from typing import Any

WORKERS = ("live_asr.inference.worker",)
WHISPER = ("live_asr.models.whisper", "live_asr.inference.whisper")
"""The module that the worker takes its recogniser from, now and then."""
WORDS, WORD_SECONDS, GAP_SECONDS = 10_285, 0.3, 0.05
"""An hour of them."""
ENCODE = ((10, 2.3e-3), (13, 3.0e-3), (17, 4.0e-3), (30, 7.6e-3))
"""As `live_asr.inference.costs.H200`, for checkouts that have none."""
STEP, ALIGN = 0.8e-3 + 6e-6, 3.5e-3


def recognizer(*_: Any, **__: Any) -> Any:
    """Return what reads off the script."""
    try:
        from live_asr.inference.costs import Simulated
        from live_asr.inference.simulated import SimulatedRecognizer
    except ImportError:
        return OneByOne()
    return SimulatedRecognizer(Simulated())


class OneByOne:
    """The same for checkouts without one: lanes take turns at the encoder."""

    def __init__(self) -> None:
        from live_asr.inference import scripted

        said = " ".join(f"w{index}" for index in range(WORDS))
        script = scripted.spoken(said, word=WORD_SECONDS, gap=GAP_SECONDS)
        self._scripted = scripted.ScriptedRecognizer(script)
        self.info = self._scripted.info
        self._encoder = threading.Lock()

    def recognize(self, request: Any, samples: Any) -> Any:
        """Read a window, and take as long as the device would."""
        read = self._scripted.recognize(request, samples)
        seconds = max(request.min_window_samples, samples.size + request.padding_samples) / 16_000
        with self._encoder:
            time.sleep(next((took for longest, took in ENCODE if seconds <= longest), ENCODE[-1][1]))
        time.sleep(round(1.4 * len(read.words)) * STEP + ALIGN)
        return read

    def warm_up(self, noise: Any) -> None:
        """Do nothing: what is simulated is always warm."""


if any(worker in sys.orig_argv for worker in WORKERS):
    stand_in = ModuleType("stand-in for Whisper")
    stand_in.WhisperRecognizer = recognizer  # type: ignore[attr-defined]
    for name in WHISPER:
        sys.modules[name] = stand_in
