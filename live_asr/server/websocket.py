"""The WebSocket protocol of `/v1/stream`: uvicorn's, with an end that tells the client why.

Frames that are too large, or are no frames, never reach the application: the protocol refuses them by
itself, and when the server ends it closes what is still open. Here it says so in an `error` message first, as
for any other refusal, and it lets go of peers that read nothing instead of waiting for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request

from live_asr.core.errors import ClientError, LiveAsrError
from live_asr.core.messages import encode, error_message
from live_asr.server.connections import Connections
from live_asr.sessions.resume import shutting_down

MAX_FRAME_BYTES = 1024 * 1024
LARGER_FRAMES = {"/v1/realtime": 21 * 1024 * 1024, "/asr": 16 * 1024 * 1024}
"""Where a protocol allows more: OpenAI's takes 15 MiB of audio in one event, a third longer as base64, and
WhisperLiveKit's server whatever its WebSockets do."""
QUIET = 0.5
"""Seconds without a byte after which a peer that was refused has said all it had to say."""
SLICE_BYTES = 1024
"""So much is read at once: as many as 170 of the smallest frames, which take about 3 ms."""
FRAMES_A_TURN = 64
"""After so many frames everybody else has a turn of the loop."""
SMALL_BYTES = 256
"""Frames below this carry so little that their number is what costs; pings and empty ones are among them."""
SMALL_A_SECOND = 1000.0
SMALL_AT_ONCE = 4000.0
"""Small frames beyond these wait, unread: a speaker sends some fifty a second, a careless client a few
hundred."""
MAX_FRAGMENTS = 1024
"""Of a message that are held one by one; each costs far more than its bytes."""


