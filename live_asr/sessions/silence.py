"""Notices that a client sends nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SILENT_AFTER = 3.0
"""Seconds without audio after which a live client counts as silent. Frames come several times a second, and
networks stall for less as a rule: it cuts speech that goes on later in two, a word perhaps. Who reads along
does not wait for the last words for longer."""
BACK_WITHIN = 10.0
"""The same after a restart of the server, and where the connection is lost: clients come back within seconds
as a rule, and then their speech goes on as if nothing had been."""


class Silence:
    """Call `on_silent` once no audio has come for a while; once each time that some has come."""

    def __init__(self, on_silent: Callable[[], None]) -> None:
        self._on_silent = on_silent
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, patience: float = SILENT_AFTER) -> None:
        """Wait for so many seconds from now on, whatever was waited for before."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + patience
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return  # it finds the new deadline: no timer is made for each frame
            self._timer.cancel()
        self._timer = loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._look)
            return
        self._timer = None
        self._on_silent()

    def close(self) -> None:
        """Wait no longer. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
