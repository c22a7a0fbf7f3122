"""Guards against what a recogniser invents: loops, echoes, words after the speech, words out of noise.

All are pure functions of a hypothesis. A loop is cut behind its first copy rather than thrown away: what
runs away at the edge of a short window is nearly always the last true phrase, repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

from live_asr.core.text import normalized
from live_asr.core.types import Hypothesis, Word, samples

LONGEST_LOOP_WORDS = 8
LONGEST_COPY_WORDS = 12
ECHO_WORDS = 3
CERTAIN_ECHO_WORDS = 6
ECHO_WORD_SAMPLES = samples(0.2)


def is_loop(words: Sequence[Word]) -> bool:
    """Tell whether the words hold a phrase three times in a row, or one word five times.

    Twice is not enough: people do say "Tear down the fence! Tear down the fence!".
    """
    sounds = [normalized(word.text) for word in words]
    for length in range(1, LONGEST_LOOP_WORDS + 1):
        copies = 5 if length == 1 else 3
        same = 0
        for index in range(length, len(sounds)):
            same = same + 1 if sounds[index] == sounds[index - length] else 0
            if same >= length * (copies - 1):
                return True
    return False


def first_copy(words: Sequence[Word]) -> int:
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

    A forced prefix sometimes copies itself: its words come again, squeezed into moments.
    """
    spoken = [normalized(word.text) for word in committed]
    new = [normalized(word.text) for word in words]
    longest = 0
    for start in range(len(spoken)):
        run = 0
        while run < len(new) and start + run < len(spoken) and new[run] == spoken[start + run]:
            run += 1
        longest = max(longest, run)
    squeezed = all(word.end_sample - word.start_sample < ECHO_WORD_SAMPLES for word in words[:longest])
    if longest >= CERTAIN_ECHO_WORDS or (longest >= ECHO_WORDS and squeezed):
        return tuple(words[longest:])
    return tuple(words)


def is_noise(hypothesis: Hypothesis, speech_samples: int) -> bool:
    """Tell whether the words are more likely invented out of noise than heard.

    `speech_samples` is how much speech the detector found for them: below a second it has to be
    surer, since what opens an utterance by mistake is short.
    """
    if not hypothesis.words:
        return False
    silent, unsure = hypothesis.no_speech_probability, hypothesis.mean_log_probability
    if silent > 0.6 and unsure < -1.0:
        return True
    if speech_samples >= samples(1.0):
        return False
    mean = sum(word.probability for word in hypothesis.words) / len(hypothesis.words)
    return (silent > 0.4 and unsure < -0.7) or mean < 0.4
