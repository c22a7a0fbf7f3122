"""What is looked at from time to time, or when somebody asks, to be counted."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from prometheus_client import Gauge

from live_asr.core.errors import StorageError
from live_asr.inference.local_engine import WORK_NAMES, LocalEngine
from live_asr.inference.pooled_engine import PooledEngine
from live_asr.sessions.metrics import Metrics
from live_asr.storage.database import Database
from live_asr.storage.records import DEAD, PENDING

OUTBOX_INTERVAL = 15.0
"""Seconds: as often as Prometheus usually asks."""


def watch_lanes(engine: LocalEngine | PooledEngine, metrics: Metrics) -> None:
    """Have the metrics tell what waits for the engine, when they are asked."""

    def tell(name: str) -> None:
        if name != "detect":  # which needs no lane
            metrics.batch_size.labels(name)
        metrics.work_waiting.labels(name).set_function(lambda: len(engine.waits(name)))
        metrics.work_age.labels(name).set_function(lambda: max(engine.waits(name), default=0.0))

    for name in WORK_NAMES:
        tell(name)
    metrics.lanes.set_function(lambda: engine.loaded.lanes if engine.loaded is not None else 0)


async def watch_outbox(database: Database, webhooks: Gauge) -> None:
    """Keep count of webhooks that were not delivered; where the database does not tell, of those before."""
    while True:
        with suppress(StorageError):
            counts = await database.call(database.count_deliveries)
            for state in (PENDING, DEAD):
                webhooks.labels(state).set(counts[state])
        await asyncio.sleep(OUTBOX_INTERVAL)
