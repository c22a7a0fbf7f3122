"""A Whisper model's files in which four tokens have traded places, so that a prefix costs one pass.

CTranslate2 computes in one pass what it takes for the prompt, and forces whatever text follows it token
by token, each as dear as a new one. For the prompt it takes the tokens whose numbers lie between those
of <|startoftranscript|> and <|notimestamps|>. With these two in the second and the last place of the
vocabulary, all text but the very first entry lies between them.
"""

from __future__ import annotations

import json
import logging
import mmap
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from live_asr.models.derived import kept_beside
from live_asr.storage.files import check_room

log = logging.getLogger(__name__)

VERSION = 6
"""Of CTranslate2's file format: a header, then name, shape, type, size and bytes of each variable."""
ROWS_OF_TOKENS = ("decoder/embeddings/", "decoder/projection/")
"""Variables of which each row belongs to a token."""
START, NO_TIMESTAMPS = "<|startoftranscript|>", "<|notimestamps|>"
KEPT = "live-asr-prefix"
"""The folder of the copy, beside the model's own files."""
KEPT_VERSION = 1
"""Of what is done to the copy: one of another version is made anew."""


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

    It is written once and kept beside the model; where that folder cannot be written, for this time. Raises
    ValueError for files that are not as this module knows them, OSError where they cannot be read or copied,
    DiskFull where there is no room for another copy.
    """
    tokens, config = _vocabulary(folder), json.loads((folder / "config.json").read_text("utf-8"))
    if not (isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)):
        raise ValueError(f"the vocabulary in {folder} is not a list of tokens")
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.json'} is not an object")
    pairs = [(tokens.index(START), 1), (tokens.index(NO_TIMESTAMPS), len(tokens) - 1)]
    places = {one: other for pair in pairs for one, other in (pair, pair[::-1])}
    tables = _tables(folder / "model.bin", len(tokens))
    for one, other in pairs:
        tokens[one], tokens[other] = tokens[other], tokens[one]
    for listed in ("suppress_ids", "suppress_ids_begin"):
        if config.get(listed):
            config[listed] = [places.get(token, token) for token in config[listed]]

    def write(copy: Path) -> None:
        copy.mkdir(exist_ok=True)
        shutil.copyfile(folder / "model.bin", copy / "model.bin")
        with (copy / "model.bin").open("r+b") as model:
            for table in tables:
                _trade_rows(model, table, pairs)
        (copy / "config.json").write_text(json.dumps(config), "utf-8")
        (copy / "vocabulary.json").write_text(json.dumps(tokens), "utf-8")

    def write_beside(copy: Path) -> None:
        check_room(folder, (folder / "model.bin").stat().st_size)
        log.info("Writing a copy of the model in %s whose tokens stand elsewhere, once.", folder)
        write(copy)

    kept = kept_beside(folder, KEPT, _stamp(folder), write_beside)
    if kept is not None:
        yield Traded(kept, places, tokens)
        return
    log.info("%s cannot be written: the copy with tokens elsewhere is made at each start.", folder)
    with tempfile.TemporaryDirectory(prefix="live-asr-") as name:
        write(Path(name))
        yield Traded(Path(name), places, tokens)


def _stamp(folder: Path) -> dict[str, object]:
    """Return what tells whether a copy is of these files: how long they are, and since when."""
    files = [folder / "model.bin", folder / "config.json", _vocabulary_file(folder)]
    states = [(file.name, file.stat()) for file in files]
    return {
        "version": KEPT_VERSION,
        "files": {name: [state.st_size, int(state.st_mtime)] for name, state in states},
    }


def _vocabulary_file(folder: Path) -> Path:
    """Return the file that has the tokens in their order; older models have them line by line."""
    file = folder / "vocabulary.json"
    return file if file.is_file() else folder / "vocabulary.txt"


def _vocabulary(folder: Path) -> Any:
    text = _vocabulary_file(folder).read_text("utf-8")
    if _vocabulary_file(folder).suffix == ".json":
        return json.loads(text)
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


@dataclass(frozen=True, slots=True)
class _Table:
    """A variable with a row for each token."""

    at_bytes: int
    """Where it begins in the file."""
    row_bytes: int


def _tables(file: Path, token_count: int) -> list[_Table]:
    """Find the rows of the tokens. Raises ValueError where there are none, or not as many, and OSError."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as model:
        try:
            variables = _variables(model)
        except (ValueError, struct.error) as error:
            raise ValueError(f"{file}: {error}") from error
    tables = [place for name, place in variables.items() if name.startswith(ROWS_OF_TOKENS)]
    if not tables or any(rows != token_count for rows, _, _ in tables):
        raise ValueError(f"{file}: it has no row for each of {token_count} tokens")
    return [_Table(at, size_bytes // token_count) for _, at, size_bytes in tables]


def _trade_rows(model: BinaryIO, table: _Table, pairs: Sequence[tuple[int, int]]) -> None:
    def row(place: int) -> bytes:
        model.seek(table.at_bytes + place * table.row_bytes)
        return model.read(table.row_bytes)

    for pair in pairs:
        for place, other in zip(pair, [row(pair[1]), row(pair[0])], strict=True):
            model.seek(table.at_bytes + place * table.row_bytes)
            model.write(other)


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
