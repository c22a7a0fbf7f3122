"""Guards against what a recogniser invents: loops, echoes, words after the speech, words out of noise.

All are pure functions of a hypothesis. A loop is cut behind its first copy rather than thrown away: what
runs away at the edge of a short window is nearly always the last true phrase, repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from live_asr.core.text import normalized
from live_asr.core.types import Hypothesis, Word, samples

LONGEST_COPY_WORDS = 12
ECHO_WORDS = 3
ECHO_WORD_SAMPLES = samples(0.2)
SHOWN_WORDS = 4
SQUEEZED_WORDS = 4
SQUEEZED_SAMPLES = samples(0.2)
"""Four words in a fifth of a second: three times as fast as anybody speaks."""


def without_loops(
    words: Sequence[Word], committed: Sequence[Word], *, capped: bool
) -> tuple[Word, ...] | None:
    """Reduce what is said over and over to its first copy; None when nothing is left to believe.

    A loop is a phrase three times in a row, or one word five times; twice is not enough, people do say
    "Tear down the fence! Tear down the fence!". The first copy may be among the `committed` words. A
    `capped` hypothesis was cut off while it ran: it must end in a loop to be of any use, and even a copy
    that is one word short counts there.
    """
    kept = [*committed, *words]
    looped, length = False, 1
    while length <= LONGEST_COPY_WORDS:
        copies = 5 if length == 1 else 3
        # Where the committed words hold a loop by themselves, that is how it is now.
        run = _first_run(kept, length, length * (copies - 1), beyond=len(committed))
        if run is None:
            length += 1
            continue
        start, end = run
        del kept[max(start, len(committed)) : end]
        looped, length = True, 1  # what is left may hold a shorter loop
    if capped:
        shortened = _before_copies(kept)
        if shortened > len(committed):
            kept = kept[:shortened]
        elif not looped:
            return None
    new = tuple(kept[len(committed) :])
    return new if new or not words else None


def _first_run(words: Sequence[Word], length: int, least: int, *, beyond: int) -> tuple[int, int] | None:
    """Find the first run of at least `least` words that each repeat the word `length` before it.

    Returns where the repetition starts (behind the first copy) and where it ends, which is after `beyond`.
    """
    sounds = [normalized(word.text) for word in words]
    start = length
    for index in range(length, len(sounds) + 1):
        if index < len(sounds) and sounds[index] == sounds[index - length]:
            continue
        if index - start >= least and index > beyond:
            return start, index
        start = index + 1
    return None


def _before_copies(words: Sequence[Word]) -> int:
    """Return how many leading words to keep of a hypothesis that ends in copies of one phrase.

    0 when it does not end so. The last copy may be cut short by the token cap: a phrase of k words
    counts when at least k - 1 of its words were copied (two for a single word).
    """
    sounds = [normalized(word.text) for word in words]
    for length in range(1, min(LONGEST_COPY_WORDS, len(sounds) - 1) + 1):
        copied = 0
        while copied + length < len(sounds) and sounds[-1 - copied] == sounds[-1 - copied - length]:
            copied += 1
        if copied >= max(2, length - 1):
            return len(sounds) - copied
    return 0


def drop_after_speech(
    words: Sequence[Word], speech_end_sample: int, window_end_sample: int
) -> tuple[Word, ...]:
    """Drop trailing words that start after the speech has ended.

    Only where the window goes on for 0.2 s without speech: until then the detector may be late.
    """
    kept = list(words)
    if window_end_sample - speech_end_sample > samples(0.2):
        while kept and kept[-1].start_sample > speech_end_sample + samples(0.1):
            kept.pop()
    return tuple(kept)


def drop_echo(words: Sequence[Word], committed: Sequence[Word]) -> tuple[Word, ...]:
    """Drop leading words that repeat a run of committed ones in no time at all.

    A forced prefix sometimes copies itself: its words come again, squeezed into moments. Who really says
    a sentence twice takes his time for both.
    """
    spoken = [normalized(word.text) for word in committed]
    new = [normalized(word.text) for word in words]
    longest, first = 0, 0
    for start in range(len(spoken)):
        run = 0
        while run < len(new) and start + run < len(spoken) and new[run] == spoken[start + run]:
            run += 1
        if run > longest:
            longest, first = run, start
    if longest < ECHO_WORDS:
        return tuple(words)
    squeezed = all(word.end_sample - word.start_sample < ECHO_WORD_SAMPLES for word in words[:longest])
    hurried = 2 * _length(words[:longest]) < _length(committed[first : first + longest])
    return tuple(words[longest:]) if squeezed or hurried else tuple(words)


def _length(words: Sequence[Word]) -> int:
    return words[-1].end_sample - words[0].start_sample


def drop_squeezed(words: Sequence[Word]) -> tuple[Word, ...]:
    """Drop runs of words that nobody could have said in the time they were given.

    What the decoder invents has no audio of its own: the aligner squeezes it between the words around it.
    """
    kept: list[Word] = []
    index = 0
    while index < len(words):
        end = index + 1
        while end < len(words) and words[end].end_sample - words[index].start_sample < SQUEEZED_SAMPLES:
            end += 1
        if end - index < SQUEEZED_WORDS:
            end = index + 1
            kept.append(words[index])
        index = end
    return tuple(kept)


def drops_what_was_shown(words: Sequence[Word], tail: Sequence[Word]) -> bool:
    """Tell whether a hypothesis has lost half of the words that the one before heard and believed in.

    Short windows sometimes skip a sentence and go on with the next one; what was shown was heard.
    """
    if len(tail) < SHOWN_WORDS or tail[-1].end_sample - tail[0].start_sample < samples(1.5):
        return False
    if sum(word.probability for word in tail) < 0.5 * len(tail):
        return False
    covered = sum(word.start_sample < tail[-1].end_sample for word in words)
    return covered < len(tail) / 2


def is_noise(hypothesis: Hypothesis, speech_samples: int, *, final: bool) -> bool:
    """Tell whether the words are more likely invented out of noise than heard.

    `speech_samples` is how much speech the detector found for them: below a second it has to be
    surer, since what opens an utterance by mistake is short. Of the last hypothesis of an utterance
    (`final`), nothing improbable is believed that the decoder did not want to write at first: no
    agreement will protect from it.
    """
    if not hypothesis.words:
        return False
    silent, unsure = hypothesis.no_speech_probability, hypothesis.mean_log_probability
    if silent > 0.6 and unsure < -1.0:
        return True
    mean = sum(word.probability for word in hypothesis.words) / len(hypothesis.words)
    if final and hypothesis.insisted and mean < 0.4:
        return True
    if speech_samples >= samples(1.0):
        return False
    return (silent > 0.4 and unsure < -0.7) or (silent > 0.2 and mean < 0.4)


def in_order(words: Sequence[Word], from_sample: int, to_sample: int) -> tuple[Word, ...]:
    """Clamp word times so that they follow each other within what was heard.

    The aligner may let neighbours overlap.
    """
    ordered = []
    for word in words:
        start = max(from_sample, min(word.start_sample, to_sample))
        from_sample = max(start, min(word.end_sample, to_sample))
        ordered.append(replace(word, start_sample=start, end_sample=from_sample))
    return tuple(ordered)
