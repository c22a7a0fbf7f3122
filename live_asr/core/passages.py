"""Passages: what one speaker says on end, as exports read it, and where a reader of it would pause."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from live_asr.core.types import SAMPLE_RATE_HZ, Segment, SpeakerLabel, Word

LONG_PAUSE_SAMPLES = SAMPLE_RATE_HZ * 2
"""A silence that no cue and no paragraph spans."""

SENTENCE_ENDS = ".!?…。！？｡؟।။።"
CLAUSE_ENDS = ",;:、，；：،؛–—"
CLOSING = "\"'”’»)]}」』）】》〉％%"
_LATE_MARKS = re.compile(
    # A mark after a space that opens what follows (" …and", " .5") is none of them; a French " ?" is.
    rf"[{SENTENCE_ENDS}{CLAUSE_ENDS}]+(?!\d)|\s+[{SENTENCE_ENDS},;:、，；：،؛]+(?=\s|$)"
)
"""Marks at the beginning of a word that belong to the word before."""


class Passage(NamedTuple):
    """One speaker's words until somebody else speaks."""

    speaker: SpeakerLabel | None
    utterances: list[list[Word]]

    @property
    def words(self) -> list[Word]:
        """All words of the passage, in order."""
        return [word for utterance in self.utterances for word in utterance]


def passages(segments: Iterable[Segment]) -> Iterator[Passage]:
    """Join neighbouring segments of one speaker, with every mark at the word that it follows."""
    for speaker, group in groupby(segments, key=lambda segment: segment.speaker):
        yield Passage(speaker, _with_marks_joined(segment.words for segment in group))


def _with_marks_joined(utterances: Iterable[Sequence[Word]]) -> list[list[Word]]:
    """Give marks back to the word that they follow.

    A mark is sometimes recognised only after the word before it was committed, and then stands at the
    beginning of the next one, even of the next utterance's first.
    """
    joined: list[list[Word]] = []
    home: list[Word] = []  # ends with the last word that has text
    for utterance in utterances:
        words: list[Word] = []
        joined.append(words)
        for word in utterance:
            late = _LATE_MARKS.match(word.text) if home else None
            if late:
                home[-1] = replace(home[-1], text=home[-1].text.rstrip() + late.group())
                word = replace(word, text=word.text[late.end() :])
            if word.text.strip():
                words.append(word)
                home = words
    return joined


def ends_sentence(text: str) -> bool:
    """Tell whether the text ends with a full stop or its like, quotes and brackets aside."""
    return text.rstrip().rstrip(CLOSING).endswith(tuple(SENTENCE_ENDS))


def label_before(speaker: str | None, text: str) -> str:
    """Return what names the speaker before a text, for formats without another place; empty for None.

    A line runs as its first letter does. Where the name runs the other way than the text it is isolated, so
    that `Ada: ` does not turn a line in Hebrew.
    """
    if speaker is None:
        return ""
    runs, text_runs = _direction(speaker), _direction(text)
    is_isolated = runs is not None and text_runs is not None and runs != text_runs
    return f"\u2068{speaker}\u2069: " if is_isolated else f"{speaker}: "


def _direction(text: str) -> str | None:
    """Return where the first letter of a text runs to, R for the left; None without letters."""
    kinds = (unicodedata.bidirectional(character) for character in text)
    return next(("L" if kind == "L" else "R" for kind in kinds if kind in ("L", "R", "AL")), None)


def columns_of(text: str) -> int:
    """Return the width of a text: wide (East Asian) characters take two columns, combining marks none."""
    return sum(_character_columns(character) for character in text)


def _character_columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0  # combining marks sit on the character before
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
