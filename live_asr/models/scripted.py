"""Deterministic stand-ins behind the models' interfaces, for tests and demos.

A script says which word is spoken when. From it come the audio, a detector that hears it, and a
recogniser that reads the words off the script as a real one would hear them: what lies inside the
window, half a word at its edge, and nothing again that was forced on it. Thousands of sessions take
seconds.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import Enum

import numpy as np

from live_asr.core.messages import RecognizerInfo
from live_asr.core.speaker_timeline import FRAME_SAMPLES
from live_asr.core.types import CHUNK_SAMPLES, DecodeRequest, Hypothesis, Turn, Word, samples
from live_asr.models.interfaces import FloatArray, SpeechState

LOUD = 0.5
"""Amplitude of scripted speech."""


def spoken(
    text: str, start: float = 0.0, *, word: float = 0.3, gap: float = 0.0, first_token: int = 0
) -> tuple[Word, ...]:
    """Script the words of `text` one after another from `start`, each `word` seconds long.

    `gap` seconds lie between two of them. Each word has one token of its own, from `first_token` on, so
    that a forced prefix tells exactly which words it holds.
    """
    words = []
    for index, written in enumerate(text.split()):
        start_sample = samples(start + index * (word + gap))
        words.append(
            Word(f" {written}", start_sample, start_sample + samples(word), 0.9, (first_token + index,))
        )
    return tuple(words)


def numbered(words: Iterable[Word]) -> tuple[Word, ...]:
    """Return one script out of several: the words in order, with tokens 0, 1, 2 …"""
    return tuple(replace(word, tokens=(index,)) for index, word in enumerate(words))


def audio_of(script: Sequence[Word], duration_samples: int) -> FloatArray:
    """Return audio that is loud where words are and silent elsewhere, shape (duration_samples,)."""
    audio = np.zeros(duration_samples, np.float32)
    for word in script:
        audio[word.start_sample : word.end_sample] = LOUD
    audio[1::2] *= -1
    return audio


class EnergyDetector:
    """Take for speech what is loud.

    The probability of a chunk is its share of samples louder than `threshold`; nothing is remembered
    between chunks.
    """

    def __init__(self, threshold: float = LOUD / 2) -> None:
        self._threshold = threshold

    def detect(self, samples: FloatArray, state: SpeechState) -> tuple[FloatArray, SpeechState]:
        """Judge each 32 ms chunk; see `SpeechDetector.detect`."""
        if samples.size % CHUNK_SAMPLES:
            raise ValueError(f"{samples.size} samples are not a whole number of chunks")
        loud = np.abs(samples.reshape(-1, CHUNK_SAMPLES)) > self._threshold
        return loud.mean(axis=1, dtype=np.float32), state


class ScriptedVoices:
    """Audio in which each speaker, `S1` to `S6`, can be told exactly, and the models that tell them.

    All speech is loud; beyond that a sample holds one bit for each speaker who speaks in it. The
    segmentation numbers the speakers of a window in the order in which they are heard, as a real one does;
    a voice is one axis of space.
    """

    dimension = 6
    equal_error_distance = 0.71

    def audio_of(self, turns: Iterable[Turn], duration_samples: int) -> FloatArray:
        """Return audio in which the turns are heard, shape (duration_samples,)."""
        bits = np.zeros(duration_samples, np.int32)
        for turn in turns:
            bits[turn.start_sample : turn.end_sample] |= 1 << (int(turn.speaker[1:]) - 1)
        return np.where(bits > 0, LOUD + bits / 128, 0.0).astype(np.float32)

    def segment(self, samples: FloatArray) -> FloatArray:
        """Tell who of the first three heard speaks when; see `SpeakerSegmentation.segment`."""
        heard = self._heard(samples[::FRAME_SAMPLES])
        order = [
            s
            for s in sorted(range(self.dimension), key=lambda s: self._first(heard[:, s]))
            if heard[:, s].any()
        ]
        activity = np.zeros((len(heard), 3), np.float32)
        for local, speaker in enumerate(order[:3]):
            activity[:, local] = heard[:, speaker]
        return activity

    def embed(self, samples: FloatArray) -> FloatArray:
        """Embed whoever is heard, each in proportion; see `SpeakerEncoder.embed`."""
        mixed = self._heard(samples).sum(axis=0).astype(np.float32)
        return np.asarray(mixed / np.linalg.norm(mixed), np.float32)

    def _heard(self, samples: FloatArray) -> FloatArray:
        bits = np.rint(np.maximum(samples - LOUD, 0.0) * 128).astype(np.int32)[:, None]
        return np.asarray((bits >> np.arange(self.dimension)) & 1, np.float32)

    @staticmethod
    def _first(heard: FloatArray) -> int:
        return int(heard.argmax()) if heard.any() else len(heard)


class ScriptedRecognizer:
    """Read the words inside the window off a script, those after the forced prefix.

    Of a word that reaches beyond the window's end real recognisers make a guess, another one each time:
    here its first letter, once for each tenth of a second that was heard. One of which less than half is
    inside is not heard at all, and one that lacks 50 ms is understood.
    """

    def __init__(self, script: Sequence[Word], *, language: str = "en") -> None:
        self.info = RecognizerInfo(name="scripted", languages=(language,), device="cpu", compute_type="none")
        self._script = tuple(script)
        self._middles = [(word.start_sample + word.end_sample) // 2 for word in self._script]

    def recognize(self, request: DecodeRequest, samples: FloatArray) -> Hypothesis:
        """Read the window; see `Recognizer.recognize`."""
        if samples.size != request.end_sample - request.start_sample:
            raise ValueError("the audio is not the request's window")
        if request.language not in (None, *self.info.languages):
            raise ValueError(f"scripted does not know the language {request.language!r}")
        said = max(request.prefix, default=-1)
        inside = slice(
            bisect.bisect_right(self._middles, request.start_sample),
            bisect.bisect_left(self._middles, request.end_sample),
        )
        heard = [
            self._heard(word, request.end_sample) for word in self._script[inside] if word.tokens[0] > said
        ]
        return Hypothesis(
            words=tuple(heard[: request.max_new_tokens]),
            end_sample=request.end_sample,
            mean_log_probability=-0.1,
            capped=len(heard) >= request.max_new_tokens,
            language=self.info.languages[0],
            language_probability=1.0 if request.language else 0.95,
        )

    def warm_up(self, noise: FloatArray) -> None:
        """Do nothing: a script is always warm."""

    def written(self, tokens: Sequence[int]) -> tuple[Word, ...]:
        """Return the words of the script that these tokens stand for."""
        wanted = set(tokens)
        return tuple(word for word in self._script if word.tokens[0] in wanted)

    def _heard(self, word: Word, end_sample: int) -> Word:
        if word.end_sample <= end_sample:
            return word
        if word.end_sample <= end_sample + samples(0.05):
            return replace(word, end_sample=end_sample)
        guess = word.text[:2] + word.text[1] * ((end_sample - word.start_sample) // samples(0.1))
        return replace(word, text=guess, end_sample=end_sample)


class Mishap(Enum):
    """What can go wrong in one decode."""

    NONE = "none"
    """Nothing: the words as they are."""
    NOTHING = "nothing"
    """No words at all."""
    ANOTHER_MIND = "another mind"
    """Every other word is another one than last time."""
    LOOP = "loop"
    """The last words are said over and over, up to the token cap."""
    ECHO = "echo"
    """The forced words are said again, in no time, if there are three at least."""
    JUNK = "junk"
    """Words that nobody said, up to the token cap."""
    NOISE = "noise"
    """The words, with the numbers of a model that believes in no speech."""
    WILD_TIMES = "wild times"
    """The words, with times that overlap, run backwards and leave the window."""
    FAILURE = "failure"
    """An exception."""


class UnreliableRecognizer:
    """Do at each decode to another recogniser's answer what `mishaps` says next.

    Raises RuntimeError for `Mishap.FAILURE`. When `mishaps` is exhausted all goes well.
    """

    def __init__(self, recognizer: ScriptedRecognizer, mishaps: Iterable[Mishap]) -> None:
        self.info = recognizer.info
        self._recognizer = recognizer
        self._mishaps = iter(mishaps)
        self._count = 0

    def warm_up(self, noise: FloatArray) -> None:
        """Do nothing: a script is always warm."""

    def recognize(self, request: DecodeRequest, samples: FloatArray) -> Hypothesis:
        """Read the window, and spoil the answer; see `Recognizer.recognize`."""
        self._count += 1
        hypothesis = self._recognizer.recognize(request, samples)
        mishap = next(self._mishaps, Mishap.NONE)
        if mishap is Mishap.FAILURE:
            raise RuntimeError("a scripted failure")
        if mishap is Mishap.ECHO:
            return _echo(hypothesis, self._recognizer.written(request.prefix))
        spoil = _SPOILERS.get(mishap)
        return hypothesis if spoil is None else spoil(hypothesis, request, self._count)


def _nothing(hypothesis: Hypothesis, request: DecodeRequest, count: int) -> Hypothesis:
    return replace(hypothesis, words=())


def _another_mind(hypothesis: Hypothesis, request: DecodeRequest, count: int) -> Hypothesis:
    words = tuple(
        replace(word, text=f" other{count}") if index % 2 else word
        for index, word in enumerate(hypothesis.words)
    )
    return replace(hypothesis, words=words)


def _loop(hypothesis: Hypothesis, request: DecodeRequest, count: int) -> Hypothesis:
    words = list(hypothesis.words)
    phrase = words[-1 - count % 3 :]
    while phrase and len(words) < request.max_new_tokens:
        words += [_at_edge(word, request) for word in phrase]
    return replace(hypothesis, words=tuple(words[: request.max_new_tokens]), capped=bool(phrase))


def _echo(hypothesis: Hypothesis, forced: Sequence[Word]) -> Hypothesis:
    if len(forced) < 3:
        return hypothesis
    start = forced[-1].end_sample
    copies = [replace(word, start_sample=start, end_sample=start + samples(0.01)) for word in forced]
    return replace(hypothesis, words=(*copies, *hypothesis.words))


def _junk(hypothesis: Hypothesis, request: DecodeRequest, count: int) -> Hypothesis:
    edge = Word("", request.start_sample, request.end_sample, 0.1, (0,))
    junk = tuple(
        replace(_at_edge(edge, request), text=f" junk{count}x{index}")
        for index in range(request.max_new_tokens)
    )
    return replace(hypothesis, words=junk, capped=True)


def _noise(hypothesis: Hypothesis, request: DecodeRequest, count: int) -> Hypothesis:
    return replace(hypothesis, no_speech_probability=0.9, mean_log_probability=-2.0)


def _wild_times(hypothesis: Hypothesis, request: DecodeRequest, count: int) -> Hypothesis:
    words = tuple(
        replace(
            word,
            start_sample=word.start_sample + samples((index * 7 + count) % 5 - 2.0),
            end_sample=word.end_sample + samples((index * 5 + count) % 7 - 2.0),
        )
        for index, word in enumerate(hypothesis.words)
    )
    return replace(hypothesis, words=words)


def _at_edge(word: Word, request: DecodeRequest) -> Word:
    return replace(word, start_sample=request.end_sample, end_sample=request.end_sample)


_SPOILERS: dict[Mishap, Callable[[Hypothesis, DecodeRequest, int], Hypothesis]] = {
    Mishap.NOTHING: _nothing,
    Mishap.ANOTHER_MIND: _another_mind,
    Mishap.LOOP: _loop,
    Mishap.JUNK: _junk,
    Mishap.NOISE: _noise,
    Mishap.WILD_TIMES: _wild_times,
}
