"""The HTTP routes: is the process alive, is it ready, which sessions are there, what was said."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from live_asr.core.errors import StorageError, Unavailable
from live_asr.core.export import FORMATS, Record
from live_asr.server.access import Grant, address_of, token_in
from live_asr.server.exports import Sent
from live_asr.server.origins import is_same_host
from live_asr.server.permission import admitted, audio_path, check_read, may_change, watch_link
from live_asr.server.proxies import root_path_of
from live_asr.server.schemas import (
    Problem,
    SessionInfo,
    SessionList,
    info_of,
    listed_of,
    sentence_of,
)
from live_asr.server.share_links import qr_svg
from live_asr.server.state import ServerState
from live_asr.sessions.catalogue import NoRevision
from live_asr.sessions.finalizer import DOCUMENT
from live_asr.storage.journal import is_session_id

log = logging.getLogger(__name__)

DOCX_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
GONE = 499
"""Status for the log: the client has gone."""
DATABASE_TIMEOUT = 2.0
"""Seconds after which a database that says nothing counts as gone."""
MAX_LISTED = 200
MAX_QUERY = 200
MAX_WORDS = 10
"""Words that are searched for at once."""

router = APIRouter()


def state_of(request: Request) -> ServerState:
    """Return what the server is made of."""
    state: ServerState = request.app.state.server
    return state


State = Annotated[ServerState, Depends(state_of)]


def known_id(session_id: str) -> str:
    """Let a request pass whose session may exist, going by its id."""
    if not is_session_id(session_id):
        raise unknown_session(session_id)
    return session_id


SessionId = Annotated[str, Depends(known_id)]


async def identified(request: Request, state: State) -> Grant:
    """Let a request pass that presents a token that opens sessions, or reads them."""
    return await admitted(request, state, "read", "caption")


Known = Annotated[Grant, Depends(identified)]


async def reads(session_id: SessionId, request: Request, state: State) -> None:
    """Let a request pass that may read all of a session."""
    await check_read(session_id, token_in(request), request, state)


async def reads_along(session_id: SessionId, request: Request, state: State) -> None:
    """Let a request pass that may read what was said in a session: its audience, too."""
    await check_read(session_id, token_in(request), request, state, is_watching=True)


PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The token is missing or wrong."},
    403: {"model": Problem, "description": "The token does not allow this."},
    429: {"model": Problem, "description": "Too many wrong tokens came from this address."},
    422: {"model": Problem, "description": "The request holds what it may not."},
    503: {"model": Problem, "description": "The database does not answer."},
}
sessions = APIRouter(prefix="/v1/sessions", tags=["sessions"], responses=PROBLEMS)
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
    elif not await state.database.answers(DATABASE_TIMEOUT):
        reason = "the database does not answer"
    else:
        ready: dict[str, object] = {
            "status": "ready",
            "model": loaded.recognizer.name,
            "device": loaded.recognizer.device,
            "places": state.registry.places,
            "places_free": state.registry.free_places,
        }
        return ready | ({"warning": state.engine.warning} if state.engine.warning else {})
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
    request: Request,
    state: State,
    grant: Known,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 50,
    before: Annotated[str | None, Query(max_length=64, description="`next` of the page before")] = None,
    q: Annotated[
        str, Query(max_length=MAX_QUERY, description="Words to find in titles, names and what was said")
    ] = "",
) -> SessionList:
    """Answer one page of all sessions: live ones and those that are over; with `q`, those that have all its
    words. What was said is searched once a session is over. A token without `read` lists its own."""
    if before is not None and not is_session_id(before):
        return SessionList(sessions=[], next=None)
    words = q.split()
    if len(words) > MAX_WORDS:
        raise HTTPException(422, f"`q` has {len(words)} words; at most {MAX_WORDS} are searched for.")
    found, following = await state.catalogue.page(
        limit, before, words, None if grant.may("read") else grant.token
    )
    root_path = root_path_of(request.scope)
    return SessionList(sessions=[listed_of(status, root_path) for status in found], next=following)


@sessions.get(
    "/{session_id}",
    summary="What is known of a session",
    response_model=SessionInfo,
    responses=UNKNOWN,
    dependencies=[Depends(reads)],
)
async def session(session_id: SessionId, request: Request, state: State) -> SessionInfo:
    """Answer a session's state, speakers, names and how far its full pass and its webhook are."""
    try:
        status = await state.catalogue.status(session_id)
    except KeyError:
        raise unknown_session(session_id) from None
    try:
        is_allowed = await may_change(session_id, request, state)
        audio = await audio_path(status.stored, state) if is_allowed else None
    except KeyError:  # its folder is another server's
        is_allowed, audio = False, None
    root_path = root_path_of(request.scope)
    return info_of(
        status,
        await watch_link(session_id, root_path, state),
        root_path,
        may_change=is_allowed,
        audio=root_path + audio if audio is not None else None,
    )