class StreamProtocol(WebSocketsSansIOProtocol):
    """One connection, whose memory is bounded whatever the peer sends or does not read."""

    _failed = False
    _is_answered = False
    """Whether the application has sent anything: `ready`, or why there is none."""
    _abort_timer: asyncio.TimerHandle | None = None
    _quiet_timer: asyncio.TimerHandle | None = None
    _is_heard = False
    """Whether the application has asked for anything that the peer says."""
    _turn: asyncio.Handle | None = None
    """When what was received and not read yet is gone on with."""
    _frames_seen = 0
    """In this turn."""
    _allowed = SMALL_AT_ONCE
    """Small frames that may be read now."""
    _allowed_at = 0.0
    _loss: tuple[Exception | None] | tuple[()] = ()
    """Why the connection is gone, while something that came before is not read yet."""

    def __init__(
        self,
        *args: Any,
        all_connections: Connections | None = None,
        tellers: Mapping[str, Callable[[LiveAsrError], bytes]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._tellers = tellers or {}
        """By how a path ends, how its clients are told of errors; those of others are told as our own."""
        self._tell: Callable[[LiveAsrError], bytes] = _told
        self._unread = bytearray()
        self._all_connections = all_connections or Connections()
        self._counted_as: str | None = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection over that was counted before."""
        super().connection_made(transport)
        self._counted_as = self._all_connections.enter(self.transport)

    def handle_connect(self, event: Request) -> None:
        """Take a request for a WebSocket, whose path says how large a frame may be."""
        path = event.path.partition("?")[0]
        larger = (size for suffix, size in LARGER_FRAMES.items() if path.endswith(suffix))
        self.conn.max_message_size = next(larger, self.config.ws_max_size)
        foreign = (teller for suffix, teller in self._tellers.items() if path.endswith(suffix))
        self._tell = next(foreign, _told)
        super().handle_connect(event)
        # Until the application has let the peer in and asks for what it says, nothing of it is read.
        self.read_paused = True
        self.transport.pause_reading()

    def handle_parser_exception(self) -> None:
        """Tell the peer what was wrong with its bytes, then close."""
        if self._failed:
            return
        self._failed = True
        self.handle_events()  # what came before the broken frame still counts
        close = self.conn.close_sent
        if self.close_sent or close is None or not self.handshake_complete:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
            self.close_sent = True
            self.transport.close()
            return
        largest = self.conn.max_message_size or self.config.ws_max_size
        self._refuse(_fault(close.code, close.reason, largest), close.reason)

    def shutdown(self) -> None:
        """Close what is open while the server ends; a peer that has heard nothing yet is told why."""
        if self.transport.is_closing():  # the peer has closed it: there is nothing to be said
            return
        if self.close_sent or not self.handshake_complete or self._is_answered:
            super().shutdown()
            return
        error = shutting_down("Come back in a moment, here or to another server.", close_code=1013)
        self.conn.send_close(error.close_code)
        self._refuse(error)

    async def send(self, message: Any) -> None:
        """Pass on what the application sends."""
        await super().send(message)
        self._is_answered = self._is_answered or message["type"] == "websocket.send"
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # as refused: without this, uvicorn logs that nobody answered
        if message["type"] == "websocket.close" and self.close_sent and not self._is_heard:
            self._linger()  # it was turned away, and is not read

    def _refuse(self, error: LiveAsrError, reason: str = "") -> None:
        """Say why the connection ends, then send the close frame that waits to be sent."""
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": error.close_code, "reason": reason})
        self.close_sent = True
        closing = b"".join(self.conn.data_to_send())
        text = Frame(Opcode.TEXT, self._tell(error)).serialize(mask=False)
        self.transport.write(text + closing)
        self._linger()

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment; empty ones would otherwise pile up without ever reaching the size limit."""
        if event.data or event.fin:
            if len(self.frames) >= MAX_FRAGMENTS:
                self.frames = [b"".join(self.frames)]
            super().handle_cont(event)

    async def receive(self) -> Any:
        """Hand the next event to the application; bytes of the peer are read while it has none."""
        if self.handshake_complete and self.queue.empty():
            self._is_heard = True
            self._read_on()
        message = await self.queue.get()
        if self.handshake_complete and self.queue.empty():
            self._read_on()
        return message

    def _read_on(self) -> None:
        if self.read_paused:
            self.read_paused = False
            if self._turn is None and not self.transport.is_closing():
                self.transport.resume_reading()

    def send_receive_event_to_app(self) -> None:
        """Hand a message on; one whose text is no UTF-8 is the peer's mistake and no matter for the log."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_utf8(self.frames):
            self.frames = []
            self.conn.fail(CloseCode.INVALID_DATA)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer a ping, unless the peer reads nothing: pongs for it would pile up."""
        output = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(output)

    def keepalive_timeout(self) -> None:
        """Give up a peer that answers no ping, with all that waits to be sent to it."""
        super().keepalive_timeout()
        self.transport.abort()

    async def run_asgi(self) -> None:
        """Serve the connection, and see to it that it ends soon after the application is done."""
        await super().run_asgi()
        if not self.disconnected:
            self._abort_timer = self.loop.call_later(2 * self.close_timeout, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the connection is gone, once what came before that is read."""
        if self._turn is not None:
            self._loss = (exc,)
            return
        for timer in (self._abort_timer, self._quiet_timer):
            if timer is not None:
                timer.cancel()
        self._all_connections.leave(self._counted_as or "")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a peer that was refused are read and thrown away."""
        if self._quiet_timer is None:
            self._unread += data
            if self._turn is None:
                self._take_in_turns()
            else:
                self.transport.pause_reading()
        else:
            self._quiet_timer.cancel()
            self._quiet_timer = self.loop.call_later(QUIET, self.transport.close)

    def handle_events(self) -> None:
        """Handle what was read, and count it."""
        frames = [event for event in self.conn.events if isinstance(event, Frame)]
        self._frames_seen += len(frames)
        self._allowed -= sum(len(frame.data) < SMALL_BYTES for frame in frames)
        super().handle_events()

    def _take_in_turns(self) -> None:
        """Read what was received, in slices, and what is beyond one turn's bound in a later one."""
        self._turn, self._frames_seen = None, 0
        wait = self._wait()
        while self._unread and not wait and self._frames_seen < FRAMES_A_TURN and self._quiet_timer is None:
            piece = bytes(self._unread[:SLICE_BYTES])
            del self._unread[:SLICE_BYTES]
            super().data_received(piece)
            wait = self._wait()
        if self._quiet_timer is not None or (wait and self._loss):
            self._unread.clear()  # of a peer that is refused, or a flood of one that is gone
            wait = 0.0
        if self._unread or wait:
            self.transport.pause_reading()
            self._turn = self.loop.call_later(wait, self._take_in_turns)
        elif self._loss:
            self.connection_lost(*self._loss)
        elif (not self.read_paused or self._quiet_timer is not None) and not self.transport.is_closing():
            self.transport.resume_reading()

    def _wait(self) -> float:
        """Return for how many seconds no more small frames may be read; 0 where they may."""
        now = self.loop.time()
        if self._allowed < SMALL_AT_ONCE:
            gained = (now - self._allowed_at) * SMALL_A_SECOND
            self._allowed = min(SMALL_AT_ONCE, self._allowed + gained)
        self._allowed_at = now
        return max(0.0, -self._allowed / SMALL_A_SECOND)

    def _linger(self) -> None:
        """Close once the peer has finished its frame, or soon.

        Closing at once, with bytes of the peer unread, would have its system throw away the reason; and
        peers that are in the middle of sending do not all take it well when our half is closed.
        """
        if self.close_timer is not None:
            self.close_timer.cancel()
        self._quiet_timer = self.loop.call_later(QUIET, self.transport.close)
        self._unread.clear()
        if self._turn is None:
            self._read_on()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)


def _told(error: LiveAsrError) -> bytes:
    return encode(error_message(error))


def _is_utf8(fragments: list[bytes]) -> bool:
    try:
        b"".join(fragments).decode()
    except UnicodeDecodeError:
        return False
    return True


def _fault(close_code: int, reason: str, largest_bytes: int) -> ClientError:
    if close_code == CloseCode.MESSAGE_TOO_BIG:
        return ClientError(
            "frame_too_large",
            f"A frame is larger than {largest_bytes} bytes.",
            "Send audio in smaller pieces, such as 100 ms.",
            close_code=close_code,
        )
    if close_code == CloseCode.INVALID_DATA:
        return ClientError(
            "not_json",
            "The text frame is not UTF-8.",
            "Send one JSON object with a `type` in each text frame, and audio in binary frames.",
            close_code=close_code,
        )
    return ClientError(
        "bad_frame",
        f"This is not a WebSocket frame: {reason or 'it cannot be read'}.",
        "Use a WebSocket library; see RFC 6455.",
        close_code=close_code,
    )
