"""What is made of a model's files: once, whole or not at all, whoever dies or comes at the same time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from live_asr.models.derived import kept_beside

STAMP = {"version": 1}


class Maker:
    """Writes a file, or a folder of two, and counts how often."""

    def __init__(self, text: str = "made", *, folder: bool = False) -> None:
        self.count = 0
        self._text = text
        self._folder = folder

    def __call__(self, path: Path) -> None:
        self.count += 1
        if self._folder:
            path.mkdir()
            (path / "one").write_text(self._text)
            (path / "two").write_text(self._text)
        else:
            path.write_text(self._text)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("folder", [False, True])
def test_it_is_made_once_for_as_long_as_it_is_of_the_same(tmp_path: Path, folder: bool) -> None:
    make = Maker(folder=folder)
    for _ in range(2):
        assert kept_beside(tmp_path, "it", STAMP, make) == tmp_path / "it"
    assert make.count == 1
    again = Maker("made again", folder=folder)
    kept_beside(tmp_path, "it", {"version": 2}, again)
    assert again.count == 1
    read = tmp_path / "it" / "two" if folder else tmp_path / "it"
    assert read.read_text() == "made again"
    assert names(tmp_path) == {"it", "it.json"}


def test_what_is_longer_or_shorter_than_it_was_made_is_made_anew(tmp_path: Path) -> None:
    make = Maker()
    kept_beside(tmp_path, "it", STAMP, make)
    (tmp_path / "it").write_text("mad")
    kept_beside(tmp_path, "it", STAMP, make)
    assert (make.count, (tmp_path / "it").read_text()) == (2, "made")


@pytest.mark.parametrize("receipt", [b"", b"[]", b"\xff", b'{"version": 1}'])
def test_a_receipt_that_says_nothing_is_as_good_as_none(tmp_path: Path, receipt: bytes) -> None:
    make = Maker()
    kept_beside(tmp_path, "it", STAMP, make)
    (tmp_path / "it.json").write_bytes(receipt)
    kept_beside(tmp_path, "it", STAMP, make)
    assert make.count == 2


@pytest.mark.parametrize("folder", [False, True])
def test_one_that_fails_leaves_nothing_and_what_one_that_died_has_left_is_no_hindrance(
    tmp_path: Path, folder: bool
) -> None:
    def fail(path: Path) -> None:
        Maker(folder=folder)(path)
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        kept_beside(tmp_path, "it", STAMP, fail)
    assert names(tmp_path) == set()
    Maker(folder=folder)(tmp_path / ".it.part")
    assert kept_beside(tmp_path, "it", STAMP, Maker(folder=folder)) == tmp_path / "it"
    assert names(tmp_path) == {"it", "it.json"}


def test_links_to_what_another_model_keeps_are_replaced_and_that_is_left_alone(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
    kept_beside(theirs, "it", STAMP, Maker("theirs", folder=True))
    for name in ("it", "it.json"):
        (ours / name).symlink_to(theirs / name)
    kept_beside(ours, "it", {"version": 2}, Maker("ours", folder=True))
    assert (ours / "it" / "one").read_text() == "ours"
    assert kept_beside(theirs, "it", STAMP, Maker("made again", folder=True)) == theirs / "it"
    assert (theirs / "it" / "one").read_text() == "theirs"


def make_slowly(folder: Path, begun: Callable[[], object], go_on: Callable[[], object]) -> None:
    def make(path: Path) -> None:
        begun()
        go_on()
        path.write_text("the first")

    kept_beside(folder, "it", STAMP, make)


def test_who_comes_while_another_process_makes_it_waits_and_takes_that(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    begun, go_on = spawn.Event(), spawn.Event()
    other = spawn.Process(target=make_slowly, args=(tmp_path, begun.set, go_on.wait))
    other.start()
    try:
        assert begun.wait(60)
        go_on.set()
        make = Maker("the second")
        assert kept_beside(tmp_path, "it", STAMP, make) == tmp_path / "it"
        assert (make.count, (tmp_path / "it").read_text()) == (0, "the first")
    finally:
        other.join()
