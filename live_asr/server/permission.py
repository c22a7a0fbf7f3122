"""Who may change a session and hear its audio: its presenter and the operator. An audience only reads."""

from __future__ import annotations

import asyncio
import hmac
from ipaddress import IPv6Address, ip_address

from fastapi import HTTPException, Request

from live_asr.server.access import bearer_token
from live_asr.server.sharing import listen_token, watch_token
from live_asr.server.state import ServerState
from live_asr.sessions.listening import KeptAudio, kept_audio
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


def is_server_token(given: str | None, state: ServerState) -> bool:
    """Tell whether this is the token that the operator set; False where none is set."""
    wanted = state.settings.server.token
    return (
        wanted is not None
        and given is not None
        and hmac.compare_digest(given.encode(), wanted.get_secret_value().encode())
    )


def may_read(session_id: str, given: str | None, state: ServerState) -> bool:
    """Tell whether this token lets its holder read one session: the server's, or that of its audience.

    Everybody may where the operator has set no token.
    """
    secret = state.settings.server.token
    if secret is None:
        return True
    wanted = secret.get_secret_value()
    # Both are compared whatever the first comparison says: the time taken tells nothing.
    allowed = [
        hmac.compare_digest((given or "").encode(), wanted.encode()),
        hmac.compare_digest((given or "").encode(), watch_token(wanted, session_id).encode()),
    ]
    return any(allowed)


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
    """Tell whether a request presents the server's token or the session's own key.

    Where the operator has set no token, programs on the server's own machine may change all sessions, too.
    Raises KeyError where there is no such session, unless the request may change all of them.
    """
    given = bearer_token(request.headers.get("authorization"), [])
    if is_server_token(given, state):
        return True
    if state.settings.server.token is None and given is None and is_from_here(request):
        await state.catalogue.status(session_id)
        return True
    is_own = await state.catalogue.has_key(session_id, given or "")
    return is_own and given is not None


def refusal(session_id: str, request: Request, state: ServerState) -> HTTPException:
    """Return the answer for who may not change a session."""
    wanted = state.settings.server.token
    given = bearer_token(request.headers.get("authorization"), [])
    if wanted is None:
        return HTTPException(403, NO_KEY)
    if given is None:
        return HTTPException(
            401, "Send `Authorization: Bearer TOKEN`.", headers={"WWW-Authenticate": "Bearer"}
        )
    if hmac.compare_digest(given.encode(), watch_token(wanted.get_secret_value(), session_id).encode()):
        return HTTPException(403, READ_ONLY)
    return HTTPException(401, "The token is wrong.", headers={"WWW-Authenticate": "Bearer"})


async def audio_of(session_id: str, state: ServerState) -> KeptAudio | None:
    """Return the audio that is kept of a session; None where none is."""
    return await asyncio.to_thread(kept_audio, state.store.folder / session_id)


async def audio_path(stored: StoredSession, state: ServerState) -> str | None:
    """Return the path of a session's audio, with what lets a player hear it; None where there is none.

    Raises KeyError where the session's folder is another server's.
    """
    if stored.state not in OVER or await audio_of(stored.id, state) is None:
        return None
    return f"/v1/sessions/{stored.id}/audio?token={await audio_token(stored.id, state)}"


async def audio_token(session_id: str, state: ServerState) -> str:
    """Return what opens the audio of one session. Raises KeyError when there is no such session."""
    secret = state.settings.server.token
    if secret is not None:
        return listen_token(secret.get_secret_value(), session_id)
    about = await asyncio.to_thread(state.store.about, session_id)
    return listen_token(str(about.get("token")), session_id)
