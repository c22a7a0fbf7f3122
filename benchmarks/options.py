"""What a run of the benchmarks was asked for, and the clips and references it needs."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import server_environment
from benchmarks.reference import Reference, reference
from benchmarks.speech import Clip, MissingSpeechError, load_clip, speech_folder

CLIPS = ("talk5_lj", "conv2_public", "conv6_public", "libri", "ami_dev00", "sample")
"""What is played where nothing was chosen and the speech folder is there."""
FOUR_AT_ONCE = "tiny.en"
"""The model that four sessions at once are promised with."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    models: tuple[str, ...]
    clips: tuple[str, ...]
    seconds: float
    """Of each clip."""
    repeats: int
    language: str | None
    """None lets the server detect it, as a client does that says nothing."""
    models_dir: Path | None
    """Where the weights are; None for the server's own place."""
    with_together: bool = True
    with_nonspeech: bool = True

    def clip(self, name: str, seconds: float | None = None) -> Clip:
        """Load the asked-for part of a clip, or its first `seconds`."""
        call = self.weights("test-call") if name == "sample" else None
        return load_clip(name, self.seconds if seconds is None else seconds, call)

    def reference(self, clip: Clip, model: str) -> Reference:
        """Return the single pass of a clip, made now where it has not been made before."""
        self.say(f"{model}: single pass of {clip.name}")
        return reference(clip, model, self.weights(model), self.language)

    def together(self, model: str) -> bool:
        """Tell whether four sessions at once are to be measured with a model."""
        return self.with_together and model == FOUR_AT_ONCE and speech_folder() is not None

    def say(self, what: str) -> None:
        """Tell the person who waits what is going on."""
        print(what, file=sys.stderr, flush=True)

    def weights(self, name: str) -> Path:
        """Return the folder of a model's files; they are fetched where they are not here."""
        from live_asr.weights.store import resolve

        return resolve(name, models_dir=self.models_dir or default_models_dir()).folder


def default_models_dir() -> Path:
    """Return where a server started here would keep its weights."""
    from live_asr.config.settings import load_settings

    return load_settings(environment=server_environment()).settings.models.dir


def parts_of(arguments: argparse.Namespace, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the parts of a suite that were asked for, all where none were.

    Raises ValueError for one that there is not.
    """
    parts = tuple(arguments.parts.split(",")) if arguments.parts else known
    if unknown := set(parts) - set(known):
        raise ValueError(f"--parts: no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return parts


def seed_of(arguments: argparse.Namespace) -> int:
    """Return the seed that was given, or a new one."""
    return int.from_bytes(os.urandom(3)) if arguments.seed is None else int(arguments.seed)


def available(names: tuple[str, ...], options: Options) -> tuple[str, ...]:
    """Return the clips that are on this machine, and say which are not."""
    found: list[str] = []
    for name in names:
        try:
            options.clip(name)
        except MissingSpeechError as missing:
            options.say(f"left out: {missing}")
        else:
            found.append(name)
    return tuple(found)
