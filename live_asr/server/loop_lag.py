"""How long the event loop is held: what everybody's pings wait for."""

from __future__ import annotations

import asyncio

from prometheus_client import Gauge, Histogram

INTERVAL = 0.02


async def watch_loop(longest: Gauge, lag: Histogram) -> None:
    """Observe how many seconds the loop comes late, and keep `longest` at the most since the start."""
    loop = asyncio.get_running_loop()
    worst = 0.0
    while True:
        before = loop.time()
        await asyncio.sleep(INTERVAL)
        late = loop.time() - before - INTERVAL
        lag.observe(max(0.0, late))
        if late > worst:
            worst = late
            longest.set(worst)
