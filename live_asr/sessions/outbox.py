"""A bounded queue to one client.

Messages that change the record are never dropped; of those that the next one replaces only the newest
waits. A client that reads so slowly that the others pile up is told so and let go, rather than waited for.
"""

from __future__ import annotations

import asyncio
from collections import deque

from live_asr.core.messages import Ack, Error, Final, Lag, Partial, Progress, ServerMessage, Stopped, encode
from live_asr.errors import ClientError

REPLACEABLE = (Partial, Ack, Lag, Progress)
"""Of these only the newest is worth sending."""
LAST = (Stopped, Final, Error)
"""These come once, at the end; hours of speech make the first two as large as they are."""


class Outbox:
    """What waits to be sent to one client."""

    def __init__(self, most_bytes: int = 4 * 1024 * 1024) -> None:
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[ServerMessage, bytes]] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, message: ServerMessage, encoded: bytes | None = None) -> None:
        """Add a message; `encoded` is its text if that is known already.

        Raises ClientError `slow_client` when what waits exceeds the bound: the client does not read.
        """
        if self._closed:
            return
        if isinstance(message, REPLACEABLE):
            self._drop_older(type(message))
        text = encoded if encoded is not None else encode(message)
        is_bounded = not isinstance(message, REPLACEABLE + LAST)
        if is_bounded and self._waiting_bytes + len(text) > self._most_bytes:
            raise ClientError(
                "slow_client",
                "The client reads more slowly than captions are made.",
                "Read all messages as they come; the transcript stays available over HTTP.",
            )
        self._waiting.append((message, text))
        self._waiting_bytes += len(text)
        self._changed.set()

    def clear(self) -> None:
        """Forget what waits: its client will not read it."""
        self._waiting.clear()
        self._waiting_bytes = 0

    def close(self) -> None:
        """Take nothing more; what waits can still be taken out."""
        self._closed = True
        self._changed.set()

    async def get(self) -> bytes | None:
        """Wait for the next message's text; None when the box is closed and empty."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        _, text = self._waiting.popleft()
        self._waiting_bytes -= len(text)
        return text

    def _drop_older(self, kind: type[ServerMessage]) -> None:
        for index, (message, text) in enumerate(self._waiting):
            if isinstance(message, kind):
                del self._waiting[index]
                self._waiting_bytes -= len(text)
                return
