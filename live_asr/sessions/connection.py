"""The one connection that a session has at a time, or none: what waits to be sent, how long it is waited for.

Messages that change the record are never dropped; of those that the next one replaces only the newest
waits. A client that reads so slowly that the others pile up is told so and let go, rather than waited for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from live_asr.core.connection_states import SENT, ConnectionEvent, ConnectionState, Sent, after
from live_asr.core.errors import ClientError, LiveAsrError
from live_asr.core.messages import (
    Ack,
    Error,
    Final,
    Lag,
    Partial,
    Progress,
    ServerMessage,
    Stopped,
    encode,
    error_message,
)

REPLACEABLE = (Partial, Ack, Lag, Progress)
"""Of these only the newest is worth sending."""
LAST = (Stopped, Final, Error)
"""These come once, at the end; hours of speech make the first two as large as they are."""


class Outbox:
    """What waits to be sent over one connection. `is_resumed` tells that it took up a lost one."""

    def __init__(self, most_bytes: int = 4 * 1024 * 1024, *, is_resumed: bool = False) -> None:
        self.is_resumed = is_resumed
        self.is_late = False
        """Whether its client was told that it came back too late."""
        self.failure: LiveAsrError | None = None
        """Why the client was let go; None while all is well."""
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[ServerMessage, bytes]] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def close_code(self) -> int:
        """The WebSocket close code that tells the client how its connection ended."""
        return self.failure.close_code if self.failure else 1000

    def put(self, message: ServerMessage, encoded: bytes | None = None) -> None:
        """Add a message; `encoded` is its text if that is known already.

        Raises ClientError `slow_client` when what waits exceeds the bound: the client does not read.
        """
        if self._closed:
            return
        if isinstance(message, REPLACEABLE):
            self._drop_older(type(message))
        text = encoded if encoded is not None else encode(message)
        is_bounded = not isinstance(message, REPLACEABLE + LAST)
        if is_bounded and self._waiting_bytes + len(text) > self._most_bytes:
            raise ClientError(
                "slow_client",
                "The client reads more slowly than captions are produced.",
                "Read all messages as they come; resume the session to get what was missed.",
            )
        self._waiting.append((message, text))
        self._waiting_bytes += len(text)
        self._changed.set()

    def clear(self) -> None:
        """Forget what waits: its client will not read it."""
        self._waiting.clear()
        self._waiting_bytes = 0

    def dismiss(self, error: LiveAsrError) -> None:
        """Say why the client must go, as the last thing."""
        if self._closed:
            return
        self.failure = error
        self.put(error_message(error))
        self.close()

    def close(self) -> None:
        """Take nothing more; what waits can still be taken out."""
        self._closed = True
        self._changed.set()

    async def get(self) -> bytes | None:
        """Wait for the next message's text; None when the box is closed and empty."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        _, text = self._waiting.popleft()
        self._waiting_bytes -= len(text)
        return text

    def _drop_older(self, kind: type[ServerMessage]) -> None:
        for index, (message, text) in enumerate(self._waiting):
            if isinstance(message, kind):
                del self._waiting[index]
                self._waiting_bytes -= len(text)
                return


PAUSE_WINDOW = 3600.0
"""Seconds for which a client is waited for that is lost while its talk is paused: a break, or a lunch."""


class ClientConnection:
    """The one connection that a session has at a time, or none: it does what `core/connection_states` says.

    A client that is lost is waited for as many seconds as `window` says then; 0: not at all. `on_sent_all` is
    called once nobody is there from whom more may come: the session is to be brought to its end.
    """

    def __init__(self, window: Callable[[], float], on_sent_all: Callable[[], None]) -> None:
        self._window = window
        self._on_sent_all = on_sent_all
        self._expiry: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self.state = ConnectionState.ATTACHED
        self.outbox: Outbox | None = Outbox()
        """What the client is to hear; None while there is none."""
        self.index = 0
        """From where on the client hears what the session says; what came before is read from the disk."""

    @property
    def sent(self) -> Sent:
        """What becomes of that which the client sends now."""
        return SENT[self.state]

    @property
    def is_over(self) -> bool:
        """Whether nobody works for the session any more: it has ended, or was left."""
        return self._ended.is_set()

    async def ended(self) -> None:
        """Wait until `is_over`."""
        await self._ended.wait()

    def attach(self, index: int) -> Outbox:
        """Return what a client that comes back is to hear, from `index` on in what the session says.

        One that seems to be there still is let go.
        """
        if self.outbox is not None:
            self.outbox.dismiss(
                ClientError(
                    "resumed_elsewhere",
                    "This session was resumed over another connection.",
                    "Use that one and close this one.",
                )
            )
        self._follow(ConnectionEvent.CAME_BACK)
        self.outbox, self.index = Outbox(is_resumed=True), index
        return self.outbox

    def is_other(self, outbox: Outbox | None) -> bool:
        """Tell whether nobody is there, or somebody else than who has `outbox`; None stands for anybody."""
        return self.outbox is None or outbox not in (None, self.outbox)

    def lose(self) -> None:
        """Take note that the client is gone, or has never been there, and wait for it. Idempotent."""
        if self.outbox is not None:
            self.outbox.close()
            self.outbox = None
        if self._follow(ConnectionEvent.LOST) and self.state is ConnectionState.AWAITED:
            if window := self._window():
                self._expiry = asyncio.get_running_loop().call_later(window, self.give_up)
            else:
                self.give_up()

    def expires_within(self) -> float | None:
        """Return for how many seconds a client is still waited for; None where it is there."""
        if self._expiry is None:
            return None
        return max(0.0, self._expiry.when() - asyncio.get_running_loop().time())

    def stop(self) -> None:
        """Take note that the client has sent all."""
        self._follow(ConnectionEvent.STOPPED)

    def give_up(self) -> None:
        """Wait no longer for a client that is gone."""
        self._follow(ConnectionEvent.EXPIRED)

    def leave(self, *, even_stopped: bool = False) -> None:
        """Have nobody work for the session any more; for a stopped one only where `even_stopped`."""
        self._follow(ConnectionEvent.INTERRUPTED if even_stopped else ConnectionEvent.SUSPENDED)

    def end(self) -> None:
        """Take note that the session is done or has failed; its client is to hear how."""
        self._follow(ConnectionEvent.ENDED)

    def close(self) -> None:
        """Forget the time that is running. Idempotent."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _follow(self, event: ConnectionEvent) -> bool:
        """Go where `event` leads, and do what belongs to that; return whether it leads anywhere else."""
        before, self.state = self.state, after(self.state, event)
        if self.state is before:
            return False
        self.close()
        if self.state in (ConnectionState.GONE, ConnectionState.GIVEN_UP):
            self._on_sent_all()
        if self.state in (ConnectionState.LEFT, ConnectionState.OVER):
            self._ended.set()
        return True
