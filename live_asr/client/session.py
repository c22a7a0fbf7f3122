"""A session on a server: audio in, typed messages out."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from live_asr.client.connection import (
    DEFAULT_URL,
    SessionError,
    SessionFailed,
    SessionRefused,
    open_socket,
    stream_url,
)
from live_asr.core.fields import parse_json
from live_asr.core.messages import (
    SERVER_TYPES,
    Ack,
    AudioFormat,
    ClientMessage,
    Error,
    Final,
    Finalize,
    Finalized,
    Lag,
    Partial,
    Progress,
    Ready,
    Scalar,
    ServerMessage,
    Start,
    Stop,
    Webhook,
    client_from_dict,
    encode,
    server_from_dict,
    to_dict,
)
from live_asr.core.transcript import Transcript
from live_asr.errors import LiveAsrError

Pace: TypeAlias = Literal["realtime", "fast"]

FRAME_BYTES = 64 * 1024
"""Largest frame sent: the protocol allows 1 MiB, and small ones keep captions flowing on slow lines."""
_READY_TIMEOUT = 30.0
_REPLACING = (Partial, Ack, Lag, Progress)
"""Of these only the newest is worth reading, so unread ones do not pile up."""


@asynccontextmanager
async def connect(
    url: str = DEFAULT_URL,
    *,
    token: str | None = None,
    encoding: str = "pcm_s16le",
    sample_rate: int = 16_000,
    channels: int = 1,
    language: str | None = None,
    task: str = "transcribe",
    vocabulary: Sequence[str] = (),
    interim: bool = True,
    pace: Pace = "realtime",
    diarize: bool = True,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    final_pass: bool = True,
    webhook: str | None = None,
    metadata: Mapping[str, Scalar] | None = None,
) -> AsyncIterator[LiveSession]:
    """Open a session on the server at `url` (http, https, ws or wss), and close its socket at the end.

    The keywords are the fields of the protocol's `start`; `sample_rate` is in hertz, `token` is the
    server's access token where it wants one. Leaving the block without `stop` loses nothing: the server
    finishes a session whose client is gone, once nobody can resume it any more.

    Raises SessionRefused when there is no server or it does not take the session (`retry_after` tells
    when to come back), ClientError `bad_message` for a field that has no allowed value.
    """
    start = Start(
        audio=AudioFormat(encoding, sample_rate, channels),
        language=language,
        task=task,
        vocabulary=tuple(vocabulary),
        diarize=diarize,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        interim=interim,
        pace=pace,
        final_pass=final_pass,
        webhook=Webhook(webhook) if webhook is not None else None,
        metadata=dict(metadata or {}),
    )
    client_from_dict(to_dict(start))  # wrong values are refused here, before anything is sent
    session = LiveSession(await open_socket(stream_url(url), token), pace)
    try:
        await session._begin(start)
        yield session
    finally:
        await session.close()


class LiveSession:
    """An open session: send audio in, iterate over what the server says.

    Iterating yields each message once, in order; partials, acknowledgements and lag reports that were
    not read in time are replaced by newer ones. It ends after the server has closed the finished session.
    """

    def __init__(self, socket: ClientConnection, pace: Pace) -> None:
        self.transcript = Transcript()
        """What the session's messages add up to so far."""
        self.sent_bytes = 0
        """Audio sent, counted from the session's first byte."""
        self.acked_bytes = 0
        """Audio that the server has on disk; it need not be sent again whatever happens."""
        self._socket = socket
        self._pace = pace
        self._ready: Ready | None = None
        self._unacked: deque[bytes] = deque()  # bounded by max_unacked_bytes; what a resume would send again
        self._inbox: OrderedDict[object, ServerMessage] = OrderedDict()
        self._received_messages = 0
        self._finalized: deque[Finalized] = deque()
        self._final: Final | None = None
        self._is_stopping = False
        self._failure: SessionError | None = None
        self._sending = asyncio.Lock()
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @property
    def ready(self) -> Ready:
        """The server's `ready`: session id, resume token, window, models."""
        assert self._ready is not None, "connect() hands a session out once it is ready"
        return self._ready

    @property
    def session(self) -> str:
        """The session's id on the server."""
        return self.ready.session

    @property
    def in_flight_bytes(self) -> int:
        """Audio sent and not yet acknowledged."""
        return self.sent_bytes - self.acked_bytes

    async def send(self, audio: bytes | bytearray | memoryview) -> None:
        """Send audio: any number of bytes, cut anywhere.

        At pace `fast`, wait while the server's window (`ready.max_unacked_bytes`) is full. At pace
        `realtime` a full window means that the connection or the server is seconds behind: nothing of
        `audio` is sent and SessionFailed `overrun` raised; the session goes on, and the caller may try
        the same bytes again later. Raises SessionFailed also when the session is over.
        """
        data = memoryview(audio).cast("B")
        window_bytes = self.ready.max_unacked_bytes
        async with self._sending:
            if self._pace == "realtime" and self.in_flight_bytes + len(data) > window_bytes:
                raise SessionFailed(
                    "overrun",
                    f"{self.in_flight_bytes} bytes are not acknowledged yet and {len(data)} more would"
                    f" exceed the server's window of {window_bytes}.",
                    'Send audio as it is spoken, or open the session with pace="fast" for a recording.',
                )
            frame_bytes = min(FRAME_BYTES, window_bytes)
            for first in range(0, len(data), frame_bytes):
                await self._send_frame(bytes(data[first : first + frame_bytes]))

    async def finalize(self) -> Finalized:
        """Commit all that has been heard, and go on; return when that is done.

        Raises SessionFailed when the session is over.
        """
        self._check_open()
        await self._send_message(Finalize())
        await self._until(lambda: bool(self._finalized))
        return self._finalized.popleft()

    async def stop(self) -> Final:
        """Say that no more audio follows, and return the final result when it is there.

        The full pass may take minutes; this waits for it as long as the connection lives, and who iterates
        meanwhile gets its `Progress`. Idempotent. Raises SessionFailed when the session ends without a
        result.
        """
        if not self._is_stopping:
            async with self._sending:
                self._is_stopping = True
                await self._send_message(Stop())
        await self._until(lambda: self._final is not None)
        assert self._final is not None
        return self._final

    async def close(self) -> None:
        """Close the socket; idempotent. A session that was not stopped stays on the server."""
        await self._socket.close()
        await asyncio.wait([self._reader])

    def __aiter__(self) -> LiveSession:
        return self

    async def __anext__(self) -> ServerMessage:
        while not self._inbox and not self._reader.done():
            await asyncio.wait([self._changed, self._reader], return_when=asyncio.FIRST_COMPLETED)
        if self._inbox:
            return self._inbox.popitem(last=False)[1]
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    # Sending --------------------------------------------------------------------------------------

    async def _begin(self, start: Start) -> None:
        await self._send_message(start)
        try:
            async with asyncio.timeout(_READY_TIMEOUT):
                await self._until(lambda: self._ready is not None)
        except TimeoutError:
            raise SessionRefused(
                "cannot_connect",
                f"The server did not open the session within {_READY_TIMEOUT:.0f} s.",
                "See the server's log.",
            ) from None

    async def _send_frame(self, frame: bytes) -> None:
        window_bytes = self.ready.max_unacked_bytes
        await self._until(lambda: self.in_flight_bytes + len(frame) <= window_bytes)
        self._check_open()
        self._unacked.append(frame)
        self.sent_bytes += len(frame)
        try:
            await self._socket.send(frame)
        except ConnectionClosed:
            await self._until(lambda: False)  # the reader knows why

    async def _send_message(self, message: ClientMessage) -> None:
        try:
            await self._socket.send(encode(message).decode())
        except ConnectionClosed:
            await self._until(lambda: False)

    def _check_open(self) -> None:
        if self._is_stopping:
            raise SessionFailed(
                "stopped", "The session has been stopped; it takes no more audio.", "Open another one."
            )

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that only a message of the server can make true."""
        while not condition():
            if self._reader.done():
                raise self._failure or self._lost("The connection was closed.")
            await asyncio.wait([self._changed, self._reader], return_when=asyncio.FIRST_COMPLETED)

    # Receiving ------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            async for frame in self._socket:
                if isinstance(frame, str):
                    self._receive(frame)
        except ConnectionClosed as error:
            close = f"The connection was lost ({error})."
            self._failure = self._failure or self._lost(close)
        except LiveAsrError as error:
            self._failure = self._error("bad_server_message", f"The server sent: {error.message}", error.hint)

    def _receive(self, frame: str) -> None:
        value = parse_json(frame)
        kind = value.get("type") if isinstance(value, Mapping) else None
        if isinstance(kind, str) and kind not in SERVER_TYPES:
            return  # a newer server may say more than this client knows
        message = server_from_dict(value)
        self.transcript.apply(message)
        match message:
            case Ready():
                self._ready = message
            case Ack():
                self._acknowledge(message.bytes)
            case Finalized():
                self._finalized.append(message)
            case Final():
                self._final = message
            case Error():
                self._failure = self._error(message.code, message.message, message.hint, message.retry_after)
        self._deliver(message)

    def _deliver(self, message: ServerMessage) -> None:
        if not isinstance(message, Ready | Error):  # these are handed out otherwise
            self._received_messages += 1
            is_replacing = isinstance(message, _REPLACING)
            key: object = type(message) if is_replacing else self._received_messages
            self._inbox.pop(key, None)
            self._inbox[key] = message
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    def _acknowledge(self, position_bytes: int) -> None:
        first_bytes = self.sent_bytes - sum(map(len, self._unacked))
        while self._unacked and first_bytes + len(self._unacked[0]) <= position_bytes:
            first_bytes += len(self._unacked.popleft())
        self.acked_bytes = max(self.acked_bytes, min(position_bytes, self.sent_bytes))

    def _lost(self, message: str) -> SessionError:
        return self._error(
            "connection_lost",
            message,
            "What the server acknowledged is on its disk; if it still runs, it finishes that by itself.",
        )

    def _error(
        self, code: str, message: str, hint: str = "", retry_after: float | None = None
    ) -> SessionError:
        kind = SessionFailed if self._ready else SessionRefused
        return kind(code, message, hint, retry_after)
