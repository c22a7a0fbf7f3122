"""A session as a translator drives it: a client of the native protocol, without a socket between.

What the native protocol promises holds here as well, for it is the same session: admission, windows,
kept messages, deadlines. A foreign client cannot resume, so one that goes away is taken to have stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from live_asr.core.errors import ClientError, LiveAsrError
from live_asr.core.messages import (
    Ack,
    Finalize,
    Keepalive,
    Ready,
    ServerMessage,
    Start,
    Stop,
    Update,
    decode_server,
)
from live_asr.server.access import unauthorized
from live_asr.server.state import ServerState
from live_asr.sessions.admission import Client
from live_asr.sessions.resume import OpenSession

MAX_WAITING = 256
"""Messages that wait for the translator; behind them the session's own bound on a slow reader counts."""
MAX_UNWRITTEN_BYTES = 1024 * 1024
"""Audio that waits in memory to be written to disk; a client that is faster waits for the disk."""


class Link:
    """One open session: audio and controls go in, messages come out in order.

    `most_ahead_bytes` is how much audio may wait, on disk, beyond what was worked off. Without it that is
    the native protocol's window.
    """

    def __init__(self, opened: OpenSession, *, most_ahead_bytes: int = 0) -> None:
        if opened.runner is None:
            raise ValueError("the session is over")
        self.id = opened.id
        self.loaded = opened.loaded
        self._runner = opened.runner
        self._runner.max_unacked_bytes = max(self._runner.max_unacked_bytes, most_ahead_bytes)
        self._outbox = opened.outbox
        self._acked_bytes = opened.received_bytes
        self._acked = asyncio.Event()
        self._waiting: asyncio.Queue[ServerMessage | None] = asyncio.Queue(MAX_WAITING)
        self._is_stopped = False
        self._pump = asyncio.create_task(self._read(), name=f"{opened.id} dialect")

    @property
    def failure(self) -> LiveAsrError | None:
        """Why the session ended before its time; None while all is well."""
        return self._outbox.failure

    def voice_of(self, label: str) -> tuple[float, ...] | None:
        """Return the centroid of a live speaker's voice; None where nothing is known of it."""
        voices = self._runner.session.checkpoint().voices
        number = int(label[1:]) - 1
        return voices[number] if number < len(voices) else None

    async def send(self, audio: bytes) -> None:
        """Hand in audio; waits while the disk is behind, or while more is ahead than may be.

        Raises ClientError as the native socket tells it, and the session's failure where it has ended.
        """
        view = memoryview(audio)
        while view:
            if self._pump.done():
                raise self.failure or _is_over()
            await self._runner.spool.safe(self._runner.received_bytes - MAX_UNWRITTEN_BYTES)
            room = self._runner.max_unacked_bytes - (self._runner.received_bytes - self._acked_bytes)
            if room <= 0:
                self._acked.clear()
                await self._acked.wait()
                continue
            piece, view = view[:room], view[room:]
            self._runner.receive_audio(bytes(piece))

    def control(self, message: Update | Finalize | Keepalive | Stop) -> None:
        """Send a control message, in order with the audio. Raises ClientError as the native socket does."""
        self._is_stopped = self._is_stopped or isinstance(message, Stop)
        self._runner.receive(message)

    async def messages(self) -> AsyncIterator[ServerMessage]:
        """Give what the session says, to its end: `final`, or `error`."""
        while (message := await self._waiting.get()) is not None:
            yield message

    def dismiss(self, error: LiveAsrError) -> None:
        """Tell the client why it must go."""
        self._runner.dismiss(error, self._outbox)

    async def leave(self) -> None:
        """Let go of the session; one that was not stopped is brought to its end as if it were. Idempotent."""
        if not self._is_stopped and not self._runner.is_over:
            self._is_stopped = True
            with contextlib.suppress(ClientError):
                self._runner.receive(Stop())
        self._runner.lose_client(self._outbox)
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (text := await self._outbox.get()) is not None:
                message = decode_server(text)
                if isinstance(message, Ack):
                    self._acked_bytes = max(self._acked_bytes, message.bytes)
                    self._acked.set()
                elif not isinstance(message, Ready):
                    await self._waiting.put(message)
            await self._waiting.put(None)
        finally:
            self._acked.set()


@asynccontextmanager
async def linked(
    state: ServerState, start: Start, client: Client, *, most_ahead_bytes: int = 0
) -> AsyncIterator[Link]:
    """Open a client's session for as long as the block lasts; `most_ahead_bytes` is as for `Link`.

    The client is let go once somebody takes its token back.

    Raises as `SessionRegistry.open` does: ClientError for what was asked wrongly, Unavailable without room.
    """
    link = Link(await state.registry.open(start, client), most_ahead_bytes=most_ahead_bytes)

    async def dismiss_once_revoked() -> None:
        await state.access.until_revoked(client.owner)
        link.dismiss(unauthorized("revoked"))

    watching = asyncio.create_task(dismiss_once_revoked(), name=f"{link.id} token")
    try:
        yield link
    finally:
        watching.cancel()
        await asyncio.shield(link.leave())


def _is_over() -> ClientError:
    return ClientError(
        "session_over", "The session has ended; it takes no more audio.", "Open another connection."
    )
