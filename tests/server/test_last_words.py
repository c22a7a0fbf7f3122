"""What a client had said when its connection turns out to be gone, on the server's own side of a socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from fastapi import WebSocket
from scripted_pass import ScriptedPass, found
from serving import serving
from talking import TIMEOUT, finished_record

from live_asr.server.stream import Stream

SECOND_BYTES = 32_000


class Vanishing:
    """A peer whose last audio, `stop` and close arrive together, just when something is being sent to it."""

    def __init__(self, first: bytes, last: bytes) -> None:
        self.session = ""
        self._last = last
        self._arriving: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._say("websocket.connect")
        self._say("websocket.receive", text=json.dumps({"type": "start", "final_pass": False}))
        self._say("websocket.receive", bytes=first)

    def _say(self, kind: str, **parts: object) -> None:
        self._arriving.put_nowait({"type": kind, **parts})

    async def receive(self) -> dict[str, Any]:
        return await self._arriving.get()

    async def send(self, message: Any) -> None:
        """Take `ready`; at the first acknowledgement, fail as uvicorn does for a peer that has closed."""
        if message["type"] == "websocket.accept":
            return
        told = json.loads(message["text"])
        if told["type"] == "ready":
            self.session = told["session"]
        if told["type"] == "ack":
            self._say("websocket.receive", bytes=self._last)
            self._say("websocket.receive", text='{"type": "stop"}')
            self._say("websocket.disconnect", code=1001)
            raise OSError


async def test_audio_and_a_stop_that_came_with_the_close_count_though_the_sender_noticed_it_first(
    models_dir: Path, sample_pcm: bytes, tmp_path: Path
) -> None:
    peer = Vanishing(sample_pcm[:SECOND_BYTES], sample_pcm[SECOND_BYTES : 3 * SECOND_BYTES])
    scope = {"type": "websocket", "path": "/v1/stream", "headers": [], "subprotocols": []}
    waits = {"server__resume_window": 3600.0}
    async with serving(tmp_path, models_dir, ScriptedPass(found()), **waits) as served:
        state = served.state
        socket = WebSocket(scope, peer.receive, peer.send)
        stream = Stream(
            socket,
            settings=state.settings,
            registry=state.registry,
            metrics=state.metrics,
            access=state.access,
        )
        async with asyncio.timeout(TIMEOUT):
            await stream.run()
        assert (await finished_record(served.url, peer.session))["duration"] == 3.0
