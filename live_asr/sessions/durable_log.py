"""All that one session says, in order, and the one gate before everybody: what it gives out is on disk.

A client must never have heard, nor anybody seen, what a server does not know that comes back after a crash.
So a message that is kept is given out once it is on disk, and nothing overtakes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from live_asr.core.messages import KEPT, ServerMessage, encode
from live_asr.storage.spool import Spool


class DurableLog:
    """What a session says: its spool keeps what is kept, and its readers hear all of it, in order.

    `hear` is called with each message's index, counted from 0, the message and its text.
    """

    def __init__(self, spool: Spool, hear: Callable[[int, ServerMessage, bytes], None]) -> None:
        self._spool = spool
        self._hear = hear
        self._waiting: deque[tuple[int, ServerMessage, bytes]] = deque()
        """What was not given out yet, each with how many kept messages have to be on disk before."""
        self.end = 0
        """The index of the next message: who begins to listen now hears from there on."""

    def append(self, message: ServerMessage) -> None:
        """Say something; it is heard once it, and everything kept before it, is on disk."""
        encoded = encode(message)
        if isinstance(message, KEPT):
            self._spool.append_message(encoded)
        self._put(message, encoded)

    def append_last(self, message: ServerMessage, encoded: bytes) -> None:
        """Say the last thing, `encoded` for the wire; it is on disk already, with the session's end."""
        self._put(message, encoded)

    def release(self, count: int) -> None:
        """Take note that so many kept messages are on disk."""
        while self._waiting and self._waiting[0][0] <= count:
            index = self.end - len(self._waiting)
            _, message, encoded = self._waiting.popleft()
            self._hear(index, message, encoded)

    def _put(self, message: ServerMessage, encoded: bytes) -> None:
        self._waiting.append((self._spool.appended_count, message, encoded))
        self.end += 1
        self.release(self._spool.kept_count)