@sessions.get(
    "/{session_id}/qr.svg",
    summary="The link for its audience, as a QR code",
    response_class=Response,
    responses={**UNKNOWN, 200: {"content": {"image/svg+xml": {}}}},
    dependencies=[Depends(reads)],
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
    given = origin if origin is not None else f"{request.url.scheme}://{request.url.netloc}"
    if not is_same_host(given, request.headers.get("host")):
        raise HTTPException(422, "`origin` must be the one that this server was asked at.")
    path = await watch_link(session_id, root_path_of(request.scope), state)
    picture = qr_svg(given.rstrip("/") + path)
    return Response(picture, media_type="image/svg+xml", headers={"Cache-Control": "no-store"})


@sessions.get(
    "/{session_id}/transcript.{extension}",
    summary="A session's transcript",
    response_class=Response,
    responses=UNKNOWN,
    dependencies=[Depends(reads_along)],
)
async def transcript(
    session_id: SessionId,
    extension: str,
    request: Request,
    state: State,
    revision: Annotated[
        int | None, Query(ge=0, description="0 for the live transcript, 1 for the result before corrections")
    ] = None,
    if_none_match: Annotated[
        str | None,
        Header(max_length=300, description="`ETag` of what is here already: 304 if it still holds"),
    ] = None,
) -> Response:
    """Answer what was said so far, as `json`, `vtt`, `srt`, `txt`, `rttm` or `docx`.

    It is the best revision that there is, unless another is asked for. Its `ETag` is what corrections of it
    have in `If-Match`.
    """
    if extension not in (*FORMATS, DOCUMENT):
        known = ", ".join((*FORMATS, DOCUMENT))
        raise HTTPException(404, f"There is no format {extension!r}; there are: {known}.")
    headers = {"Content-Disposition": f'inline; filename="{session_id}.{extension}"'}
    headers["Cache-Control"] = "no-store"
    with ExitStack() as place:
        try:
            place.enter_context(state.exports.place(address_of(request)))
            settled = await state.catalogue.tag(session_id) if revision is None else None
            if settled is not None:
                headers["ETag"] = f'"{settled}"'
                if if_none_match is not None and settled in _tags_in(if_none_match):
                    return Response(status_code=304, headers=headers)
            body, tag = await _rendered(session_id, extension, revision, settled, state)
        except KeyError:
            raise unknown_session(session_id) from None
        except NoRevision as error:
            raise HTTPException(404, f"There is no revision {revision}; the best is {error.best}.") from None
        except Unavailable as error:
            raise HTTPException(
                503, str(error), headers={"Retry-After": f"{error.retry_after:.0f}"}
            ) from None
        headers.setdefault("ETag", f'"{tag}"')
        media_type = DOCX_TYPE if extension == DOCUMENT else FORMATS[extension].media_type
        return Sent(body, place.pop_all(), media_type=media_type, headers=headers)


async def _rendered(
    session_id: str, extension: str, revision: int | None, settled: str | None, state: ServerState
) -> tuple[bytes, str]:
    """Return a transcript as a file, and the name of the state that it is in.

    `settled` is that name where it stays as it is: then it is rendered once for all who ask.
    """
    tag = settled or ""

    async def make() -> bytes:
        nonlocal tag
        record, tag = await state.catalogue.tagged_record(session_id, revision)
        if extension != DOCUMENT:
            return (await state.exports.call(FORMATS[extension].render, record)).encode()
        stored = (await state.catalogue.status(session_id)).stored
        render = partial(_to_docx, title=stored.title, created_at=stored.created_at)
        return await state.exports.call(render, record)

    body = await state.exports.made((session_id, extension, settled) if settled else None, make)
    return body, tag


def _to_docx(record: Record, *, title: str | None, created_at: float) -> bytes:
    """Render a record, with a library that most servers never need: 7 MB of memory."""
    from live_asr.server.docx import to_docx

    return to_docx(record, title=title, created_at=created_at)


def _tags_in(if_none_match: str) -> list[str]:
    return [tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(",")]


async def tell_what_is_wrong(_: Request, error: Exception) -> Response:
    """Answer a request that holds what it may not with a sentence, as all other errors are told."""
    assert isinstance(error, RequestValidationError)
    finding = error.errors()[0]
    return JSONResponse({"detail": sentence_of({**finding, "loc": finding["loc"][-1:]})}, status_code=422)


async def tell_nobody(request: Request, _: Exception) -> Response:
    """Note that a client went away before its request was complete, in a line."""
    log.debug("a client went away during %s %s", request.method, request.url.path)
    return Response(status_code=GONE)


async def tell_what_fails(_: Request, error: Exception) -> Response:
    """Answer that the database or the disk does not do what it should; the log says more."""
    assert isinstance(error, StorageError)
    log.error("a request failed: %s", error)
    detail = "The server cannot reach what it has stored; try again later."
    return JSONResponse({"detail": detail}, status_code=503, headers={"Retry-After": "5"})
