"""OpenAI's Realtime API for transcription: the WebSocket `/v1/realtime`, and the keys for browsers."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response, WebSocket

from live_asr.server.dialects.realtime import conversation, secrets
from live_asr.server.rest import State

router = APIRouter(tags=["OpenAI Realtime"])


@router.websocket("/v1/realtime")
async def realtime(socket: WebSocket) -> None:
    """Transcribe while it is spoken."""
    await conversation.Conversation(socket, socket.app.state.server).run()


@router.post("/v1/realtime/client_secrets", summary="A key for a browser", response_class=Response)
async def client_secret(request: Request, state: State) -> Response:
    """Answer a key that opens `/v1/realtime` for a while, with a session's settings."""
    return await secrets.answer(request, state)


@router.post(
    "/v1/realtime/transcription_sessions", summary="The same, as the beta had it", response_class=Response
)
async def transcription_session(request: Request, state: State) -> Response:
    """Answer a session's settings, with a key that opens it."""
    return await secrets.answer(request, state, is_beta=True)
