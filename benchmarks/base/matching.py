"""Which word of one text is which word of another: the arithmetic under every latency and every count."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jiwer
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

_NOT_LETTERS = re.compile(r"[^\w']+|_")


@dataclass(frozen=True, slots=True)
class Errors:
    """How a text differs from the one it is held against, in words after the language's normaliser."""

    words: int
    """In the text held against."""
    lost: int
    """Deletions."""
    invented: int
    """Insertions."""
    changed: int
    """Substitutions."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.lost + self.invented + self.changed

    @property
    def rate(self) -> float:
        """Word error rate, 0 to 1 or above; 0 where both texts are empty."""
        return self.total / max(self.words, 1)

    def __add__(self, other: Errors) -> Errors:
        """Pool two texts' errors."""
        return Errors(
            self.words + other.words,
            self.lost + other.lost,
            self.invented + other.invented,
            self.changed + other.changed,
        )


UNSPACED = ("ja", "th", "yue", "zh")
"""Languages whose words nothing separates: letters are counted in their place."""


@functools.cache
def normaliser(language: str) -> Callable[[str], str]:
    """Return what makes spellings of a language alike: Whisper's for English, its basic one otherwise."""
    if language == "en":
        normalise = EnglishTextNormalizer()
        return lambda text: _counted(normalise(text))
    return BasicTextNormalizer(remove_diacritics=True, split_letters=language in UNSPACED)


def _counted(text: str) -> str:
    """Write digits in a row as one: the normaliser makes 123 of "one two three", and "one 2 3" of "1-2-3"."""
    text = re.sub(r"\bone(?= \d\b)|(?<=\b\d )one\b", "1", text)
    return re.sub(r"\b\d(?: \d)+\b", lambda run: run[0].replace(" ", ""), text)


def errors(heard: str, said: str, language: str = "en") -> Errors:
    """Count the differences of `heard` from `said`, both after the normaliser of their language."""
    normalise = normaliser(language)
    heard, said = normalise(heard), normalise(said)
    if not said.split():
        return Errors(0, 0, len(heard.split()), 0)
    if not heard.split():
        return Errors(len(said.split()), len(said.split()), 0, 0)
    found = jiwer.process_words(said, heard)
    return Errors(len(said.split()), found.deletions, found.insertions, found.substitutions)


def differences(heard: str, said: str, language: str = "en") -> list[str]:
    """Name each stretch in which `heard` differs from `said`: `said → heard`, `∅` where there is nothing."""
    normalise = normaliser(language)
    heard, said = normalise(heard), normalise(said)
    if not (heard.split() and said.split()):
        return [f"{said or '∅'} → {heard or '∅'}"] if heard != said else []
    heard_words, said_words = heard.split(), said.split()
    return [
        f"{' '.join(said_words[chunk.ref_start_idx : chunk.ref_end_idx]) or '∅'} → "
        f"{' '.join(heard_words[chunk.hyp_start_idx : chunk.hyp_end_idx]) or '∅'}"
        for chunk in jiwer.process_words(said, heard).alignments[0]
        if chunk.type != "equal"
    ]


def key(word: str) -> str:
    """Return what two spellings of a word have in common: its letters, digits and apostrophes, lower case."""
    return _NOT_LETTERS.sub("", word.lower()).strip("'")


def keys(text: str) -> list[str]:
    """Return the keys of a text's words, those without a letter or digit left out."""
    return [found for found in map(key, text.split()) if found]


def matches(left: Sequence[str], right: Sequence[str], *, open_end: bool = False) -> list[tuple[int, int]]:
    """Return the index pairs of equal words in the alignment with the fewest edits.

    With `open_end`, `right` may go on after `left` at no cost: `left` is then a piece of its beginning.
    """
    rows, columns = len(left), len(right)
    cost = [list(range(columns + 1))]
    for row in range(1, rows + 1):
        above, line = cost[-1], [row]
        for column in range(1, columns + 1):
            swap = above[column - 1] + (left[row - 1] != right[column - 1])
            line.append(min(swap, above[column] + 1, line[-1] + 1))
        cost.append(line)
    row, column = rows, columns
    if open_end:
        column = min(range(columns + 1), key=lambda end: (cost[rows][end], end))
    pairs: list[tuple[int, int]] = []
    while row and column:
        same = left[row - 1] == right[column - 1]
        if cost[row][column] == cost[row - 1][column - 1] + (not same):
            row, column = row - 1, column - 1
            if same:
                pairs.append((row, column))
        elif cost[row][column] == cost[row - 1][column] + 1:
            row -= 1
        else:
            column -= 1
    return pairs[::-1]


def unlike(left: Sequence[str], right: Sequence[str]) -> int:
    """Return in how many words two texts differ: those of the longer one less those that both have."""
    return max(len(left), len(right)) - len(matches(left, right))


def missing_passages(heard: str, said: str, least: int = 3) -> list[str]:
    """Return the stretches of `said` of at least so many words in a row for which `heard` has nothing.

    Both after the English normaliser. A word heard as another one is not missing.
    """
    normalise = EnglishTextNormalizer()
    heard_words, said_words = normalise(heard).split(), normalise(said).split()
    if not heard_words:
        return [" ".join(said_words)] if len(said_words) >= least else []
    if not said_words:
        return []
    chunks = jiwer.process_words(" ".join(said_words), " ".join(heard_words)).alignments[0]
    return [
        " ".join(said_words[chunk.ref_start_idx : chunk.ref_end_idx])
        for chunk in chunks
        if chunk.type == "delete" and chunk.ref_end_idx - chunk.ref_start_idx >= least
    ]
