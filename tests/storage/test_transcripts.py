"""Transcripts beside a recording: whoever reads one meanwhile has all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from live_asr.core.errors import StorageError
from live_asr.core.types import Word
from live_asr.full_pass.process import FullPassResult
from live_asr.jobs.results import Outcome
from live_asr.storage.transcripts import write_transcripts


def written(text: str, target: Path) -> list[Path]:
    found = FullPassResult((), (Word(f" {text}", 1600, 8000, 0.9),), "en", "scripted")
    return write_transcripts(Outcome.of(found, 32_000, "wav").record_of("s"), None, target)


def test_who_reads_a_transcript_while_it_is_written_again_has_the_old_one(tmp_path: Path) -> None:
    paths = written("Before", tmp_path / "talk")
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    with paths[-1].open() as reading:
        written("After", tmp_path / "talk")
        assert "Before" in reading.read()
    assert "After" in paths[-1].read_text()
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}


def test_what_cannot_be_written_leaves_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "talk.json").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        written("Before", tmp_path / "talk")
    assert not list(tmp_path.glob(".*"))
