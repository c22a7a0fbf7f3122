"""Words to expect are a bias and no more: what finds room in the prompt, and what only comes from there.

The aligner rates a word's tokens without knowing what was expected. A word that it holds for all but
impossible, and that is like none of what is heard without any expectation, comes from the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

from live_asr.core.normalize import normalized
from live_asr.core.types import Hypothesis, Word

UNHEARD_LOG_PROBABILITY = -3.0
"""An expected word is doubted whose tokens have a mean below this."""
POOR_LOG_PROBABILITY = -1.5
CLEARLY_POORER = 1.0
"""A hypothesis is doubted with a mean below the one, and given up for one that is better by the other."""
ALIKE = 0.5
"""Share of letters that a word which was misheard has in common with the right one."""
FLOOR = 1e-6


def fitting(
    vocabulary: Sequence[str], tokens_of: Callable[[str], Sequence[int]], most: int
) -> tuple[list[int], int]:
    """Return at most so many tokens of a sentence that lists the entries, and how many entries found room."""
    end = tokens_of(".")  # what follows begins anew, and does not go on with the list
    prompt: list[int] = []
    count = 0
    for entry in vocabulary:
        tokens = tokens_of(f", {entry}" if prompt else f" {entry}")
        if len(prompt) + len(tokens) + len(end) <= most:
            prompt += tokens
            count += 1
    return [*prompt, *end] if prompt else [], count


def expected_words(vocabulary: Sequence[str]) -> frozenset[str]:
    """Return the words of all entries, as they sound."""
    return frozenset(normalized(word) for entry in vocabulary for word in entry.split())


def unheard(words: Sequence[Word], probabilities: Sequence[float], expected: frozenset[str]) -> list[Word]:
    """Return the expected ones among `words` that were hardly heard; the probabilities are their tokens'."""
    found, position = [], 0
    for word in words:
        of_word = probabilities[position : position + len(word.tokens)]
        position += len(word.tokens)
        logs = [math.log(max(float(p), FLOOR)) for p in of_word]
        if normalized(word.text) in expected and logs and sum(logs) / len(logs) < UNHEARD_LOG_PROBABILITY:
            found.append(word)
    return found


def is_doubtful(hypothesis: Hypothesis, doubted: Sequence[Word], *, speech_follows: bool) -> bool:
    """Tell whether to listen again without any expectation."""
    says_nothing = not any(normalized(word.text) for word in hypothesis.words)
    poor = bool(hypothesis.words) and hypothesis.mean_log_probability < POOR_LOG_PROBABILITY
    return bool(doubted) or poor or (says_nothing and speech_follows)


def is_better_without(expecting: Hypothesis, doubted: Sequence[Word], unbiased: Hypothesis) -> bool:
    """Tell whether what is heard without any expectation is to be believed instead."""
    heard = [normalized(word.text) for word in unbiased.words]
    if not any(heard):
        return False
    if not any(normalized(word.text) for word in expecting.words):
        return True
    if unbiased.mean_log_probability > expecting.mean_log_probability + CLEARLY_POORER:
        return any(not _resembles(word, heard) for word in doubted or expecting.words)
    return any(not _resembles(word, heard) for word in doubted)


def _resembles(word: Word, heard: Sequence[str]) -> bool:
    sound = normalized(word.text)
    return any(SequenceMatcher(None, sound, other).ratio() >= ALIKE for other in heard)
