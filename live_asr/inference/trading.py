"""A Whisper model's files in which four tokens have traded places, so that a prefix costs one pass.

CTranslate2 computes in one pass what it takes for the prompt, and forces whatever text follows it token
by token, each as dear as a new one. For the prompt it takes the tokens whose numbers lie between those
of <|startoftranscript|> and <|notimestamps|>. With these two in the second and the last place of the
vocabulary, all text but the very first entry lies between them.
"""

from __future__ import annotations

import json
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 6
"""Of CTranslate2's file format: a header, then name, shape, type, size and bytes of each variable."""
ROWS_OF_TOKENS = ("decoder/embeddings/", "decoder/projection/")
"""Variables of which each row belongs to a token."""
START, NO_TIMESTAMPS = "<|startoftranscript|>", "<|notimestamps|>"


@dataclass(frozen=True, slots=True)
class Traded:
    """A model whose tokens are elsewhere than its tokenizer puts them."""

    files: dict[str, Any]
    """Name → bytes or a readable file, as `ctranslate2.models.Whisper` takes them."""
    places: dict[int, int]
    """Token → its place in the model, and the other way round; only of those that moved."""


def trade_places(folder: Path) -> Traded:
    """Read a model whose special tokens enclose its text.

    Raises ValueError for files that are not as this module knows them, OSError where they cannot be read.
    """
    vocabulary, config = _vocabulary(folder), json.loads((folder / "config.json").read_text("utf-8"))
    pairs = [(vocabulary.index(START), 1), (vocabulary.index(NO_TIMESTAMPS), len(vocabulary) - 1)]
    places = {one: other for pair in pairs for one, other in (pair, pair[::-1])}
    with (folder / "model.bin").open("rb") as file:
        # Copied on writing: only the pages with these rows are.
        model = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    try:
        rows = [found for name, found in _variables(model).items() if name.startswith(ROWS_OF_TOKENS)]
    except struct.error as error:
        raise ValueError(f"{folder / 'model.bin'} ends in the middle of a variable") from error
    traded = 0
    for shape, at, size_bytes in rows:
        if not shape or shape[0] != len(vocabulary):
            continue
        row_bytes = size_bytes // shape[0]
        for pair in pairs:
            here, there = (slice(at + place * row_bytes, at + (place + 1) * row_bytes) for place in pair)
            model[here], model[there] = model[there], model[here]
        traded += 1
    if not traded:
        raise ValueError(f"{folder / 'model.bin'} has no row for each of {len(vocabulary)} tokens")
    for one, other in pairs:
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    for listed in ("suppress_ids", "suppress_ids_begin"):
        config[listed] = [places.get(token, token) for token in config.get(listed, [])]
    files = {
        "model.bin": model,
        "config.json": json.dumps(config).encode(),
        "vocabulary.json": json.dumps(vocabulary).encode(),
    }
    return Traded(files, places)


def _vocabulary(folder: Path) -> list[str]:
    """Return the tokens in their order; older models have them line by line."""
    file = folder / "vocabulary.json"
    if file.is_file():
        return list(json.loads(file.read_text("utf-8")))
    lines = (folder / "vocabulary.txt").read_text("utf-8").split("\n")
    return lines if lines[-1] else lines[:-1]


def _variables(model: mmap.mmap) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Return each variable's shape, where its bytes begin, and how many they are.

    Raises ValueError for another format, struct.error where the file ends too early.
    """
    at = 0

    def number(kind: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{kind}", model, at)
        at += struct.calcsize(kind)
        return int(value)

    def text() -> str:
        nonlocal at
        length = number("H")  # a zero at the end included
        at += length
        return model[at - length : at - 1].decode()

    if (version := number("I")) != VERSION:
        raise ValueError(f"this is version {version} of the format, not {VERSION}")
    kind, _revision = text(), number("I")
    if kind != "WhisperSpec":
        raise ValueError(f"this is a {kind}, not a Whisper model")
    found = {}
    for _ in range(number("I")):
        name = text()
        shape = tuple(number("I") for _ in range(number("B")))
        _type, size_bytes = number("B"), number("I")
        found[name] = (shape, at, size_bytes)
        at += size_bytes
    return found
