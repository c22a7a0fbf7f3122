"""Notices that a client sends nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SILENT_AFTER = 3.0
"""Seconds without audio after which a live client counts as silent. Frames come several times a second, and
networks stall for less as a rule: it cuts speech that goes on later in two, a word perhaps. Who reads along
does not wait for the last words for longer."""


class Silence:
    """Call `on_silent` once no audio has come for a while; once each time that some has come."""

    def __init__(self, on_silent: Callable[[], None]) -> None:
        self._on_silent = on_silent
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def wait(self) -> None:
        """Wait for `SILENT_AFTER` from now on."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + SILENT_AFTER
        if self._timer is None:  # a running one finds the new deadline: none is made for each frame
            self._timer = loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._look)
            return
        self._timer = None
        self._on_silent()

    def close(self) -> None:
        """Wait no longer, until `wait` is called. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
