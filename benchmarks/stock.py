"""pyannote's own pipeline by itself: what the full pass is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.options import Options, default_models_dir
from benchmarks.recordings import Recording
from benchmarks.speaker_measures import Turn
from benchmarks.speech import RATE_HZ


def local_weights(options: Options) -> Any:
    """Return the local pipeline's weights, brought here where that is needed."""
    from live_asr.full_pass.diarization import LocalPipeline
    from live_asr.weights.onnx_conversion import converted
    from live_asr.weights.store import resolve

    encoder = resolve("campplus", models_dir=options.models_dir or default_models_dir())
    return LocalPipeline(options.weights("segmentation-3.0") / "pytorch_model.bin", converted(encoder))


class StockPipeline:
    """pyannote's `SpeakerDiarization` with the server's weights and thresholds, on a whole file at once.

    None of what the server adds around it: no blocks, no second look at the voices.
    """

    def __init__(self, options: Options) -> None:
        from live_asr.full_pass.diarization import local_pipeline

        self._pipeline: Any = local_pipeline(local_weights(options))

    def turns(self, recording: Recording) -> list[Turn]:
        """Return who speaks when in a recording."""
        import torch

        waveform = torch.from_numpy(recording.clip.audio.astype(np.float32) / 32768)[None]
        output = self._pipeline({"waveform": waveform, "sample_rate": RATE_HZ, "uri": recording.name})
        annotation = getattr(output, "speaker_diarization", output)
        return [
            Turn(segment.start, segment.end, str(label))
            for segment, _, label in annotation.itertracks(yield_label=True)
        ]
