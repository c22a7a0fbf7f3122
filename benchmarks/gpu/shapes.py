"""A Whisper model with the shape of a known one and random numbers in it: as fast, and it says nothing.

What a call takes depends on how large the matrices are and not on what is in them. So speed can be measured
where the weights are not to be had. It never writes the end of the text: it goes on as long as it may.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENCODER_POSITIONS = 1500
DECODER_POSITIONS = 448
KERNEL = 3
"""Width of both convolutions."""
SPREAD = 0.02
"""Standard deviation of the numbers, as models have it before they are trained."""
SPECIAL = (
    *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"),
    "<|notimestamps|>",
)
"""They follow each other, behind the languages and before the times."""
END, START = "<|endoftext|>", "<|startoftranscript|>"
TIMES = 1501


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a Whisper model is."""

    name: str
    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    mel_bins: int
    text_tokens: int = 50_257
    languages: int = 100
    alignment_heads: tuple[tuple[int, int], ...] = ()
    """Layers of the decoder and their heads whose attention tells when a word was said."""

    @property
    def vocabulary(self) -> list[str]:
        """All tokens, in the order in which Whisper has them."""
        # The last of them is empty where there are many languages: that is what CTranslate2 tells it by.
        words = [*(f"t{number}" for number in range(self.text_tokens - 1)), ""]
        languages = ["<|en|>", *(f"<|l{number}|>" for number in range(1, self.languages))]
        times = [f"<|{number * 0.02:.2f}|>" for number in range(TIMES)]
        return [*words, END, START, *languages, *SPECIAL, *times]


TURBO = Shape(
    "large-v3-turbo",
    width=1280,
    heads=20,
    encoder_layers=32,
    decoder_layers=4,
    mel_bins=128,
    alignment_heads=((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)),
)


@contextmanager
def written(shape: Shape) -> Iterator[Path]:
    """Provide a model of a shape in CTranslate2's format, float16, until the end of the block."""
    with TemporaryDirectory(prefix="live-asr-shape-") as folder:
        write(shape, Path(folder))
        yield Path(folder)


def write(shape: Shape, folder: Path) -> None:
    """Write a model of a shape: `model.bin`, `config.json` and `vocabulary.json`."""
    from ctranslate2.specs.whisper_spec import WhisperSpec

    spec = WhisperSpec(shape.encoder_layers, shape.heads, shape.decoder_layers, shape.heads)
    fill = _Filling()
    width, tokens = shape.width, shape.vocabulary
    encoder, decoder = spec.encoder, spec.decoder
    fill.linear(encoder.conv1, width, shape.mel_bins, KERNEL)
    fill.linear(encoder.conv2, width, width, KERNEL)
    encoder.position_encodings.encodings = fill.numbers(ENCODER_POSITIONS, width)
    decoder.position_encodings.encodings = fill.numbers(DECODER_POSITIONS, width)
    decoder.embeddings.weight = fill.numbers(len(tokens), width)
    decoder.projection.weight = decoder.embeddings.weight
    for layer in (*encoder.layer, *decoder.layer):
        fill.attention(layer.self_attention, width, (3, 1))
        if hasattr(layer, "attention"):
            fill.attention(layer.attention, width, (1, 2, 1))
        fill.norm(layer.ffn.layer_norm, width)
        fill.linear(layer.ffn.linear_0, 4 * width, width)
        fill.linear(layer.ffn.linear_1, width, 4 * width)
    for part in (encoder, decoder):
        fill.norm(part.layer_norm, width)
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = [tokens.index(END)]
    spec.config.suppress_ids_begin = []
    first_language = tokens.index(START) + 1
    spec.config.lang_ids = list(range(first_language, first_language + shape.languages))
    last = shape.decoder_layers - 1
    heads = shape.alignment_heads or tuple((last, head) for head in range(shape.heads))
    spec.config.alignment_heads = [list(head) for head in heads]
    spec.validate()
    spec.optimize(quantization="float16")
    spec.save(str(folder))


class _Filling:
    """Puts random numbers into a specification, the same at every run."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(18)

    def numbers(self, *shape: int) -> NDArray[np.float16]:
        uniform = self._random.random(shape, np.float32) - np.float32(0.5)
        return (uniform * np.float32(SPREAD * 12**0.5)).astype(np.float16)

    def linear(self, spec: Any, rows: int, *columns: int) -> None:
        spec.weight = self.numbers(rows, *columns)
        spec.bias = np.zeros(rows, np.float16)

    def norm(self, spec: Any, width: int) -> None:
        spec.gamma, spec.beta = np.ones(width, np.float16), np.zeros(width, np.float16)

    def attention(self, spec: Any, width: int, parts: tuple[int, ...]) -> None:
        """Several matrices of one input stand in one, below each other."""
        self.norm(spec.layer_norm, width)
        for linear, count in zip(spec.linear, parts, strict=True):
            self.linear(linear, count * width, width)
