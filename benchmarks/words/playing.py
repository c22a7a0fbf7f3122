"""How the suite `words` plays: as fast as the server takes it, several sessions at once where wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks.base.options import Options
from benchmarks.base.processes import BenchServer
from benchmarks.base.speech import Clip
from benchmarks.base.streaming import Message, SessionLog, play

Job = tuple[Clip, Message]
"""What is played, and the fields of its `start`."""


def play_all(
    server: BenchServer, jobs: Sequence[Job], options: Options, together: int = 1
) -> list[SessionLog]:
    """Play clips, a session each, so many at once; the logs are in the order of the jobs."""

    async def all_of_them() -> list[SessionLog]:
        places = asyncio.Semaphore(together)

        async def one(number: int, clip: Clip, start: Message) -> SessionLog:
            async with places:
                options.say(f"{number} of {len(jobs)}: {clip.name}, {clip.duration:.0f} s")
                log = await play(server.url, clip, pace="fast", start={"diarize": False, **start})
                if log.failure is not None:
                    options.say(f"{clip.name} failed: {log.failure}\n{server.output()}")
                return log

        return list(await asyncio.gather(*(one(number, *job) for number, job in enumerate(jobs, 1))))

    return asyncio.run(all_of_them())
