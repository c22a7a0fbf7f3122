"""Clients that trouble a server: rubbish, a deaf one, and an hour of audio as fast as it is taken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass

import websockets

from benchmarks.base.speech import RATE_HZ, Clip, looped
from benchmarks.base.streaming import Recorder

FRAME = 0.1
"""Seconds of audio in a frame."""
HOUR = 3600.0
RUBBISH_BYTES = 3200
RUBBISH_PAUSE = 5.0
"""Seconds until rubbish comes again."""


@dataclass(slots=True)
class Troublemakers:
    """Three of them, until they are cancelled."""

    url: str
    clip: Clip
    seconds: float
    rubbish: int = 0
    """Sessions in which it was sent."""
    unread: int = 0
    """Frames of the one that never reads."""
    file: Recorder | None = None

    async def run(self) -> None:
        """Trouble the server until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._rubbish())
            tasks.create_task(self._deaf())
            tasks.create_task(self._hour())

    def told(self) -> str:
        """Say what was done."""
        sent = len(self.file.log.sent_ends) * FRAME if self.file is not None else 0.0
        return (
            f"{self.rubbish} sessions of rubbish; {self.unread} frames of one that never reads; "
            f"{sent:.0f} s of the file"
        )

    async def _rubbish(self) -> None:
        """Send what is no audio, again and again."""
        while True:
            with contextlib.suppress(OSError, websockets.WebSocketException):
                async with websockets.connect(self.url, ping_interval=None) as socket:
                    audio = {"encoding": "container"}
                    await socket.send(json.dumps({"type": "start", "audio": audio, "final_pass": False}))
                    self.rubbish += 1
                    while True:
                        await socket.send(os.urandom(RUBBISH_BYTES))
                        await asyncio.sleep(FRAME)
            await asyncio.sleep(RUBBISH_PAUSE)

    async def _deaf(self) -> None:
        """Send speech in real time and read nothing; come back where that is the end of it."""
        size = round(FRAME * RATE_HZ) * 2
        pcm = looped(self.clip, self.seconds + HOUR / 60).audio.tobytes()
        first = 0
        while first < len(pcm):
            with contextlib.suppress(OSError, websockets.WebSocketException):
                async with websockets.connect(
                    self.url, ping_interval=None, max_queue=1, compression=None, close_timeout=FRAME
                ) as socket:
                    await socket.send(json.dumps({"type": "start", "final_pass": False}))
                    while first < len(pcm):
                        await socket.send(pcm[first : first + size])
                        first += size
                        self.unread += 1
                        await asyncio.sleep(FRAME)
            await asyncio.sleep(FRAME)

    async def _hour(self) -> None:
        """Send an hour as fast as it is taken."""
        self.file = Recorder(self.url, looped(self.clip, HOUR), pace="fast", pings=False)
        await self.file.run()
