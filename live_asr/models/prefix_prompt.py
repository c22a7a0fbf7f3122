"""A Whisper model's files in which four tokens have traded places, so that a prefix costs one pass.

CTranslate2 computes in one pass what it takes for the prompt, and forces whatever text follows it token
by token, each as dear as a new one. For the prompt it takes the tokens whose numbers lie between those
of <|startoftranscript|> and <|notimestamps|>. With these two in the second and the last place of the
vocabulary, all text but the very first entry lies between them.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

    folder: Path
    """Of the files that CTranslate2 loads."""
    places: dict[int, int]
    """Token → its place in the model, and the other way round; only of those that moved."""
    tokens: list[str]
    """What is now at each place of the vocabulary."""


@contextmanager
def traded_places(folder: Path) -> Iterator[Traded]:
    """Provide a copy of a model whose special tokens enclose its text, until it is loaded.

    Raises ValueError for files that are not as this module knows them, OSError where they cannot be read
    or copied.
    """
    with tempfile.TemporaryDirectory(prefix="live-asr-") as name, _kept_in_memory(Path(name) / "model.bin"):
        copy = Path(name)
        tokens, config = _vocabulary(folder), json.loads((folder / "config.json").read_text("utf-8"))
        if not (isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)):
            raise ValueError(f"the vocabulary in {folder} is not a list of tokens")
        if not isinstance(config, dict):
            raise ValueError(f"{folder / 'config.json'} is not an object")
        pairs = [(tokens.index(START), 1), (tokens.index(NO_TIMESTAMPS), len(tokens) - 1)]
        places = {one: other for pair in pairs for one, other in (pair, pair[::-1])}
        shutil.copyfile(folder / "model.bin", copy / "model.bin")
        with (copy / "model.bin").open("r+b") as file, mmap.mmap(file.fileno(), 0) as model:
            try:
                _trade_rows(model, pairs, len(tokens))
            except (ValueError, struct.error) as error:
                raise ValueError(f"{folder / 'model.bin'}: {error}") from error
        for one, other in pairs:
            tokens[one], tokens[other] = tokens[other], tokens[one]
        for listed in ("suppress_ids", "suppress_ids_begin"):
            if config.get(listed):
                config[listed] = [places.get(token, token) for token in config[listed]]
        (copy / "config.json").write_text(json.dumps(config), "utf-8")
        (copy / "vocabulary.json").write_text(json.dumps(tokens), "utf-8")
        yield Traded(copy, places, tokens)


@contextmanager
def _kept_in_memory(file: Path) -> Iterator[None]:
    """Let this file be memory that goes with the process, even with one that is killed, where that can be."""
    if not hasattr(os, "memfd_create"):
        yield
        return
    number = os.memfd_create(file.name)
    try:
        file.symlink_to(f"/proc/self/fd/{number}")
        yield
    finally:
        os.close(number)


def _vocabulary(folder: Path) -> Any:
    """Read the tokens in their order; older models have them line by line."""
    file = folder / "vocabulary.json"
    if file.is_file():
        return json.loads(file.read_text("utf-8"))
    lines = (folder / "vocabulary.txt").read_text("utf-8").split("\n")
    return lines if lines[-1] else lines[:-1]


def _trade_rows(model: mmap.mmap, pairs: Sequence[tuple[int, int]], token_count: int) -> None:
    tables = [at for name, at in _variables(model).items() if name.startswith(ROWS_OF_TOKENS)]
    if not tables or any(rows != token_count for rows, _, _ in tables):
        raise ValueError(f"it has no row for each of {token_count} tokens")
    for _, at, size_bytes in tables:
        row_bytes = size_bytes // token_count
        for pair in pairs:
            here, there = (slice(at + place * row_bytes, at + (place + 1) * row_bytes) for place in pair)
            model[here], model[there] = model[there], model[here]


def _variables(model: mmap.mmap) -> dict[str, tuple[int, int, int]]:
    """Return how many rows each variable has (1 for a number), where its bytes begin, and how many they are.

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
        shape = [number("I") for _ in range(number("B"))]
        _type, size_bytes = number("B"), number("I")
        found[name] = (shape[0] if shape else 1, at, size_bytes)
        at += size_bytes
    if at > len(model):
        raise ValueError("it ends in the middle of a variable")
    return found
