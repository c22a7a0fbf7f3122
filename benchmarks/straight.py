"""The straight script that people run: faster-whisper's batched pipeline, then pyannote, on the same weights.

    python -m benchmarks.straight FILE MODEL

Prints one line of JSON: the text, and the turns as (start, end, speaker).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.options import Options
from benchmarks.speech import RATE_HZ

BATCH = 8


def main(path: Path, model: str) -> None:
    """Write a file down as such scripts do."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel, decode_audio

    options = Options((model,), (), 1e6, 1, "en", Path(os.environ["LIVE_ASR_MODELS__DIR"]))
    whisper = WhisperModel(
        str(options.weights(model)), device="cpu", compute_type="int8", cpu_threads=os.cpu_count() or 1
    )
    segments, _ = BatchedInferencePipeline(whisper).transcribe(
        str(path), batch_size=BATCH, language="en", word_timestamps=True
    )
    text = "".join(segment.text for segment in segments)
    audio = decode_audio(str(path), sampling_rate=RATE_HZ)

    from benchmarks.stock import local_weights
    from live_asr.full_pass.diarization import local_pipeline

    pipeline: Any = local_pipeline(local_weights(options))
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    waveform = torch.from_numpy(audio)[None]
    found = pipeline({"waveform": waveform, "sample_rate": RATE_HZ, "uri": "recording"})
    annotation = getattr(found, "speaker_diarization", found)
    turns = [(turn.start, turn.end, str(label)) for turn, _, label in annotation.itertracks(yield_label=True)]
    print(json.dumps({"text": text, "turns": turns}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
