"""Lets go of clients that hold a place and say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WARNED_BEFORE = 60.0
"""Seconds before its end at which a client is told; half of a time that is shorter than twice as much."""


class Idleness:
    """Call `warn` with the seconds that are left, then `end`, once a client has said nothing for too long.

    `patience` says how many seconds that is, now; 0: never. While `is_waited_for` says that it is the client
    who waits, its time does not run.
    """

    def __init__(
        self,
        patience: Callable[[], float],
        is_waited_for: Callable[[], bool],
        warn: Callable[[float], None],
        end: Callable[[], None],
    ) -> None:
        self._patience = patience
        self._is_waited_for = is_waited_for
        self._warn = warn
        self._end = end
        self._heard_at = 0.0
        self._is_warned = False
        self._timer: asyncio.TimerHandle | None = None

    def touch(self) -> None:
        """Take note that the client has said something, or has come."""
        loop = asyncio.get_running_loop()
        self._heard_at, self._is_warned = loop.time(), False
        patience = self._patience()
        due = self._heard_at + patience - _warning_of(patience)
        # A timer that comes no later finds the new time.
        if patience and (self._timer is None or self._timer.when() > due):
            self.close()
            self._timer = loop.call_at(due, self._look)

    def close(self) -> None:
        """Wait no longer. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer, patience = None, self._patience()
        if self._is_waited_for():
            self.touch()
            return
        left = self._heard_at + patience - loop.time()
        if left <= 0:
            self._end()
            return
        if left <= _warning_of(patience) and not self._is_warned:
            self._is_warned = True
            self._warn(left)
        wait = left if self._is_warned else left - _warning_of(patience)
        self._timer = loop.call_later(max(wait, 0.01), self._look)


def _warning_of(patience: float) -> float:
    return min(WARNED_BEFORE, patience / 2)
