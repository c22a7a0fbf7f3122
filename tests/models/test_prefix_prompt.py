"""Four tokens trade places in a model's files, and what is not such a model is refused."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_asr.core.errors import DiskFull
from live_asr.models.prefix_prompt import KEPT, traded_places
from live_asr.weights.store import resolve

TOKENS = ["!", '"', "word", "<|startoftranscript|>", "<|notimestamps|>", "<|0.00|>"]
ROW = struct.Struct("<2f")
CONFIG = {"suppress_ids": [2, 3], "suppress_ids_begin": [1]}
Keep = Callable[..., Path]


def text(said: str) -> bytes:
    return struct.pack("<H", len(said) + 1) + said.encode() + b"\0"


def variable(name: str, rows: list[bytes]) -> bytes:
    data = b"".join(rows)
    return text(name) + struct.pack("<B2IBI", 2, len(rows), len(rows[0]) // 4, 0, len(data)) + data


def rows(count: int) -> list[bytes]:
    return [ROW.pack(n, -n) for n in range(count)]


def model(*variables: bytes, version: int = 6, kind: str = "WhisperSpec") -> bytes:
    head = struct.pack("<I", version) + text(kind) + struct.pack("<2I", 3, len(variables))
    return head + b"".join(variables)


EMBEDDINGS, PROJECTION = "decoder/embeddings/weight", "decoder/projection/weight"
OTHER = "encoder/conv1/weight"


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Write a model's files; returns their folder."""

    def write(binary: bytes, tokens: Any = TOKENS, config: Any = CONFIG) -> Path:
        (tmp_path / "model.bin").write_bytes(binary)
        (tmp_path / "vocabulary.json").write_text(json.dumps(tokens))
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


def test_rows_and_names_of_the_special_tokens_enclose_all_text_but_the_first(keep: Keep) -> None:
    there = keep(model(variable(OTHER, rows(6)), variable(EMBEDDINGS, rows(6))))
    before = (there / "model.bin").read_bytes()
    order = [0, 3, 2, 1, 5, 4]
    with traded_places(there) as traded:
        assert traded.places == {1: 3, 3: 1, 4: 5, 5: 4}
        expected = model(variable(OTHER, rows(6)), variable(EMBEDDINGS, [rows(6)[n] for n in order]))
        assert (traded.folder / "model.bin").read_bytes() == expected
        assert json.loads((traded.folder / "vocabulary.json").read_text()) == [TOKENS[n] for n in order]
        assert json.loads((traded.folder / "config.json").read_text()) == {
            "suppress_ids": [2, 1],
            "suppress_ids_begin": [3],
        }
    assert (there / "model.bin").read_bytes() == before, "the file itself is left alone"


def test_the_copy_is_written_once_and_found_again_by_who_loads_next(keep: Keep) -> None:
    there = keep(model(variable(EMBEDDINGS, rows(6))))
    with traded_places(there) as first:
        written = first.folder.stat().st_ino, (first.folder / "model.bin").stat().st_mtime_ns
    with traded_places(there) as second:
        assert second == first
        found = second.folder.stat().st_ino, (second.folder / "model.bin").stat().st_mtime_ns
    assert found == written
    assert second.folder == there / KEPT


@pytest.mark.parametrize("changed", ["model.bin", "config.json", "vocabulary.json"])
def test_a_copy_of_other_files_is_made_anew(keep: Keep, changed: str) -> None:
    there = keep(model(variable(EMBEDDINGS, rows(6))))
    with traded_places(there) as traded:
        (traded.folder / "model.bin").write_bytes(b"of the model that was here before")
    status = (there / changed).stat()
    os.utime(there / changed, (status.st_atime, status.st_mtime + 60))
    with traded_places(there) as traded:
        order = [0, 3, 2, 1, 5, 4]
        expected = model(variable(EMBEDDINGS, [rows(6)[n] for n in order]))
        assert (traded.folder / "model.bin").read_bytes() == expected


