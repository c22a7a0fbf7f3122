"""Who did what to whose words: a line of JSON for each request, never with a word of them.

The lines go to a file of their own, which may be rotated by whatever rotates files, or to the output.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import re
import sys
import time
from pathlib import Path

import orjson
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from live_asr.core.errors import ConfigError
from live_asr.server.access import GRANT, Grant, address_of
from live_asr.server.proxies import route_of
from live_asr.sessions.admission import Client

OUTPUT = "-"
"""In place of a file's name: the standard output."""
SESSION = re.compile(r"/v1/sessions/([0-9A-Za-z]{1,64})(/.*)?")
EVENTS = {
    ("GET", ""): "read",
    ("GET", "qr.svg"): "read",
    ("GET", "transcript"): "export",
    ("GET", "events"): "watch",
    ("GET", "audio"): "hear",
    ("PATCH", ""): "rename",
    ("PUT", "names"): "rename",
    ("POST", "corrections"): "correct",
    ("DELETE", "corrections"): "correct",
    ("DELETE", "links"): "revoke_links",
    ("DELETE", ""): "erase",
}
"""What a request for a session does, by its method and the part of its path behind the id."""


class Audit:
    """The lines; `where` is a file, `-` for the output, or None for nowhere."""

    def __init__(self, where: str | None) -> None:
        self._listener: logging.handlers.QueueListener | None = None
        self._lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        self.is_kept = where is not None
        if where is None:
            return
        try:
            handler: logging.Handler
            if where == OUTPUT:
                handler = logging.StreamHandler(sys.stdout)
            else:
                path = Path(where).expanduser()
                os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
                handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"The audit log {where} cannot be written: {error.strerror or error}.",
                "Name another file in server.audit_log, or - for the output.",
            ) from error
        # Written by a thread of its own: a disk that hangs holds nobody's captions up.
        self._listener = logging.handlers.QueueListener(self._lines, handler)
        self._listener.start()

    def close(self) -> None:
        """Write what is left, and end. Idempotent."""
        if self._listener is not None:
            self._listener.stop()
            for handler in self._listener.handlers:
                handler.close()
            self._listener = None

    def opened(self, session_id: str, client: Client) -> None:
        """Write that a client has opened a session."""
        self.write("open", session=session_id, address=client.address, token=client.owner)

    def write(
        self,
        event: str,
        *,
        address: str | None = None,
        token: str | None = None,
        name: str | None = None,
        session: str | None = None,
        **more: str | int,
    ) -> None:
        """Write a line: what happened, who did it, from where, to which session."""
        if self._listener is None:
            return
        now = time.time()
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z",
            "event": event,
            "address": address,
            "token": token,
            "name": name,
            "session": session,
            **more,
        }
        text = orjson.dumps({key: value for key, value in line.items() if value is not None}).decode()
        self._lines.put(logging.LogRecord("live_asr.audit", logging.INFO, "", 0, text, None, None))


class Audited:
    """Have each request below `/v1` noted, with the status that it was answered."""

    def __init__(self, app: ASGIApp, *, audit: Audit) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note what became of it once that is known."""
        event, session = _event_of(scope)
        if event is None or not self._audit.is_kept:
            await self._app(scope, receive, send)
            return

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                grant: Grant | None = scope.get(GRANT)
                self._audit.write(
                    event,
                    address=address_of(HTTPConnection(scope)),
                    token=grant.token if grant is not None else None,
                    name=(grant.name or None) if grant is not None else None,
                    session=session,
                    status=message["status"],
                )
            await send(message)

        await self._app(scope, receive, noting)


def _event_of(scope: Scope) -> tuple[str | None, str | None]:
    """Return what a request does, and to which session; None for what nobody has to know."""
    if scope["type"] != "http":
        return None, None
    path, method = route_of(scope), scope["method"]
    if (method, path) == ("GET", "/v1/sessions"):
        return "list", None
    if (method, path) == ("POST", "/v1/tokens"):
        return "make_token", None
    found = SESSION.fullmatch(path)
    if found is None:
        return None, None
    part = (found[2] or "").strip("/").split(".")[0] if "qr.svg" not in (found[2] or "") else "qr.svg"
    return EVENTS.get((method, part)), found[1]
