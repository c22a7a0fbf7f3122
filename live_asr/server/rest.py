"""The HTTP routes: is the process alive, is it ready, what was said."""

from __future__ import annotations

import asyncio
import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from live_asr.core.export import FORMATS
from live_asr.server.state import ServerState
from live_asr.server.stream import bearer_token

router = APIRouter()


def state_of(request: Request) -> ServerState:
    """Return what the server is made of."""
    state: ServerState = request.app.state.server
    return state


State = Annotated[ServerState, Depends(state_of)]


def authorized(request: Request, state: State) -> None:
    """Let a request pass that presents the server's token, where it asks for one."""
    wanted = state.settings.server.token
    if wanted is None:
        return
    given = bearer_token(request.headers.get("authorization"), [])
    if given is None or not hmac.compare_digest(given.encode(), wanted.get_secret_value().encode()):
        raise HTTPException(
            401, "Send `Authorization: Bearer TOKEN`.", headers={"WWW-Authenticate": "Bearer"}
        )


@router.get("/healthz", summary="Is the process alive?", tags=["operation"])
async def healthz() -> dict[str, str]:
    """Answer 200 as long as the process answers at all."""
    return {"status": "ok"}


@router.get("/readyz", summary="Are the models loaded, and is there room for a session?", tags=["operation"])
async def readyz(state: State, response: Response) -> dict[str, object]:
    """Answer 200 when a session would be taken now, else 503 with the reason."""
    loaded = state.engine.loaded
    if loaded is None or not state.engine.is_up:
        reason = "loading models"
    elif not state.registry.has_room:
        reason = "no room for another session"
    else:
        return {"status": "ready", "model": loaded.recognizer.name, "device": loaded.recognizer.device}
    response.status_code = 503
    response.headers["Retry-After"] = "2"
    return {"status": reason}


@router.get("/metrics", summary="Prometheus metrics", tags=["operation"], response_class=Response)
async def metrics(state: State) -> Response:
    """Answer the server's counters in Prometheus' text format."""
    return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/v1/sessions/{session_id}/transcript.{extension}",
    summary="A session's transcript",
    tags=["sessions"],
    dependencies=[Depends(authorized)],
    response_class=Response,
)
async def transcript(
    session_id: str,
    extension: str,
    state: State,
    revision: Annotated[int | None, Query(ge=0, description="0 for the live transcript")] = None,
) -> Response:
    """Answer what was said so far, as `json`, `vtt`, `srt` or `txt`; the best revision there is."""
    if extension not in FORMATS:
        raise HTTPException(404, f"There is no format {extension!r}; there are: {', '.join(FORMATS)}.")
    try:
        record = await state.registry.record(session_id, live_revision=revision == 0)
    except KeyError:
        raise HTTPException(404, f"There is no session {session_id!r}.") from None
    if revision is not None and revision not in (0, record.revision):
        raise HTTPException(404, f"There is no revision {revision}; the best is {record.revision}.")
    render, media_type = FORMATS[extension]
    body = await asyncio.to_thread(render, record)
    return Response(
        body,
        media_type=media_type,
        headers={
            "Content-Disposition": f'inline; filename="{session_id}.{extension}"',
            "Cache-Control": "no-store",
        },
    )
