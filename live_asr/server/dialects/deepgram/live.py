"""Deepgram's WebSocket `/v1/listen`: audio in, results while it is spoken.

The socket is read whatever the recogniser does: a file that is sent as fast as the socket takes it waits on
disk, `MAX_AHEAD` seconds of it at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
from fastapi import WebSocket
from starlette.websockets import WebSocketState

from live_asr.core.errors import ClientError, LiveAsrError
from live_asr.core.messages import Finalize, Keepalive, Stop, Stopped, Update, Updated, client_from_dict
from live_asr.server.access import api_key
from live_asr.server.dialects.deepgram.callbacks import with_callback
from live_asr.server.dialects.deepgram.parameters import Asked, read_keyterms, read_query
from live_asr.server.dialects.deepgram.refusals import close_of, refusal, told, warning_headers
from live_asr.server.dialects.deepgram.results import Channel, Request
from live_asr.server.dialects.json_objects import read_object
from live_asr.server.dialects.link import Link, linked
from live_asr.server.dialects.pacing import Receiver, first_items, most_ahead_bytes, rate_of
from live_asr.server.dialects.serving import served
from live_asr.server.dialects.task_groups import together
from live_asr.server.sockets import GONE, close, receive, send
from live_asr.server.state import ServerState
from live_asr.sessions.admission import SOMEBODY

IDLE_TIMEOUT = 10.0
"""Seconds that a client may say nothing for while nothing is said to it; `KeepAlive` counts."""
CONTROLS = ("KeepAlive", "Finalize", "CloseStream", "Configure")

Frame = bytes | Mapping[str, Any]
CLOSE_STREAM: Mapping[str, Any] = {"type": "CloseStream"}


class Conversation:
    """One connection from its handshake to its close."""

    def __init__(self, socket: WebSocket, state: ServerState) -> None:
        self._socket = socket
        self._state = state
        self._client = SOMEBODY
        self._request: Request | None = None
        self._channels: list[Channel] = []
        self._is_closing = False
        """Whether the client has said that no audio follows."""
        self._receive = Receiver(self._frame)
        self._moved = 0.0
        """When either side last said something."""

    async def run(self) -> None:
        """Serve the connection. Never raises: a broken peer is nobody else's trouble."""
        async with served(self._state, "/v1/listen", self._refuse):
            asked, request = await self._admitted()
            self._request = request
            await self._accept(asked, request)
            try:
                await self._serve(asked, request)
            finally:
                self._receive.close()

    # Before the first audio --------------------------------------------------------------------------

    async def _admitted(self) -> tuple[Asked, Request]:
        """Read what is asked for. Raises LiveAsrError for what cannot be had, or not now."""
        access, registry = self._state.access, self._state.registry
        access.check_origin(self._socket)
        self._client = (await access.admit(self._socket, api_key(self._socket), "caption")).client
        asked = read_query(self._socket.query_params.multi_items(), is_live=True)
        loaded = registry.admit(asked.start, self._client)
        request = Request(loaded.recognizer.name)
        return with_callback(asked, request, self._socket.url.query), request

    async def _accept(self, asked: Asked, request: Request) -> None:
        offered = self._socket.scope.get("subprotocols", [])
        headers = warning_headers(request.id, asked.warnings)
        await self._socket.accept(
            subprotocol=offered[0] if offered else None,
            headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        )
        self._touch()

    def _touch(self) -> None:
        self._moved = asyncio.get_running_loop().time()

    async def _frame(self) -> Frame:
        """Return the next audio or control message; what is neither is answered, and passed over."""
        while True:
            frame = await receive(self._socket)
            self._touch()
            if isinstance(frame, bytes):
                return frame or CLOSE_STREAM  # as Deepgram takes it
            try:
                message = read_object(frame)
            except ClientError as error:
                await self._say(_schema_error(error.message, frame))
                continue
            if message.get("type") in CONTROLS:
                return message
            await self._say(_schema_error(f"`type` must be one of {', '.join(CONTROLS)}.", frame))

    # The session -------------------------------------------------------------------------------------

    async def _serve(self, asked: Asked, request: Request) -> None:
        await together([self._hear_and_tell(asked, request)], self._watch_idle())

    async def _watch_idle(self) -> None:
        """Raise once nobody has said anything for too long."""
        loop = asyncio.get_running_loop()
        while True:
            if self._is_closing:
                self._touch()
            left = self._moved + IDLE_TIMEOUT - loop.time()
            if left <= 0:
                raise ClientError(
                    "idle",
                    f"Neither audio nor a message came for {IDLE_TIMEOUT:g} seconds.",
                    'Send {"type": "KeepAlive"} while there is no audio.',
                    close_code=1011,
                )
            await asyncio.sleep(left)

    async def _hear_and_tell(self, asked: Asked, request: Request) -> None:
        rate = rate_of(asked.start.audio)
        frames, is_file = await first_items(
            self._receive,
            lambda frame: len(frame) / rate if isinstance(frame, bytes) else 0.0,
            lambda frame: not isinstance(frame, bytes) and frame["type"] == "CloseStream",
        )
        start = replace(asked.start, pace="fast" if is_file else "realtime")
        opening = linked(self._state, start, self._client, most_ahead_bytes=most_ahead_bytes(start.audio))
        async with opening as link:
            self._channels = [Channel(request, asked, index) for index in range(asked.channels)]
            await together([self._tell(link, asked, request)], self._read_all(link, frames, request))

    async def _read_all(self, link: Link, frames: list[Frame], request: Request) -> None:
        """Hand on what the client sends, until it is gone."""
        for frame in frames:
            await self._take(link, frame, request)
        while True:
            await self._take(link, await self._receive(), request)

    async def _take(self, link: Link, frame: Frame, request: Request) -> None:
        if self._is_closing:
            return  # what comes behind `CloseStream` is not heard
        if isinstance(frame, bytes):
            request.digest.update(frame)
            await link.send(frame)
        elif frame["type"] == "CloseStream":
            self._is_closing = True
            link.control(Stop())
        elif frame["type"] == "KeepAlive":
            link.control(Keepalive())
        elif frame["type"] == "Finalize":
            for channel in self._channels:
                channel.finalize()
            link.control(Finalize())
        elif frame["type"] == "Configure":
            await self._configure(link, frame, request)

    async def _configure(self, link: Link, message: Mapping[str, Any], request: Request) -> None:
        try:
            update = client_from_dict({"type": "update", "vocabulary": read_keyterms(message)})
        except ClientError as error:
            code = "CONFIGURE_INTERNAL_ERROR"
            refused = {"type": "ConfigureFailure", "request_id": request.id, "code": code}
            await self._say({**refused, "description": error.message.replace("`vocabulary", "`keyterms")})
            return
        assert isinstance(update, Update), "its type says so"
        link.control(update)

    async def _tell(self, link: Link, asked: Asked, request: Request) -> None:
        """Say what the session says of each channel, then what was heard in all."""
        async for message in link.messages():
            self._touch()
            for channel in self._channels:
                for result in channel.apply(message):
                    await self._say(result)
            if isinstance(message, Updated):
                configured = {"type": "ConfigureSuccess", "request_id": request.id}
                await self._say({**configured, "keyterms": list(message.vocabulary)})
            if isinstance(message, Stopped):
                metadata = request.metadata(message.duration, asked.channels)
                await self._say({"type": "Metadata", **metadata, **asked.told, "session": link.id})
                await close(self._socket, 1000)
                return
        raise link.failure or LiveAsrError("The session ended before its time.")

    async def _say(self, message: Mapping[str, Any]) -> None:
        await send(self._socket, orjson.dumps(message))

    async def _refuse(self, error: LiveAsrError) -> None:
        with contextlib.suppress(TimeoutError, *GONE):
            if self._request is None or self._socket.application_state is WebSocketState.CONNECTING:
                await self._socket.send_denial_response(refusal(error, str(uuid4())))
                return
            await self._say(told(error, self._request.id))
        await close(self._socket, *close_of(error))


def _schema_error(description: str, frame: str) -> dict[str, Any]:
    return {"type": "Error", "variant": "SchemaError", "description": description, "message": frame[:200]}
