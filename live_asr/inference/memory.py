"""Keeps a process that lives for weeks from growing by what it has already freed."""

from __future__ import annotations

import ctypes
import sys
import threading
import time

M_ARENA_MAX = -8
"""Parameter of glibc's mallopt(3)."""
TRIM_INTERVAL = 2.0
"""Seconds between two looks for what can be given back: milliseconds of work each."""


def return_freed_memory() -> None:
    """Give freed memory back to the system from now on; does nothing where there is no glibc.

    A decode frees tens of megabytes in blocks of ever other sizes, which glibc keeps, in a heap for each
    thread, and fragments over hours. One heap for all, trimmed now and then, costs nothing to speak of; to
    have each large block mapped by itself instead would double the cost of a decode.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return
    library.mallopt(M_ARENA_MAX, 1)

    def trim_forever() -> None:
        while True:
            time.sleep(TRIM_INTERVAL)
            library.malloc_trim(0)

    threading.Thread(target=trim_forever, name="memory trimmer", daemon=True).start()
