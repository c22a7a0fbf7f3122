"""When live sessions hear what came: all of them at once, and the less often the more of them there are."""

from __future__ import annotations

import asyncio

FREE = 4
"""So many sessions wait for nobody."""
EACH_SECONDS = 0.008
"""What each session beyond them adds to the time between two ticks."""
LONGEST_SECONDS = 0.25
"""A run of eight chunks of speech; more sessions wait no longer."""


class Ticks:
    """Has live sessions decode what came, and have speech detected in it, together.

    What two or three frames bring at once costs little more than one of them, a run of eight chunks little
    more than half of what runs of three do, and what is asked for at once is one message each way. With few
    sessions that is not worth a tenth of a second.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many wait for ticks."""
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def seconds(self) -> float:
        """From one tick to the next; 0 where nobody waits."""
        return min(LONGEST_SECONDS, EACH_SECONDS * max(0, self.count - FREE))

    async def next(self) -> None:
        """Wait for the next tick; the first who waits begins its time."""
        seconds = self.seconds
        if not seconds:
            return
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(seconds, self._begin)
        tick = loop.create_future()
        self._waiting.append(tick)
        await tick

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        for tick in waiting:
            if not tick.done():  # whoever waited may have gone
                tick.set_result(None)
