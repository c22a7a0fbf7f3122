"""One server for each data folder: two would take each other's sessions for those of a run that died."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from live_asr.errors import StorageError

LOCK_FILE = ".server.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a data folder. Raises StorageError where another server does, or nothing can be written there.

    The lock is the kernel's, so that a server that is killed lets go of it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_FILE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise StorageError(
            f"Another live-asr serves from {folder}.",
            "Stop that one first, or give this one a folder of its own with --data.",
        ) from None
    except OSError as error:
        raise StorageError(
            f"Nothing can be written in {folder}: {error.strerror or error}.",
            "Use --data to name a folder that this user can write to, on a disk with free space.",
        ) from error
    try:
        yield
    finally:
        lock.release()
