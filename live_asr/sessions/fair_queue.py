"""Who is next where several wait: one after the other of those whose work it is, however much each has."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


class TooManyWait(Exception):
    """One client has as much waiting as it may."""


@dataclass(eq=False, slots=True)
class _Waiting:
    on_position: Callable[[int], None]
    admitted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns:
    """At most `at_once` at a time; the others wait, at most `most_waiting` of each client.

    Clients take turns: who brings forty at once keeps nobody waiting for more than one of them.
    """

    def __init__(self, at_once: int, most_waiting: int) -> None:
        self._free = at_once
        self._most_waiting = most_waiting
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        """Of each client, in the order in which clients come next."""

    @asynccontextmanager
    async def turn(
        self, whose: str, on_position: Callable[[int], None] = lambda _: None
    ) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block lasts.

        `on_position` is told how many come before, whenever that changes. Raises TooManyWait.
        """
        await self._wait(whose, on_position)
        try:
            yield
        finally:
            self._free += 1
            self._admit()

    async def _wait(self, whose: str, on_position: Callable[[int], None]) -> None:
        theirs = self._waiting.setdefault(whose, deque())
        if len(theirs) >= self._most_waiting:
            raise TooManyWait
        one = _Waiting(on_position)
        theirs.append(one)
        self._admit()
        try:
            await one.admitted
        except asyncio.CancelledError:
            if one.admitted.done() and not one.admitted.cancelled():
                self._free += 1
            self._forget(whose, one)
            self._admit()
            raise

    def _admit(self) -> None:
        """Let in as many as there is room for, and tell the others where they are."""
        self._waiting = OrderedDict((whose, theirs) for whose, theirs in self._waiting.items() if theirs)
        while self._free and self._waiting:
            whose, theirs = self._waiting.popitem(last=False)
            one = theirs.popleft()
            if not one.admitted.done():  # else it was cancelled in this turn of the loop, and takes no place
                self._free -= 1
                one.admitted.set_result(None)
            if theirs:
                self._waiting[whose] = theirs  # behind all others
        for position, one in enumerate(self._in_order()):
            one.on_position(position)

    def _in_order(self) -> list[_Waiting]:
        """Return all that wait in the order in which they would be let in now."""
        lines = [list(theirs) for theirs in self._waiting.values()]
        rounds = max(map(len, lines), default=0)
        return [line[number] for number in range(rounds) for line in lines if number < len(line)]

    def _forget(self, whose: str, one: _Waiting) -> None:
        theirs = self._waiting.get(whose)
        if theirs is not None and one in theirs:
            theirs.remove(one)
