"""Whisper on CTranslate2, decoded in short windows.

faster-whisper's own `transcribe` pads every call to 30 s and falls back through beams and temperatures;
a rolling window needs neither, so its parts (features, tokenizer, model) are driven directly here.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import numpy as np

from live_asr.core.messages import RecognizerInfo
from live_asr.core.normalize import normalized
from live_asr.core.types import SAMPLE_RATE_HZ, DecodeRequest, Hypothesis, Word
from live_asr.models.ctranslate2_whisper import WhisperModel, Written
from live_asr.models.device import is_out_of_memory
from live_asr.models.interfaces import FloatArray
from live_asr.models.vocabulary import (
    expected_words,
    fitting,
    is_better_without,
    is_doubtful,
    unheard,
)

HOP_SAMPLES = 160
"""One feature frame is 10 ms."""
FRAME_STEP = 50
"""Windows are cut in steps of 0.5 s, so that few different shapes are ever computed."""
FULL_WINDOW_SAMPLES = 30 * SAMPLE_RATE_HZ
SHORTEST_WINDOW_SAMPLES = 10 * SAMPLE_RATE_HZ
"""What live windows are padded to."""
WARM_UP_TOKENS = 4
WARM_UP_STEP_SAMPLES = 5 * SAMPLE_RATE_HZ
"""Windows of so different lengths take kernels of their own on a GPU."""
TYPICAL_TOKENS = 12
"""Written in a typical step of a live session."""
TYPICAL_ALIGNED = 30
"""Tokens that are aligned in one: with those that were known before."""
SAMPLES_PER_TIME_STEP = 320
"""The aligner answers in steps of 20 ms: the encoder halves the frame rate."""
INSIST_SAMPLES = SAMPLE_RATE_HZ * 6 // 10
"""With so much new speech, the answer that nothing follows is not taken at once."""
MAX_VOCABULARY_TOKENS = 160
"""Keeps prompt, prefix and new words inside the decoder's positions."""
MAX_VOCABULARIES = 64
"""So many lists of words are held as tokens."""
MAX_PREFIX_TOKENS = 200
MAX_BATCH = 24
"""Windows that a GPU decodes at once: more take longer together than one after the other."""
MAX_BELIEFS = 5
"""So many of the likeliest languages are told."""

OPENING_MARKS = frozenset("\"'“¿([{-«„")
CLOSING_MARKS = frozenset("\"'.。,，!！?？:：;；”)]}、…»-%")


