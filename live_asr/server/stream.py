"""The native WebSocket: `/v1/stream`.

One task reads and one sends. The reader never waits for inference, disk or the client's own reading, so
that pings are answered whatever goes on behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from live_asr import __version__
from live_asr.config import Settings
from live_asr.core.messages import (
    ClientMessage,
    Finalize,
    Models,
    Pause,
    Ready,
    RecognizerInfo,
    ServerInfo,
    SpeechDetectorInfo,
    Start,
    Stop,
    Time,
    Update,
    decode_client,
    encode,
    error_message,
)
from live_asr.errors import ClientError, LiveAsrError
from live_asr.server.origins import is_listed, is_same_host
from live_asr.server.proxies import UNTRUSTED
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.outbox import Outbox
from live_asr.sessions.registry import SessionRegistry
from live_asr.sessions.resumption import OpenSession
from live_asr.sessions.runner import SessionRunner

log = logging.getLogger(__name__)

SUBPROTOCOL = "live-asr.v1"
BEARER_PROTOCOL = "bearer."
SEND_PATIENCE = 30.0
"""Seconds that one message may take to leave: a client that reads nothing for so long is let go."""
INLINE_CHARACTERS = 16 * 1024
"""A text frame up to this size is read on the event loop; it takes some 2 ms at most."""


class Stream:
    """One WebSocket connection from its acceptance to its close."""

    def __init__(
        self,
        socket: WebSocket,
        *,
        settings: Settings,
        registry: SessionRegistry,
        metrics: Metrics,
    ) -> None:
        self._socket = socket
        self._settings = settings
        self._registry = registry
        self._metrics = metrics
        self._is_gone = False
        """Whether nothing can be sent any more."""

    async def run(self) -> None:
        """Serve the connection. Never raises: a broken peer is nobody else's trouble."""
        offered = self._socket.scope.get("subprotocols", [])
        try:
            await self._socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
            opened = await self._open()
        except LiveAsrError as error:
            await self._refuse(error)
        except (WebSocketDisconnect, ConnectionError, RuntimeError) as error:
            log.debug("a client went away before its `start`: %s", error)
        except Exception:  # our fault; the client is told so rather than left with a closed socket
            log.exception("a session could not be opened")
            await self._refuse(_our_fault())
        else:
            await self._serve(opened)

    async def _open(self) -> OpenSession:
        """Wait for `start`, and open the session or take it up again."""
        self._check_origin()
        self._check_token()
        patience = self._settings.server.start_timeout
        try:
            async with asyncio.timeout(patience):
                frame = await self._receive()
        except TimeoutError:
            raise ClientError(
                "start_timeout",
                f"No `start` came within {patience:g} seconds.",
                "Send `start` as the first frame, as soon as the socket is open.",
            ) from None
        if isinstance(frame, bytes):
            raise ClientError(
                "start_expected",
                "Audio came before `start`.",
                'Send {"type": "start", …} as the first frame, and audio once `ready` is there.',
            )
        start = await _decode(frame)
        if not isinstance(start, Start):
            raise ClientError(
                "start_expected",
                f"`{start.type}` came before `start`.",
                'Send {"type": "start", …} as the first frame.',
            )
        if start.resume is not None:
            return await self._registry.resume(start.resume)
        return await self._registry.open(start)

    def _ready(self, opened: OpenSession) -> Ready:
        recognizer = opened.loaded.recognizer
        runner, server = opened.runner, self._settings.server
        return Ready(
            session=opened.id,
            token=opened.token,
            received_bytes=opened.received_bytes,
            last_seq=opened.last_seq,
            max_unacked_bytes=runner.max_unacked_bytes if runner else server.max_unacked_bytes,
            models=Models(
                RecognizerInfo(
                    recognizer.name, recognizer.languages, recognizer.device, recognizer.compute_type
                ),
                SpeechDetectorInfo(opened.loaded.detector_name),
            ),
            server=ServerInfo("live-asr", __version__),
            started_at=opened.started_at,
        )

    async def _serve(self, opened: OpenSession) -> None:
        """Read and send until either side is done, or another connection takes the session up."""
        runner, outbox = opened.runner, opened.outbox
        sending = asyncio.create_task(self._send_all(opened))
        others = (
            [asyncio.create_task(self._read_all(runner, outbox)), asyncio.create_task(runner.ended())]
            if runner is not None
            else []
        )
        try:
            await asyncio.wait([sending, *others], return_when=asyncio.FIRST_COMPLETED)
            # Whatever ended it: what was said to the client is to reach it, if it takes it within reason.
            await asyncio.wait([sending], timeout=SEND_PATIENCE)
            if self._is_gone and others:
                # What it had said by then may still wait to be read, its `stop` perhaps, and its end behind.
                await asyncio.wait(others[:1], timeout=SEND_PATIENCE)
        finally:
            if runner is not None:
                runner.lose_client(outbox)
            for task in (sending, *others):
                task.cancel()
            await asyncio.gather(sending, *others, return_exceptions=True)
            await self._close(outbox.close_code)

    async def _read_all(self, runner: SessionRunner, outbox: Outbox) -> None:
        """Hand everything that comes to the runner, until the client is gone or has to go."""
        try:
            while True:
                frame = await self._receive()
                message = frame if isinstance(frame, bytes) else await _decode(frame)
                if runner.outbox is not outbox:  # it was told to go, or has come back over another connection
                    return
                if isinstance(message, bytes):
                    runner.receive_audio(message)
                elif isinstance(message, Update | Time | Finalize | Pause | Stop):
                    runner.receive(message)
                else:
                    raise ClientError(
                        "already_started",
                        "A second `start` came.",
                        "One socket serves one session: open another socket for another one.",
                    )
        except ClientError as error:
            runner.dismiss(error, outbox)
        except (WebSocketDisconnect, ConnectionError):
            runner.lose_client(outbox)
        except Exception:  # our fault; unnoticed, it would look to the client like a good end
            log.exception("what session %s sent could not be read", runner.session.id)
            runner.dismiss(_our_fault(), outbox)

    async def _send_all(self, opened: OpenSession) -> None:
        """Send `ready`, what the client missed, then what is said, until that is all or it cannot take it."""
        runner, outbox = opened.runner, opened.outbox
        try:
            for text in (encode(self._ready(opened)), *opened.missed):
                await self._send(text)
            while (text_or_end := await outbox.get()) is not None:
                await self._send(text_or_end)
        except TimeoutError:
            slow = ClientError(
                "slow_client",
                f"The client has read nothing for {SEND_PATIENCE:.0f} seconds.",
                "Read all messages as they come; resume the session to get what was missed.",
            )
            outbox.clear()
            if runner is not None:
                runner.dismiss(slow, outbox)
            outbox.failure = outbox.failure or slow
        except (WebSocketDisconnect, ConnectionError, RuntimeError):
            # RuntimeError is what starlette raises for a socket that was closed meanwhile. Who reads takes
            # note of it, in order with what the client said before.
            self._is_gone = True

    async def _send(self, text: bytes) -> None:
        async with asyncio.timeout(SEND_PATIENCE):
            await self._socket.send_text(text.decode())

    async def _receive(self) -> bytes | str:
        """Return the next frame. Raises WebSocketDisconnect when the client is gone."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    def _check_origin(self) -> None:
        """A browser says which page it connects for; pages of other hosts must be allowed by name."""
        origin, host = self._socket.headers.get("origin"), self._socket.headers.get("host")
        if origin is None or is_listed(origin, self._settings.server.allowed_origins):
            return
        if not is_same_host(origin, host):
            raise ClientError(
                "origin_not_allowed",
                f"Pages from {origin} may not connect to this server, which was asked for as {host}.",
                self._how_to_allow(origin),
            )

    def _how_to_allow(self, origin: str) -> str:
        """Say to the operator which setting lets a page connect."""
        allowed = f'The operator can allow them by server.allowed_origins = ["{origin}"].'
        peer = self._socket.scope.get(UNTRUSTED)
        if peer is None:
            return (
                f"{allowed} A reverse proxy in front of this server's own page must pass the browser's "
                "`Host` on, or say it in X-Forwarded-Host."
            )
        # Its address is for the operator, not for whoever connects.
        log.warning("%s sends X-Forwarded headers and is not in server.trusted_proxies", peer)
        return f"A reverse proxy of this server must be named in server.trusted_proxies. {allowed}"

    def _check_token(self) -> None:
        wanted = self._settings.server.token
        if wanted is None:
            return
        given = bearer_token(
            self._socket.headers.get("authorization"), self._socket.scope.get("subprotocols", [])
        )
        if given is None or not hmac.compare_digest(given.encode(), wanted.get_secret_value().encode()):
            raise ClientError(
                "unauthorized",
                "The token is wrong." if given else "This server requires a token.",
                "Send `Authorization: Bearer TOKEN`, or the subprotocols `live-asr.v1, bearer.TOKEN`.",
            )

    async def _refuse(self, error: LiveAsrError) -> None:
        self._metrics.refused.labels(error.code).inc()
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, ConnectionError, RuntimeError):
            async with asyncio.timeout(SEND_PATIENCE):
                await self._socket.send_text(encode(error_message(error)).decode())
        await self._close(error.close_code)

    async def _close(self, code: int) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(TimeoutError, WebSocketDisconnect, ConnectionError, RuntimeError):
                async with asyncio.timeout(SEND_PATIENCE):
                    await self._socket.close(code)


async def _decode(text: str) -> ClientMessage:
    """Read a text frame; a large one, which only a mistake or malice makes, off the event loop."""
    if len(text) <= INLINE_CHARACTERS:
        return decode_client(text)
    return await asyncio.to_thread(decode_client, text)


def _our_fault() -> LiveAsrError:
    return LiveAsrError(
        "Something went wrong in the server.", "Open a new session; the server's log says more."
    )


def bearer_token(authorization: str | None, subprotocols: list[str]) -> str | None:
    """Return the token of a request: from its header, or from the subprotocols that a browser offers."""
    if authorization is not None and authorization.lower().startswith("bearer "):
        return authorization[7:].strip()
    for name in subprotocols:
        if name.startswith(BEARER_PROTOCOL):
            return name.removeprefix(BEARER_PROTOCOL)
    return None
