"""The HTTP routes: is the process alive, is it ready, which sessions are there, what was said."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from live_asr.core.export import FORMATS
from live_asr.errors import StorageError
from live_asr.server.access import bearer_token, is_token
from live_asr.server.replies import (
    LARGEST_NAMES_BYTES,
    LONGEST_NAME,
    Names,
    Problem,
    SessionInfo,
    SessionList,
    info_of,
    read_names,
    summary_of,
)
from live_asr.server.sharing import is_own_origin, qr_svg, watch_path
from live_asr.server.state import ServerState
from live_asr.storage.spool import is_session_id

log = logging.getLogger(__name__)

MOST_LISTED = 200

router = APIRouter()


def state_of(request: Request) -> ServerState:
    """Return what the server is made of."""
    state: ServerState = request.app.state.server
    return state


State = Annotated[ServerState, Depends(state_of)]


def authorized(request: Request, state: State) -> None:
    """Let a request pass that presents the server's token, where it asks for one."""
    if not is_token(bearer_token(request.headers.get("authorization"), []), state.settings.server):
        raise HTTPException(
            401, "Send `Authorization: Bearer TOKEN`.", headers={"WWW-Authenticate": "Bearer"}
        )


def known_id(session_id: str) -> str:
    """Let a request pass whose session may exist, going by its id."""
    if not is_session_id(session_id):
        raise unknown_session(session_id)
    return session_id


SessionId = Annotated[str, Depends(known_id)]

sessions = APIRouter(
    prefix="/v1/sessions",
    tags=["sessions"],
    dependencies=[Depends(authorized)],
    responses={
        401: {"model": Problem, "description": "The token is missing or wrong."},
        422: {"model": Problem, "description": "The request holds what it may not."},
        503: {"model": Problem, "description": "The database does not answer."},
    },
)
UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such session."}
}


def unknown_session(session_id: str) -> HTTPException:
    """Return the answer for a session that there is not."""
    return HTTPException(404, f"There is no session {session_id!r}.")


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
    elif not await _has_disk(state):
        reason = "the disk is full"
    else:
        return {"status": "ready", "model": loaded.recognizer.name, "device": loaded.recognizer.device}
    response.status_code = 503
    response.headers["Retry-After"] = "2"
    return {"status": reason}


async def _has_disk(state: ServerState) -> bool:
    try:
        return await state.registry.has_disk()
    except StorageError as error:
        log.error("the server is not ready: %s", error)
        return False


@router.get("/metrics", summary="Prometheus metrics", tags=["operation"], response_class=Response)
async def metrics(state: State) -> Response:
    """Answer the server's counters in Prometheus' text format."""
    return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@sessions.get("", summary="The sessions, newest first", response_model=SessionList)
async def list_sessions(
    state: State,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
    before: Annotated[str | None, Query(max_length=64, description="`next` of the page before")] = None,
) -> SessionList:
    """Answer one page of all sessions: live ones and those that are over."""
    if before is not None and not is_session_id(before):
        return SessionList(sessions=[], next=None)
    found, following = await state.catalogue.page(limit, before)
    return SessionList(sessions=list(map(summary_of, found)), next=following)


@sessions.get(
    "/{session_id}", summary="What is known of a session", response_model=SessionInfo, responses=UNKNOWN
)
async def session(session_id: SessionId, state: State) -> SessionInfo:
    """Answer a session's state, speakers, names and how far its full pass and its webhook are."""
    try:
        return info_of(await state.catalogue.status(session_id), watch_path(state.settings, session_id))
    except KeyError:
        raise unknown_session(session_id) from None


@sessions.get(
    "/{session_id}/qr.svg",
    summary="The link for its audience, as a QR code",
    response_class=Response,
    responses={**UNKNOWN, 200: {"content": {"image/svg+xml": {}}}},
)
async def qr_code(
    session_id: SessionId,
    request: Request,
    state: State,
    origin: Annotated[
        str | None, Query(max_length=300, description="Scheme and host of the link: this server's own")
    ] = None,
) -> Response:
    """Answer a picture of the address under which an audience reads along."""
    try:
        await state.catalogue.status(session_id)
    except KeyError:
        raise unknown_session(session_id) from None
    given = origin if origin is not None else str(request.base_url)
    if not is_own_origin(given, request.headers.get("host")):
        raise HTTPException(422, "`origin` must be the one that this server was asked at.")
    picture = qr_svg(given.rstrip("/") + watch_path(state.settings, session_id))
    return Response(picture, media_type="image/svg+xml", headers={"Cache-Control": "no-store"})


@sessions.delete("/{session_id}", summary="Erase a session", status_code=204, responses=UNKNOWN)
async def erase(session_id: SessionId, state: State) -> None:
    """End a session if it goes on, and erase its audio, its text and a webhook that was not delivered."""
    # Not left half done where the client does not wait for it.
    erased = await asyncio.shield(state.registry.erase(session_id))
    state.viewers.forget(session_id)
    if not erased:
        raise unknown_session(session_id)


@sessions.put(
    "/{session_id}/names",
    summary="Name the speakers",
    response_model=Names,
    responses=UNKNOWN,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "additionalProperties": {"type": "string", "maxLength": LONGEST_NAME},
                    },
                    "example": {"SPEAKER_00": "Anna", "S2": "Ben"},
                }
            },
        }
    },
)
async def name_speakers(session_id: SessionId, request: Request, state: State) -> Names:
    """Replace the names of a session's speakers, by label; an empty name removes one.

    They stand in place of the labels in `vtt`, `srt` and `txt`. A name for a live label counts for the final
    speaker that it became, unless that one has a name of its own.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_NAMES_BYTES:
            raise HTTPException(413, "These are more names than can be kept.")
    try:
        names = read_names(body)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    try:
        await state.catalogue.set_names(session_id, names)
    except KeyError:
        raise unknown_session(session_id) from None
    state.viewers.name(session_id, names)
    return Names(names=names)


@sessions.get(
    "/{session_id}/transcript.{extension}",
    summary="A session's transcript",
    response_class=Response,
    responses=UNKNOWN,
)
async def transcript(
    session_id: SessionId,
    extension: str,
    state: State,
    revision: Annotated[int | None, Query(ge=0, description="0 for the live transcript")] = None,
) -> Response:
    """Answer what was said so far, as `json`, `vtt`, `srt`, `txt` or `rttm`; the best revision there is."""
    if extension not in FORMATS:
        raise HTTPException(404, f"There is no format {extension!r}; there are: {', '.join(FORMATS)}.")
    try:
        record = await state.catalogue.record(session_id, live_revision=revision == 0)
    except KeyError:
        raise unknown_session(session_id) from None
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


async def tell_what_is_wrong(_: Request, error: Exception) -> Response:
    """Answer a request that holds what it may not with a sentence, as all other errors are told."""
    assert isinstance(error, RequestValidationError)
    finding = error.errors()[0]
    name = finding["loc"][-1]
    return JSONResponse({"detail": f"`{name}`: {finding['msg']}."}, status_code=422)


async def tell_what_fails(_: Request, error: Exception) -> Response:
    """Answer that the database or the disk does not do what it should; the log says more."""
    assert isinstance(error, StorageError)
    log.error("a request failed: %s", error)
    detail = "The server cannot reach what it has stored; try again later."
    return JSONResponse({"detail": detail}, status_code=503, headers={"Retry-After": "5"})
