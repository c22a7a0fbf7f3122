"""Several readings of the same speech made into one: what the full pass wrote, what was shown live.

Pure functions of words and of where speech was detected. Readings are aligned by what they say, and only
where they differ one of them is chosen: by how sure it is, and by how much of the speech it accounts for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import NamedTuple

from live_asr.core.guards import copies
from live_asr.core.normalize import normalized
from live_asr.core.speech import SpeechTrack, longest_spoken
from live_asr.core.types import Word, samples

SHORTEST_HOLE_SAMPLES = samples(1.0)
"""So much speech between two words is a hole: somebody said something there."""
SAME_TIME_SAMPLES = samples(1.0)
"""Two readings of one word begin at most so far apart."""
LEEWAY = 0.2
"""What holds an entry of the vocabulary may be by so much less probable than what was read without it."""
SURE = 0.7
"""So probable must live words be where the full pass has none, and hears no hole."""
LIKELY = 0.4
"""So probable they must be in a hole."""
OWN_SAMPLES = samples(0.1)
"""Each of them needs so much detected speech."""
MAX_COUNTED_WORDS = 4
"""Phrases of so many words are counted."""
HANGOVER_SAMPLES = samples(0.3)
"""So much of what is detected as speech may be none, behind a word."""


class Difference(NamedTuple):
    """A place at which two readings differ; either may have no words there."""

    first: tuple[Word, ...]
    second: tuple[Word, ...]


def aligned(first: Sequence[Word], second: Sequence[Word]) -> Iterator[Word | Difference]:
    """Walk through two readings: words that both have, as the first has them, and where they differ."""
    matcher = SequenceMatcher(None, _sounds(first), _sounds(second), autojunk=False)
    at = other = 0
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            mine, theirs = block.a + offset, block.b + offset
            if abs(first[mine].start_sample - second[theirs].start_sample) > SAME_TIME_SAMPLES:
                continue
            if mine > at or theirs > other:
                yield Difference(tuple(first[at:mine]), tuple(second[other:theirs]))
            yield first[mine]
            at, other = mine + 1, theirs + 1
    if at < len(first) or other < len(second):
        yield Difference(tuple(first[at:]), tuple(second[other:]))


def with_live_words(words: Sequence[Word], live: Sequence[Word], speech: SpeechTrack) -> tuple[Word, ...]:
    """Return the full pass's words of a window, mended by what was heard live in it.

    The live words stand where they are more probable, where they account for speech that the full pass has no
    word for, and where they are sure of something that it left out. They are marked as `live`. Of a
    phrase said over and over there are no more copies than live, but where the speech for them is there.
    """
    chosen: list[Word] = []
    places = list(aligned(words, live))
    for index, place in enumerate(places):
        if isinstance(place, Word):
            chosen.append(place)
        elif _live_stands(place, _free(chosen, places[index + 1 :], speech), speech):
            chosen += (replace(word, source="live") for word in place.second)
        else:
            chosen += place.first
    return _recounted(chosen, live, speech)


def _free(before: Sequence[Word], after: Sequence[Word | Difference], speech: SpeechTrack) -> tuple[int, int]:
    """Return the time at a difference that no word beside it is said in."""
    following = after[0] if after else None
    end = following.start_sample if isinstance(following, Word) else speech.end_sample
    return _spoken(before[-1])[1] if before else 0, end


def _live_stands(place: Difference, free: tuple[int, int], speech: SpeechTrack) -> bool:
    final, live = place
    if not live:
        return False
    heard = sum(speech.samples_within(*_overlap(_spoken(word), free)) >= OWN_SAMPLES for word in live)
    if 2 * heard < len(live):
        return False
    unread = _unread_samples(final, live, speech)
    if unread >= SHORTEST_HOLE_SAMPLES:
        return probability(live) >= LIKELY
    if not final:
        return probability(live) >= SURE
    if _has_digits(live) != _has_digits(final):
        return False  # how a number is written is not heard
    # The full pass heard more context, but once; live, two hypotheses or more agreed: neither has a lead.
    return probability(live) > probability(final)


def _has_digits(words: Sequence[Word]) -> bool:
    return any(character.isdigit() for word in words for character in word.text)


def _recounted(words: Sequence[Word], live: Sequence[Word], speech: SpeechTrack) -> tuple[Word, ...]:
    """Leave out copies of a phrase that were not shown live, where hardly any speech goes with them."""
    kept = list(words)
    for length in range(1, MAX_COUNTED_WORDS + 1):
        for start, end in reversed(copies(kept, length)):
            first = start - length
            shown = [
                word
                for word in live
                if kept[first].start_sample - SAME_TIME_SAMPLES
                <= word.start_sample
                < kept[end - 1].end_sample + SAME_TIME_SAMPLES
            ]
            phrase = _sounds(kept[first:start])
            counted = max(
                (
                    1 + (b - a) // length
                    for a, b in copies(shown, length)
                    if _sounds(shown[a:b])[:length] == phrase
                ),
                default=0,
            )
            begins = list(range(first, end - length + 1, length))
            while len(begins) > counted >= 2:
                weakest = min(begins[1:], key=lambda begin: _own(kept[begin : begin + length], speech))
                if _own(kept[weakest : weakest + length], speech) >= HANGOVER_SAMPLES:
                    break
                del kept[weakest : weakest + length]
                begins.pop()
    return tuple(kept)


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), min(one[1], other[1])


def _unread_samples(final: Sequence[Word], live: Sequence[Word], speech: SpeechTrack) -> int:
    """Return how much speech that the live words account for has none of the final ones."""
    return _own(live, speech) - _own(final, speech)


def with_expected_words(
    words: Sequence[Word], biased: Sequence[Word], vocabulary: Iterable[str], speech: SpeechTrack
) -> tuple[Word, ...]:
    """Return words read without a vocabulary, with those of its entries that were heard when told of it.

    A vocabulary may change how something is written that was heard anyway. It adds nothing that has no
    speech, and takes nothing away.
    """
    expected = {normalized(part) for entry in vocabulary for part in entry.split()} - {""}
    chosen: list[Word] = []
    for place in aligned(words, biased):
        if isinstance(place, Word):
            chosen.append(place)
        else:
            chosen += place.second if _entry_stands(place, expected, speech) else place.first
    return tuple(chosen)


def _entry_stands(place: Difference, expected: set[str], speech: SpeechTrack) -> bool:
    plain, biased = place
    entries = [word for word in biased if normalized(word.text) in expected]
    if not entries or any(normalized(word.text) in expected for word in plain):
        return False
    if abs(_unread_samples(plain, biased, speech)) >= SHORTEST_HOLE_SAMPLES:
        return False
    if not all(_own([word], speech) >= OWN_SAMPLES for word in entries):
        return False
    return probability(biased) >= (max(LIKELY, probability(plain) - LEEWAY) if plain else SURE)


def holes(
    words: Sequence[Word], speech: SpeechTrack, start_sample: int, end_sample: int
) -> list[tuple[int, int]]:
    """Return the stretches between two samples in which there is a second of speech or more and no word.

    A word that is far longer than it can be said in counts with what it may take: where the decoder left
    something out, the aligner gives its time to the words around.
    """
    found: list[tuple[int, int]] = []
    at = start_sample
    for word in words:
        begins, ends = _spoken(word)
        _add_hole(found, at, begins, speech)
        at = max(at, ends)
    _add_hole(found, at, end_sample, speech)
    return found


def _add_hole(found: list[tuple[int, int]], start: int, end: int, speech: SpeechTrack) -> None:
    stretches = speech.stretches(start, end) if start < end else []
    if speech.samples_within(start, end) >= SHORTEST_HOLE_SAMPLES:
        found.append((stretches[0][0], stretches[-1][1]))


def _spoken(word: Word) -> tuple[int, int]:
    """Return where a word is at most: from its begin on, for as long as it can be said in."""
    return word.start_sample, min(word.end_sample, word.start_sample + longest_spoken(word))


def _own(words: Sequence[Word], speech: SpeechTrack) -> int:
    return sum(speech.samples_within(*_spoken(word)) for word in words)


def probability(words: Sequence[Word]) -> float:
    """Return the mean probability of words, 0 where there are none."""
    return sum(word.probability for word in words) / len(words) if words else 0.0


def _sounds(words: Sequence[Word]) -> list[str]:
    return [normalized(word.text) for word in words]
