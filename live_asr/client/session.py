"""A session on a server: audio in, typed messages out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Literal, TypeAlias

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from live_asr.client.connection import SessionError, SessionFailed, SessionRefused, close_socket
from live_asr.client.inbox import Inbox
from live_asr.client.outgoing import Outgoing
from live_asr.client.resuming import (
    FAULTS,
    HELD_BYTES,
    LOST_AFTER,
    NETWORK,
    Patience,
    Reconnecting,
    Resumed,
    SessionMessage,
    is_resumable,
)
from live_asr.client.silence import until_silent
from live_asr.core.audio import bytes_per_second
from live_asr.core.errors import LiveAsrError
from live_asr.core.fields import parse_json
from live_asr.core.languages import check_known
from live_asr.core.messages import (
    SERVER_TYPES,
    Ack,
    Error,
    Final,
    Finalize,
    Finalized,
    Keepalive,
    Notice,
    Pause,
    Paused,
    Ready,
    Resume,
    Start,
    Stop,
    Stopped,
    Time,
    Timed,
    Update,
    Updated,
    client_from_dict,
    encode,
    server_from_dict,
    to_dict,
)
from live_asr.core.transcript import Transcript

Pace: TypeAlias = Literal["realtime", "fast"]

FRAME_BYTES = 64 * 1024
"""Largest frame sent: the protocol allows 1 MiB, and small ones keep captions flowing on slow lines."""
ENDED = "unexpected_message"
"""What `send` says, as the server would, where the session has ended and this side has not asked for it."""
KEEPALIVES = 3
"""So often it says that it is here, in the time after which the server would let it go."""
_READY_TIMEOUT = 30.0
_LIVE_TIMEOUT = 0.1
"""Seconds that the network may keep somebody waiting who speaks; then audio is held, and goes as it can."""


class LiveSession:
    """An open session: send audio in, iterate over what the server says.

    Iterating yields each message once, in order; partials, acknowledgements and lag reports that were
    not read in time are replaced by newer ones. It ends after the server has closed the finished session.
    """

    def __init__(
        self,
        socket: ClientConnection,
        open_another: Callable[[str | None], Awaitable[ClientConnection]],
        pace: Pace,
        reconnect_for: float,
        lost_after: float = LOST_AFTER,
    ) -> None:
        self.transcript = Transcript()
        """What the session's messages add up to so far."""
        self._socket = socket
        self._open_another = open_another
        self._pace = pace
        self._reconnect_for = reconnect_for
        self._lost_after = lost_after
        self._ready: Ready | None = None
        self._is_connected = False
        self._is_closing = False
        self._outgoing = Outgoing()
        self._inbox = Inbox()
        self._finalized: deque[Finalized] = deque()
        self._updated_count = 0
        self._paused_count = 0
        self._stopped: Stopped | None = None
        self._final: Final | None = None
        self._is_stopping = False
        self._error: SessionError | None = None
        self._failure: SessionError | None = None
        self._sending = asyncio.Lock()
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._start: Start | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_over = False
        self._attempts = 0
        self._resumed_at: float | None = None
        """When the connection at hand took the session up; None where it has not."""
        self._heard_count = 0

    @property
    def sent_bytes(self) -> int:
        """Audio handed to `send`, counted from the session's first byte."""
        return self._outgoing.accepted_bytes

    @property
    def acked_bytes(self) -> int:
        """Audio that the server has on disk; it need not be sent again whatever happens."""
        return self._outgoing.acked_bytes

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
        """Audio sent, or held to be sent, and not yet acknowledged."""
        return self._outgoing.unacked_bytes

    async def send(self, audio: bytes | bytearray | memoryview, *, may_wait: bool = False) -> None:
        """Send audio: any number of bytes, cut anywhere.

        At pace `fast`, wait while the server's window (`ready.max_unacked_bytes`) is full. At pace
        `realtime` nobody is kept waiting: audio is held while the connection is slow, or made again. Where
        `HELD_BYTES` are held nothing of `audio` is taken and SessionFailed `overrun` raised; the session goes
        on, and the caller may try the same bytes again later, or let this wait by `may_wait`. Raises
        SessionFailed also when the session is over: `unexpected_message` where that is because the client was
        away for longer than the server waits, and `stop` returns the result nevertheless.
        """
        data = memoryview(audio).cast("B")
        async with self._sending:
            await asyncio.sleep(0)  # a program that does nothing but send lets the session work all the same
            self._check_open()
            is_too_much = self.in_flight_bytes + len(data) > self._bound_bytes
            if self._pace == "realtime" and is_too_much and not may_wait:
                raise SessionFailed(
                    "overrun",
                    f"{self.in_flight_bytes} bytes are not acknowledged yet and {len(data)} more would"
                    f" exceed the bound of {self._bound_bytes}.",
                    'Send audio as it is spoken, or open the session with pace="fast" for a recording.',
                )
            frame_bytes = min(FRAME_BYTES, self.ready.max_unacked_bytes)
            for first in range(0, len(data), frame_bytes):
                await self._send_frame(bytes(data[first : first + frame_bytes]))

    async def finalize(self) -> Finalized:
        """Commit all that has been heard, and go on; return when that is done.

        Raises SessionFailed when the session is over.
        """
        self._check_open()
        self._outgoing.ask(Finalize())
        self._wake()
        await self._until(lambda: bool(self._finalized) or self._stopped is not None)
        if self._finalized:
            return self._finalized.popleft()
        assert self._stopped is not None
        return Finalized(self._stopped.duration)  # all is committed: nobody answers any more

    async def update(
        self,
        *,
        language: str | None = None,
        languages: Sequence[str] | None = None,
        vocabulary: Sequence[str] | None = None,
        interim: bool | None = None,
    ) -> Updated:
        """Go on with other settings, behind the audio sent so far; return what is in force when that is so.

        None leaves a setting as it is; language `auto` has it detected from here on. Raises ClientError
        `bad_message` for what is no allowed value and `language_unsupported` for a language that the server's
        model does not know, and SessionFailed when the session is over.
        """
        self._check_open()
        wanted = Update(
            language,
            None if languages is None else tuple(languages),
            None if vocabulary is None else tuple(vocabulary),
            interim,
        )
        update = client_from_dict(to_dict(wanted))
        assert isinstance(update, Update)
        model = self.ready.models.recognizer
        check_known((update.language, *(update.languages or ())), model.name, model.languages)
        answered = self._updated_count + self._outgoing.unanswered_updates
        self._outgoing.ask(update)
        self._wake()
        await self._until(lambda: self._updated_count > answered or self._stopped is not None)
        if self.transcript.updates:
            return self.transcript.updates[-1]
        raise SessionFailed(
            ENDED, "The session ended before the update came into force.", "Open another one with it."
        )

    async def time(self, at: datetime, *, audio_seconds: float | None = None) -> None:
        """Say that the audio `audio_seconds` behind the session's first sample was recorded `at`.

        Without a position it is that of what is sent next. `Final.clock` has all of them. The server's
        answer, `Timed` or a `Notice` `time_refused` with the reason, comes among the messages. Raises
        ClientError `bad_message` for a time that knows no zone, a position below 0, and a container without
        one; SessionFailed when the session is over.
        """
        self._check_open()
        assert self._start is not None
        audio = self._start.audio
        if audio_seconds is None and audio.encoding != "container":
            rate = bytes_per_second(audio.encoding, audio.sample_rate, audio.channels)
            audio_seconds = self.sent_bytes / rate
        time = client_from_dict({"type": Time.type, "at": at.isoformat(), "audio_seconds": audio_seconds})
        assert isinstance(time, Time)
        self._outgoing.ask(time)
        self._wake()

    async def pause(self, paused: bool = True) -> None:
        """Commit all that has been heard and tell who watches that the talk is paused, or that it goes on.

        Returns when that is done. Send no audio meanwhile: audio ends the pause, too. While the session is
        paused the server waits longer for a client that it has lost. Raises SessionFailed when the session is
        over.
        """
        self._check_open()
        answered = self._paused_count + self._outgoing.unanswered_pauses
        self._outgoing.ask(Pause(paused))
        self._wake()
        await self._until(lambda: self._paused_count > answered or self._stopped is not None)

    async def stop(self) -> Final:
        """Say that no more audio follows, and return the final result when it is there.

        The full pass may take minutes; this waits for it as long as the connection lives, and who iterates
        meanwhile gets its `Progress`. Idempotent. Raises SessionFailed when the session ends without a
        result.
        """
        if not self._is_stopping:
            async with self._sending:
                self._is_stopping = True
                self._outgoing.ask(Stop())
                self._wake()
        await self._until(lambda: self._final is not None)
        assert self._final is not None
        return self._final

    async def close(self) -> None:
        """Close the socket, within seconds whatever state it is in; idempotent.

        A session that was not stopped stays on the server. Where this is cancelled, the socket is closed
        without a word to the server.
        """
        if self._keeper is not None:
            if not self._is_closing:
                self._is_closing = True
                self._wake()
                self._keeper.cancel()
            try:
                await asyncio.wait([self._keeper])
            except asyncio.CancelledError:
                self._socket.transport.abort()  # there is no time left for good order
                raise
        await close_socket(self._socket)
        self._is_over = True
        self._wake()

    def __aiter__(self) -> LiveSession:
        return self

    async def __anext__(self) -> SessionMessage:
        while not self._inbox and not self._is_over:
            await self._change()
        if self._inbox:
            return self._inbox.get()
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    # Sending --------------------------------------------------------------------------------------

    async def _begin(self, start: Start) -> None:
        self._start = start
        self._keeper = asyncio.create_task(self._keep(), name="live-asr session")
        try:
            async with asyncio.timeout(_READY_TIMEOUT):
                await self._until(lambda: self._ready is not None)
        except TimeoutError:
            raise SessionRefused(
                "cannot_connect",
                f"The server did not open the session within {_READY_TIMEOUT:.0f} s.",
                "See the server's log.",
            ) from None

    def _has_room(self, size_bytes: int) -> bool:
        # A server that comes back with a smaller window than a frame was made for gets it in pieces.
        return self.in_flight_bytes + min(size_bytes, self._bound_bytes) <= self._bound_bytes

    @property
    def _bound_bytes(self) -> int:
        """How much may be held; what is on its way never exceeds the server's window, see `Outgoing.next`."""
        window_bytes = self.ready.max_unacked_bytes
        return window_bytes if self._pace == "fast" else max(window_bytes, HELD_BYTES)

    async def _send_frame(self, frame: bytes) -> None:
        await self._until(lambda: self._has_room(len(frame)) or self._stopped is not None)
        self._check_open()
        is_behind = self._outgoing.sent_bytes < self.sent_bytes
        self._outgoing.add(frame)
        self._wake()
        position = self.sent_bytes
        # The network's own pace is kept, as long as there is one; live audio waits for none that is held.
        patience = None if self._pace == "fast" else 0.0 if is_behind else _LIVE_TIMEOUT
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._until(lambda: self._outgoing.sent_bytes >= position or not self._takes_audio)

    @property
    def _takes_audio(self) -> bool:
        return self._is_connected and self._stopped is None

    async def _write(self, socket: ClientConnection) -> None:
        """Send what is to be sent, over one connection."""
        with suppress(ConnectionClosed):  # who reads knows why
            while True:
                item = self._outgoing.next(self.ready.max_unacked_bytes) if self._takes_audio else None
                if item is None:
                    await self._change()
                    continue
                await socket.send(item if isinstance(item, bytes) else encode(item).decode())
                self._wake()

    def _check_open(self) -> None:
        if self._is_stopping:
            raise SessionFailed(
                "stopped", "The session has been stopped; it accepts no more audio.", "Open another one."
            )
        if self._stopped is not None:
            raise SessionFailed(
                ENDED,
                "The session has ended while its client was away; it accepts no more audio.",
                "What was heard is there: `stop` returns it. Open another session for the rest.",
            )
        if self._is_over or self._is_closing:
            raise self._failure or self._lost("The connection was closed.")

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that only a message of the server can make true."""
        while not condition():
            if self._is_over or self._is_closing:
                raise self._failure or self._lost("The connection was closed.")
            await self._change()

    async def _change(self) -> None:
        await asyncio.wait([self._changed])

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    # Connections ----------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Keep the session connected until it is over, or this is cancelled."""
        now = asyncio.get_running_loop().time
        try:
            assert self._start is not None
            error = await self._serve(self._start)
            patience, fault, position = Patience(self._reconnect_for, now()), None, (-1, -1)
            while error is not None and self._is_worth_another(error):
                if self._resumed_at is not None:
                    self._deliver(Reconnecting(error.message))
                    self._attempts = 0
                    last, position = position, (self.acked_bytes, self.transcript.last_seq)
                    is_idle = error.code in NETWORK and not self.in_flight_bytes
                    patience.lose(now(), now() - self._resumed_at, got_on=position != last or is_idle)
                if self._resumed_at is not None or error.code in FAULTS:
                    fault = error if error.code in FAULTS else None
                pause = patience.pause(now(), error)
                if pause is None:
                    break
                await asyncio.sleep(pause)
                error = await self._come_back(error)
            # A session that a fault has ended is not there any more: what ended it says more than that.
            is_gone = error is not None and error.code == "session_unknown"
            self._failure = fault if fault is not None and is_gone else error
        finally:
            self._is_over = True
            self._wake()

    def _is_worth_another(self, error: SessionError) -> bool:
        return self._ready is not None and self._reconnect_for > 0 and is_resumable(error)

    async def _come_back(self, lost_by: SessionError) -> SessionError | None:
        """Try to take the session up again, and serve it; return why it ended, None for a good end.

        A server does not wait for who is gone and had sent nothing: another session takes that one's place.
        """
        assert self._start is not None
        self._resumed_at = None
        self._attempts += 1
        is_untouched = not self._outgoing.sent_bytes and not self.transcript.last_seq
        is_gone = is_untouched and lost_by.code in NETWORK
        resume = Resume(self.ready.session, self.ready.token, self.transcript.last_seq)
        try:
            self._socket = await self._open_another(self.ready.resume_url)
        except SessionError as refusal:
            return refusal
        return await self._serve(self._start if is_gone else Start(resume=resume))

    async def _serve(self, start: Start) -> SessionError | None:
        """Open or resume the session over the socket at hand; return why it ended, None for a good end."""
        self._error = None
        beside = [
            asyncio.create_task(self._write(self._socket)),
            asyncio.create_task(self._watch(self._socket)),
            asyncio.create_task(self._stay(self._socket)),
        ]
        try:
            with suppress(ConnectionClosed):  # what the server said before it closed is still to be read
                await self._socket.send(encode(start).decode())
            async for frame in self._socket:
                self._heard_count += 1
                if isinstance(frame, str):
                    self._receive(frame)
            is_done = self._socket.close_code == 1000 or self._final is not None
            return self._error or (None if is_done else self._lost("The server went away."))
        except ConnectionClosed as closed:
            if self._final is not None and self._error is None:
                return None
            return self._error or self._lost(f"The connection was lost ({closed}).")
        except SessionError as failed:
            return failed
        except LiveAsrError as error:
            return self._error_of("bad_server_message", f"The server sent: {error.message}", error.hint)
        finally:
            self._is_connected = False
            self._wake()
            for task in beside:
                task.cancel()
            try:
                await asyncio.gather(*beside, return_exceptions=True)
            finally:
                await close_socket(self._socket)

    async def _stay(self, socket: ClientConnection) -> None:
        """Say that somebody is here, where the server would otherwise end a session that sends no audio."""
        with suppress(ConnectionClosed):  # who reads knows why
            while True:
                patience = self._ready.idle_timeout if self._ready is not None and self._takes_audio else None
                if patience is None:
                    await self._change()
                    continue
                await asyncio.sleep(patience / KEEPALIVES)
                if self._takes_audio:
                    await socket.send(encode(Keepalive()).decode())

    async def _watch(self, socket: ClientConnection) -> None:
        """Give a connection up over which nothing comes although something must."""
        await until_silent(self._lost_after, lambda: self._heard_count, lambda: self._patience(socket))
        self._error = self._error or self._lost(f"The server has said nothing for {self._lost_after:g} s.")
        socket.transport.abort()

    def _patience(self, socket: ClientConnection) -> int:
        """Return how many times as long as usual the server may say nothing now; 0 is for ever."""
        if self._ready is None:
            return 0  # opening has a bound of its own
        if not self._is_connected:
            return 3  # it reads what was missed first
        if self._stopped is not None:
            return 0  # the full pass takes its time
        # It never stops reading. Live audio it acknowledges once it is on disk, a file as it is worked off.
        is_due = self._pace == "realtime" and self._outgoing.sent_bytes > self.acked_bytes
        return int(is_due or socket.transport.get_write_buffer_size() > 0)

    # Receiving ------------------------------------------------------------------------------------

    def _receive(self, frame: str) -> None:
        value = parse_json(frame)
        kind = value.get("type") if isinstance(value, Mapping) else None
        if isinstance(kind, str) and kind not in SERVER_TYPES:
            return  # a newer server may say more than this client knows
        message = server_from_dict(value)
        self.transcript.apply(message)
        match message:
            case Ready():
                self._greet(message)
            case Ack():
                self._outgoing.acknowledge(message.bytes)
            case Finalized():
                self._outgoing.answered(Finalize)
                self._finalized.append(message)
            case Updated():
                self._outgoing.answered(Update)
                self._updated_count += 1
            case Timed() | Notice(code="time_refused"):
                self._outgoing.answered(Time)
            case Paused():
                self._outgoing.answered(Pause)
                self._paused_count += 1
            case Stopped():
                self._outgoing.answered(Stop)
                self._stopped = message
            case Final():
                self._final = message
            case Error():
                self._error = self._error_of(message.code, message.message, message.hint, message.retry_after)
        self._go_on()
        self._deliver(message)

    def _greet(self, ready: Ready) -> None:
        is_first, self._ready = self._ready is None, ready
        self._resumed_at = asyncio.get_running_loop().time()
        if not is_first:
            self._deliver(Resumed(self._attempts))

    def _go_on(self) -> None:
        """Send on, once all that was missed is there: that the session has ended may be part of it."""
        is_greeted = self._resumed_at is not None
        if is_greeted and not self._is_connected and self.transcript.last_seq >= self.ready.last_seq:
            if self._stopped is None:
                self._outgoing.go_on_from(self.ready.received_bytes)
            self._is_connected = True

    def _deliver(self, message: SessionMessage) -> None:
        if not isinstance(message, Ready | Error):  # these are handed out otherwise
            self._inbox.put(message)
        self._wake()

    def _lost(self, message: str) -> SessionError:
        return self._error_of(
            "connection_lost",
            message,
            "What the server acknowledged is on its disk; if it still runs, it finishes that by itself.",
        )

    def _error_of(
        self, code: str, message: str, hint: str = "", retry_after: float | None = None
    ) -> SessionError:
        kind = SessionFailed if self._ready else SessionRefused
        return kind(code, message, hint, retry_after)
