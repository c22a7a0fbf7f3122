"""Sending, receiving and closing over a WebSocket, with an end to patience."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

SEND_PATIENCE = 30.0
"""Seconds that one message may take to leave: a client that reads nothing for so long is let go."""
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
    async with asyncio.timeout(SEND_PATIENCE):
        await socket.send_text(text.decode())


async def close(socket: WebSocket, code: int, reason: str = "") -> None:
    """Close a socket that is open; it may be closed already."""
    if socket.application_state is WebSocketState.CONNECTED:
        with contextlib.suppress(TimeoutError, *GONE):
            async with asyncio.timeout(SEND_PATIENCE):
                await socket.close(code, reason or None)
