"""Transcripts as files: rendered by few at a time, once for all who ask, and sent within reasonable time.

An hour of speech takes seconds to read and render, and megabytes: it must not cost those who speak anything.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from fastapi import Response
from starlette.types import Receive, Scope, Send

from live_asr.core.errors import Unavailable
from live_asr.server.http import ABORT
from live_asr.server.sse import is_gone

AT_ONCE = 2
"""Transcripts that are read and rendered at a time; more would take the interpreter from who speaks."""
MAX_AT_WORK = 16
"""Requests that are rendered, wait for that, or are being sent."""
MAX_OF_AN_ADDRESS = 12
CACHE_BYTES = 32 * 1024 * 1024
"""Of rendered transcripts, the newest."""
CHUNK_BYTES = 64 * 1024
SEND_TIMEOUT = 10.0
"""Seconds that a peer may take to make room for the next chunk."""
RETRY_AFTER = 5.0

P = ParamSpec("P")
T = TypeVar("T")
Key = tuple[str, ...]


class Exports:
    """The transcripts that are asked for over HTTP."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="exports")
        self._at_work: Counter[str] = Counter()
        self._made: OrderedDict[Key, bytes] = OrderedDict()
        self._made_bytes = 0
        self._making: dict[Key, asyncio.Future[bytes]] = {}

    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what blocks in a thread of the exports' own, and wait for it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(function, *args, **kwargs))

    @property
    def count(self) -> int:
        """How many places are taken."""
        return self._at_work[""]

    def close(self) -> None:
        """End the threads. Idempotent."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def place(self, address: str | None) -> Iterator[None]:
        """Hold one of the places. Raises Unavailable `exports_full` where there is none, or none for one more
        of an address."""
        keys = ["", *([f"from {address}"] if address is not None else [])]
        for key, most in zip(keys, (MAX_AT_WORK, MAX_OF_AN_ADDRESS), strict=False):
            if self._at_work[key] >= most:
                raise Unavailable(
                    "exports_full",
                    f"{most} transcripts are being sent already.",
                    "Try again in a few seconds.",
                    retry_after=RETRY_AFTER,
                )
        self._at_work.update(keys)
        try:
            yield
        finally:
            self._at_work.subtract(keys)
            self._at_work = +self._at_work

    async def made(self, key: Key | None, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return what was made under a key, or make it: once, for all who ask meanwhile. None: each time."""
        if key is None:
            return await make()
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.ensure_future(self._make(key, make))
            making.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(making)

    async def _make(self, key: Key, make: Callable[[], Awaitable[bytes]]) -> bytes:
        body = await make()
        if len(body) <= CACHE_BYTES:
            self._made[key] = body
            self._made_bytes += len(body)
        while self._made_bytes > CACHE_BYTES:
            self._made_bytes -= len(self._made.popitem(last=False)[1])
        return body

    def forget(self, session_id: str) -> None:
        """Hold nothing any more of a session that was erased. Idempotent."""
        for key in [key for key in self._made if key[0] == session_id]:
            self._made_bytes -= len(self._made.pop(key))


class Sent(Response):
    """A file in chunks, to a peer that may stop reading: it is let go then, and `place` is given back."""

    def __init__(self, body: bytes, place: Any, **options: Any) -> None:
        super().__init__(b"", **options)
        self._whole = memoryview(body)
        self._place = place
        self.headers["Content-Length"] = str(len(body))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, as far as the peer takes it."""
        with self._place:
            gone = asyncio.create_task(is_gone(receive))
            try:
                await self._send_all(send)
            except TimeoutError:
                abort = scope.get("extensions", {}).get(ABORT)
                if abort is not None:
                    abort["abort"]()
                    await gone
            finally:
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for first in range(0, len(self._whole), CHUNK_BYTES):
            async with asyncio.timeout(SEND_TIMEOUT):
                piece = bytes(self._whole[first : first + CHUNK_BYTES])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        async with asyncio.timeout(SEND_TIMEOUT):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
