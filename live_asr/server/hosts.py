"""By which names the server answers where no token is asked for.

Without a token, what keeps strangers out is that they cannot reach this machine. A page in a browser here
can: its owner has the name of the page's host lead to 127.0.0.1 after it was loaded, and for the browser both
are one host ("DNS rebinding"). What gives it away is that name, in `Host`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from live_asr.config.settings import ServerSettings
from live_asr.core.errors import ClientError
from live_asr.server.origins import origin_place
from live_asr.server.proxies import BEFORE_PROXIES
from live_asr.server.sockets import turn_away

ANY_HOST = "*"
MISDIRECTED = 421


class OwnHosts:
    """Refuse requests for other hosts than the server's own, as long as nobody is asked for a token.

    `settings` may name more hosts. Addresses in numbers are let pass: no name leads to them.
    """

    def __init__(self, app: ASGIApp, *, settings: ServerSettings) -> None:
        self._app = app
        self._is_open = settings.token is None and ANY_HOST not in settings.allowed_hosts
        self._names = frozenset(own_names(settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if not self._is_open or scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        told = [HTTPConnection(scope).headers.get("host"), scope.get(BEFORE_PROXIES)]
        strange = next((host for host in told if host is not None and not self._is_own(host)), None)
        if strange is None:
            await self._app(scope, receive, send)
            return
        error = ClientError(
            "host_not_allowed",
            f"This server asks for no token, and does not answer as {strange[:100]!a}.",
            "The operator can set server.token, or name the host in server.allowed_hosts.",
        )
        if scope["type"] == "websocket":
            await turn_away(WebSocket(scope, receive, send), error)
        else:
            await JSONResponse({"detail": str(error)}, MISDIRECTED)(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        place = origin_place(f"http://{host}")
        if place is None:
            return False
        name = place[0]
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True


def own_names(settings: ServerSettings) -> Iterable[str]:
    """Give the names by which this server is asked for, in lower case."""
    machine = socket.gethostname().lower()
    yield from ("localhost", machine, f"{machine}.local", settings.host.lower())
    if settings.public_url is not None:
        yield urlsplit(settings.public_url).hostname or ""
    for name in settings.allowed_hosts:
        yield name.lower().removesuffix(".")
