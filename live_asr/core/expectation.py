"""Which words to expect: of a long list those that look like something that was heard.

Told of many names that nobody says, a small model leaves out words, and writes numbers as digits. What is
decoded more than once needs no more of them than its first reading calls for.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from live_asr.core.normalize import normalized

RESEMBLING = 0.6
"""How much an entry must look like something that was heard to be expected, 0 to 1."""
AT_ONCE = 40
"""So many entries are expected at once, those that look most like what was heard."""


def resembling(entries: tuple[str, ...], heard: Sequence[str]) -> tuple[str, ...]:
    """Return the entries that look like as many words on end as they have, or one more or less.

    `heard` are written words; the likest entries come first.
    """
    sounds = [sound for sound in map(normalized, heard) if sound]
    likeness: dict[str, float] = {}
    longest = max((len(entry.split()) for entry in entries), default=0) + 1
    for length in range(1, longest + 1):
        for first in range(len(sounds) - length + 1):
            for entry, ratio in _alike(entries, "".join(sounds[first : first + length]), length):
                likeness[entry] = max(ratio, likeness.get(entry, 0.0))
    found = [entry for entry in entries if entry in likeness]
    return tuple(sorted(found, key=lambda entry: -likeness[entry])[:AT_ONCE])


@lru_cache(maxsize=4096)  # what is heard anew from one step to the next is a word or two
def _alike(entries: tuple[str, ...], sound: str, count: int) -> tuple[tuple[str, float], ...]:
    """Return the entries of about so many words that look like a sound, and how much they do."""
    found = []
    matcher = SequenceMatcher(b=sound, autojunk=False)
    for entry in entries:
        parts = entry.split()
        if abs(len(parts) - count) > 1:
            continue
        matcher.set_seq1("".join(map(normalized, parts)))
        if matcher.real_quick_ratio() >= RESEMBLING and matcher.quick_ratio() >= RESEMBLING:
            ratio = matcher.ratio()
            if ratio >= RESEMBLING:
                found.append((entry, ratio))
    return tuple(found)
