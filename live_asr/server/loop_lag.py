"""How long the event loop is held: what everybody's pings wait for."""

from __future__ import annotations

import asyncio

from prometheus_client import Gauge

INTERVAL = 0.02


async def watch_loop(longest: Gauge) -> None:
    """Keep `longest` at the longest time, in seconds, that the loop came late since the start."""
    loop = asyncio.get_running_loop()
    worst = 0.0
    while True:
        before = loop.time()
        await asyncio.sleep(INTERVAL)
        late = loop.time() - before - INTERVAL
        if late > worst:
            worst = late
            longest.set(worst)
