"""The single pass that the live text is compared with: the same audio, the same model, no hurry.

faster-whisper's `transcribe` in windows of 30 s, greedy (beam 1, temperature 0, no fallback), no voice
activity filter, no text carried over, with timestamp tokens, so that a window ends where a segment does
and not inside a word. Without those tokens, windows cut every 30 s lost 62 of 234 words of `conv2_public`
with tiny.en (WER 31 % against 8 %), which would have made any live text look good. Word times are one
`align` of each window as it came out, with none of `transcribe`'s corrections afterwards.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base.speech import Clip

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "references"
VERSION = 1
"""Part of a cached reference's name: raise it when the pass changes."""

FRAMES_PER_SECOND = 100
WINDOW_FRAMES = 3000

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReferenceWord:
    """A word of the single pass."""

    text: str
    """As decoded, leading space and punctuation included."""
    start: float
    """Seconds in the clip."""
    end: float
    """Seconds in the clip; where a pause follows, `align` lets it run on into the pause."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What one model makes of one clip, offline."""

    model: str
    language: str
    text: str
    words: tuple[ReferenceWord, ...]


def reference(clip: Clip, model: str, model_dir: Path, language: str | None = None) -> Reference:
    """Return the single pass of a clip by a model, from the cache where it has been made before.

    `model_dir` holds the CTranslate2 model; `language` None lets the model detect it, as a session does.
    """
    kept = CACHE / f"v{VERSION}-{model}-{language or 'auto'}-{clip.digest[:24]}.json"
    if kept.is_file():
        return _from_json(json.loads(kept.read_text()))
    made = single_pass(model, model_dir).run(clip, language)
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(asdict(made), indent=1))
    partial.replace(kept)
    return made


def _from_json(body: Json) -> Reference:
    words = tuple(ReferenceWord(**word) for word in body["words"])
    return Reference(body["model"], body["language"], body["text"], words)


@functools.lru_cache(maxsize=1)
def single_pass(model: str, model_dir: Path) -> SinglePass:
    """Return a loaded model; the one that was asked for last stays loaded."""
    return SinglePass(model, model_dir)


class SinglePass:
    """One loaded model that transcribes whole clips."""

    def __init__(self, model: str, model_dir: Path, threads: int = 1) -> None:
        from faster_whisper import WhisperModel

        self.name = model
        self.whisper = WhisperModel(str(model_dir), device="cpu", compute_type="int8", cpu_threads=threads)

    def run(self, clip: Clip, language: str | None = None) -> Reference:
        """Transcribe and align a clip."""
        audio = clip.audio.astype(np.float32) / 32768.0
        segments, info = self.whisper.transcribe(
            audio,
            language=language if self.whisper.model.is_multilingual else "en",
            beam_size=1,
            best_of=1,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=False,
            word_timestamps=False,
        )
        found = list(segments)
        words = self._align(audio, found, info.language)
        return Reference(self.name, info.language, "".join(segment.text for segment in found), words)

    def _align(self, audio: np.ndarray, segments: list[Any], language: str) -> tuple[ReferenceWord, ...]:
        """Align each window's own tokens with its own encoder output; times count from the clip's start."""
        from faster_whisper.audio import pad_or_trim
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import merge_punctuations

        whisper = self.whisper
        tokenizer = Tokenizer(
            whisper.hf_tokenizer, whisper.model.is_multilingual, task="transcribe", language=language
        )
        features = whisper.feature_extractor(audio)
        words: list[ReferenceWord] = []
        for window_start, window in itertools.groupby(segments, key=lambda segment: segment.seek):
            frames = features[:, window_start : window_start + WINDOW_FRAMES]
            encoded = whisper.encode(pad_or_trim(frames))
            tokens = [token for segment in window for token in segment.tokens if token < tokenizer.eot]
            aligned = whisper.find_alignment(tokenizer, [tokens], encoded, frames.shape[-1])[0]
            merge_punctuations(aligned, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")
            offset = window_start / FRAMES_PER_SECOND
            for word in aligned:
                start, end = (round(offset + float(word[edge]), 3) for edge in ("start", "end"))
                if word["word"].strip():
                    words.append(ReferenceWord(word["word"], start, end))
        return tuple(words)
