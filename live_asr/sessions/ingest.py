"""What a client sent and nobody has worked off yet, in the order it came.

Audio is kept in pieces of one size, whatever the size of the frames it came in: a thousand tiny frames
cost no more than one large one, and a large one holds nobody up while it is worked off. What waits beyond
a bound is on disk anyway, and is read back from there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal

from live_asr.core.messages import Pause, Update

PIECE_BYTES = 16 * 1024
"""Half a second at 16 kHz, decoded in a millisecond."""
MOST_BYTES = 1024 * 1024
"""Audio of one session that waits in memory; half a minute at 16 kHz."""

Control = Literal["finalize", "silence", "stop", "lost"] | Update | Pause


@dataclass(slots=True)
class Shelved:
    """Audio that is on disk alone, or soon will be: the session's bytes from `start_bytes` to `end_bytes`."""

    start_bytes: int
    end_bytes: int


class Inbox:
    """A queue of audio and controls; who puts in controls bounds how many there are."""

    def __init__(self) -> None:
        self._items: deque[bytearray | Shelved | Control] = deque()
        self._arrived = asyncio.Event()
        self.held_bytes = 0
        """Audio that waits in memory."""

    def put_audio(self, data: bytes, position_bytes: int = 0) -> None:
        """Add audio bytes, any number, that begin at `position_bytes` of the session and are being kept."""
        last = self._items[-1] if self._items else None
        if isinstance(last, Shelved):
            last.end_bytes += len(data)
        elif self.held_bytes + len(data) > MOST_BYTES:
            self._items.append(Shelved(position_bytes, position_bytes + len(data)))
        else:
            self._hold(data)
        self._arrived.set()

    def put(self, control: Control) -> None:
        """Add a control."""
        self._items.append(control)
        self._arrived.set()

    async def get(self) -> bytes | Shelved | Control:
        """Wait for what came first; audio that is held comes in pieces of at most `PIECE_BYTES`."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        if not isinstance(item, bytearray):
            return item
        self.held_bytes -= len(item)
        return bytes(item)

    def _hold(self, data: bytes) -> None:
        self.held_bytes += len(data)
        view = memoryview(data)
        while view:
            last = self._items[-1] if self._items else None
            if not isinstance(last, bytearray) or len(last) >= PIECE_BYTES:
                last = bytearray()
                self._items.append(last)
            room_bytes = PIECE_BYTES - len(last)
            last += view[:room_bytes]
            view = view[room_bytes:]