class WhisperRecognizer:
    """One Whisper model in CTranslate2's format, without timestamp tokens.

    `workers` windows may be decoded at once from as many threads; on a CPU that takes half the time of
    one worker with twice the threads. `prefix_at_once` False spares what that takes where no request has a
    prefix.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        device: str = "cpu",
        compute_type: str = "int8",
        workers: int = 2,
        beam_size: int = 2,
        prefix_at_once: bool = True,
    ) -> None:
        import tokenizers

        with _without_the_rest("faster_whisper"):
            from faster_whisper.feature_extractor import FeatureExtractor
            from faster_whisper.tokenizer import _LANGUAGE_CODES, Tokenizer

        self._model = WhisperModel(
            folder,
            device=device,
            compute_type=compute_type,
            workers=workers,
            beam_size=beam_size,
            prefix_at_once=prefix_at_once,
        )
        self.spent = self._model.spent
        self.most_batch = 1 if device == "cpu" else MAX_BATCH
        """On a CPU, as many windows at once take as long as one after the other."""
        self._features: Any = FeatureExtractor(feature_size=self._model.mel_bins)
        self._tokens = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer_class: Any = Tokenizer
        self._tokenizers: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self._fitting = lru_cache(MAX_VOCABULARIES)(
            lambda vocabulary: fitting(vocabulary, self._tokens_of, MAX_VOCABULARY_TOKENS)
        )
        known = [code for code in _LANGUAGE_CODES if self._tokens.token_to_id(f"<|{code}|>") is not None]
        self.info = RecognizerInfo(
            name=name,
            languages=tuple(sorted(known)) if self._model.is_multilingual else ("en",),
            device=device,
            compute_type=self._model.compute_type,
        )

    def recognize(self, request: DecodeRequest, samples: FloatArray) -> Hypothesis:
        """Decode one window; see `Recognizer.recognize`."""
        self._check(request, samples)
        encoded = self._encode(request, samples)
        beliefs = self._beliefs(request, encoded)
        language, language_probability = self._language(request, beliefs)
        tokenizer = self._tokenizer(language, request.task)
        hypothesis, probabilities = self._heard(request, encoded, tokenizer, samples.size)
        if request.vocabulary:
            speech_follows = _speech_follows(request)
            doubted = unheard(hypothesis.words, probabilities, expected_words(request.vocabulary))
            if is_doubtful(hypothesis, doubted, speech_follows=speech_follows):
                unbiased, _ = self._heard(replace(request, vocabulary=()), encoded, tokenizer, samples.size)
                if is_better_without(hypothesis, doubted, unbiased):
                    hypothesis = unbiased
        return replace(
            hypothesis,
            language=language,
            language_probability=language_probability,
            language_beliefs=beliefs[:MAX_BELIEFS],
            vocabulary_count=self._fitting(request.vocabulary)[1],
        )

    def _heard(
        self, request: DecodeRequest, encoded: Any, tokenizer: Any, audio_samples: int
    ) -> tuple[Hypothesis, Sequence[float]]:
        """Decode an encoded window; returns the probabilities of its new tokens, too."""
        prompt = self._prompt(request, tokenizer)
        prefix = request.prefix[-MAX_PREFIX_TOKENS:]

        def write(*, insist: bool) -> tuple[list[int], Written]:
            written = self._model.write(
                encoded,
                prompt,
                prefix,
                most_new_tokens=request.max_new_tokens,
                suppress_blank=insist,
            )
            return [token for token in written.tokens if token < tokenizer.eot], written

        speech_follows = _speech_follows(request)
        insist = _insists(request)
        new, written = write(insist=insist)
        insisted = not new and not insist and speech_follows
        if insisted:
            new, written = write(insist=True)
        aligned = self._align(tokenizer, encoded, audio_samples, [*prefix, *new]) if new else None
        words, mean_log_probability = self._words(request, tokenizer, aligned, audio_samples, prefix, new)
        hypothesis = Hypothesis(
            words=words,
            end_sample=request.end_sample,
            no_speech_probability=written.no_speech_probability,
            mean_log_probability=mean_log_probability,
            capped=written.cut_short,
            out_of_room=written.out_of_room,
            insisted=insisted,
        )
        return hypothesis, aligned.text_token_probs[len(prefix) :] if aligned is not None else ()

    def recognize_batch(
        self, requests: Sequence[DecodeRequest], windows: Sequence[FloatArray]
    ) -> list[Hypothesis]:
        """Decode several windows at once, for work that nobody waits for: on a GPU that is many times faster.

        All have the same length with their padding, language, task and vocabulary, and no prefix, and write
        timestamps or none. Where the GPU has no room for so many, it is half of them at a time. Raises
        ValueError where they have not, or for what `recognize` raises it.
        """
        first = requests[0]
        told = {(asked.language, asked.task, asked.vocabulary, asked.timestamps) for asked in requests}
        if len(told) > 1 or first.language is None or any(request.prefix for request in requests):
            raise ValueError("windows decoded at once have one language, task and vocabulary, and no prefix")
        for samples in windows:
            self._check(first, samples)
        return _in_halves(self._recognize_alike, requests, windows)

    def recognize_many(
        self, requests: Sequence[DecodeRequest], windows: Sequence[FloatArray]
    ) -> list[Hypothesis]:
        """Decode windows of several sessions at once; see `BatchRecognizer.recognize_many`.

        Where the GPU has no room for so many, it is half of them at a time. Raises as `recognize`.
        """
        for request, samples in zip(requests, windows, strict=True):
            self._check(request, samples)
        found: dict[int, Hypothesis] = {}
        for insist in (True, False):
            chosen = [index for index, request in enumerate(requests) if _insists(request) is insist]
            if chosen:
                asked, heard = [requests[index] for index in chosen], [windows[index] for index in chosen]
                decode = partial(self._recognize_alike, looks_again=True)
                found |= zip(chosen, _in_halves(decode, asked, heard), strict=True)
        return [found[index] for index in range(len(requests))]

    def _recognize_alike(
        self,
        requests: Sequence[DecodeRequest],
        windows: Sequence[FloatArray],
        *,
        looks_again: bool = False,
    ) -> list[Hypothesis]:
        """Decode windows at once that all insist on an answer or none.

        With `looks_again`, one that calls for a second look, as `recognize` would take it, gets it alone.
        """
        first = requests[0]
        language, language_probability = self._language(first, ())
        tokenizer = self._tokenizer(language, first.task)
        prompt, insist = self._prompt(first, tokenizer), _insists(first)
        length = max(
            max(request.min_window_samples, samples.size + request.padding_samples)
            for request, samples in zip(requests, windows, strict=True)
        )
        alike = [replace(request, min_window_samples=length) for request in requests]
        encoded = self._model.encode(
            np.stack([self._features_of(*asked) for asked in zip(alike, windows, strict=True)])
        )
        prefixes = [request.prefix[-MAX_PREFIX_TOKENS:] for request in requests]
        written = self._model.write_many(
            encoded,
            prompt,
            prefixes,
            most_new_tokens=[request.max_new_tokens for request in requests],
            suppress_blank=insist,
        )
        new = [[token for token in one.tokens if token < tokenizer.eot] for one in written]
        # The aligner wants a token of each window; what it says of one without words is not looked at.
        aligned = self._model.align(
            encoded,
            tokenizer.sot_sequence,
            [[*prefix, *tokens] or [0] for prefix, tokens in zip(prefixes, new, strict=True)],
            [max(1, samples.size // HOP_SAMPLES) for samples in windows],
        )
        expected, (_, vocabulary_count) = expected_words(first.vocabulary), self._fitting(first.vocabulary)
        hypotheses = []
        for index, (request, samples) in enumerate(zip(requests, windows, strict=True)):
            prefix, tokens = prefixes[index], new[index]
            words, mean_log_probability = self._words(
                request, tokenizer, aligned[index], samples.size, prefix, tokens
            )
            hypothesis = Hypothesis(
                words=words,
                end_sample=request.end_sample,
                no_speech_probability=written[index].no_speech_probability,
                mean_log_probability=mean_log_probability,
                capped=written[index].cut_short,
                out_of_room=written[index].out_of_room,
                language=language,
                language_probability=language_probability,
                vocabulary_count=vocabulary_count,
            )
            follows = _speech_follows(request)
            is_doubted = looks_again and not tokens and not insist and follows
            if looks_again and request.vocabulary:
                probabilities = aligned[index].text_token_probs[len(prefix) :] if tokens else ()
                doubted = unheard(words, probabilities, expected)
                is_doubted |= is_doubtful(hypothesis, doubted, speech_follows=follows)
            hypotheses.append(self.recognize(request, samples) if is_doubted else hypothesis)
        return hypotheses

    def warm_up(self, noise: FloatArray) -> None:
        """Make every kind of call once, on a GPU with batches and windows of several lengths too.

        Raises what CTranslate2 raises: a RuntimeError where the device fails.
        """
        tokenizer = self._tokenizer("en", "transcribe")
        request = DecodeRequest(0, noise.size, (), WARM_UP_TOKENS, SHORTEST_WINDOW_SAMPLES, 0, language="en")
        prompt, frames = self._prompt(request, tokenizer), noise.size // HOP_SAMPLES
        words = self._tokens_of(" Good morning.")
        encoded = self._encode(request, noise)
        for prefix in ((), words):
            self._model.write(
                encoded, prompt, prefix, most_new_tokens=WARM_UP_TOKENS, suppress_blank=not prefix
            )
        self._model.align(encoded, tokenizer.sot_sequence, [words], [frames])
        if self._model.is_multilingual:
            self._model.detect_language(encoded)
        if self.info.device == "cpu":
            return
        encoded = self._model.encode(np.stack([self._features_of(request, noise)] * 2))
        for prefixes in (((), ()), (words, words[:1])):
            self._model.write_many(
                encoded,
                prompt,
                prefixes,
                most_new_tokens=[WARM_UP_TOKENS] * 2,
                suppress_blank=not prefixes[0],
            )
        self._model.align(encoded, tokenizer.sot_sequence, [words, words[:1]], [frames, frames // 2])
        for length in range(SHORTEST_WINDOW_SAMPLES, FULL_WINDOW_SAMPLES + 1, WARM_UP_STEP_SAMPLES):
            self._encode(replace(request, min_window_samples=length), noise)

    def typical_step(self, noise: FloatArray) -> None:
        """Do what a live step takes, whatever is heard in `noise`, shape (n,): so that it can be timed."""
        tokenizer = self._tokenizer("en", "transcribe")
        request = DecodeRequest(0, noise.size, (), 0, SHORTEST_WINDOW_SAMPLES, 0, language="en")
        encoded = self._encode(request, noise)
        self._model.write(
            encoded,
            self._prompt(request, tokenizer),
            (),
            most_new_tokens=TYPICAL_TOKENS,
            suppress_blank=True,
            never=[tokenizer.eot],
        )
        words = (self._tokens_of(" Good morning.") * TYPICAL_ALIGNED)[:TYPICAL_ALIGNED]
        self._align(tokenizer, encoded, noise.size, words)

    def detect_language(self, samples: FloatArray) -> dict[str, float]:
        """Return how much each language is believed in, from the first 30 s of `samples`, shape (n,)."""
        if not self._model.is_multilingual:
            return {"en": 1.0}
        request = DecodeRequest(0, samples.size, (), 0, FULL_WINDOW_SAMPLES, 0)
        return dict(self._model.detect_language(self._encode(request, samples[:FULL_WINDOW_SAMPLES])))

    def _check(self, request: DecodeRequest, samples: FloatArray) -> None:
        if samples.size > FULL_WINDOW_SAMPLES:
            raise ValueError(f"a window holds at most 30 s, this one {samples.size / SAMPLE_RATE_HZ:.1f} s")
        if request.language is not None and request.language not in self.info.languages:
            raise ValueError(f"{self.info.name} does not know the language {request.language!r}")

    def _encode(self, request: DecodeRequest, samples: FloatArray) -> Any:
        """Compute log-mel features of the zero-padded window and encode them."""
        return self._model.encode(self._features_of(request, samples)[None])

    def _features_of(self, request: DecodeRequest, samples: FloatArray) -> FloatArray:
        """Compute log-mel features of the zero-padded window, shape (mel bins, frames)."""
        wanted = max(request.min_window_samples, samples.size + request.padding_samples)
        step = FRAME_STEP * HOP_SAMPLES
        length = min(math.ceil(wanted / step) * step, FULL_WINDOW_SAMPLES)
        padded = np.zeros(length, np.float32)
        padded[: samples.size] = samples
        features: FloatArray = self._features(padded, padding=0)[..., : length // HOP_SAMPLES]
        return features

    def _beliefs(self, request: DecodeRequest, encoded: Any) -> tuple[tuple[str, float], ...]:
        """Judge the language, where that is wanted: those that may be chosen, the likeliest first."""
        judged_from = request.judged_from_sample
        if not self._model.is_multilingual or (request.language is not None and judged_from is None):
            return ()
        before = 0 if judged_from is None else max(0, judged_from - request.start_sample)
        found = self._model.detect_language(encoded, before // SAMPLES_PER_TIME_STEP)
        chosen = [(code, belief) for code, belief in found if code in request.languages]
        total = sum(belief for _, belief in chosen)
        return tuple((code, belief / total) for code, belief in chosen) if total > 0 else tuple(found)

    def _language(self, request: DecodeRequest, beliefs: tuple[tuple[str, float], ...]) -> tuple[str, float]:
        if not self._model.is_multilingual:
            return "en", 1.0
        return (request.language, 1.0) if request.language is not None else beliefs[0]

    def _tokenizer(self, language: str, task: str) -> Any:
        with self._lock:
            key = (language, task)
            if key not in self._tokenizers:
                self._tokenizers[key] = self._tokenizer_class(
                    self._tokens, self._model.is_multilingual, task=task, language=language
                )
            return self._tokenizers[key]

    def _prompt(self, request: DecodeRequest, tokenizer: Any) -> list[int]:
        """Return the tokens before the prefix: words to expect, language, task."""
        prompt = [*tokenizer.sot_sequence]
        if not request.timestamps:
            prompt.append(tokenizer.no_timestamps)
        expected, _ = self._fitting(request.vocabulary)
        return [tokenizer.sot_prev, *expected, *prompt] if expected else prompt

    def _tokens_of(self, text: str) -> list[int]:
        return list(self._tokens.encode(text, add_special_tokens=False).ids)

    def _align(self, tokenizer: Any, encoded: Any, audio_samples: int, tokens: list[int]) -> Any:
        frames = max(1, audio_samples // HOP_SAMPLES)
        return self._model.align(encoded, tokenizer.sot_sequence, [tokens], [frames])[0]

    def _words(
        self,
        request: DecodeRequest,
        tokenizer: Any,
        aligned: Any,
        audio_samples: int,
        prefix: tuple[int, ...],
        new: list[int],
    ) -> tuple[tuple[Word, ...], float]:
        """Group the new tokens into words, with the times at which the aligner heard them.

        Returns the words and the mean log probability of their tokens (0 when there are none).
        """
        if not new:
            return (), 0.0
        probabilities = aligned.text_token_probs[len(prefix) :]
        # The first time step at which the aligner's path reaches each token, the end of text included.
        first_step: dict[int, int] = {}
        for token_index, step in aligned.alignments:
            first_step.setdefault(token_index, step)
        last_step = audio_samples // SAMPLES_PER_TIME_STEP

        def sample_of(token_index: int) -> int:
            step = first_step.get(len(prefix) + token_index, last_step)
            return request.start_sample + min(step * SAMPLES_PER_TIME_STEP, audio_samples)

        words: list[Word] = []
        position = 0
        for text, tokens in zip(*tokenizer.split_to_word_tokens(new), strict=True):
            end = position + len(tokens)
            words.append(
                Word(
                    text=text,
                    start_sample=sample_of(position),
                    end_sample=max(sample_of(position), sample_of(end)),
                    probability=float(np.mean(probabilities[position:end])) if end > position else 0.0,
                    tokens=tuple(tokens),
                )
            )
            position = end
        floor = 1e-6
        mean_log = float(np.mean(np.log(np.maximum(probabilities, floor)))) if len(probabilities) else 0.0
        return tuple(merge_marks(words)), mean_log


@contextmanager
def _without_the_rest(package: str) -> Iterator[None]:
    """Import modules of a package without what the package itself imports, unless that is there already.

    faster-whisper's imports FFmpeg's binding and the hub's client: 20 MB that no process of ours needs.
    """
    if package in sys.modules:
        yield
        return
    spec = find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    sys.modules[package] = module_from_spec(spec)  # has a path, and was not run
    try:
        yield
    finally:
        del sys.modules[package]  # who asks for all of it gets it


def _speech_follows(request: DecodeRequest) -> bool:
    return request.new_speech_samples >= INSIST_SAMPLES


def _insists(request: DecodeRequest) -> bool:
    """Tell whether the decoder must write something at once.

    After a forced full stop it often leaves it at that, whatever is said next: with so much new speech it
    must write something. At the end of an utterance, where no further hypothesis will contradict, it is asked
    first.
    """
    return not request.prefix or (_speech_follows(request) and not request.final)


def _in_halves(
    decode: Callable[[Sequence[DecodeRequest], Sequence[FloatArray]], list[Hypothesis]],
    requests: Sequence[DecodeRequest],
    windows: Sequence[FloatArray],
) -> list[Hypothesis]:
    """Decode windows at once, and half of them at a time where the device has no room for all."""
    try:
        return decode(requests, windows)
    except RuntimeError as error:
        if len(windows) == 1 or not is_out_of_memory(error):
            raise
    half = len(windows) // 2
    return [
        *_in_halves(decode, requests[:half], windows[:half]),
        *_in_halves(decode, requests[half:], windows[half:]),
    ]


def merge_marks(words: list[Word]) -> list[Word]:
    """Attach punctuation that the tokenizer set apart to the word it belongs to.

    A closing mark keeps its word's end: the aligner lets it run on into the pause that follows.
    """
    merged: list[Word] = []
    opening: Word | None = None
    for word in words:
        marks = word.text.strip()
        if opening is not None:
            word = _joined(opening, word)
            opening = None
        elif marks and merged and not word.text.startswith(" ") and set(marks) <= CLOSING_MARKS:
            last = merged[-1]
            merged[-1] = _joined(last, word, end_sample=last.end_sample)
            continue
        elif marks and word.text.startswith(" ") and set(marks) <= OPENING_MARKS:
            opening = word
            continue
        merged.append(word)
    if opening is not None:
        merged.append(opening)
    # A mark that opens the hypothesis closes the word before it, which is already committed; it travels
    # with the next word, because committed text only grows.
    if len(merged) > 1 and not merged[0].text.startswith(" ") and set(merged[0].text) <= CLOSING_MARKS:
        merged[:2] = [_joined(merged[0], merged[1], start_sample=merged[1].start_sample)]
    return merged


def _joined(
    first: Word, second: Word, *, start_sample: int | None = None, end_sample: int | None = None
) -> Word:
    """Return both as one word, as probable as the one of the two that is heard: marks are guesses."""
    heard = first if normalized(first.text) else second
    return Word(
        text=first.text + second.text,
        start_sample=first.start_sample if start_sample is None else start_sample,
        end_sample=second.end_sample if end_sample is None else end_sample,
        probability=heard.probability,
        tokens=first.tokens + second.tokens,
    )