def test_files_that_are_refused_leave_nothing_beside_them(keep: Keep) -> None:
    there = keep(model(variable(EMBEDDINGS, rows(7))))
    with pytest.raises(ValueError, match="no row for each"), traded_places(there):
        pass
    assert sorted(path.name for path in there.iterdir()) == ["config.json", "model.bin", "vocabulary.json"]


def test_a_copy_for_which_the_disk_has_no_room_is_not_begun(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = keep(model(variable(EMBEDDINGS, rows(6))))
    monkeypatch.setattr("live_asr.storage.files.RESERVE_BYTES", 1 << 60)  # no disk has so much
    with pytest.raises(DiskFull, match="no room"), traded_places(there):
        pass
    assert not (there / KEPT).exists()


def test_an_older_vocabulary_has_a_token_on_each_line(keep: Keep) -> None:
    there = keep(model(variable(EMBEDDINGS, rows(6))))
    (there / "vocabulary.json").unlink()
    (there / "vocabulary.txt").write_text("\n".join(TOKENS) + "\n")
    with traded_places(there) as traded:
        assert json.loads((traded.folder / "vocabulary.json").read_text())[1] == TOKENS[3]


@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_nothing_but_rows_of_four_tokens_differs_in_a_real_model(name: str, models_dir: Path) -> None:
    there = resolve(name, models_dir=models_dir).folder
    before = np.fromfile(there / "model.bin", np.uint8)
    with traded_places(there) as traded:
        after = np.frombuffer((traded.folder / "model.bin").read_bytes(), np.uint8)
    assert len(traded.places) == 4
    changed = np.flatnonzero(before != after)
    width = {"tiny.en": 384, "base": 512}[name]
    assert 0 < changed.size <= 4 * 4 * width, "no more than four rows of float32"
    assert sorted(before[changed]) == sorted(after[changed])


@pytest.mark.parametrize(
    ("binary", "tokens", "said"),
    [
        (model(variable(EMBEDDINGS, rows(6)), version=5), TOKENS, "version 5 of the format"),
        (model(variable(EMBEDDINGS, rows(6)), kind="TransformerSpec"), TOKENS, "TransformerSpec"),
        (model(variable(EMBEDDINGS, rows(6)))[:30], TOKENS, "model.bin: "),
        (model(variable(EMBEDDINGS, rows(6)))[:-1], TOKENS, "ends in the middle"),
        (model(variable(EMBEDDINGS, rows(7))), TOKENS, "no row for each of 6 tokens"),
        (model(variable(EMBEDDINGS, rows(6)), variable(PROJECTION, rows(7))), TOKENS, "no row for each of 6"),
        (
            model(variable(EMBEDDINGS, rows(6))),
            {token: n for n, token in enumerate(TOKENS)},
            "list of tokens",
        ),
        (model(variable(EMBEDDINGS, rows(6))), 5, "list of tokens"),
        (model(variable(OTHER, rows(6))), TOKENS, "no row for each of 6 tokens"),
        (model(variable(EMBEDDINGS, rows(3))), TOKENS[:3], "startoftranscript"),
        (b"", TOKENS, "empty"),
    ],
)
def test_files_that_are_not_as_expected_are_refused(
    keep: Keep, binary: bytes, tokens: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said), traded_places(keep(binary, tokens)):
        pass


def test_a_config_that_is_no_object_is_refused(keep: Keep) -> None:
    there = keep(model(variable(EMBEDDINGS, rows(6))), config=[1])
    with pytest.raises(ValueError, match="not an object"), traded_places(there):
        pass


@pytest.mark.parametrize("config", [{}, {"suppress_ids": None, "suppress_ids_begin": []}])
def test_a_model_that_suppresses_nothing_goes_on_doing_so(keep: Keep, config: Any) -> None:
    with traded_places(keep(model(variable(EMBEDDINGS, rows(6))), config=config)) as traded:
        assert json.loads((traded.folder / "config.json").read_text()) == config
