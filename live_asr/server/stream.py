"""The native WebSocket: `/v1/stream`.

One task reads and one sends. The reader never waits for inference, disk or the client's own reading, so
that pings are answered whatever goes on behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from live_asr import __version__
from live_asr.config.settings import Settings
from live_asr.core.errors import ClientError, LiveAsrError, Unavailable
from live_asr.core.messages import (
    ClientMessage,
    Finalize,
    Keepalive,
    Models,
    Pause,
    Ready,
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
from live_asr.server.access import Access, Grant, token_in, unauthorized
from live_asr.server.sockets import GONE, SEND_TIMEOUT, close, receive, send, turn_away
from live_asr.sessions.connection import Outbox
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.registry import SessionRegistry
from live_asr.sessions.resume import OpenSession
from live_asr.sessions.runner import SessionRunner
from live_asr.sessions.tracing import session_id

log = logging.getLogger(__name__)

SUBPROTOCOL = "live-asr.v1"
INLINE_CHARACTERS = 16 * 1024
"""A text frame up to this size is read on the event loop; it takes some 2 ms at most."""


class Stream:
    """One WebSocket connection from its acceptance to its close."""

    def __init__(
        self,
        socket: WebSocket,
        *,
        settings: Settings,
        access: Access,
        registry: SessionRegistry,
        metrics: Metrics,
    ) -> None:
        self._socket = socket
        self._settings = settings
        self._access = access
        self._registry = registry
        self._metrics = metrics
        self._is_gone = False
        """Whether nothing can be sent any more."""

    async def run(self) -> None:
        """Serve the connection. Never raises: a broken peer is nobody else's trouble."""
        offered = self._socket.scope.get("subprotocols", [])
        try:
            self._access.check_origin(self._socket)
            grant = await self._access.admit(self._socket, token_in(self._socket), "caption")
        except (ClientError, Unavailable) as error:
            self._metrics.refused.labels(error.code).inc()
            await turn_away(self._socket, error, SUBPROTOCOL)
            return
        try:
            await self._socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
            opened = await self._open(grant)
        except LiveAsrError as error:
            await self._refuse(error)
        except (WebSocketDisconnect, ConnectionError, RuntimeError) as error:
            log.debug("a client went away before its `start`: %s", error)
        except Exception:  # our fault; the client is told so rather than left with a closed socket
            log.exception("a session could not be opened")
            await self._refuse(_our_fault())
        else:
            session_id.set(opened.id)
            await self._serve(opened, grant)

    async def _open(self, grant: Grant) -> OpenSession:
        """Wait for `start`, and open the session or take it up again."""
        patience = self._settings.server.start_timeout
        try:
            async with asyncio.timeout(patience):
                frame = await receive(self._socket)
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
        return await self._registry.open(start, grant.client)

    def _ready(self, opened: OpenSession) -> Ready:
        runner, server = opened.runner, self._settings.server
        return Ready(
            session=opened.id,
            token=opened.token,
            received_bytes=opened.received_bytes,
            last_seq=opened.last_seq,
            max_unacked_bytes=runner.max_unacked_bytes if runner else server.max_unacked_bytes,
            models=Models(opened.loaded.recognizer, SpeechDetectorInfo(opened.loaded.detector_name)),
            server=ServerInfo("live-asr", __version__),
            started_at=opened.started_at,
            idle_timeout=server.idle_timeout or None,
            resume_url=server.resume_url,
        )

    async def _serve(self, opened: OpenSession, grant: Grant) -> None:
        """Read and send until either side is done, or another connection takes the session up."""
        runner, outbox = opened.runner, opened.outbox
        sending = asyncio.create_task(self._send_all(opened))
        others = (
            [
                asyncio.create_task(self._read_all(runner, outbox)),
                asyncio.create_task(runner.ended()),
                asyncio.create_task(self._until_ended(runner, outbox, grant)),
            ]
            if runner is not None
            else []
        )
        try:
            await asyncio.wait([sending, *others], return_when=asyncio.FIRST_COMPLETED)
            # Whatever ended it: what was said to the client is to reach it, if it takes it within reason.
            await asyncio.wait([sending], timeout=SEND_TIMEOUT)
            if self._is_gone and others:
                # What it had said by then may still wait to be read, its `stop` perhaps, and its end behind.
                await asyncio.wait(others[:1], timeout=SEND_TIMEOUT)
        finally:
            if runner is not None:
                runner.lose_client(outbox)
            for task in (sending, *others):
                task.cancel()
            await asyncio.gather(sending, *others, return_exceptions=True)
            await close(self._socket, outbox.close_code)

    async def _read_all(self, runner: SessionRunner, outbox: Outbox) -> None:
        """Hand everything that comes to the runner, until the client is gone or has to go."""
        try:
            while True:
                frame = await receive(self._socket)
                message = frame if isinstance(frame, bytes) else await _decode(frame)
                if runner.outbox is not outbox:  # it was told to go, or has come back over another connection
                    return
                if isinstance(message, bytes):
                    runner.receive_audio(message)
                elif isinstance(message, Update | Time | Finalize | Pause | Keepalive | Stop):
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
                await send(self._socket, text)
            while (text_or_end := await outbox.get()) is not None:
                await send(self._socket, text_or_end)
        except TimeoutError:
            slow = ClientError(
                "slow_client",
                f"The client has read nothing for {SEND_TIMEOUT:.0f} seconds.",
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

    async def _until_ended(self, runner: SessionRunner, outbox: Outbox, grant: Grant) -> None:
        """Let the client go once its token is revoked or has expired."""
        await self._access.until_ended(grant.token)
        runner.dismiss(unauthorized("ended"), outbox)

    async def _refuse(self, error: LiveAsrError) -> None:
        self._metrics.refused.labels(error.code).inc()
        with contextlib.suppress(TimeoutError, *GONE):
            await send(self._socket, encode(error_message(error)))
        await close(self._socket, error.close_code)


async def _decode(text: str) -> ClientMessage:
    """Read a text frame; a large one, which only a mistake or malice makes, off the event loop."""
    if len(text) <= INLINE_CHARACTERS:
        return decode_client(text)
    return await asyncio.to_thread(decode_client, text)


def _our_fault() -> LiveAsrError:
    return LiveAsrError(
        "Something went wrong in the server.", "Open a new session; the server's log says more."
    )
