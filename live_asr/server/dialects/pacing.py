"""Whether somebody speaks or a file is sent, told from how fast the first audio comes.

Foreign protocols do not say so, and it makes a difference: captions of live speech come first and may skip
steps under load, those of a file depend on nothing but the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from live_asr.core.audio import bytes_per_second
from live_asr.core.messages import AudioFormat

DECIDING = 0.5
"""Seconds after the first audio in which it is decided."""
FILE_SECONDS = 3.0
"""Who has sent so many seconds of audio by then does not speak."""
CONTAINER_BYTES_PER_SECOND = 96_000
"""What a container is taken to hold; no browser records so much, and PCM at 48 kHz is it."""
MAX_AHEAD = 7200.0
"""Seconds of audio that may wait on disk for the recogniser; beyond it the client's socket is not read."""

Item = TypeVar("Item")


class Receiver(Generic[Item]):
    """Receive what a client sends, and lose nothing where a wait for it ends before it is there.

    A receiving that is cancelled would: of what it has taken from the connection, the next one knows nothing.
    """

    def __init__(self, receive: Callable[[], Awaitable[Item]]) -> None:
        self._receive = receive
        self._begun: asyncio.Future[Item] | None = None
        """The receiving that goes on, or is done and not taken."""

    async def __call__(self) -> Item:
        """Return the next item. Raises as `receive` does."""
        await self._wait(None)
        return self._take()

    async def until(self, deadline: float | None) -> Item | None:
        """Return the next item, or None where it is not there in time: then the next call gives it."""
        left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        return self._take() if await self._wait(left) else None

    def close(self) -> None:
        """Receive no more. Idempotent."""
        begun, self._begun = self._begun, None
        if begun is not None and not begun.cancel():
            begun.exception()  # it is known, then, that nobody takes it

    async def _wait(self, seconds: float | None) -> bool:
        if self._begun is None:
            self._begun = asyncio.ensure_future(self._receive())
        done, _ = await asyncio.wait({self._begun}, timeout=seconds)
        return bool(done)

    def _take(self) -> Item:
        begun, self._begun = self._begun, None
        assert begun is not None, "it was waited for"
        return begun.result()


def rate_of(audio: AudioFormat) -> int:
    """Return how many bytes a second of audio takes, for a container about."""
    if audio.encoding == "container":
        return CONTAINER_BYTES_PER_SECOND
    return bytes_per_second(audio.encoding, audio.sample_rate, audio.channels)


def most_ahead_bytes(audio: AudioFormat) -> int:
    """Return how many bytes may wait for the recogniser."""
    return round(MAX_AHEAD * rate_of(audio))


async def first_items(
    receive: Receiver[Item],
    seconds_of: Callable[[Item], float],
    is_last: Callable[[Item], bool],
    *begun: Item,
) -> tuple[list[Item], bool]:
    """Take what a client sends until it is decided, or over; return it, and whether it is a file.

    `seconds_of` tells how much audio there is in what is received; `begun` came before. Raises as `receive`
    does.
    """
    loop = asyncio.get_running_loop()
    items = list(begun)
    heard = sum(map(seconds_of, items))
    deadline = loop.time() + DECIDING if heard else None
    while heard < FILE_SECONDS and not (items and is_last(items[-1])):
        item = await receive.until(deadline)
        if item is None:
            break
        items.append(item)
        heard += seconds_of(item)
        if heard and deadline is None:
            deadline = loop.time() + DECIDING
    return items, heard >= FILE_SECONDS
