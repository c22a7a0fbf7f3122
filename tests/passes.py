"""A full pass that only recognises, which is quick to load, over the call."""

from __future__ import annotations

from pathlib import Path

from live_asr.full_pass.process import FullPassJob, FullPassLoad


def recognition_alone(recognizer_dir: Path, detector_file: Path) -> FullPassLoad:
    """Return what such a pass loads."""
    return FullPassLoad(
        recognizer_name="tiny.en",
        recognizer_folder=recognizer_dir,
        detector_file=detector_file,
        device="cpu",
        compute_type="int8",
        beam_size=2,
        pipeline=None,
    )


def to_recognize(pcm: bytes, folder: Path) -> FullPassJob:
    """Put a recording into a folder, and return the job to recognise it."""
    audio = folder / "audio.pcm"
    audio.write_bytes(pcm)
    return FullPassJob(
        audio_file=audio,
        language="en",
        task="transcribe",
        vocabulary=(),
        diarize=False,
        recognize=True,
        min_speakers=None,
        max_speakers=None,
    )
