"""Part `repetition` of the suite `words`: what is said again and again must be written as often."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.base.matching import keys
from benchmarks.base.options import Options
from benchmarks.base.packaged import prompt_clip
from benchmarks.base.processes import BenchServer
from benchmarks.base.report import Table, limit
from benchmarks.base.speech import RATE_HZ, Clip, Samples
from benchmarks.words.material import levelled, sounding
from benchmarks.words.measures import final_words, live_words
from benchmarks.words.playing import play_all

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLOSE, APART = 0.3, 0.8
"""Pauses between two, seconds: within an utterance, and utterances of their own."""
LEAD_IN = "vm-sorry"
"""A sentence before some of them, as they seldom come out of nothing."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """A word, how often it is said, and out of which prompts."""

    word: str
    """Digits are counted as digits, however they are written."""
    times: int
    said: tuple[str, ...]
    """Names of prompts, one after another."""
    pause: float
    lead_in: bool = False

    @property
    def name(self) -> str:
        """As in the tables."""
        return f"{self.times} × {self.word}, {self.pause:g} s apart" + (
            ", after a sentence" if self.lead_in else ""
        )


CASES = tuple(
    case
    for pause in (CLOSE, APART)
    for case in (
        Repeated("no", 6, ("vm-no",) * 6, pause),
        Repeated("hello", 5, ("hello",) * 5, pause),
        Repeated("sorry", 3, ("sorry",) * 3, pause),
        Repeated("5", 5, tuple(f"digits/{digit}" for digit in "5555512"), pause),
        Repeated("0", 4, tuple(f"digits/{digit}" for digit in "20000"), pause),
        Repeated("no", 6, ("vm-no",) * 6, pause, lead_in=True),
    )
)


@dataclass(frozen=True, slots=True)
class Written:
    """How often a word was written."""

    name: str
    times: int
    live: int
    final: int
    live_text: str
    final_text: str
    failure: str | None

    def right(self, count: int) -> bool:
        """Tell whether a count is that of what was said, or one less."""
        return self.times - 1 <= count <= self.times


def count_word(word: str, text: str) -> int:
    """Count a word in a text; a digit also where it stands in a number or is written as a word."""
    if word.isdigit():
        return sum(as_digits(key).count(word) for key in keys(text))
    return keys(re.sub(r"[-–—…]", " ", text)).count(word)


def as_digits(key: str) -> str:
    """Return the digits that a word's letters stand for; nothing where they stand for none."""
    return str(DIGITS.index(key)) if key in DIGITS else "".join(filter(str.isdigit, key))


def clip_of(case: Repeated) -> Clip:
    """Say a word again and again."""
    gap = np.zeros(round(case.pause * RATE_HZ), np.int16)
    edge = np.zeros(RATE_HZ // 2, np.int16)
    pieces: list[Samples] = [edge]
    if case.lead_in:
        pieces += [sounding(levelled(prompt_clip(LEAD_IN).audio)), edge]
    for name in case.said:
        pieces += [sounding(levelled(prompt_clip(name).audio)), gap]
    return Clip(case.name, np.concatenate([*pieces, edge]), None)


def run(
    server: BenchServer, model: str, options: Options, arguments: argparse.Namespace
) -> tuple[list[Table], dict[str, Any]]:
    """Play all cases; return the table and the numbers behind it."""
    jobs = [(clip_of(case), {"final_pass": True, "language": "en"}) for case in CASES]
    found = []
    for case, log in zip(CASES, play_all(server, jobs, options, arguments.together), strict=True):
        live, final = ("".join(word.text for word in of(log)) for of in (live_words, final_words))
        counts = count_word(case.word, live), count_word(case.word, final)
        found.append(Written(case.name, case.times, *counts, live, final, log.failure))
    return [table_of(model, found)], {"cases": [asdict(one) for one in found]}


def table_of(model: str, found: Sequence[Written]) -> Table:
    """Hold how often words were written against how often they were said."""
    rows = [
        limit(
            f"words said again that were written too seldom or too often, {which}",
            sum(not one.right(getattr(one, which)) for one in found),
            0,
            digits=0,
            each={one.name: str(getattr(one, which)) for one in found},
        )
        for which in ("live", "final")
    ]
    rows.append(limit("sessions that failed", sum(one.failure is not None for one in found), 0, digits=0))
    notes = [
        f"{one.name}: live {one.live_text!r}, final {one.final_text!r}"
        for one in found
        if not (one.right(one.live) and one.right(one.final))
    ]
    return Table(f"{model}: repetition", rows, ["right are as many as were said, or one less", *notes])
