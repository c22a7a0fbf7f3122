"""Part `languages` of the suite `words`: which language the server takes short clips for, told nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.options import Options
from benchmarks.packaged import LANGUAGES, PAUSE, Prompt, prompts
from benchmarks.processes import BenchServer
from benchmarks.reference import single_pass
from benchmarks.report import Table, fact, limit
from benchmarks.speech import RATE_HZ, Clip, MissingSpeechError, Samples
from benchmarks.streaming import SessionLog
from benchmarks.words_playing import play_all

CLIPS = 200
SHORTEST, MAX = 2.0, 10.0
"""Seconds of sound, pauses included."""
WRONG_FIRST, WRONG_SECOND = 2.0, 1.0
"""Percent wrong at the end of the first utterance, and of the second."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one clip's utterances were taken for."""

    clip: str
    language: str
    utterances: list[str | None]
    """The language of each, in order."""
    text: str
    by_model: str
    """The model's own guess from the whole clip."""
    failure: str | None

    def wrong(self, utterance: int) -> bool | None:
        """Tell whether an utterance's language is wrong; None where there is none so late."""
        if len(self.utterances) <= utterance:
            return None
        return self.utterances[utterance] != self.language


def clips_of(language: str, most: int) -> list[Clip]:
    """Return clips of a language: one prompt, then two with a pause between, in turn; at most so many."""
    found: list[Clip] = []
    group: list[tuple[Prompt, Samples]] = []
    for prompt in prompts(language):
        audio = prompt.audio()
        if len(audio) > MAX * RATE_HZ:
            continue
        group.append((prompt, audio))
        seconds = sum(len(audio) for _, audio in group) / RATE_HZ + (len(group) - 1) * PAUSE
        if seconds > MAX:
            group = [min(group, key=lambda one: len(one[1]))]  # a short one finds its second sooner
            continue
        if seconds >= SHORTEST and len(group) > len(found) % 2:
            name = f"{language}: " + " + ".join(prompt.name for prompt, _ in group)
            gap = np.zeros(round(PAUSE * RATE_HZ), np.int16)
            pieces = [piece for _, audio in group for piece in (audio, gap)]
            found.append(Clip(name, np.concatenate(pieces), " ".join(prompt.text for prompt, _ in group)))
            group = []
        if len(found) == most:
            break
    return found


def all_clips(options: Options) -> dict[str, list[Clip]]:
    """Return CLIPS clips, by language: all where there are few, equally many of the others."""
    found: dict[str, list[Clip]] = {}
    for language in LANGUAGES:
        try:
            found[language] = clips_of(language, CLIPS // 5)
        except MissingSpeechError as missing:
            options.say(f"left out: {missing}")
    left, counts = CLIPS, {}
    for place, language in enumerate(sorted(found, key=lambda name: len(found[name]))):
        counts[language] = min(len(found[language]), left // (len(found) - place))
        left -= counts[language]
    return {language: clips[: counts[language]] for language, clips in found.items()}


def told_of(language: str, log: SessionLog, by_model: str) -> Told:
    """Read what a session's utterances were taken for; those without a word say nothing."""
    said = [one.message for one in log.of_type("utterance") if one.message["text"].strip()]
    text = " | ".join(message["text"] for message in said)
    languages = [message["language"] for message in said]
    return Told(log.clip.name, language, languages, text, by_model, log.failure)


def run(
    server: BenchServer, model: str, options: Options, arguments: argparse.Namespace
) -> tuple[list[Table], dict[str, Any]]:
    """Play the clips; return the table and the numbers behind it; nothing for a model of one language."""
    if model.endswith(".en"):
        return [], {}
    clips = [(language, clip) for language, some in all_clips(options).items() for clip in some]
    if not clips:
        raise MissingSpeechError("There is no speech in other languages: no package can be fetched.")
    jobs = [(clip, {"final_pass": False, "language": None}) for _, clip in clips]
    logs = play_all(server, jobs, options, arguments.together)
    options.say(f"{model}: its own guesses")
    whisper = single_pass(model, options.weights(model)).whisper
    guesses = [whisper.detect_language(clip.audio.astype(np.float32) / 32768)[0] for _, clip in clips]
    told = [told_of(*one) for one in zip((name for name, _ in clips), logs, guesses, strict=True)]
    return [table_of(model, told)], {"clips": [asdict(one) for one in told]}


def table_of(model: str, told: Sequence[Told]) -> Table:
    """Hold what clips were taken for against what they are."""

    def wrong(utterance: int, some: Sequence[Told]) -> tuple[int, int]:
        found = [is_wrong for one in some if (is_wrong := one.wrong(utterance)) is not None]
        return sum(found), len(found)

    def percent(utterance: int) -> float:
        count, of = wrong(utterance, told)
        return 100 * count / of if of else float("nan")

    by_language = {
        name: [one for one in told if one.language == name]
        for name in dict.fromkeys(one.language for one in told)
    }

    def each(utterance: int) -> dict[str, str]:
        counts = {name: wrong(utterance, some) for name, some in by_language.items()}
        return {name: f"{count} of {of}" for name, (count, of) in counts.items()}

    guessed = {name: sum(one.by_model != name for one in some) for name, some in by_language.items()}
    silent = [one for one in told if not one.utterances]
    easy = wrong(0, [one for one in told if one.by_model == one.language])
    rows = [
        limit("language wrong at the end of the first utterance", percent(0), WRONG_FIRST, "%", 1, each(0)),
        limit("at the end of the second", percent(1), WRONG_SECOND, "%", 1, each(1)),
        fact(
            "wrong by the model itself, of the whole clip",
            f"{100 * sum(guessed.values()) / max(len(told), 1):.1f} %",
            {name: str(count) for name, count in guessed.items()},
        ),
        fact("wrong at the first, of clips that the model itself gets right", f"{easy[0]} of {easy[1]}"),
        fact("clips of which nothing was heard", str(len(silent))),
        limit("sessions that failed", sum(one.failure is not None for one in told), 0, digits=0),
    ]
    notes = [f"{len(told)} clips of {SHORTEST:g} to {MAX:g} s, every other one two utterances"]
    notes += [
        f"{one.clip}: {' '.join(map(str, one.utterances))}, by the model itself {one.by_model}: {one.text}"
        for one in told
        if one.wrong(0) or one.wrong(1)
    ]
    return Table(f"{model}: languages", rows, notes)
