"""How far a full pass is, told at a pace that a reader can follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from live_asr.core.messages import Progress

INTERVAL = 0.25
"""Seconds between two messages: four a second look fluent."""


class PacedProgress:
    """Pass progress on, the newest last, at most every `INTERVAL` seconds; it never goes back.

    Call it from the event loop; `close` it in the end.
    """

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell
        self._newest: Progress | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last = float("-inf")
        self._fraction = 0.0
        self._position: int | None = None

    def __call__(self, stage: str, fraction: float) -> None:
        """Take note of how far the pass is: the stage it is in, and the fraction of the whole, 0 to 1."""
        # A pass that is repeated after a fault begins anew; to a reader that is a standstill.
        self._fraction = max(self._fraction, min(max(fraction, 0.0), 1.0))
        if stage != "loading":
            self._position = None
        self._newest = Progress(stage, round(self._fraction, 3), self._position)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            rest = self._last + INTERVAL - loop.time()
            if rest <= 0:
                self._say()
            else:
                self._timer = loop.call_later(rest, self._say)

    def wait(self, position: int) -> None:
        """Take note of how many passes come before this one."""
        self._position = position
        self("loading", 0.0)

    def close(self) -> None:
        """Say nothing more. Idempotent."""
        self._newest = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say(self) -> None:
        self._timer = None
        self._last = asyncio.get_running_loop().time()
        newest, self._newest = self._newest, None
        if newest is not None:
            self._tell(newest)
