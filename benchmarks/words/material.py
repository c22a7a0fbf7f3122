"""What the suite `words` plays: recordings in several languages, and what is done to them.

All chance comes from fixed seeds: every run hears the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.base import packaged
from benchmarks.base.options import Options
from benchmarks.base.speech import (
    RATE_HZ,
    SPEECH,
    Clip,
    MissingSpeechError,
    Samples,
    Spoken,
    decode,
    manifest,
    noise,
    speech_folder,
    to_int16,
    words_between,
)
from benchmarks.speakers.speaker_measures import read_rttm
from benchmarks.words.measures import Stretch, merged, own_names

READERS = ("1089", "3005", "3080")
"""Of LibriSpeech, whose clips make a recording each."""
INTERRUPTING = ("533", "1089", "1688", "3080")
QUIETER_DB = 18.0
"""How much lower the second speaker of `quiet_second` is."""
PROMPT_SECONDS = 60.0
RECORDINGS = (
    "talk5_lj",
    "conv2_public",
    "ami_dev00",
    "ami_trn04",
    "conv4_overlap_public",
    "conv6_public",
    "sample",
    *(f"reader_{reader}" for reader in READERS),
    "interrupted",
    "quiet_second",
    *(f"prompts_{language}" for language in (*packaged.ASTERISK, *packaged.FILLETS, "pl", "pt")),
)
"""All that words are counted in; of two of them, nobody wrote the words down."""
SNR_DB = 15.0
FOREIGN = (
    "Kubernetes",
    "Nguyễn",
    "Schwarzenegger",
    "Wojciechowski",
    "Tegucigalpa",
    "Reykjavík",
    "Okonkwo",
    "Xiuhtecuhtli",
    "Llanelli",
    "Quetzalcoatl",
    "Björnsson",
    "Zürcher",
    "Ouagadougou",
    "Fitzwilliam",
    "Tchaikovsky",
    "Mbappé",
    "Novosibirsk",
    "Papadopoulos",
    "Saoirse",
    "Yamaguchi",
)
"""Names that none of the recordings has."""
FIRST_NAMES = (
    "Aoife",
    "Bartosz",
    "Chiamaka",
    "Dmitri",
    "Eleni",
    "Farrukh",
    "Gwen",
    "Hiroshi",
    "Ingrid",
    "Joaquín",
)
MANY = tuple(f"{first} {last}" for first in FIRST_NAMES for last in FOREIGN)
"""As many as a session takes."""


@dataclass(frozen=True, slots=True)
class Material:
    """A recording to count words in."""

    clip: Clip
    language: str
    speech: list[Stretch]
    """Where anybody speaks, seconds."""

    @property
    def name(self) -> str:
        """As in the tables."""
        return self.clip.name


@dataclass(frozen=True, slots=True)
class Case:
    """A recording under one condition: what is played, and what the session is told."""

    material: Material
    condition: str
    clip: Clip
    """As it is played."""
    vocabulary: tuple[str, ...] = ()


# Recordings -------------------------------------------------------------------------------------------


def load_material(name: str, options: Options, detect: Callable[[Samples], list[Stretch]]) -> Material:
    """Load the first `options.seconds` of a recording; raises MissingSpeechError where it is not here.

    `detect` finds speech where nobody wrote down when there is some.
    """
    if name in SPEECH or name == "sample":
        clip = options.clip(name)
        folder = speech_folder()
        turns = folder and name in SPEECH and (folder / SPEECH[name]).with_suffix(".vad.rttm")
        if turns and turns.is_file():
            marked = [(turn.start, min(turn.end, clip.duration)) for turn in read_rttm(turns.read_text())]
            known = merged((start, end) for start, end in marked if start < end)
            return Material(clip, "en", known)
        return Material(clip, "en", detect(clip.audio))
    kind, _, which = name.partition("_")
    language = which if kind == "prompts" else "en"
    audio, spoken = _built(name)
    audio = audio[: round(options.seconds * RATE_HZ)]
    clip = Clip(name, audio, words_between(spoken, 0.0, len(audio) / RATE_HZ))
    return Material(clip, language, detect(audio))


def _built(name: str) -> tuple[Samples, list[Spoken]]:
    kind, _, which = name.partition("_")
    if kind == "prompts" and which in packaged.LANGUAGES:
        return packaged.joined(which, PROMPT_SECONDS)
    if kind == "reader":
        return in_turn([pieces_of(which)], 0.7)
    if name == "quiet_second":
        loud, quiet = pieces_of("1688"), pieces_of("3080")
        return in_turn([loud, [(lowered(audio, QUIETER_DB), text) for audio, text in quiet]], 0.5)
    if name == "interrupted":
        return interrupted([pieces_of(reader) for reader in INTERRUPTING])
    raise MissingSpeechError(f"{name}: no such recording; there are {', '.join(RECORDINGS)}.")


Piece = tuple[Samples, str]
"""One utterance and its words."""


def pieces_of(reader: str) -> list[Piece]:
    """Return all clips of a LibriSpeech reader, in order, at one level."""
    folder = speech_folder()
    if folder is None:
        raise MissingSpeechError(f"reader {reader}: no speech folder; set LIVE_ASR_BENCH_SPEECH to one.")
    entries = [one for one in manifest(folder) if one["file"].startswith(f"clips/librispeech/{reader}-")]
    if not entries:
        raise MissingSpeechError(f"reader {reader}: no clip of that reader in {folder}.")
    return [(levelled(decode(folder / one["file"])), one["transcript"]) for one in entries]


def in_turn(speakers: list[list[Piece]], pause: float) -> tuple[Samples, list[Spoken]]:
    """Let speakers take turns, `pause` seconds apart, until none has anything left."""
    turns = [
        speaker[place]
        for place in range(max(len(speaker) for speaker in speakers))
        for speaker in speakers
        if place < len(speaker)
    ]
    return laid_out(turns, [pause] * len(turns))


def interrupted(speakers: list[list[Piece]], seed: int = 12) -> tuple[Samples, list[Spoken]]:
    """Let speakers interrupt each other: turns begin from 1.2 s before the last one ends to 0.5 s after."""
    random = np.random.default_rng(seed)
    left = [list(speaker) for speaker in speakers]
    turns: list[Piece] = []
    last = -1
    while any(left):
        others = [place for place, speaker in enumerate(left) if speaker and place != last]
        last = int(random.choice(others)) if others else last
        turns.append(left[last].pop(0))
    return laid_out(turns, [float(random.uniform(-1.2, 0.5)) for _ in turns])


def laid_out(turns: Iterable[Piece], pauses: Iterable[float]) -> tuple[Samples, list[Spoken]]:
    """Add utterances up to one recording, each a pause, which may be negative, after the one before.

    Words count in the order in which their utterances begin.
    """
    spoken: list[Spoken] = []
    placed: list[tuple[int, Samples]] = []
    at = 0.5
    for (audio, text), pause in zip(turns, pauses, strict=True):
        begin = max(round(at * RATE_HZ), 0)
        placed.append((begin, audio))
        end = (begin + len(audio)) / RATE_HZ
        spoken.append(Spoken(begin / RATE_HZ, end, text))
        at = end + pause
    total = np.zeros(max(begin + len(audio) for begin, audio in placed) + RATE_HZ // 2, np.int32)
    for begin, audio in placed:
        total[begin : begin + len(audio)] += audio
    return np.clip(total, -32768, 32767).astype(np.int16), spoken


# Levels and noise -------------------------------------------------------------------------------------


def level_db(audio: Samples, speech: Iterable[Stretch] | None = None) -> float:
    """Return the level of the speech (of all of it where nothing is marked): dBFS, RMS."""
    pieces = [audio] if speech is None else [_cut(audio, start, end) for start, end in speech]
    sound = np.concatenate(pieces).astype(np.float64) / 32768 if pieces else np.zeros(0)
    return float(20 * np.log10(max(np.sqrt(np.mean(sound**2)), 1e-6))) if sound.size else -120.0


def _cut(audio: Samples, start: float, end: float) -> Samples:
    return audio[round(start * RATE_HZ) : round(end * RATE_HZ)]


def lowered(audio: Samples, by_db: float) -> Samples:
    """Return sound so many decibels lower (higher where negative)."""
    return to_int16(audio.astype(np.float64) / 32768 * 10 ** (-by_db / 20))


def levelled(audio: Samples, to_db: float = -26.0, speech: Iterable[Stretch] | None = None) -> Samples:
    """Return sound whose speech has a level, dBFS."""
    return lowered(audio, level_db(audio, speech) - to_db)


def sounding(audio: Samples, below_db: float = 35.0) -> Samples:
    """Cut the silence around a sound: from the first 10 ms to the last that are near its loudest ones."""
    frame = RATE_HZ // 100
    frames = audio[: len(audio) // frame * frame].astype(np.float64).reshape(-1, frame)
    power = np.mean(frames**2, axis=1)
    (loud,) = np.nonzero(power > power.max() * 10 ** (-below_db / 10))
    return audio[loud[0] * frame : (loud[-1] + 1) * frame] if loud.size else audio[:0]


def noisy(audio: Samples, speech: list[Stretch], exponent: float) -> Samples:
    """Add noise SNR_DB below the speech: white with exponent 0, pink with 0.5."""
    added = noise(len(audio), exponent)
    wanted = level_db(audio, speech) - SNR_DB
    added *= 10 ** (wanted / 20) / np.sqrt(np.mean(added**2))
    return to_int16(audio.astype(np.float64) / 32768 + added)


CONDITIONS = (
    "plain",
    "level40",
    "level52",
    "white",
    "pink",
    "own_names",
    "foreign_names",
    "many_names",
)


def case_of(material: Material, condition: str) -> Case | None:
    """Put a recording under a condition; None where it cannot be: no names are known without a truth."""
    clip, speech = material.clip, material.speech

    def played(audio: Samples) -> Case:
        return Case(material, condition, replace(clip, audio=audio))

    match condition:
        case "plain":
            return played(clip.audio)
        case "level40" | "level52":
            return played(levelled(clip.audio, -float(condition[5:]), speech))
        case "white" | "pink":
            return played(noisy(clip.audio, speech, 0.5 if condition == "pink" else 0.0))
        case "own_names":
            names = own_names(clip.truth or "")
            return Case(material, condition, clip, tuple(names)) if names else None
        case "foreign_names":
            return Case(material, condition, clip, FOREIGN)
        case "many_names":
            return Case(material, condition, clip, MANY)
    raise ValueError(f"--conditions: no {condition}; there are some, all, {', '.join(CONDITIONS)}")


def chosen(name: str, asked: str) -> tuple[str, ...]:
    """Return the conditions for a recording: those named, `all`, or `some`, as it is and one more in turn."""
    if asked == "all":
        return CONDITIONS
    if asked != "some":
        return tuple(asked.split(","))
    base = name.partition("@")[0]
    place = RECORDINGS.index(base) if base in RECORDINGS else 0
    others = CONDITIONS[1:]
    return "plain", others[place % len(others)]
