"""Who may connect: the token that the operator set, and the pages that browsers connect for."""

from __future__ import annotations

import hmac
import logging
import secrets
from ipaddress import ip_address
from pathlib import Path

from starlette.requests import HTTPConnection

from live_asr.config import ServerSettings
from live_asr.errors import ClientError, StorageError
from live_asr.server.origins import is_listed, is_same_host
from live_asr.server.proxies import UNTRUSTED
from live_asr.storage.secrets import kept_secret

log = logging.getLogger(__name__)

BEARER_PROTOCOL = "bearer."
TOKEN_FILE = "server.token"
TOKEN_BYTES = 24


def check_origin(connection: HTTPConnection, settings: ServerSettings) -> None:
    """Let pages of other hosts than the server's own connect only where they are allowed by name.

    A browser says which page it connects for; other clients say nothing. Raises ClientError.
    """
    origin, host = connection.headers.get("origin"), connection.headers.get("host")
    if origin is None or is_listed(origin, settings.allowed_origins):
        return
    if not is_same_host(origin, host):
        raise ClientError(
            "origin_not_allowed",
            f"Pages from {origin} may not connect to this server, which was asked for as {host}.",
            _how_to_allow(connection, origin),
        )


def _how_to_allow(connection: HTTPConnection, origin: str) -> str:
    """Say to the operator which setting lets a page connect."""
    allowed = f'The operator can allow them by server.allowed_origins = ["{origin}"].'
    peer = connection.scope.get(UNTRUSTED)
    if peer is None:
        return (
            f"{allowed} A reverse proxy in front of this server's own page must pass the browser's "
            "`Host` on, or say it in X-Forwarded-Host."
        )
    # Its address is for the operator, not for whoever connects.
    log.warning("%s sends X-Forwarded headers and is not in server.trusted_proxies", peer)
    return f"A reverse proxy of this server must be named in server.trusted_proxies. {allowed}"


def is_reached_by_others(host: str) -> bool:
    """Tell whether other machines reach an address to listen on."""
    if host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True


def made_token(data: Path) -> str:
    """Return the token that this server has made for itself, now or at an earlier start.

    Raises StorageError where it cannot be kept.
    """
    path = data / TOKEN_FILE
    try:
        return kept_secret(path, lambda: secrets.token_urlsafe(TOKEN_BYTES))
    except OSError as error:
        raise StorageError(
            f"A token cannot be kept in {path}: {error.strerror or error}.",
            "Use --data to name a folder that this user can write to, or set server.token.",
        ) from error


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
