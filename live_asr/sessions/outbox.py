"""A bounded queue to one connection of a client.

Messages that change the record are never dropped; of those that the next one replaces only the newest
waits. A client that reads so slowly that the others pile up is told so and let go, rather than waited for.
What is not on disk yet is not given out, and nothing overtakes it: a client must never have heard more than
a server knows that comes back after a crash.
"""

from __future__ import annotations

import asyncio
from collections import deque

from live_asr.core.messages import (
    Ack,
    Error,
    Final,
    Lag,
    Partial,
    Progress,
    ServerMessage,
    Stopped,
    encode,
    error_message,
)
from live_asr.errors import ClientError, LiveAsrError

REPLACEABLE = (Partial, Ack, Lag, Progress)
"""Of these only the newest is worth sending."""
LAST = (Stopped, Final, Error)
"""These come once, at the end; hours of speech make the first two as large as they are."""


class Outbox:
    """What waits to be sent over one connection. `is_resumed` tells that it took up a lost one."""

    def __init__(self, most_bytes: int = 4 * 1024 * 1024, *, is_resumed: bool = False) -> None:
        self.is_resumed = is_resumed
        self.is_late = False
        """Whether its client was told that it came back too late."""
        self.failure: LiveAsrError | None = None
        """Why the client was let go; None while all is well."""
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[ServerMessage, bytes, int]] = deque()
        self._waiting_bytes = 0
        self._released_count = 0
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def close_code(self) -> int:
        """The WebSocket close code that tells the client how its connection ended."""
        return self.failure.close_code if self.failure else 1000

    def put(self, message: ServerMessage, encoded: bytes | None = None, *, after_count: int = 0) -> None:
        """Add a message; `encoded` is its text if that is known already.

        It is given out once `after_count` kept messages are released. Raises ClientError `slow_client` when
        what waits exceeds the bound: the client does not read.
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
                "The client reads more slowly than captions are produced.",
                "Read all messages as they come; resume the session to get what was missed.",
            )
        self._waiting.append((message, text, after_count))
        self._waiting_bytes += len(text)
        self._changed.set()

    def release(self, count: int) -> None:
        """Take note that the session's first `count` kept messages are on disk."""
        self._released_count = max(self._released_count, count)
        self._changed.set()

    def clear(self) -> None:
        """Forget what waits: its client will not read it."""
        self._waiting.clear()
        self._waiting_bytes = 0

    def dismiss(self, error: LiveAsrError) -> None:
        """Say why the client must go, as the last thing; what is not on disk yet is not said any more."""
        if self._closed:
            return
        while self._waiting and self._waiting[-1][2] > self._released_count:
            self._waiting_bytes -= len(self._waiting.pop()[1])
        self.failure = error
        self.put(error_message(error))
        self.close()

    def close(self) -> None:
        """Take nothing more; what waits can still be taken out."""
        self._closed = True
        self._changed.set()

    async def get(self) -> bytes | None:
        """Wait for the next message's text; None when the box is closed and holds nothing to give out."""
        while not self._waiting or self._waiting[0][2] > self._released_count:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        _, text, _ = self._waiting.popleft()
        self._waiting_bytes -= len(text)
        return text

    def _drop_older(self, kind: type[ServerMessage]) -> None:
        for index, (message, text, _) in enumerate(self._waiting):
            if isinstance(message, kind):
                del self._waiting[index]
                self._waiting_bytes -= len(text)
                return
