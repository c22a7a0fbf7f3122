"""The stream of a session for those who watch: `/v1/sessions/{id}/events`, as Server-Sent Events."""

from __future__ import annotations

import asyncio
import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from starlette.types import Receive, Scope, Send

from live_asr.errors import Unavailable
from live_asr.server.access import bearer_token
from live_asr.server.http import ABORT
from live_asr.server.replies import Problem
from live_asr.server.rest import SessionId, State, unknown_session
from live_asr.server.sharing import watch_token
from live_asr.sessions.viewers import Viewer, Viewers

SEND_PATIENCE = 10.0
"""Seconds that a viewer may take to make room for what comes next; beyond it they are let go."""
RETRY_MS = 2_000
"""After so long a browser comes back, with the id of the last event it has."""
MOST_SEQ_DIGITS = 12

router = APIRouter(tags=["sessions"])


def may_watch(
    session_id: SessionId,
    request: Request,
    state: State,
    token: Annotated[
        str | None,
        Query(max_length=1024, description="In place of the header, which `EventSource` cannot set"),
    ] = None,
) -> None:
    """Let a request pass that presents the server's token, or that of this session's viewers."""
    secret = state.settings.server.token
    if secret is None:
        return
    given = (bearer_token(request.headers.get("authorization"), []) or token or "").encode()
    wanted = secret.get_secret_value()
    # Both are compared whatever the first comparison says: the time taken tells nothing.
    allowed = [
        hmac.compare_digest(given, wanted.encode()),
        hmac.compare_digest(given, watch_token(wanted, session_id).encode()),
    ]
    if not any(allowed):
        raise HTTPException(
            401,
            "Send `Authorization: Bearer TOKEN`, or ?token=TOKEN.",
            headers={"WWW-Authenticate": "Bearer"},
        )


@router.get(
    "/v1/sessions/{session_id}/events",
    summary="Watch a session",
    dependencies=[Depends(may_watch)],
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Messages of the protocol, as they come."},
        204: {"description": "The session is over, and everything came before `Last-Event-ID`."},
        401: {"model": Problem, "description": "The token is missing or wrong."},
        404: {"model": Problem, "description": "There is no such session."},
        503: {"model": Problem, "description": "All places for viewers are taken, or the disk is behind."},
    },
)
async def events(
    session_id: SessionId,
    state: State,
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
    try:
        viewer = await state.viewers.watch(session_id, after_seq)
    except KeyError:
        raise unknown_session(session_id) from None
    except Unavailable as error:
        raise _come_back(error) from None
    return Response(status_code=204) if viewer is None else EventStream(viewer, state.viewers)


def _seq(text: str | None) -> int | None:
    """Read the id of an event; None for what is none of ours."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > MOST_SEQ_DIGITS:
        return None
    return int(text)


def _come_back(error: Unavailable) -> HTTPException:
    return HTTPException(503, str(error), headers={"Retry-After": f"{error.retry_after:.0f}"})


class EventStream(Response):
    """One viewer's connection.

    Chunks go out as they are, for everybody the same, and each costs less than through `sse-starlette` and as
    much as through `StreamingResponse`; neither of them lets go of a peer that has stopped reading.
    """

    media_type = "text/event-stream"

    def __init__(self, viewer: Viewer, viewers: Viewers) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._viewer = viewer
        self._viewers = viewers
        self._sending_since: float | None = None
        """When the send began that is not done yet; None between two."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the session is over, the viewer is gone, or takes nothing any more."""
        gone = asyncio.create_task(_gone(receive))
        sending = asyncio.create_task(self._send_all(send))
        try:
            with self._viewers.seat():
                while not (await self._wait(gone, sending)):
                    if self._is_stuck:
                        abort = scope.get("extensions", {}).get(ABORT)
                        if abort is not None:
                            abort["abort"]()
                            await gone
                        break
        finally:
            self._viewer.leave()
            for task in (gone, sending):
                task.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)

    async def _wait(self, *tasks: asyncio.Task[None]) -> bool:
        """Wait a while; return whether one of these is done. A timer for each chunk would cost as much."""
        done, _ = await asyncio.wait(tasks, timeout=SEND_PATIENCE / 2, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    @property
    def _is_stuck(self) -> bool:
        since = self._sending_since
        return since is not None and asyncio.get_running_loop().time() - since > SEND_PATIENCE

    async def _send_all(self, send: Send) -> None:
        """Hand over what comes; each send waits until there is room for it."""
        time = asyncio.get_running_loop().time
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        chunk: bytes | None = b"retry: %d\n\n" % RETRY_MS
        while chunk is not None:
            self._sending_since = time()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            self._sending_since = None
            chunk = await self._viewer.get()
        self._sending_since = time()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    """Wait until the peer has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
