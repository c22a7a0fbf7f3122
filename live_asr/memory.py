"""Keeps a process that lives for weeks from growing by what it has already freed."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt(3)."""


def return_freed_memory() -> None:
    """Let glibc give large blocks back to the system as soon as they are freed; does nothing elsewhere.

    A decode frees some ten megabytes in blocks of ever other sizes. By default glibc learns to keep such
    blocks, in a heap for each thread, and fragments them over hours.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 2)
        mallopt(M_MMAP_THRESHOLD, 256 * 1024)
        mallopt(M_TRIM_THRESHOLD, 1024 * 1024)
