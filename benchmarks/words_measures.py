"""What a recording's words come to: errors of three texts, stretches left out, names that nobody said.

No clock and no I/O. Words with times go in, numbers come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from benchmarks.matching import Errors, errors, keys, normaliser
from benchmarks.streaming import SessionLog

MIN_GAP = 1.5
"""Seconds of speech without a word that count as left out."""
WORSE_POINTS, WORSE_WORDS = 0.5, 2
"""How far one recording may be worse: so many points or so many words, whichever is more."""

Stretch = tuple[float, float]
"""From, to; seconds."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word as decoded, leading space included, and its times in seconds of the clip."""

    text: str
    start: float
    end: float

    @property
    def middle(self) -> float:
        """Seconds."""
        return (self.start + self.end) / 2


@dataclass(frozen=True, slots=True)
class Version:
    """One text of a recording, held against what was said."""

    text: str
    words: int
    errors: Errors | None
    """None where nobody wrote down what was said."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of speech for which a text has no word and another one has."""

    start: float
    end: float
    live: str
    single: str
    """What those have there."""


@dataclass(slots=True)
class Outcome:
    """What one recording came to under one condition."""

    recording: str
    condition: str
    language: str
    seconds: float
    live: Version
    final: Version
    single: Version
    """The model's own single pass over the same audio."""
    gaps: list[Gap] = field(default_factory=list)
    """Of the final text."""
    sources: dict[str, int] = field(default_factory=dict)
    """Words of the final text by where they come from, as far as the server says so."""
    unsaid: list[str] = field(default_factory=list)
    """Words to expect that were written, live or in the end, and that nobody said."""
    failure: str | None = None

    @property
    def judged(self) -> bool:
        """Whether there is a truth to hold it against."""
        return self.final.errors is not None


# What a session said ----------------------------------------------------------------------------------


def live_words(log: SessionLog) -> list[Word]:
    """Return all committed words."""
    return [_word(word) for arrival in log.of_type("commit") for word in arrival.message["words"]]


def final_words(log: SessionLog) -> list[Word]:
    """Return the words of the session's result; none where it never came."""
    return [_word(word) for word in _final(log)]


def sources(log: SessionLog) -> dict[str, int]:
    """Count the words of the result by their `source`, where the server names one."""
    return dict(Counter(str(word["source"]) for word in _final(log) if word.get("source")))


def _final(log: SessionLog) -> list[dict[str, Any]]:
    final = log.first("final")
    segments = final.message["segments"] if final is not None else []
    return [word for segment in segments for word in segment["words"]]


def _word(word: dict[str, Any]) -> Word:
    return Word(word["text"], word["start"], word["end"])


def version(words: Sequence[Word], truth: str | None, language: str) -> Version:
    """Hold a text against the truth."""
    text = "".join(word.text for word in words)
    found = None if truth is None else errors(text, truth, language)
    return Version(text.strip(), len(normaliser(language)(text).split()), found)


# Stretches --------------------------------------------------------------------------------------------


def merged(stretches: Iterable[Stretch], joined_below: float = 0.0) -> list[Stretch]:
    """Return stretches in order, those that touch or lie less than so many seconds apart made one."""
    result: list[Stretch] = []
    for start, end in sorted(stretches):
        if result and start - result[-1][1] <= joined_below:
            result[-1] = result[-1][0], max(result[-1][1], end)
        else:
            result.append((start, end))
    return result


def without(stretches: Iterable[Stretch], taken: Iterable[Stretch]) -> list[Stretch]:
    """Return what is left of stretches outside the taken ones."""
    gone = merged(taken)
    result: list[Stretch] = []
    for start, end in merged(stretches):
        for from_, to in gone:
            if to <= start or from_ >= end:
                continue
            if from_ > start:
                result.append((start, from_))
            start = max(start, to)
        if start < end:
            result.append((start, end))
    return result


def gaps(
    speech: Iterable[Stretch], words: Sequence[Word], live: Sequence[Word], single: Sequence[Word]
) -> list[Gap]:
    """Return the stretches of speech without a word, MIN_GAP or longer, where another text has one."""
    result = []
    for start, end in without(speech, [(word.start, word.end) for word in words]):
        if end - start < MIN_GAP:
            continue
        in_live, in_single = (
            "".join(word.text for word in other if start <= word.middle <= end).strip()
            for other in (live, single)
        )
        if in_live or in_single:
            result.append(Gap(round(start, 2), round(end, 2), in_live, in_single))
    return result


# Words to expect --------------------------------------------------------------------------------------


def own_names(truth: str, most: int = 20) -> list[str]:
    """Pick from a text what its speaker might have handed in: names, then the longest words said once.

    A name is a word with a capital that does not begin a sentence. English texts without capitals have none.
    """
    words = truth.split()
    names = []
    for before, word in zip([".", *words], words, strict=False):
        bare = word.strip(".,;:!?\"'()«»¿¡…")
        if bare[:1].isupper() and len(bare) > 1 and before[-1] not in ".!?:\"'…" and bare != "I":
            names.append(bare)
    counted = Counter(word.strip(".,;:!?\"'()«»¿¡…").lower() for word in words)
    known = {name.lower() for name in names}
    once = (word for word, times in counted.items() if times == 1 and word not in known)
    rare = sorted(once, key=lambda word: (-len(word), word))
    return list(dict.fromkeys([*names, *rare]))[:most]


def unsaid(expected: Iterable[str], heard: str, truth: str) -> list[str]:
    """Return the words to expect that stand in `heard` more often than they were said."""
    written, said = Counter(keys(heard)), Counter(keys(truth))
    wanted = {part for entry in expected for part in keys(entry)}
    return sorted(part for part in wanted if written[part] > said[part])


# Judging ----------------------------------------------------------------------------------------------


def mean_rate(versions: Iterable[Version]) -> float:
    """Return the mean of the word error rates, percent; nan where there are none."""
    rates = [100 * found.errors.rate for found in versions if found.errors is not None]
    return fmean(rates) if rates else float("nan")


def too_many(heard: Errors, bound: int) -> bool:
    """Tell whether a text has clearly more errors than `bound`: over WORSE_POINTS and over WORSE_WORDS."""
    return heard.total - bound > max(WORSE_POINTS / 100 * heard.words, WORSE_WORDS)


def worse_than_better(outcome: Outcome) -> bool:
    """Tell whether the final text has clearly more errors than the better of live text and single pass."""
    final, live, single = (one.errors for one in (outcome.final, outcome.live, outcome.single))
    if final is None or live is None or single is None:
        return False
    return too_many(final, min(live.total, single.total))
