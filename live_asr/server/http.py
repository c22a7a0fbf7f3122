"""The HTTP protocol: uvicorn's, with an end to patience.

A connection that never completes its request costs a descriptor, and a process has few of them: without
a limit, a handful of idle connections from one careless peer would keep everybody else out.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from live_asr.server.connections import Connections

REQUEST_TIMEOUT = 10.0
"""Seconds that a peer has for the head of a request."""
BODY_TIMEOUT = 30.0
"""Seconds without a byte of a body that is not complete."""
ABORT = "live_asr.abort"
"""The ASGI extension by which the application breaks a connection."""


class PatientHttp(H11Protocol):
    """One connection, closed when it brings no whole request in time."""

    _request_timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None
    _counted_as: str | None = ""
    """What it is counted as among all connections; None where it was refused."""

    def __init__(self, *args: Any, all_connections: Connections | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all_connections = all_connections or Connections()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take note of a new connection, unless its address has too many."""
        super().connection_made(transport)
        self._counted_as = self._all_connections.enter(transport)
        self._watch()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over; the other protocol counts it from here on."""
        self._uncount()
        super().handle_websocket_upgrade(event)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if self._counted_as is None:
            return
        super().data_received(data)
        if self.scope is not None:  # the application begins in a later turn of the loop
            self.scope.setdefault("extensions", {})[ABORT] = {"abort": self._abort}
        self._watch()
        self._watch_body()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the connection is gone."""
        self._forget()
        if self._body_timer is not None:
            self._body_timer.cancel()
        self._uncount()
        super().connection_lost(exc)

    def _uncount(self) -> None:
        if self._counted_as:
            self._all_connections.leave(self._counted_as)
            self._counted_as = ""

    def _abort(self) -> None:
        """Break the connection, with what still waits to be sent: a polite close would wait for a peer
        that reads nothing."""
        self.transport.abort()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch_body(self) -> None:
        """Let a peer go that has begun to send something, and sends no more of it."""
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        if self._is_answering and self.cycle.more_body:
            self._body_timer = self.loop.call_later(BODY_TIMEOUT, self._give_up_body)

    def _give_up_body(self) -> None:
        self._body_timer = None
        if self.flow.read_paused:  # it is the application that takes no more now
            self._watch_body()
        elif self._is_answering and self.cycle.more_body:
            self.transport.close()

    def _watch(self) -> None:
        if self._is_answering or self not in self.connections:  # the latter: it is a WebSocket now
            self._forget()
        elif self._request_timer is None:
            self._request_timer = self.loop.call_later(REQUEST_TIMEOUT, self._give_up)

    def _forget(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _give_up(self) -> None:
        self._request_timer = None
        if not self._is_answering:
            self.transport.close()
