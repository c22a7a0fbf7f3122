"""A Whisper model on CTranslate2: encode, write on behind what is already known, align.

Here a forced prefix is computed in one pass, which CTranslate2 does not do by itself: see `prefix_prompt`. It
reads off the last token of the first prompt of a batch whether timestamps are wanted, and behind text it
would want them. So before a window with a prefix goes one of silence, whose prompt is as long and ends as it
should. Everything in and out of here is numbered as the model's tokenizer does it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from live_asr.core.errors import DiskFull
from live_asr.models.device import load_cublas
from live_asr.models.interfaces import FloatArray, Spent
from live_asr.models.prefix_prompt import traded_places

log = logging.getLogger(__name__)

MAX_TOKENS = 448
"""The decoder's positions; CTranslate2 leaves at most half of them to what it forces or writes one by one."""
SILENT_FEATURE = -1.5
"""What Whisper makes of a frame without any sound, in each mel bin of a window without any."""
OUTSIDE = 0
"""The one text token that does not lie between the special ones, and what follows it is forced one by one."""
SEARCH = {"length_penalty": 0.5, "patience": 1.5}
"""For a prefix that is part of the prompt. A hypothesis is as long as what is new in it, and its score is
divided by its length to this power: undivided, an early end wins too often; divided by the whole length, one
that runs on. The search goes on until so many times the beam have ended: the first ends may be ones that
nobody would believe."""
SILENT_FRAMES = 3000
"""As many as the longest window has, 30 s."""
SILENT_PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>")
"""Of models with many languages; others have its first token. Silence is over after a token or a few; in some
other languages it may go on until it is stopped."""
END = "<|endoftext|>"
PROBE = (1000, 1001, 1002, 1003)
"""Ordinary text in every vocabulary."""
PROBE_STEPS = 100
"""Two seconds of silence."""
KEPT_AS_FLOAT32 = frozenset({"int8", "int8_float32", "float32"})
"""Arithmetics whose encoder answers in numbers that numpy knows."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the decoder wrote on one window."""

    tokens: list[int]
    """Without those that were forced; special ones may be among them."""
    no_speech_probability: float
    cut_short: bool
    """Whether it was stopped, by the cap or for want of room."""
    out_of_room: bool = False
    """Whether it was for want of room."""


