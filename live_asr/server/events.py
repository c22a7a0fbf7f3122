"""The stream of a session for those who watch: `/v1/sessions/{id}/events`, as Server-Sent Events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response

from live_asr.core.errors import Unavailable
from live_asr.server.access import Grant, address_of, token_in
from live_asr.server.permission import check_read
from live_asr.server.replies import Problem
from live_asr.server.rest import SessionId, State, unknown_session
from live_asr.server.sse import EventStream
from live_asr.sessions.audience import Viewer

RETRY_MS = 2_000
"""After so long a browser comes back, with the id of the last event it has."""
MAX_SEQ_DIGITS = 12

router = APIRouter(tags=["sessions"])


async def may_watch(
    session_id: SessionId,
    request: Request,
    state: State,
    token: Annotated[
        str | None,
        Query(max_length=1024, description="In place of the header, which `EventSource` cannot set"),
    ] = None,
) -> Grant | None:
    """Let a request pass that presents a token for watching, or that of this session's viewers."""
    return await check_read(session_id, token_in(request) or token, request, state, is_watching=True)


@router.get(
    "/v1/sessions/{session_id}/events",
    summary="Watch a session",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Messages of the protocol, as they come."},
        204: {"description": "The session is over, and everything came before `Last-Event-ID`."},
        401: {"model": Problem, "description": "The token is missing or wrong."},
        403: {"model": Problem, "description": "The token does not allow this."},
        404: {"model": Problem, "description": "There is no such session."},
        503: {"model": Problem, "description": "All places for viewers are taken, or the disk is behind."},
    },
)
async def events(
    session_id: SessionId,
    request: Request,
    state: State,
    grant: Annotated[Grant | None, Depends(may_watch)],
    last_event_id: Annotated[
        str | None, Header(description="`id` of the last event that was seen; without it all are sent")
    ] = None,
    from_query: Annotated[
        str | None, Query(alias="last_event_id", description="The same, for who cannot set headers")
    ] = None,
) -> Response:
    """Answer the kept messages, then live ones, each as one event; `final` or `error` is the last.

    Kept messages have their `seq` as `id`. Between them come `partial` (its `words` empty), `speech`, `lag`
    and `progress`, the newest of each, and `names`, which people gave to the speakers. A comment every 15 s
    says that the line is alive.
    """
    after_seq = _seq(last_event_id) or _seq(from_query) or 0
    revoked_before = state.links.revoked_count(session_id)
    with ExitStack() as place:  # kept free until the stream begins, however many ask at once
        try:
            place.enter_context(state.viewers.seat(session_id, address_of(request)))
            viewer = await state.viewers.watch(session_id, after_seq)
        except KeyError:
            raise unknown_session(session_id) from None
        except Unavailable as error:
            raise _come_back(error) from None
        if viewer is None:
            return Response(status_code=204)
        seat = place.pop_all()

    def is_allowed() -> bool:
        if grant is not None:
            return not state.access.is_revoked(grant.token)
        return state.links.revoked_count(session_id) == revoked_before

    retry = b"retry: %d\n\n" % RETRY_MS
    return EventStream(
        viewer.get,
        first=retry,
        during=_seated(viewer, seat),
        is_allowed=is_allowed,
    )


def _seq(text: str | None) -> int | None:
    """Read the id of an event; None for what is none of ours."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > MAX_SEQ_DIGITS:
        return None
    return int(text)


def _come_back(error: Unavailable) -> HTTPException:
    return HTTPException(503, str(error), headers={"Retry-After": f"{error.retry_after:.0f}"})


@asynccontextmanager
async def _seated(viewer: Viewer, seat: ExitStack) -> AsyncIterator[None]:
    with seat:
        try:
            yield
        finally:
            viewer.leave()
