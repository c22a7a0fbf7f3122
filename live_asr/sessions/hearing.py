"""From a client's bytes to what its session hears, no faster than its captions can follow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from live_asr.core.messages import Notice
from live_asr.core.session import Session
from live_asr.errors import DecoderDied
from live_asr.inference.interfaces import FloatArray
from live_asr.sessions.decoding import AudioDecoder
from live_asr.sessions.guarded import broken
from live_asr.storage.files import pieces_of

PACE_INTERVAL = 0.5
"""Seconds between two looks whether audio that came too fast may be heard: its client may have stopped."""


class Hearing:
    """Decode audio and hand it to a session.

    `moved` waits until the session may have moved, `heard` is called with what was decoded, and `pace` says
    for how many seconds that has to wait. `died_at_bytes` is how far another decoder of this audio was
    when its process died.
    """

    def __init__(
        self,
        session: Session,
        decoder: AudioDecoder,
        moved: Callable[[], Awaitable[None]],
        heard: Callable[[FloatArray], None],
        *,
        most_backlog_samples: int,
        pace: Callable[[], float] = lambda: 0.0,
        died_at_bytes: int | None = None,
    ) -> None:
        self._session = session
        self._decoder = decoder
        self._moved = moved
        self._heard = heard
        self._most_backlog_samples = most_backlog_samples
        self._pace = pace
        self.heard_bytes = 0
        """Audio that was decoded and handed over."""
        self.died_at_bytes = died_at_bytes
        """Up to where it was asked for when the decoder's process died."""

    async def room(self) -> None:
        """Wait while the recogniser is too far behind to take more, or audio is ahead of the clock."""
        while wait := self._pace():  # noqa: ASYNC110  it is the clock that is waited for
            await asyncio.sleep(min(wait, PACE_INTERVAL))
        while self._session.backlog_samples > self._most_backlog_samples:
            await self._moved()

    async def hear(self, data: bytes) -> None:
        """Take the next bytes. Raises MediaError where they turn out to be no audio, or the decoder's process
        has died of them before; DecoderDied and DecoderError where another decoder may go on."""
        await self.room()
        self._heard(await self._decoded(self._decoder.feed(data), len(data)))
        while self._decoder.has_more:
            await self.room()
            self._heard(await self._decoded(self._decoder.feed(b""), len(data)))
        self.heard_bytes += len(data)

    async def hear_again(self, kept_audio: Path, end_bytes: int, start_bytes: int = 0) -> None:
        """Take what is on disk. Raises as `hear`, and StorageError as `pieces_of`."""
        async for piece in pieces_of(kept_audio, end_bytes, start_bytes):
            await self.hear(piece)

    async def flush(self) -> None:
        """Hand over what the decoder still holds. Raises as `hear`; MediaError where there was no audio."""
        self._heard(await self._decoded(self._decoder.finish()))
        while self._decoder.has_more:
            await self.room()
            self._heard(await self._decoded(self._decoder.finish()))

    async def _decoded(self, asking: Awaitable[FloatArray], size_bytes: int = 0) -> FloatArray:
        try:
            return await asking
        except DecoderDied as error:
            if self.died_at_bytes is not None and self.heard_bytes <= self.died_at_bytes:
                raise broken() from error
            self.died_at_bytes = self.heard_bytes + size_bytes
            raise

    def take_notices(self) -> list[Notice]:
        """Return what the client should know of its audio and has not been told."""
        found = []
        while self._decoder.notices:
            found.append(self._decoder.notices.popleft())
        return found

    def close(self) -> None:
        """Free what the decoder holds. Idempotent."""
        self._decoder.close()
