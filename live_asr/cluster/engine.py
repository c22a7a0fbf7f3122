"""The engine of a server whose recognition is done by a pool: see `inference.engine.Engine`.

Speech is judged and voices are told apart beside the server, ten times a second and session; only windows
travel. Both go through the same client of a process that dies and is replaced: one that computes, and one
that has the pool compute.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

from live_asr.core.types import DecodeRequest
from live_asr.inference.engine import Newest
from live_asr.inference.ipc import HEARTBEAT_INTERVAL, Detected, Load, Loaded, Pool, Recognized, Wanted
from live_asr.inference.local_engine import LocalEngine
from live_asr.models.interfaces import FloatArray, SpeechState

MAX_WAIT = 3600.0
"""Seconds in which a first worker comes up: a cluster may have to get a machine for it."""
BESIDE = ("detect", "segment", "embed")
"""Work that does not travel; names as in `inference.local_engine.WORK_NAMES`."""


class RayEngine:
    """Have a pool of workers recognise, and do all else here.

    `load` is what to load here, but for its recogniser; the callbacks are those of `LocalEngine`. `wants` is
    asked once a second how many lanes this server's sessions are predicted to take.
    """

    def __init__(
        self,
        load: Load,
        pool: Pool,
        *,
        timeout: float = 30.0,
        on_restart: Callable[[], None] = lambda: None,
        on_work: Callable[[float], None] = lambda _: None,
        on_audio: Callable[[float], None] = lambda _: None,
        on_batch: Callable[[str, int], None] = lambda _, __: None,
        reserved: Callable[[], float] = lambda: 0.0,
        on_spent: Callable[[float, int], None] = lambda _, __: None,
    ) -> None:
        here = replace(load, recognizer_name="", recognizer_folder=None, measured_file=None)
        self._beside = LocalEngine(
            here, timeout=timeout, on_restart=on_restart, on_audio=on_audio, on_batch=on_batch
        )
        self._pool = LocalEngine(
            pool,
            module="live_asr.cluster.bridge",
            max_load=MAX_WAIT,
            timeout=timeout,
            on_restart=on_restart,
            on_work=on_work,
            on_batch=on_batch,
            reserved=reserved,
            on_spent=on_spent,
        )
        self.wants: Callable[[], float] = lambda: 0.0
        self._telling: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> Loaded | None:
        """Which models there are, here and in the pool; None until both are loaded for the first time."""
        here, there = self._beside.loaded, self._pool.loaded
        if here is None or there is None:
            return None
        return replace(
            there,
            detector_name=here.detector_name,
            equal_error_distance=here.equal_error_distance,
            speaker_encoder_name=here.speaker_encoder_name,
        )

    @property
    def is_up(self) -> bool:
        """Whether questions are answered at this moment: somebody is in the pool, too."""
        pool = self._pool.loaded
        return self._beside.is_up and self._pool.is_up and pool is not None and pool.lanes > 0

    @property
    def warning(self) -> str:
        """Nothing: what the pool runs on is named by its settings."""
        return ""

    @property
    def waiting_count(self) -> int:
        """How many questions wait for their answers."""
        return self._beside.waiting_count + self._pool.waiting_count

    @property
    def changed_at(self) -> float:
        """When the pool, or the process here, last lost or gained somebody; see `Engine.changed_at`."""
        return max(self._beside.changed_at, self._pool.changed_at)

    @property
    def bridge_process_id(self) -> int | None:
        """Id of the process that has the pool compute."""
        return self._pool.process_id

    def waits(self, name: str) -> list[float]:
        """Return for how many seconds each piece of work has waited to be begun; see `LocalEngine.waits`."""
        return (self._beside if name in BESIDE else self._pool).waits(name)

    async def start(self) -> Loaded:
        """Load what is here, and wait for the first worker. Raises EngineError."""
        self._telling = asyncio.create_task(self._tell_wanted(), name="wanted lanes")
        starting = [asyncio.create_task(engine.start()) for engine in (self._beside, self._pool)]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self.close()
            raise
        return await self.wait()

    async def wait(self) -> Loaded:
        """Wait until there are models, here and in the pool."""
        await self._beside.wait()
        await self._pool.wait()
        loaded = self.loaded
        assert loaded is not None, "both have waited"
        return loaded

    async def close(self) -> None:
        """End what runs here; workers stay for other servers, or end by themselves. Idempotent."""
        if self._telling is not None:
            self._telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._telling
            self._telling = None
        await asyncio.gather(self._beside.close(), self._pool.close())

    async def detect(self, samples: FloatArray, state: SpeechState) -> Detected:
        """See `LocalEngine.detect`."""
        return await self._beside.detect(samples, state)

    async def recognize(
        self, request: DecodeRequest, samples: FloatArray, budget: float, *, newest: Newest | None = None
    ) -> Recognized:
        """See `LocalEngine.recognize`."""
        return await self._pool.recognize(request, samples, budget, newest=newest)

    async def segment(self, samples: FloatArray, budget: float) -> FloatArray:
        """See `LocalEngine.segment`."""
        return await self._beside.segment(samples, budget)

    async def embed(self, samples: FloatArray, budget: float) -> FloatArray:
        """See `LocalEngine.embed`."""
        return await self._beside.embed(samples, budget)

    async def _tell_wanted(self) -> None:
        while True:
            self._pool.tell(Wanted(self.wants()))
            await asyncio.sleep(HEARTBEAT_INTERVAL)
