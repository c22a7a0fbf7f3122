"""Deepgram's protocol: `/v1/listen` as a WebSocket and as a POST."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response, WebSocket

from live_asr.server.dialects.deepgram import live, recorded
from live_asr.server.rest import State

router = APIRouter(tags=["Deepgram"])


@router.websocket("/v1/listen")
async def listen(socket: WebSocket) -> None:
    """Transcribe while it is spoken."""
    await live.Conversation(socket, socket.app.state.server).run()


@router.post("/v1/listen", summary="Transcribe a recording, as Deepgram does", response_class=Response)
async def listen_to_recording(request: Request, state: State) -> Response:
    """Answer the transcript of the body, or of what its `url` leads to."""
    return await recorded.answer(request, state)
