"""What a client sent and nobody has worked off yet, in the order it came.

Audio is kept in pieces of one size, whatever the size of the frames it came in: a thousand tiny frames
cost no more than one large one, and a large one holds nobody up while it is worked off.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal

PIECE_BYTES = 16 * 1024
"""Half a second at 16 kHz, decoded in a millisecond."""

Control = Literal["finalize", "stop", "lost"]


class Inbox:
    """A queue of audio and controls; who puts them in bounds how many there are."""

    def __init__(self) -> None:
        self._items: deque[bytearray | Control] = deque()
        self._arrived = asyncio.Event()

    def put_audio(self, data: bytes) -> None:
        """Add audio bytes, any number."""
        view = memoryview(data)
        while view:
            last = self._items[-1] if self._items else None
            if not isinstance(last, bytearray) or len(last) >= PIECE_BYTES:
                last = bytearray()
                self._items.append(last)
            room_bytes = PIECE_BYTES - len(last)
            last += view[:room_bytes]
            view = view[room_bytes:]
        self._arrived.set()

    def put(self, control: Control) -> None:
        """Add a control."""
        self._items.append(control)
        self._arrived.set()

    async def get(self) -> bytes | Control:
        """Wait for what came first; audio comes in pieces of at most `PIECE_BYTES`."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        return bytes(item) if isinstance(item, bytearray) else item
