"""The WebSocket `/v1/realtime`: events in, events out.

What a client says wrongly is answered by an `error` event and ends nothing. The session below is opened with
the first audio, since only then it is known what that is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from fastapi import WebSocket
from starlette.websockets import WebSocketState

from live_asr.core.errors import ClientError, LiveAsrError
from live_asr.core.messages import Finalize
from live_asr.server.access import address_of, api_key
from live_asr.server.dialects.json_objects import read_object
from live_asr.server.dialects.link import Link, linked
from live_asr.server.dialects.openai_errors import fault_of, response_of
from live_asr.server.dialects.pacing import Receiver, first_items, most_ahead_bytes, rate_of
from live_asr.server.dialects.realtime.items import Event, Items
from live_asr.server.dialects.realtime.settings import BadRequest, SessionSettings
from live_asr.server.dialects.serving import served
from live_asr.server.dialects.task_groups import together
from live_asr.server.sockets import GONE, close, receive, send
from live_asr.server.state import ServerState
from live_asr.sessions.admission import SOMEBODY, Client

KEY_PROTOCOL = "openai-insecure-api-key."
BETA_PROTOCOL = "openai-beta.realtime-v1"
SUBPROTOCOL = "realtime"
MIN_COMMIT = 0.1
"""Seconds of audio that a commit must hold."""
INLINE_CHARACTERS = 64 * 1024
"""An event up to this size is read on the event loop; a second of audio is no larger."""
LARGEST_CHARACTERS = 256 * 1024
"""Of an event that brings no audio: settings are gone through on the event loop."""


class Conversation:
    """One connection from its handshake to its close."""

    def __init__(self, socket: WebSocket, state: ServerState) -> None:
        self._socket = socket
        self._state = state
        self._id = f"sess_{secrets.token_hex(12)}"
        self._client = SOMEBODY
        self._settings = SessionSettings()
        offered = socket.scope.get("subprotocols", [])
        self._is_beta = BETA_PROTOCOL in offered or "openai-beta" in socket.headers
        self._link: Link | None = None
        self._items = Items(self._settings, is_beta=self._is_beta)
        self._receive = Receiver(self._event)
        self._heard = 0.0
        """Seconds of audio that were appended."""
        self._committed = 0.0
        """Seconds of it that were committed or cleared."""

    async def run(self) -> None:
        """Serve the connection. Never raises: a broken peer is nobody else's trouble."""
        async with served(self._state, "/v1/realtime", self._refuse):
            await self._admit()
            offered = self._socket.scope.get("subprotocols", [])
            await self._socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
            await self._say(self._session("created"))
            try:
                await self._serve()
            finally:
                self._receive.close()

    async def _admit(self) -> None:
        """Let in who may, where there is room. Raises LiveAsrError."""
        access, key = self._state.access, self._key()
        access.check_origin(self._socket)
        made = self._state.client_secrets.made(key)
        if made is None or not access.is_good(made.owner):
            self._client = (await access.admit(self._socket, key, "caption")).client
        else:
            self._client = Client(made.owner, address_of(self._socket))
            self._settings = SessionSettings().changed(made.session)
        intent = self._socket.query_params.get("intent", "transcription")
        if intent != "transcription":
            raise BadRequest("This server transcribes only: connect with `?intent=transcription`.", "intent")
        self._state.registry.admit(self._settings.start(), self._client)

    def _key(self) -> str | None:
        for name in self._socket.scope.get("subprotocols", []):
            if name.startswith(KEY_PROTOCOL):
                return str(name.removeprefix(KEY_PROTOCOL))
        return api_key(self._socket)

    # What the client says ---------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Answer events until the client is gone."""
        while not (event := await self._patiently()).get("bytes"):
            await self._answer(event)
        rate = rate_of(self._settings.audio)
        events, is_file = await first_items(
            self._receive, lambda event: len(event.get("bytes", b"")) / rate, lambda _: False, event
        )
        start = replace(self._settings.start(), pace="fast" if is_file else "realtime")
        self._items = Items(self._settings, is_beta=self._is_beta)
        opening = linked(self._state, start, self._client, most_ahead_bytes=most_ahead_bytes(start.audio))
        async with opening as self._link:
            await together([self._tell(self._link)], self._answer_all(events))

    async def _patiently(self) -> Event:
        """Return the next event before there is audio. Raises ClientError where none comes for too long, as a
        session with audio does."""
        patience = self._state.settings.server.idle_timeout or None
        try:
            async with asyncio.timeout(patience) as limit:
                return await self._event()
        except TimeoutError:
            if not limit.expired():
                raise
            raise ClientError(
                "idle", f"No event came for {patience:g} seconds.", "Connect again once there is audio."
            ) from None

    async def _answer_all(self, events: Iterable[Event]) -> None:
        for event in events:
            await self._answer(event)
        while True:
            await self._answer(await self._receive())

    async def _event(self) -> Event:
        """Return the next event, its audio decoded as `bytes`. What is none is answered and passed over."""
        while True:
            frame = await receive(self._socket)
            try:
                if isinstance(frame, bytes):
                    raise BadRequest("Binary frames are not supported: send events as text.")
                if len(frame) <= INLINE_CHARACTERS:
                    return read_event(frame)
                return await asyncio.to_thread(read_event, frame)
            except ClientError as error:
                await self._complain(error, None)

    async def _answer(self, event: Event) -> None:
        """Do what an event asks for. Raises the session's failure, not the client's faults."""
        try:
            match event["type"]:
                case "input_audio_buffer.append":
                    await self._append(event["bytes"])
                case "input_audio_buffer.commit":
                    await self._commit()
                case "input_audio_buffer.clear":
                    await self._clear()
                case "session.update":
                    await self._update(event.get("session"), is_beta=False)
                case "transcription_session.update":
                    await self._update(event.get("session"), is_beta=True)
                case other:
                    raise BadRequest(
                        f"Invalid value: {str(other)[:60]!r}. A transcription session takes session.update "
                        "and input_audio_buffer.append, .commit and .clear.",
                        "type",
                    )
        except BadRequest as error:
            await self._complain(error, event.get("event_id"))

    async def _append(self, audio: bytes) -> None:
        if not audio:
            return
        assert self._link is not None, "it is opened for the first audio"
        self._heard += len(audio) / rate_of(self._settings.audio)
        await self._link.send(audio)

    async def _commit(self) -> None:
        length = self._heard - self._committed
        if self._link is None or length < MIN_COMMIT:
            raise BadRequest(
                f"Error committing input audio buffer: buffer too small. Expected at least "
                f"{1000 * MIN_COMMIT:.0f}ms of audio, but buffer only has {1000 * length:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        start, self._committed = self._committed, self._heard
        self._link.control(Finalize())
        await self._say_all(self._items.commit(start, self._heard))

    async def _clear(self) -> None:
        self._committed = self._heard
        if self._link is not None:
            self._link.control(Finalize())
            self._items.clear()
        await self._say({"type": "input_audio_buffer.cleared"})

    async def _update(self, session: object, *, is_beta: bool) -> None:
        before, settings = self._settings, self._settings.changed(session)
        try:
            self._state.registry.check(settings.start())
        except ClientError as error:
            param = "session.audio.input.transcription.language"
            raise BadRequest(str(error), param, error.code) from None
        if self._link is not None:
            if (settings.format, settings.turn_detection) != (before.format, before.turn_detection):
                raise BadRequest(
                    "Format and turn detection cannot be changed once there is audio; open another session.",
                    "session.audio.input",
                    "session_has_audio",
                )
            if settings.transcription != before.transcription:
                self._link.control(settings.update())
        self._settings = self._items.settings = settings
        await self._say(self._session("updated", is_beta=is_beta))

    def _session(self, happened: str, *, is_beta: bool | None = None) -> Event:
        is_beta = self._is_beta if is_beta is None else is_beta
        name = "transcription_session" if is_beta else "session"
        shown = self._settings.shown_as_beta if is_beta else self._settings.shown
        return {"type": f"{name}.{happened}", "session": shown(self._id)}

    # What the client is told ------------------------------------------------------------------------

    async def _tell(self, link: Link) -> None:
        async for message in link.messages():
            await self._say_all(self._items.apply(message))
        raise link.failure or LiveAsrError("The session ended before its time.")

    async def _say_all(self, events: Iterable[Event]) -> None:
        for event in list(events):
            await self._say(event)

    async def _say(self, event: Mapping[str, Any]) -> None:
        numbered = {"event_id": f"event_{secrets.token_hex(10)}", **event}
        await send(self._socket, orjson.dumps(numbered))

    async def _complain(self, error: LiveAsrError, event_id: object) -> None:
        told = {**fault_of(error), "event_id": event_id if isinstance(event_id, str) else None}
        await self._say({"type": "error", "error": told})

    async def _refuse(self, error: LiveAsrError) -> None:
        with contextlib.suppress(TimeoutError, *GONE):
            if self._socket.application_state is WebSocketState.CONNECTING:
                await self._socket.send_denial_response(response_of(error))
                return
            await self._say_all(self._items.fail())
            await self._complain(error, None)
        await close(self._socket, error.close_code)


def read_event(frame: str) -> Event:
    """Read an event. Raises ClientError for what is none."""
    read = dict(read_object(frame, "event"))
    read.pop("bytes", None)  # ours
    if not isinstance(read.get("type"), str):
        raise BadRequest("An event is a JSON object with a `type`.", "type")
    if read["type"] == "input_audio_buffer.append":
        audio = read.pop("audio", None)
        try:
            read["bytes"] = base64.b64decode(audio, validate=True) if isinstance(audio, str) else None
        except ValueError:
            read["bytes"] = None
        if read["bytes"] is None:
            raise BadRequest("`audio` must be base64.", "audio")
    elif len(frame) > LARGEST_CHARACTERS:
        raise BadRequest(
            f"An event without audio may have {LARGEST_CHARACTERS} characters.", code="too_large"
        )
    return read
