"""One server for each data folder: two would take each other's sessions for those of a run that died."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from live_asr.core.errors import StorageError

LOCK_FILE = ".server.lock"
OWN_PREFIX = "work-"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a data folder. Raises StorageError where another server does, or nothing can be written there.

    The lock is the kernel's, so that a server that is killed lets go of it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_FILE)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise StorageError(
            f"Another live-asr serves from {folder}.",
            "Stop that one first, or give this one a folder of its own with --data.",
        ) from None
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def try_held(folder: Path) -> Callable[[], None] | None:
    """Hold a data folder as a server does; return what lets go of it, None where another holds it. Blocks.

    Raises StorageError where nothing can be written there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_FILE, thread_local=False)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except OSError as error:
        raise unwritable(folder, error) from error
    return lock.release


@contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """Give a folder of one's own for as long as the block lasts, and erase those of processes that died.

    What else is in `parent` stays. Raises StorageError where nothing can be written there.
    """
    from filelock import FileLock, Timeout

    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in parent.glob(f"{OWN_PREFIX}*"):
            lock = FileLock(left / LOCK_FILE)
            with suppress(Timeout, FileNotFoundError, NotADirectoryError), lock.acquire(timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        # Made under another name: until its lock is held it must not look like a dead one's.
        folder = Path(tempfile.mkdtemp(dir=parent.parent, prefix=f".{OWN_PREFIX}"))
        lock = FileLock(folder / LOCK_FILE)
        lock.acquire(timeout=0)
        folder = folder.rename(parent / folder.name.removeprefix("."))
    except OSError as error:
        raise unwritable(parent, error) from error
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def unwritable(folder: Path, error: OSError) -> StorageError:
    """Return the refusal of a folder in which nothing can be written."""
    return StorageError(
        f"Nothing can be written in {folder}: {error.strerror or error}.",
        "Use --data to name a folder that this user can write to, on a disk with free space.",
    )
