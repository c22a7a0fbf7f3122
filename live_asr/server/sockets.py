"""Sending, receiving and closing over a WebSocket, with an end to patience."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import WebSocket
from fastapi.responses import Response
from starlette.websockets import WebSocketDisconnect, WebSocketState

from live_asr.core.errors import LiveAsrError, Unavailable
from live_asr.core.messages import encode, error_message

SEND_TIMEOUT = 30.0
"""Seconds that one message may take to leave: a client that reads nothing for so long is let go."""
STATUS = {"unauthorized": 401, "too_many_tries": 429, "too_many_requests": 429, "host_not_allowed": 421}
"""HTTP status of a handshake that is refused, by the error's code; of others it is 403."""
GONE = (WebSocketDisconnect, ConnectionError, RuntimeError)
"""What sending to a client raises that is gone; RuntimeError for a socket that was closed meanwhile."""


async def receive(socket: WebSocket) -> bytes | str:
    """Return the next frame. Raises WebSocketDisconnect when the client is gone."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006))
    text: str | None = message.get("text")
    data: bytes = message.get("bytes") or b""
    return data if text is None else text


async def send(socket: WebSocket, text: bytes) -> None:
    """Send a text frame. Raises TimeoutError where the client does not take it, and what is in `GONE`."""
    async with asyncio.timeout(SEND_TIMEOUT):
        await socket.send_text(text.decode())


async def close(socket: WebSocket, code: int, reason: str = "") -> None:
    """Close a socket that is open; it may be closed already."""
    if socket.application_state is WebSocketState.CONNECTED:
        with contextlib.suppress(TimeoutError, *GONE):
            async with asyncio.timeout(SEND_TIMEOUT):
                await socket.close(code, reason or None)


async def turn_away(socket: WebSocket, error: LiveAsrError, subprotocol: str | None = None) -> None:
    """Refuse a connection before anything of it is read.

    A program is told by the status of its handshake, with the `error` as JSON. A browser cannot see that: it
    is let in just so far that the `error` reaches its page, and closed.
    """
    with contextlib.suppress(TimeoutError, *GONE):
        if "origin" in socket.headers:
            offered = socket.scope.get("subprotocols", [])
            await socket.accept(subprotocol=subprotocol if subprotocol in offered else None)
            await send(socket, encode(error_message(error)))
            await close(socket, error.close_code)
            return
        headers = {"WWW-Authenticate": "Bearer"} if error.code == "unauthorized" else {}
        if isinstance(error, Unavailable):
            headers["Retry-After"] = f"{error.retry_after:.0f}"
        body = encode(error_message(error))
        await socket.send_denial_response(
            Response(body, STATUS.get(error.code, 403), headers, media_type="application/json")
        )
