"""Decode a container as its bytes arrive: one thread for a session, and the handshake with it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from enum import Enum
from pathlib import Path

from live_asr.audio.ffmpeg import MediaReader, joined
from live_asr.audio.formats import HINT
from live_asr.core.audio import Samples
from live_asr.core.errors import LiveAsrError, MediaError
from live_asr.core.messages import Notice
from live_asr.core.types import SAMPLE_RATE_HZ

MAX_WAITING_SAMPLES = 60 * SAMPLE_RATE_HZ
"""The thread pauses when so much decoded audio waits to be taken."""
MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""Bytes that decode to more audio than anyone takes pile up to here, and are then refused."""


class Work(Enum):
    """What the thread is doing."""

    RUNNING = "decoding"
    STARVED = "waiting for bytes"
    FULL = "waiting until its samples are taken"
    DONE = "ended"


class ContainerDecoder:
    """Decode one pushed stream of media; see `decoder.AudioDecoder` for the methods.

    `feed` wakes the thread and returns when it wants bytes again, so what comes back depends on the bytes
    alone and a client can be no faster than its audio is decoded. Methods are called from one event loop,
    one at a time; a cancelled call loses nothing, the next one returns what it left.
    """

    def __init__(
        self, spool_directory: Path | None = None, channel: int | None = None, channels: int = 1
    ) -> None:
        self._reader = MediaReader(self, spool_directory, channel, channels)
        self._changed = threading.Condition()
        # Shared with the thread, all under `_changed`:
        self._work = Work.RUNNING
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._ended = False
        self._closed = False
        self._waiting: list[Samples] = []
        self._waiting_samples = 0
        self._error: Exception | None = None
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._thread = threading.Thread(target=self._run, name="container-decoder", daemon=True)
        self._thread.start()

    @property
    def skipped_packets(self) -> int:
        """How many corrupt packets were passed over."""
        return self._reader.skipped_packets

    @property
    def notices(self) -> deque[Notice]:
        """What the client should know of its audio; the thread adds at one end."""
        return self._reader.notices

    @property
    def has_more(self) -> bool:
        """Whether the last call left samples, or an error, for the next one."""
        with self._changed:
            return not self._closed and (self._work is Work.FULL or self._error is not None)

    async def feed(self, data: bytes) -> Samples:
        """Hand over bytes, wait until the thread has used them, return what it made of them."""
        with self._changed:
            if data and self._work is not Work.DONE and not self._closed:
                self._queue.append(bytes(data))
                self._queued_bytes += len(data)
            if self._queued_bytes > MAX_QUEUED_BYTES:
                raise MediaError("The stream holds far more audio than its size allows.", HINT)
        return await self._step()

    async def finish(self) -> Samples:
        """Say that no bytes follow, and return the next samples; repeat while `has_more`."""
        with self._changed:
            self._ended = True
        return await self._step()

    def close(self) -> None:
        """End the thread, at its next read or frame, without waiting for it; idempotent."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._waiting.clear()
            self._changed.notify_all()

    async def _step(self) -> Samples:
        with self._changed:
            wanted = self._queue or self._ended
            if self._work is Work.FULL or (self._work is Work.STARVED and wanted):
                self._work = Work.RUNNING
                self._changed.notify_all()
            waiter = None
            if self._work is Work.RUNNING and not self._closed:
                loop = asyncio.get_running_loop()
                waiter = loop.create_future()
                self._waiter = (loop, waiter)
        if waiter is not None:
            await waiter
        with self._changed:
            samples = joined(self._waiting)
            self._waiting, self._waiting_samples = [], 0
            if self._error is not None and not samples.size and not self._closed:
                error, self._error = self._error, None
                raise error
            return samples

    # The thread's side -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            for samples in self._reader.samples():
                if not self._give(samples):
                    return
        except LiveAsrError as error:
            self._error = error
        except Exception as error:  # whatever FFmpeg's binding makes of hostile bytes ends this session only
            fault = f"The media stream cannot be decoded: {type(error).__name__}."
            self._error = MediaError(fault, HINT)
            self._error.__cause__ = error
        finally:
            with self._changed:
                self._queue.clear()
                self._rest(Work.DONE)

    def read(self, size: int, /) -> bytes:
        """Return queued bytes, waiting for them; none at the end of the stream or once closed."""
        with self._changed:
            while not self._queue and not self._ended and not self._closed:
                self._rest(Work.STARVED)
                self._changed.wait_for(lambda: self._work is Work.RUNNING or self._closed)
            if self._closed or not self._queue:
                return b""
            data = self._queue.popleft()
            if len(data) > size:
                self._queue.appendleft(data[size:])
                data = data[:size]
            self._queued_bytes -= len(data)
            return data

    def _give(self, samples: Samples) -> bool:
        """Hand samples over, waiting while too many wait; return whether to go on."""
        with self._changed:
            if self._closed:
                return False
            self._waiting.append(samples)
            self._waiting_samples += samples.shape[-1]
            if self._waiting_samples >= MAX_WAITING_SAMPLES:
                self._rest(Work.FULL)
                self._changed.wait_for(lambda: self._work is Work.RUNNING or self._closed)
            return not self._closed

    def _rest(self, work: Work) -> None:
        """Say that the thread stops for now, and wake whoever waits for that; the lock is held."""
        self._work = work
        if self._waiter is not None:
            loop, waiter = self._waiter
            self._waiter = None
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():  # its call may have been cancelled
        waiter.set_result(None)
