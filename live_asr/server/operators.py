"""What the server tells its operators, and no strangers where there are tokens: metrics and documentation."""

from __future__ import annotations

import base64
import binascii

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from live_asr.core.errors import ClientError, Unavailable
from live_asr.server.access import Access, token_in
from live_asr.server.permission import STATUS
from live_asr.server.proxies import route_of

PATHS = ("/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json")


class OperatorsOnly:
    """Ask for a token with `read` before these paths; as a password, too, which browsers can send."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and route_of(scope) in PATHS:
            request = HTTPConnection(scope)
            try:
                await self._access.admit(request, token_in(request) or _password(request), "read")
            except (ClientError, Unavailable) as error:
                headers = {"WWW-Authenticate": 'Basic realm="live-asr", Bearer'}
                if isinstance(error, Unavailable):
                    headers = {"Retry-After": f"{error.retry_after:.0f}"}
                response = JSONResponse({"detail": str(error)}, STATUS[error.code], headers)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _password(request: HTTPConnection) -> str | None:
    """Return the password of HTTP's plain authentication; whose name it is makes no difference."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2] or None
    except (binascii.Error, ValueError):
        return None
