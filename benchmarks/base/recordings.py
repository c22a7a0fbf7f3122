"""Recordings whose speakers are known: what is played and scored where it matters who speaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.base.options import Options
from benchmarks.base.speech import SPEECH, Clip, MissingSpeechError, speech_folder
from benchmarks.speakers.speaker_measures import Said, Turn, read_rttm, read_stm

RECORDINGS = ("sample", "conv2_public", "conv4_overlap_public", "conv6_public", "ami_dev00", "ami_trn04")
"""All that have turns; the first four have words too."""
CONVERSATIONS = ("conv2_public", "conv4_overlap_public", "conv6_public")
"""What long recordings are made of: some people are in several."""
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


def joined(options: Options) -> Clip:
    """Put the conversations one after another into one recording of nearly ten minutes.

    Raises MissingSpeechError where one of them is not here.
    """
    pieces = [options.clip(name, WHOLE).audio for name in CONVERSATIONS]
    return Clip(" + ".join(CONVERSATIONS), np.concatenate(pieces), None)


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
