"""Whether somebody speaks or a file is sent, told from how fast the first audio comes.

Foreign protocols do not say so, and it makes a difference: captions of live speech come first and may skip
steps under load, those of a file depend on nothing but the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

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


def rate_of(audio: AudioFormat) -> int:
    """Return how many bytes a second of audio takes, for a container about."""
    if audio.encoding == "container":
        return CONTAINER_BYTES_PER_SECOND
    return bytes_per_second(audio.encoding, audio.sample_rate, audio.channels)


def most_ahead_bytes(audio: AudioFormat) -> int:
    """Return how many bytes may wait for the recogniser."""
    return round(MAX_AHEAD * rate_of(audio))


async def first_items(
    receive: Callable[[], Awaitable[Item]],
    seconds_of: Callable[[Item], float],
    is_last: Callable[[Item], bool],
    *begun: Item,
) -> tuple[list[Item], bool]:
    """Take what a client sends until it is decided, or over; return it, and whether it is a file.

    `seconds_of` tells how much audio there is in what `receive` returns, which may be cancelled; `begun` came
    before. Raises as `receive` does.
    """
    loop = asyncio.get_running_loop()
    items = list(begun)
    heard = sum(map(seconds_of, items))
    deadline = loop.time() + DECIDING if heard else None
    while heard < FILE_SECONDS and not (items and is_last(items[-1])):
        try:
            async with asyncio.timeout_at(deadline) as patience:
                items.append(await receive())
        except TimeoutError:
            if not patience.expired():
                raise
            break
        heard += seconds_of(items[-1])
        if heard and deadline is None:
            deadline = loop.time() + DECIDING
    return items, heard >= FILE_SECONDS
