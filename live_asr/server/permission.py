"""Who may read a session, and who may change it and hear its audio.

A session belongs to the token that opened it, and to whoever has its own key (`token` of `ready`). An
audience only reads.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_address

from fastapi import HTTPException, Request
from starlette.requests import HTTPConnection

from live_asr.core.errors import ClientError, LiveAsrError, Unavailable
from live_asr.server.access import Grant, forbidden, token_in, unauthorized
from live_asr.server.share_links import watch_path
from live_asr.server.state import ServerState
from live_asr.sessions.playback import Playable, playable
from live_asr.storage.database import OVER, StoredSession

READ_ONLY = (
    "A link for an audience is for reading only: to change a session, send its key (`token` of `ready`) or "
    "the server's token as `Authorization: Bearer`."
)
NO_KEY = (
    "From another machine only who opened this session may change it and hear its audio: send its key "
    "(`token` of `ready`) as `Authorization: Bearer`. Who runs the server can set `server.token`, which "
    "opens all sessions."
)
NOT_YOURS = (
    "This session was opened with another token: send its key (`token` of `ready`), or ask the operator."
)
STATUS = {
    "unauthorized": 401,
    "forbidden": 403,
    "too_many_tries": 429,
    "too_many_requests": 429,
    "too_many_tokens": 429,
}


def refused(error: LiveAsrError) -> HTTPException:
    """Return the answer to a request that `Access` does not let pass."""
    headers = {}
    if error.code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Unavailable):
        headers["Retry-After"] = f"{error.retry_after:.0f}"
    return HTTPException(STATUS[error.code], str(error), headers)


async def admitted(request: HTTPConnection, state: ServerState, *scopes: str) -> Grant:
    """Let a request pass as `Access.admit` does. Raises HTTPException."""
    try:
        return await state.access.admit(request, token_in(request), *scopes)
    except (ClientError, Unavailable) as error:
        raise refused(error) from None


async def check_read(
    session_id: str, given: str | None, request: Request, state: ServerState, *, is_watching: bool = False
) -> Grant | None:
    """Let a request pass that may read a session; None where its link or its key says so, and no token.

    With `is_watching` it asks for no more than an audience may have. Raises HTTPException.
    """
    access = state.access
    if access.asks and given is not None:
        if is_watching and await state.links.check(session_id, given):
            return None
        if access.granted(given) is None:
            if await _has_key(session_id, given, state):
                return None
            if await state.links.was_good(session_id, given):
                raise refused(unauthorized(given))  # a hall full of those shall not look like guessing
    try:
        grant = await access.admit(request, given)
        if grant.may("read", *(["watch"] if is_watching else [])):
            return grant
        if not grant.may("caption"):
            raise forbidden("This token is for watching: it opens events and transcripts.")
        try:
            is_own = grant.owns(await state.catalogue.owner(session_id))
        except KeyError:
            raise HTTPException(404, f"There is no session {session_id!r}.") from None
        if not is_own:
            raise forbidden(NOT_YOURS)
    except (ClientError, Unavailable) as error:
        raise refused(error) from None
    return grant


async def watch_link(session_id: str, root_path: str, state: ServerState) -> str:
    """Return the path of the page for the audience of a session, with what lets them watch it."""
    return watch_path(await state.links.token(session_id), session_id, root_path)


def is_from_here(request: Request) -> bool:
    """Tell whether a request comes from the machine that the server runs on, through no proxy."""
    if any(name == "forwarded" or name.startswith("x-forwarded-") for name in request.headers):
        return False
    try:
        address = ip_address(request.client.host if request.client else "")
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback


async def may_change(session_id: str, request: Request, state: ServerState) -> bool:
    """Tell whether a request presents a token that may change a session, or the session's own key.

    Where nobody is asked for a token, programs on the server's own machine may change all sessions, too.
    Raises KeyError where there is no such session, unless the request may change all of them.
    """
    given = token_in(request)
    if state.access.asks:
        grant = state.access.granted(given)
        if grant is not None:
            if grant.may():
                return True
            return grant.may("caption") and grant.owns(await state.catalogue.owner(session_id))
    elif given is None and is_from_here(request):
        await state.catalogue.status(session_id)
        return True
    is_own = await state.catalogue.has_key(session_id, given or "")
    return is_own and given is not None


async def refusal(session_id: str, request: Request, state: ServerState) -> HTTPException:
    """Return the answer for who may not change a session; a wrong token is counted."""
    given = token_in(request)
    if not state.access.asks:
        return HTTPException(403, NO_KEY)
    if given is not None and await state.links.check(session_id, given):
        return HTTPException(403, READ_ONLY)
    try:
        await state.access.admit(request, given)
    except (ClientError, Unavailable) as error:
        return refused(error)
    return HTTPException(403, NOT_YOURS)


async def _has_key(session_id: str, given: str, state: ServerState) -> bool:
    try:
        return await state.catalogue.has_key(session_id, given)
    except KeyError:
        return False


async def audio_of(session_id: str, state: ServerState) -> Playable | None:
    """Return the audio that is kept of a session, here or in the object store; None where none is."""
    # In this order: it is there before it is erased here.
    kept = await asyncio.to_thread(playable, state.store, session_id)
    if kept is None and state.archive is not None:
        kept = await state.archive.audio(session_id)
    return kept


async def audio_path(stored: StoredSession, state: ServerState) -> str | None:
    """Return the path of a session's audio, with what lets a player hear it; None where there is none.

    Raises KeyError where the session's folder is another server's.
    """
    if stored.state not in OVER or await audio_of(stored.id, state) is None:
        return None
    return f"/v1/sessions/{stored.id}/audio?token={await audio_token(stored.id, state)}"


async def audio_token(session_id: str, state: ServerState) -> str:
    """Return what opens the audio of one session. Raises KeyError when there is no such session."""
    return await state.links.audio_token(session_id, await _audio_secret(session_id, state))


async def opens_audio(session_id: str, given: str, state: ServerState) -> bool:
    """Tell whether this opens the audio of one session. Raises KeyError when there is no such session."""
    return await state.links.check_audio(session_id, given, await _audio_secret(session_id, state))


async def _audio_secret(session_id: str, state: ServerState) -> str | None:
    """Return what the links to a session's audio are made of where nobody is asked for a token."""
    if state.access.asks:
        return None
    about = await asyncio.to_thread(state.store.about, session_id)
    return str(about.get("token"))
