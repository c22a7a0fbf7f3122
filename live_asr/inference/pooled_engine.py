"""Several devices, a process for each: every question goes to the one with the least to do.

Each is a `LocalEngine` with a queue of its own, kept alive by itself. A question that was handed to one stays
there; what is asked while one is down goes to the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from live_asr.core.types import DecodeRequest
from live_asr.inference.engine import Newest
from live_asr.inference.ipc import Detected, Loaded, Recognized
from live_asr.inference.local_engine import LocalEngine
from live_asr.models.interfaces import FloatArray, SpeechState


class PooledEngine:
    """An `Engine` of several, which have loaded the same models."""

    def __init__(self, engines: Sequence[LocalEngine]) -> None:
        self._engines = tuple(engines)
        self._turn = 0
        """Whose turn it is among those that have as little to do."""

    @property
    def loaded(self) -> Loaded | None:
        """What all have loaded, with the lanes of all; None until the last of them has."""
        all_loaded = [engine.loaded for engine in self._engines]
        found = [loaded for loaded in all_loaded if loaded is not None]
        if len(found) < len(all_loaded):
            return None
        steps = [loaded.step_seconds for loaded in found if loaded.step_seconds is not None]
        return replace(
            found[0],
            lanes=sum(loaded.lanes for loaded in found),
            step_seconds=max(steps) if steps else None,
            most_batch=min(loaded.most_batch for loaded in found),
        )

    @property
    def is_up(self) -> bool:
        """Whether any device answers at this moment."""
        return any(engine.is_up for engine in self._engines)

    @property
    def warning(self) -> str:
        """Why a device is not what was asked for; "" where all are."""
        return next((engine.warning for engine in self._engines if engine.warning), "")

    @property
    def waiting_count(self) -> int:
        """How many questions wait for their answers."""
        return sum(engine.waiting_count for engine in self._engines)

    @property
    def changed_at(self) -> float:
        """When a process last died or came back; see `Engine.changed_at`."""
        return max(engine.changed_at for engine in self._engines)

    def waits(self, name: str) -> list[float]:
        """Return for how many seconds each piece of work has waited; see `LocalEngine.waits`."""
        return [seconds for engine in self._engines for seconds in engine.waits(name)]

    async def start(self) -> Loaded:
        """Start all processes. Raises EngineError where one of them cannot load the models."""
        await asyncio.gather(*(engine.start() for engine in self._engines))
        assert self.loaded is not None, "all have started"
        return self.loaded

    async def wait(self) -> Loaded:
        """Wait until all have loaded the models for the first time."""
        await asyncio.gather(*(engine.wait() for engine in self._engines))
        assert self.loaded is not None, "all are loaded"
        return self.loaded

    async def close(self) -> None:
        """End all processes. Idempotent."""
        await asyncio.gather(*(engine.close() for engine in self._engines))

    async def detect(self, samples: FloatArray, state: SpeechState) -> Detected:
        """See `Engine.detect`."""
        return await self._idlest().detect(samples, state)

    async def recognize(
        self, request: DecodeRequest, samples: FloatArray, budget: float, *, newest: Newest | None = None
    ) -> Recognized:
        """See `Engine.recognize`."""
        return await self._idlest().recognize(request, samples, budget, newest=newest)

    async def segment(self, samples: FloatArray, budget: float) -> FloatArray:
        """See `Engine.segment`."""
        return await self._idlest().segment(samples, budget)

    async def embed(self, samples: FloatArray, budget: float) -> FloatArray:
        """See `Engine.embed`."""
        return await self._idlest().embed(samples, budget)

    def _idlest(self) -> LocalEngine:
        """Return the engine with the least to do for its lanes, of those that are up, where any is."""
        self._turn += 1
        count = len(self._engines)
        in_turn = [self._engines[(self._turn + place) % count] for place in range(count)]
        return min(in_turn, key=_busyness)


def _busyness(engine: LocalEngine) -> tuple[bool, float]:
    lanes = engine.loaded.lanes if engine.loaded is not None else 1
    return not engine.is_up, engine.waiting_count / lanes
