"""The requests for a key that opens a Realtime session for a while."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from live_asr.core.errors import ClientError, LiveAsrError
from live_asr.server.access import api_key
from live_asr.server.dialects.json_objects import read_object
from live_asr.server.dialects.openai_errors import response_of
from live_asr.server.dialects.realtime.settings import BadRequest, SessionSettings
from live_asr.server.state import ServerState

PREFIX = "ek_"
MIN_SECONDS, DEFAULT_SECONDS, MAX_SECONDS = 10, 600, 7200
ANCHOR = "created_at"
"""From when on it is counted."""
LARGEST_BODY_BYTES = 256 * 1024


async def answer(request: Request, state: ServerState, *, is_beta: bool = False) -> Response:
    """Make a key, for whoever may open sessions."""
    try:
        state.access.check_origin(request)
        grant = await state.access.admit(request, api_key(request), "caption")
        given = await _body(request)
        session = given
        if not is_beta:
            session = {} if given.get("session") is None else given["session"]
        settings = SessionSettings().changed(session)
        key, expires_at = state.client_secrets.make(
            PREFIX, session, _seconds(given.get("expires_after")), grant.token
        )
        session_id = f"sess_{secrets.token_hex(12)}"
        if is_beta:
            shown = settings.shown_as_beta(session_id)
            return JSONResponse({**shown, "client_secret": {"value": key, "expires_at": expires_at}})
        shown = {**settings.shown(session_id), "expires_at": expires_at}
        return JSONResponse({"value": key, "expires_at": expires_at, "session": shown})
    except LiveAsrError as error:
        return response_of(error)


async def _body(request: Request) -> Mapping[str, Any]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY_BYTES:
            raise ClientError("too_large", f"The body is larger than {LARGEST_BODY_BYTES} bytes.")
    return read_object(body, "body") if body else {}


def _seconds(given: object) -> float:
    """Read `expires_after`."""
    if given is None:
        return DEFAULT_SECONDS
    if isinstance(given, Mapping) and given.get("anchor", ANCHOR) != ANCHOR:
        raise BadRequest(f"`expires_after.anchor` must be {ANCHOR}.", "expires_after.anchor")
    seconds = given.get("seconds", DEFAULT_SECONDS) if isinstance(given, Mapping) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise BadRequest("`expires_after.seconds` must be a number.", "expires_after.seconds")
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        allowed = f"from {MIN_SECONDS} to {MAX_SECONDS}"
        raise BadRequest(f"`expires_after.seconds` must be {allowed}.", "expires_after.seconds")
    return seconds
