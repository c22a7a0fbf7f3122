"""Part `times` of the suite `words`: when words are said to begin, of prompts put at known times."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.matching import key, matches
from benchmarks.measure import percentile
from benchmarks.options import Options
from benchmarks.packaged import asterisk_prompts, plain, prompt_clip
from benchmarks.processes import BenchServer
from benchmarks.reference import reference
from benchmarks.report import Table, fact, limit
from benchmarks.speech import RATE_HZ, Clip, Samples
from benchmarks.words_material import levelled, sounding
from benchmarks.words_measures import Word, final_words, live_words
from benchmarks.words_playing import play_all
from benchmarks.words_repetition import DIGITS

SESSIONS = 4
PROMPTS = 12
"""In each session, every other one a digit."""
PAUSES = (1.0, 4.0)
"""Shortest and longest before a prompt, seconds."""
MAX_PROMPT = 4.0
MEDIAN, EARLY = 0.06, 0.5
"""Seconds: the median error of a first word, and how much too early none may be."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A prompt and when its sound begins, seconds of the clip."""

    text: str
    start: float


@dataclass(frozen=True, slots=True)
class Timed:
    """One text's error for the first words of one session's prompts."""

    clip: str
    revision: str
    """`live`, `final` or `single pass`."""
    errors: list[float]
    """Seconds; negative where the word is said to begin too early. One for each first word that was found."""
    early: list[str]
    """Those that begin more than EARLY too early."""
    expected: int


def session(seed: int) -> tuple[Clip, list[Placed]]:
    """Put digits and short sentences in turn at random times; the same ones for the same seed."""
    random = np.random.default_rng(seed)
    sentences = [prompt for prompt in asterisk_prompts("en") if plain(prompt)]
    placed: list[Placed] = []
    pieces: list[Samples] = []
    at = 0
    while len(placed) < PROMPTS:
        if len(placed) % 2:
            prompt = sentences[int(random.integers(len(sentences)))]
            audio, text = prompt.audio(), prompt.text
            if len(audio) > MAX_PROMPT * RATE_HZ:
                continue
        else:
            digit = int(random.integers(len(DIGITS)))
            audio, text = prompt_clip(f"digits/{digit}").audio, DIGITS[digit]
        audio = sounding(levelled(audio))
        pause = round(float(random.uniform(*PAUSES)) * RATE_HZ)
        pieces += [np.zeros(pause, np.int16), audio]
        placed.append(Placed(text, (at + pause) / RATE_HZ))
        at += pause + len(audio)
    pieces.append(np.zeros(RATE_HZ, np.int16))
    return Clip(f"prompts at known times {seed}", np.concatenate(pieces), None), placed


def spelled(word: str) -> str:
    """Return what spellings of a word have in common, a digit as its name."""
    bare = key(word)
    return DIGITS[int(bare)] if len(bare) == 1 and bare.isdigit() else bare


def timed(clip: Clip, revision: str, placed: Sequence[Placed], words: Sequence[Word]) -> Timed:
    """Compare the begin of the first word of each prompt with the begin of its sound."""
    said = [
        (spelled(word), place, not nth) for place in placed for nth, word in enumerate(place.text.split())
    ]
    heard = [word for word in words if spelled(word.text)]
    pairs = matches([word for word, _, _ in said], [spelled(word.text) for word in heard])
    errors, early = [], []
    for left, right in pairs:
        text, place, first = said[left]
        if first:
            errors.append(round(heard[right].start - place.start, 3))
            if errors[-1] < -EARLY:
                early.append(f"{text} at {place.start:.2f} s said to begin at {heard[right].start:.2f}")
    return Timed(clip.name, revision, errors, early, len(placed))


def run(
    server: BenchServer, model: str, options: Options, arguments: argparse.Namespace
) -> tuple[list[Table], dict[str, Any]]:
    """Play all sessions; return the table and the numbers behind it."""
    sessions = [session(seed) for seed in range(1, SESSIONS + 1)]
    jobs = [(clip, {"final_pass": True, "language": "en"}) for clip, _ in sessions]
    found = []
    failures = 0
    for (clip, placed), log in zip(
        sessions, play_all(server, jobs, options, arguments.together), strict=True
    ):
        failures += log.failure is not None
        offline = reference(clip, model, options.weights(model), "en").words
        single = [Word(word.text, word.start, word.end) for word in offline]
        for revision, words in (
            ("live", live_words(log)),
            ("final", final_words(log)),
            ("single pass", single),
        ):
            found.append(timed(clip, revision, placed, words))
    return [table_of(model, found, failures)], {"sessions": [asdict(one) for one in found]}


def table_of(model: str, found: Sequence[Timed], failures: int) -> Table:
    """Hold the errors of the two revisions against what must hold; the single pass's stand beside them."""
    rows, notes = [], []
    for revision in ("live", "final", "single pass"):
        these = [one for one in found if one.revision == revision]
        errors = [abs(error) for one in these for error in one.errors]
        middle = statistics.median(errors) if errors else float("nan")
        early = [told for one in these for told in one.early]
        title = f"begin of a first word, {revision}: median error"
        if revision == "single pass":
            rows.append(fact(f"{title}, too early", f"{middle:.3f} s, {len(early)}"))
            continue
        rows += [
            limit(title, middle, MEDIAN, "s", 3),
            fact(
                f"95 % below, found, {revision}",
                f"{percentile(errors, 95):.2f} s, {len(errors)} of {sum(one.expected for one in these)}",
            ),
            limit(f"over {EARLY:g} s too early, {revision}", len(early), 0, digits=0),
        ]
        notes += [f"{revision}: {told}" for told in early]
    rows.append(limit("sessions that failed", failures, 0, digits=0))
    return Table(f"{model}: times", rows, notes)
