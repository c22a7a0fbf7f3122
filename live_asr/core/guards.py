"""Guards against what a recogniser invents: loops, echoes, words after the speech, words out of noise.

They judge by sound and not by spelling. People say a word six times, and then each time has audio of its own.
What the decoder writes over and over has not: the aligner, which gives all words their times in order,
squeezes it between its neighbours or puts it where nobody speaks. All are pure functions of a hypothesis.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from live_asr.core.normalize import normalized
from live_asr.core.speech import SpeechTrack, own_samples
from live_asr.core.types import Hypothesis, Word, samples

OWN_SAMPLES = samples(0.15)
"""A word with so much detected speech of its own was said, however often it stands there."""
TWICE_SAMPLES = samples(0.06)
"""The same where it stands there just twice: "that that" is said fast."""
MAX_COPY_WORDS = 12
ECHO_WORDS = 3
SHOWN_WORDS = 4
SQUEEZED_WORDS = 4
SQUEEZED_SAMPLES = samples(0.2)
"""Four words in a fifth of a second: three times as fast as anybody speaks."""
MAX_UNIT = 4
"""Letters of a syllable that a decoder repeats within a word when it runs away."""
MIN_UNITS = 6
"""Fewer copies of a syllable are a word: "hahaha", "mmm"."""
UNIT_SAMPLES = samples(0.08)
"""Nobody says a syllable in less."""
UNPLACED_WORDS = 6
UNPLACED_SHARE = 0.3
UNPLACED_SAMPLES = samples(0.04)
STOPS = ("...", ".", "?", "!", "…", "。")
"""Marks that end a sentence, each of one token in Whisper's vocabularies, as far as those have such."""
SPOKEN_MARKS = frozenset("&%@#")
"""Punctuation by Unicode's book that is read out."""


def without_marks(words: Sequence[Word]) -> tuple[Word, ...]:
    """Drop words that are punctuation and nothing else: nobody said them."""
    return tuple(word for word in words if any(_is_heard(character) for character in word.text))


def _is_heard(character: str) -> bool:
    return (
        character in SPOKEN_MARKS
        or unicodedata.category(character)[0] in "LNM"
        or unicodedata.category(character) in ("Sc", "Sm")
    )


def without_stammer(words: Sequence[Word], speech: SpeechTrack) -> tuple[Word, ...]:
    """Drop words that repeat one syllable faster than it can be said: what laughter and hum come out as."""
    return tuple(word for word in words if not _stammers(word, speech))


def _stammers(word: Word, speech: SpeechTrack) -> bool:
    text = normalized(word.text)
    for length in range(1, MAX_UNIT + 1):
        copied = longest = 0
        for index in range(length, len(text)):
            copied = copied + 1 if text[index] == text[index - length] else 0
            longest = max(longest, copied)
        # Digits are a number, which is said otherwise than digit by digit.
        units = longest // length + 1
        if units >= MIN_UNITS and not text.isdigit():
            return units * UNIT_SAMPLES > speech.samples_within(word.start_sample, word.end_sample)
    return False


def without_loops(words: Sequence[Word], committed: Sequence[Word], speech: SpeechTrack) -> tuple[Word, ...]:
    """Drop copies of a phrase that have no audio of their own; the first one may be among the `committed`.

    Of a phrase that stands there twice, the second copy must be squeezed into next to nothing: people do
    repeat themselves, and fast. Of more copies, each needs a word with `OWN_SAMPLES` of detected speech.
    """
    kept = [*committed, *words]
    length = 1
    while length <= MAX_COPY_WORDS:
        copy = _unheard_copy(kept, length, len(committed), speech)
        if copy is None:
            length += 1
            continue
        del kept[copy : copy + length]
        length = 1  # what is left may hold a shorter one
    return tuple(kept[len(committed) :])


def _unheard_copy(words: Sequence[Word], length: int, committed: int, speech: SpeechTrack) -> int | None:
    """Return where the first copy of `length` words begins that was not heard, behind the committed ones."""
    since = words[committed - 1].end_sample if committed else 0
    for start, end in copies(words, length):
        count = 1 + (end - start) // length
        least = OWN_SAMPLES if count > 2 else TWICE_SAMPLES
        for copy in range(start, end - length + 1, length):
            if copy >= committed and all(
                own_samples(words, index, speech, since) < least for index in range(copy, copy + length)
            ):
                return copy
    return None


def copies(words: Sequence[Word], length: int) -> list[tuple[int, int]]:
    """Find where words repeat those `length` before them, in whole copies: (begin of the second, end)."""
    sounds = [normalized(word.text) for word in words]
    found: list[tuple[int, int]] = []
    start = length
    for index in range(length, len(sounds) + 1):
        if index < len(sounds) and sounds[index] == sounds[index - length]:
            continue
        if index - start >= length:
            found.append((start, index))
        start = index + 1
    return found


