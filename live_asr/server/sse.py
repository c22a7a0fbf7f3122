"""Server-Sent Events to one peer that may leave, or stop reading, at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from fastapi import Response
from starlette.types import Receive, Scope, Send

from live_asr.server.http import ABORT

SEND_TIMEOUT = 10.0
"""Seconds that a peer may take to make room for what comes next; beyond it they are let go."""


KEEPALIVE = b": keepalive\n\n"


class EventStream(Response):
    """One peer's connection: `first`, then what `get` gives until it gives None.

    `during` is entered for as long as the connection lasts, which is cut once `is_allowed` says no. Chunks go
    out as they are, and each costs less than through `sse-starlette` and as much as through
    `StreamingResponse`; neither of them lets go of a peer that has stopped reading.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        get: Callable[[], Awaitable[bytes | None]],
        *,
        first: bytes = b"",
        during: AbstractAsyncContextManager[object] | None = None,
        is_allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._get = get
        self._first = first
        self._during = during or nullcontext()
        self._is_allowed = is_allowed
        self._sending_since: float | None = None
        """When the send began that is not done yet; None between two."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until there is no more, the peer is gone, or takes nothing any more."""
        async with self._during:
            gone = asyncio.create_task(is_gone(receive))
            sending = asyncio.create_task(self._send_all(send))
            try:
                while not (await self._wait(gone, sending)):
                    if self._is_stuck or not self._is_allowed():
                        abort = scope.get("extensions", {}).get(ABORT)
                        if abort is not None:
                            abort["abort"]()
                            await gone
                        break
            finally:
                for task in (gone, sending):
                    task.cancel()
                await asyncio.gather(gone, sending, return_exceptions=True)

    async def _wait(self, *tasks: asyncio.Task[None]) -> bool:
        """Wait a while; return whether one of these is done. A timer for each chunk would cost as much."""
        done, _ = await asyncio.wait(tasks, timeout=SEND_TIMEOUT / 2, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    @property
    def _is_stuck(self) -> bool:
        since = self._sending_since
        return since is not None and asyncio.get_running_loop().time() - since > SEND_TIMEOUT

    async def _send_all(self, send: Send) -> None:
        """Hand over what comes; each send waits until there is room for it."""
        time = asyncio.get_running_loop().time
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        chunk: bytes | None = self._first
        while chunk is not None:
            self._sending_since = time()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            self._sending_since = None
            chunk = await self._get()
        self._sending_since = time()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def is_gone(receive: Receive) -> None:
    """Wait until the peer of a request that was read has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Heartbeat:
    """Give what an iterator gives, and a comment where it gives nothing for `interval` seconds."""

    def __init__(self, chunks: AsyncIterator[bytes], interval: float) -> None:
        self._chunks = chunks
        self._interval = interval
        self._next: asyncio.Future[bytes | None] | None = None

    async def begin(self, patience: float) -> None:
        """Wait so many seconds for the first chunk. Raises what the iterator raises within them."""
        if await self._wait(patience) and self._next is not None:
            error = self._next.exception()
            if error is not None:
                raise error

    async def _wait(self, patience: float) -> bool:
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._chunks, None))
        try:
            done, _ = await asyncio.wait({self._next}, timeout=patience)
        except asyncio.CancelledError:
            self._next.cancel()
            raise
        return bool(done)

    async def get(self) -> bytes | None:
        """Return the next chunk, or a comment; None at the end. Raises what the iterator raises."""
        if not await self._wait(self._interval):
            return KEEPALIVE
        assert self._next is not None, "it was waited for"
        task, self._next = self._next, None
        return task.result()
