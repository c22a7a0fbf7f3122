"""A device that is simulated: words of a script, in the time that a table of costs says.

It runs in the real inference process, so that all before it can be driven with hundreds of sessions on a
small machine. Lanes take turns at the encoder, which fills a device; writing and aligning leave room.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from live_asr.core.messages import RecognizerInfo
from live_asr.core.types import SAMPLE_RATE_HZ, DecodeRequest, Hypothesis
from live_asr.inference.costs import Simulated
from live_asr.inference.ipc import Load
from live_asr.models.interfaces import FloatArray
from live_asr.models.scripted import ScriptedRecognizer, spoken

NAME = "scripted"
"""Of the recogniser."""
LOUDNESS = "loudness"
"""Of the detector that takes for speech what is loud; any other is Silero."""
SCRIPT_SECONDS = 3600
WORD_SECONDS, GAP_SECONDS = 0.3, 0.05
TOKENS_A_WORD = 1.4


def simulated_load(
    device: Simulated | None = None, *, lanes: int = 2, detector_file: Path | None = None
) -> Load:
    """Return what has the inference process simulate a device; without a detector's file, by loudness."""
    return Load(
        recognizer_name=NAME,
        recognizer_folder=None,
        detector_name="silero-vad" if detector_file is not None else LOUDNESS,
        detector_file=detector_file or Path(),
        device="cpu",
        compute_type="none",
        workers=lanes,
        beam_size=1,
        simulated=device or Simulated(),
    )


class SimulatedRecognizer:
    """Read an hour of numbered words off a script, as slowly as the device would."""

    def __init__(self, device: Simulated) -> None:
        said = " ".join(f"w{index}" for index in range(int(SCRIPT_SECONDS / (WORD_SECONDS + GAP_SECONDS))))
        self._scripted = ScriptedRecognizer(spoken(said, word=WORD_SECONDS, gap=GAP_SECONDS))
        self._costs = device.costs
        self.most_batch = device.most_batch
        self.info = RecognizerInfo(NAME, self._scripted.info.languages, "cpu", "none")
        self._encoder = threading.Lock()

    def recognize(self, request: DecodeRequest, samples: FloatArray) -> Hypothesis:
        """Read the window; see `Recognizer.recognize`."""
        return self.recognize_many([request], [samples])[0]

    def recognize_many(
        self, requests: Sequence[DecodeRequest], windows: Sequence[FloatArray]
    ) -> list[Hypothesis]:
        """Read several windows at once; see `BatchRecognizer.recognize_many`."""
        read = [self._scripted.recognize(*asked) for asked in zip(requests, windows, strict=True)]
        tokens = max(round(TOKENS_A_WORD * len(hypothesis.words)) for hypothesis in read)
        window = max(
            max(request.min_window_samples, samples.size + request.padding_samples)
            for request, samples in zip(requests, windows, strict=True)
        )
        with self._encoder:
            time.sleep(self._costs.encoding(window / SAMPLE_RATE_HZ, len(requests)))
        time.sleep(self._costs.writing(tokens, len(requests)))
        return read

    def typical_step(self, noise: FloatArray) -> None:
        """Take as long as a live step does."""
        time.sleep(self._costs.batch(noise.size / SAMPLE_RATE_HZ, 12))

    def warm_up(self, noise: FloatArray) -> None:
        """Do nothing: what is simulated is always warm."""
