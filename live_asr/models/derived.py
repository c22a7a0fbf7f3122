"""What is made of a model's files, once, and kept beside them.

Whoever loads the model next, be it another process, finds it there. Where the folder cannot be written, each
has to make its own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def kept_beside(
    folder: Path, name: str, stamp: Mapping[str, object], make: Callable[[Path], None]
) -> Path | None:
    """Return the file or folder `name` in a model's `folder`; `make` writes it to the path that it is given.

    It is made where it is not there yet, or was made of something else than `stamp` tells, and is in place
    once all of it is on the disk; of several processes one makes it. Returns None where nothing can be
    written. Raises what `make` raises, and OSError.
    """
    target, receipt = folder / name, folder / f"{name}.json"
    if _is_kept(target, receipt, stamp):
        return target
    if not os.access(folder, os.W_OK):
        return None
    try:
        with _alone(folder):
            if not _is_kept(target, receipt, stamp):  # else another process made it while this one waited
                _make(target, receipt, stamp, make)
    except _Unlockable:
        return None
    return target


class _Unlockable(Exception):
    """The file system has no locks."""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. It is the kernel's: it goes with a process that dies, and leaves no file.

    Raises _Unlockable.
    """
    try:
        import fcntl
    except ImportError as error:
        raise _Unlockable from error
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
        except OSError as error:
            raise _Unlockable from error
        yield
    finally:
        os.close(opened)


def _make(target: Path, receipt: Path, stamp: Mapping[str, object], make: Callable[[Path], None]) -> None:
    part = target.with_name(f".{target.name}.part")
    _remove(part)  # of one that died
    try:
        make(part)
        _sync(part)
        receipt.unlink(missing_ok=True)
        if target.is_dir():  # a file is replaced in one step
            _remove(target)
        part.replace(target)
    except BaseException:
        _remove(part)
        raise
    receipt.write_text(json.dumps({**stamp, "bytes": _size(target)}), encoding="utf-8")


def _is_kept(target: Path, receipt: Path, stamp: Mapping[str, object]) -> bool:
    try:
        told = json.loads(receipt.read_text(encoding="utf-8"))
        return bool(told == {**stamp, "bytes": _size(target)})
    except (OSError, ValueError):
        return False


def _files(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _sync(path: Path) -> None:
    for file in _files(path):
        with file.open("rb") as written:
            os.fsync(written.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