def copied(words: Sequence[Word], committed: Sequence[Word] = ()) -> set[int]:
    """Return the indices of the words that repeat what stands before them, the `committed` ones included."""
    together = [*committed, *words]
    return {
        index - len(committed)
        for length in range(1, MAX_COPY_WORDS + 1)
        for start, end in copies(together, length)
        for index in range(max(start, len(committed)), end)
    }


def going_on(words: Sequence[Word], committed: Sequence[Word]) -> int | None:
    """Return the sample at which words begin that copy those before them up to the end of what was heard.

    How often a phrase was said is clear only once something else is: while it goes on the decoder counts a
    copy too many or too few. None where no word does so three times, and no phrase twice.
    """
    if not words:
        return None
    together = [*committed, *words]
    for length in range(1, MAX_COPY_WORDS + 1):
        for start, end in copies(together, length):
            count = 1 + (end - start) // length
            if end == len(together) and count >= (3 if length == 1 else 2):
                return together[max(start, len(committed))].start_sample
    return None


def up_to_copies(words: Sequence[Word], committed: Sequence[Word]) -> tuple[Word, ...] | None:
    """Reduce a hypothesis that was cut off while it ran to what stands before its copies.

    What runs away at the edge of a short window is nearly always the last true phrase, repeated, so that its
    first copy is right. The last copy may be cut short: a phrase of k words counts when k - 1 of its words
    were copied (two for a single word). None where it does not end in copies, or where the first one is
    `committed` already: then it is of no use.
    """
    kept = [*committed, *words]
    sounds = [normalized(word.text) for word in kept]
    for length in range(1, min(MAX_COPY_WORDS, len(sounds) - 1) + 1):
        copied = 0
        while copied + length < len(sounds) and sounds[-1 - copied] == sounds[-1 - copied - length]:
            copied += 1
        if copied >= max(2, length - 1):
            return tuple(kept[len(committed) : len(kept) - copied]) or None
    return None


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


def drop_echo(words: Sequence[Word], committed: Sequence[Word], speech: SpeechTrack) -> tuple[Word, ...]:
    """Drop leading words that repeat a run of committed ones without audio of their own.

    A forced prefix sometimes copies itself: its words come again, squeezed into moments. Who really says
    a sentence twice takes his time for both.
    """
    spoken = [normalized(word.text) for word in committed]
    new = [normalized(word.text) for word in words]
    longest = 0
    for start in range(len(spoken)):
        run = 0
        while run < len(new) and start + run < len(spoken) and new[run] == spoken[start + run]:
            run += 1
        longest = max(longest, run)
    if longest < ECHO_WORDS:
        return tuple(words)
    since, unheard = committed[-1].end_sample, 0
    while unheard < longest and own_samples(words, unheard, speech, since) < OWN_SAMPLES:
        unheard += 1
    return tuple(words[unheard:]) if unheard >= ECHO_WORDS else tuple(words)


def drop_squeezed(words: Sequence[Word], speech: SpeechTrack) -> tuple[Word, ...]:
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
        else:
            kept += (words[i] for i in range(index, end) if own_samples(words, i, speech) >= OWN_SAMPLES)
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


def going_on_later(words: Sequence[Word]) -> tuple[Word, ...]:
    """Take the mark that ends a sentence from the last word, where nobody knows whether the sentence ends.

    The decoder writes one wherever the sound stops. Told of it, it skips what the sentence goes on with; not
    told, it writes the mark behind, if it belongs there.
    """
    if not words or len(words[-1].tokens) < 2:
        return tuple(words)
    last = words[-1]
    stop = next((mark for mark in STOPS if last.text.endswith(mark)), "")
    text = last.text.removesuffix(stop)
    if not stop or not normalized(text[-1:]):
        return tuple(words)
    return (*words[:-1], replace(last, text=text, tokens=last.tokens[:-1]))


def is_unplaced(words: Sequence[Word]) -> bool:
    """Tell whether the aligner found no place for too many of the words: the decoder ran away from the sound.

    In speech, one word in ten is squeezed to nothing at most.
    """
    squeezed = sum(word.end_sample - word.start_sample < UNPLACED_SAMPLES for word in words)
    return len(words) >= UNPLACED_WORDS and squeezed >= UNPLACED_SHARE * len(words)


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
    if silent > 0.4 and certainty(hypothesis.words) < 0.4:
        return True
    if speech_samples >= samples(1.0):
        return False
    return (silent > 0.4 and unsure < -0.7) or (silent > 0.2 and mean < 0.4)


GUESS = 0.2
"""What is less certain is no word but the nearest that there is to a laugh or a cough."""


def is_guess(hypothesis: Hypothesis) -> bool:
    """Tell whether the recogniser hardly believes in what it wrote."""
    return bool(hypothesis.words) and not hypothesis.capped and certainty(hypothesis.words) < GUESS


def certainty(words: Sequence[Word]) -> float:
    """Return the mean probability of words, copies left out, 0 where there are none.

    Whatever the decoder repeats becomes probable by that: copies do not vouch for a phrase.
    """
    repeated = copied(words)
    once = [word.probability for index, word in enumerate(words) if index not in repeated]
    return sum(once) / len(once) if once else 0.0


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