class WhisperModel:
    """One model; `workers` calls are computed at once, each on one core where `device` is a CPU.

    `prefix_at_once` False leaves it as its files have it; so does any arithmetic or device for which the
    prefix cannot be computed at once.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str,
        compute_type: str,
        workers: int,
        beam_size: int,
        prefix_at_once: bool = True,
    ) -> None:
        import ctranslate2

        if device != "cpu":
            load_cublas()

        def load(folder: Path) -> Any:
            return ctranslate2.models.Whisper(
                str(folder),
                device=device,
                compute_type=compute_type,
                intra_threads=1 if device == "cpu" else 0,
                inter_threads=workers,
            )

        self._view = ctranslate2.StorageView.from_array
        self._beam_size = beam_size
        self.spent = Spent()
        self._places: dict[int, int] = {}
        self._silent_prompt: list[int] = []
        with ExitStack() as until_loaded:
            loaded_from = folder
            if prefix_at_once and device == "cpu" and compute_type in KEPT_AS_FLOAT32:
                try:
                    traded = until_loaded.enter_context(traded_places(folder))
                    self._end, *said = (traded.tokens.index(token) for token in (END, *SILENT_PROMPT))
                except (ValueError, OSError, DiskFull) as error:
                    _say_slow(error)
                else:
                    loaded_from, self._places, self._silent_prompt = traded.folder, traded.places, said
            self._model: Any = load(loaded_from)
        self.is_multilingual = bool(self._model.is_multilingual)
        self.mel_bins = int(self._model.n_mels)
        self.compute_type = str(self._model.compute_type)
        if self._places:
            if not self.is_multilingual:
                del self._silent_prompt[1:]
            silent = np.full((1, self.mel_bins, SILENT_FRAMES), SILENT_FEATURE, np.float32)
            self._silence: FloatArray = np.array(self.encode(silent))
            if self._repeats_its_prompt():
                _say_slow("CTranslate2 does not take it for the prompt")
                self._places = {}
                self._model = load(folder)
        self.prefix_at_once = bool(self._places)
        """Whether a prefix costs one pass; else each of its tokens costs as much as a new one."""

    def encode(self, features: FloatArray) -> Any:
        """Encode log-mel features, shape (windows, mel bins, frames); frames are 10 ms."""
        began = time.monotonic()
        encoded = self._model.encode(self._view(np.ascontiguousarray(features, np.float32)))
        self.spent.add(encoder_seconds=time.monotonic() - began)
        return encoded

    def detect_language(self, encoded: Any, from_step: int = 0) -> list[tuple[str, float]]:
        """Return the languages of the first window and how much each is believed in, the likeliest first.

        They are judged by what was encoded from `from_step` on; steps are 20 ms.
        """
        if from_step:
            encoded = self._view(np.ascontiguousarray(self._as_array(encoded)[:, from_step:]))
        return [(token[2:-2], float(found)) for token, found in self._model.detect_language(encoded)[0]]

    def write(
        self,
        encoded: Any,
        prompt: Sequence[int],
        prefix: Sequence[int],
        *,
        most_new_tokens: int,
        suppress_blank: bool,
        never: Sequence[int] = (),
    ) -> Written:
        """Write what follows `prefix` in one window; `prompt` ends in the token that forbids timestamps.

        Of `never`, no token is written.
        """
        told, at_once = self._placed([*prompt, *prefix]), len(prompt)
        if self.prefix_at_once:
            while at_once < len(told) and told[at_once] != OUTSIDE:
                at_once += 1
        prompts = [told]
        if at_once > len(prompt):
            prompts = [self._prompt_of_silence(told, len(prompt), at_once), told]
            encoded = self._behind_silence(encoded)
        forced = list(prefix[at_once - len(prompt) :])
        room = min(len(forced) + most_new_tokens, MAX_TOKENS // 2, MAX_TOKENS - at_once)
        result = self._generate(
            encoded,
            prompts,
            room=room,
            at_once=at_once,
            suppress_blank=suppress_blank,
            suppress_tokens=[-1, *self._placed(never)],
            **(SEARCH if self.prefix_at_once else {}),
        )[-1]
        tokens = self._placed(result.sequences_ids[0])
        if tokens[: len(forced)] == forced:
            tokens = tokens[len(forced) :]
        self.spent.add(tokens=len(tokens))
        cut_short = len(tokens) >= room - len(forced)
        out_of_room = cut_short and room < len(forced) + most_new_tokens
        return Written(tokens, float(result.no_speech_prob), cut_short, out_of_room)

    def write_many(
        self,
        encoded: Any,
        prompt: Sequence[int],
        prefixes: Sequence[Sequence[int]],
        *,
        most_new_tokens: Sequence[int],
        suppress_blank: bool,
    ) -> list[Written]:
        """Write what follows each window's prefix, in all of them at once; see `write`.

        Where a prefix is computed at once there must be none. Elsewhere its tokens are forced one by one,
        which costs a batch what it costs the longest of them.
        """
        wanted = [len(prefix) + most for prefix, most in zip(prefixes, most_new_tokens, strict=True)]
        room = min(max(wanted), MAX_TOKENS // 2, MAX_TOKENS - len(prompt))
        results = self._generate(
            encoded,
            [self._placed([*prompt, *prefix]) for prefix in prefixes],
            room=room,
            at_once=len(prompt),
            suppress_blank=suppress_blank,
        )
        written = []
        for result, prefix, most in zip(results, prefixes, most_new_tokens, strict=True):
            tokens = self._placed(result.sequences_ids[0])
            if tokens[: len(prefix)] == list(prefix):
                tokens = tokens[len(prefix) :]
            self.spent.add(tokens=len(tokens))
            left = room - len(prefix)
            cut_short = len(tokens) >= min(most, left)
            no_speech = float(result.no_speech_prob)
            written.append(Written(tokens[:most], no_speech, cut_short, cut_short and left < most))
        return written

    def align(
        self, encoded: Any, start: Sequence[int], tokens: Sequence[Sequence[int]], frames: Sequence[int]
    ) -> list[Any]:
        """Return the path and the probabilities of each window's tokens, as CTranslate2 does.

        `start` is what the prompt has before the token that forbids timestamps; `frames` are those of each
        window that are not padding.
        """
        placed = [self._placed(one) for one in tokens]
        return list(self._model.align(encoded, self._placed(start), placed, list(frames)))

    def _generate(
        self, encoded: Any, prompts: list[list[int]], *, room: int, at_once: int, **options: Any
    ) -> list[Any]:
        return list(
            self._model.generate(
                encoded,
                prompts,
                beam_size=self._beam_size,
                # Of `max_length`, CTranslate2 gives the new tokens half, or what the prompt but for its last
                # token leaves, whichever is less.
                max_length=min(MAX_TOKENS, max(2 * room, room + at_once - 1)),
                return_no_speech_prob=True,
                **{"suppress_tokens": [-1], **options},
            )
        )

    def _repeats_its_prompt(self) -> bool:
        """Tell whether text in a prompt is refused, or forced so that it comes back."""
        told = [*self._silent_prompt, max(self._places), *PROBE]
        before = self._prompt_of_silence(told, len(told) - len(PROBE), len(told))
        short = self._silence[:, :PROBE_STEPS]
        encoded = self._view(np.concatenate([short, short]))
        try:
            result = self._generate(encoded, [before, told], room=len(PROBE), at_once=len(told))[-1]
        except ValueError:  # where text begins, which it looks for in another place
            return True
        return tuple(result.sequences_ids[0][: len(PROBE)]) == PROBE

    def _placed(self, tokens: Sequence[int]) -> list[int]:
        """Return where tokens are in the model, or which ones are there: they have traded in pairs."""
        return [self._places.get(token, token) for token in tokens]

    def _prompt_of_silence(self, told: list[int], prompt_length: int, length: int) -> list[int]:
        """Return a prompt of this length that starts the transcript where the window's prompt does."""
        before = [self._end] * (prompt_length - 1 - len(self._silent_prompt))
        # To the very last: behind text, timestamps would be wanted.
        no_timestamps = [told[prompt_length - 1]] * (length - prompt_length + 1)
        return [*before, *self._silent_prompt, *no_timestamps]

    def _as_array(self, encoded: Any) -> Any:
        """Return what was encoded as an array, shape (windows, steps, width)."""
        import ctranslate2

        if encoded.device != "cpu":
            encoded = encoded.to_device(ctranslate2.Device.cpu)
        if encoded.dtype == ctranslate2.DataType.bfloat16:  # which numpy does not know
            encoded = encoded.to(ctranslate2.DataType.float32)
        return np.asarray(encoded)

    def _behind_silence(self, encoded: Any) -> Any:
        """Return a batch of two: as much silence, and the window."""
        window = self._as_array(encoded)
        return self._view(np.concatenate([self._silence[:, : window.shape[1]], window]))


def _say_slow(reason: object) -> None:
    log.warning("each word of a prefix will be decoded by itself, which is slow: %s", reason)
