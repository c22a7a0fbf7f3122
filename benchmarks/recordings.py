"""Recordings whose speakers are known: what the suite `speakers` plays and scores against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.options import Options
from benchmarks.speaker_measures import Said, Turn, read_rttm, read_stm
from benchmarks.speech import SPEECH, Clip, MissingSpeechError, speech_folder

RECORDINGS = ("sample", "conv2_public", "conv4_overlap_public", "conv6_public", "ami_dev00", "ami_trn04")
"""All that have turns; the first four have words too."""
WHOLE = 1e6
"""Seconds: more than any of them has."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A clip with who speaks when, and what each says where somebody wrote it down."""

    clip: Clip
    path: Path
    turns: list[Turn]
    said: list[Said]
    """Empty where nobody wrote it down."""

    @property
    def name(self) -> str:
        """As in the tables."""
        return self.clip.name

    @property
    def speakers(self) -> int:
        """How many people speak."""
        return len({turn.speaker for turn in self.turns})


def load_recording(name: str, options: Options) -> Recording:
    """Load a whole recording; raises MissingSpeechError where a file is not here.

    Turns are those of `.vad.rttm`, cut to where there is sound, before those of `.rttm`.
    """
    clip = options.clip(name, WHOLE)
    if name == "sample":
        path = options.weights("test-call") / "sample.wav"
    else:
        folder = speech_folder()
        assert folder is not None, "the clip came from there"
        path = folder / SPEECH[name]
    turns = next(filter(Path.is_file, (path.with_suffix(".vad.rttm"), path.with_suffix(".rttm"))), None)
    if turns is None:
        raise MissingSpeechError(f"{name}: nobody wrote down who speaks when.")
    words = path.with_suffix(".stm")
    said = read_stm(words.read_text()) if words.is_file() else []
    return Recording(clip, path, read_rttm(turns.read_text()), said)
