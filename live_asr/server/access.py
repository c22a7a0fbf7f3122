"""Who may connect: the token that the operator set, and the pages that browsers connect for."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from live_asr.config import ServerSettings
from live_asr.errors import ClientError

BEARER_PROTOCOL = "bearer."


def check_origin(connection: HTTPConnection, settings: ServerSettings) -> None:
    """Let pages of other hosts than the server's own connect only where they are allowed by name.

    A browser says which page it connects for; other clients say nothing. Raises ClientError.
    """
    origin = connection.headers.get("origin")
    allowed = settings.allowed_origins
    if origin is None or "*" in allowed or origin in allowed:
        return
    if _host_of(origin) != connection.headers.get("host"):
        raise ClientError(
            "origin_not_allowed",
            f"Pages of {origin} may not connect to this server.",
            "The operator can allow them by the setting server.allowed_origins.",
        )


def is_token(given: str | None, settings: ServerSettings) -> bool:
    """Tell whether a client may come in with this token: where the operator set none, with any or none."""
    wanted = settings.token
    if wanted is None:
        return True
    return given is not None and hmac.compare_digest(given.encode(), wanted.get_secret_value().encode())


def bearer_token(authorization: str | None, subprotocols: list[str]) -> str | None:
    """Return the token of a request: from its header, or from the subprotocols that a browser offers."""
    if authorization is not None and authorization.lower().startswith("bearer "):
        return authorization[7:].strip()
    for name in subprotocols:
        if name.startswith(BEARER_PROTOCOL):
            return name.removeprefix(BEARER_PROTOCOL)
    return None


def api_key(connection: HTTPConnection) -> str | None:
    """Return the token as clients of other services send it: as ours do, as `Authorization: Token KEY`, or
    from a browser as the subprotocols `token, KEY`."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "token":
        return key.strip()
    offered: list[str] = connection.scope.get("subprotocols", [])
    if len(offered) > 1 and offered[0].lower() in ("token", "bearer"):
        return offered[1]
    return bearer_token(connection.headers.get("authorization"), offered)


def check_key(given: str | None, settings: ServerSettings) -> None:
    """Let pass who has the server's token, where it asks for one. Raises ClientError."""
    if not is_token(given, settings):
        raise ClientError("unauthorized", "Invalid credentials.", "Send this server's token as the API key.")


def _host_of(origin: str) -> str | None:
    """Return host and port of an origin; None where it is no URL."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
