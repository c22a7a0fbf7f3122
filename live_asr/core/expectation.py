"""Which words to expect: of a long list those that look like something that was heard.

Told of many names that nobody says, a small model leaves out words, and writes numbers as digits. What is
decoded more than once needs no more of them than its first reading calls for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from heapq import nlargest

from live_asr.core.normalize import normalized

MIN_SIMILARITY = 0.6
"""How similar an entry must be to something that was heard to be expected, 0 to 1."""
MOST_EXPECTED = 40
"""So many entries are expected at once, the most similar ones."""
MOST_LETTERS = 32
"""Of a longer entry its first words are compared."""
MOST_COMPARED = 20
"""So many entries are compared letter by letter with what was heard in one place."""
SHORT_LETTERS = 4
"""Up to so many, letters count as well as pairs."""
MIN_SHARED = 0.2
"""Share of pairs of letters that two spellings have in common, below which they are not looked at further."""
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, Kana and Han: their words are not set apart."""
_UNIT = re.compile(f"[{_UNSPACED}]|[^{_UNSPACED}]+")

Found = tuple[tuple[str, float], ...]
"""Entries, and how similar each is."""


class Expectations:
    """A vocabulary, in which entries are found by what was heard. No I/O."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries: list[tuple[str, str, int]] = []
        """Each with the beginning of its sound, and how many pairs of letters that has."""
        self._by_pair: dict[tuple[int, str], list[int]] = {}
        """Places in that list, by count of units and by pair of letters."""
        self._counts: set[int] = set()
        self._known: dict[tuple[int, str], Found] = {}
        """What was found for what was heard the last time."""
        for entry in dict.fromkeys(entries):
            units = _beginning(_units([entry]))
            if not units:
                continue
            sound = "".join(units)
            pairs = _pairs(sound)
            self._counts.add(len(units))
            for pair in pairs:
                self._by_pair.setdefault((len(units), pair), []).append(len(self._entries))
            self._entries.append((entry, sound, len(pairs)))

    def resembling(self, heard: Sequence[str]) -> tuple[str, ...]:
        """Return the entries that are similar to as many words on end as they have, or one more or less.

        `heard` are written words; in scripts that do not set words apart characters count as such. The most
        similar entries come first.
        """
        units = _units(heard)
        similarity: dict[str, float] = {}
        known: dict[tuple[int, str], Found] = {}
        for length in sorted({count + more for count in self._counts for more in (-1, 0, 1)} - {-1, 0}):
            for first in range(len(units) - length + 1):
                span = length, "".join(units[first : first + length])
                found = self._known.get(span)
                known[span] = found = self._similar(*span) if found is None else found
                for entry, ratio in found:
                    similarity[entry] = max(ratio, similarity.get(entry, 0.0))
        self._known = known
        entries = [entry for entry, _, _ in self._entries if entry in similarity]
        return tuple(sorted(entries, key=lambda entry: -similarity[entry])[:MOST_EXPECTED])

    def _similar(self, length: int, sound: str) -> Found:
        pairs = _pairs(sound)
        shared: Counter[int] = Counter()
        for pair in pairs:
            for count in (length - 1, length, length + 1):
                shared.update(self._by_pair.get((count, pair), ()))
        share = {
            place: 2 * number / (len(pairs) + self._entries[place][2]) for place, number in shared.items()
        }
        found = []
        matcher = SequenceMatcher(b=sound, autojunk=False)
        for place in nlargest(MOST_COMPARED, share, key=lambda place: share[place]):
            entry, other, _ = self._entries[place]
            matcher.set_seq1(other)
            if share[place] >= MIN_SHARED and matcher.real_quick_ratio() >= MIN_SIMILARITY:
                ratio = matcher.ratio()
                if ratio >= MIN_SIMILARITY:
                    found.append((entry, ratio))
        return tuple(found)


def _units(words: Sequence[str]) -> list[str]:
    """Return what is heard of words, each by itself, and each character where words are not set apart."""
    return [unit for word in words for part in word.split() for unit in _UNIT.findall(normalized(part))]


def _beginning(units: Sequence[str]) -> list[str]:
    found: list[str] = []
    for unit in units:
        if found and sum(map(len, found)) + len(unit) > MOST_LETTERS:
            break
        found.append(unit)
    return found


def _pairs(sound: str) -> set[str]:
    """Return a spelling's pairs of letters; of a short one, which one wrong letter spoils, letters, too."""
    pairs = {sound[place : place + 2] for place in range(len(sound) - 1)}
    return pairs if len(sound) > SHORT_LETTERS else pairs | set(sound)
