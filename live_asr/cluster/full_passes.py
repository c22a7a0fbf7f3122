"""Full passes in a Ray cluster, as a server asks for them: see `full_pass.process`, whose client this is.

For each that is under way there is a process between the server and Ray (`pass_bridge`). Where that one ends
the pass ends with it, so that a server that dies leaves none behind.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from live_asr.full_pass.process import FullPass, FullPassJob, FullPassLoad, FullPassResult, OnProgress
from live_asr.inference.ipc import Pool


@dataclass(frozen=True, slots=True)
class PassOrder:
    """First message to the process between: where passes are done."""

    pool: Pool
    diarizes: bool
    """Whether speakers are to be found where a job asks for it; a machine that cannot do so fails then."""


class _RayPass(FullPass):
    """One full pass at a time."""

    _module = "live_asr.cluster.pass_bridge"

    def __init__(self, load: FullPassLoad, pool: Pool) -> None:
        super().__init__(load)
        self._pool = pool

    @property
    def _first_message(self) -> object:
        return PassOrder(self._pool, self.can_diarize)


class RayFullPass:
    """Have full passes done in a cluster, `at_once` of them.

    `load` is what this server would load itself: workers bring the same from where they are.
    """

    def __init__(self, load: FullPassLoad, pool: Pool, at_once: int) -> None:
        self.load = load
        self._lanes = {_RayPass(load, pool): 0 for _ in range(at_once)}
        """And how many passes were asked of each."""

    @property
    def can_diarize(self) -> bool:
        """Whether it can tell speakers apart."""
        return self.load.pipeline is not None

    async def run(
        self, job: FullPassJob, on_progress: OnProgress, *, gives_way: bool = False
    ) -> FullPassResult:
        """Do one job; see `FullPass.run`."""
        lane = min(self._lanes, key=self._lanes.__getitem__)
        self._lanes[lane] += 1
        try:
            return await lane.run(job, on_progress, gives_way=gives_way)
        finally:
            self._lanes[lane] -= 1

    async def close(self) -> None:
        """End what is under way; see `FullPass.close`."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))
