"""Reaching a server: its address, the WebSocket handshake, and what can go wrong with a session."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

from live_asr.core.errors import LiveAsrError

DEFAULT_URL = "http://localhost:8765"
_STREAM_PATH = "/v1/stream"
_LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024
"""`final` holds every word of the session; this is some three days of speech."""
CLOSE_TIMEOUT = 5.0
"""Seconds that what was sent has to get out, and the other side to say goodbye, when a socket is closed."""


class SessionError(LiveAsrError):
    """A session could not be opened or did not end well.

    `code` is the server's where the server said why (docs/protocol.md lists them), else `cannot_connect`,
    `connection_lost`, `bad_server_message`, `audio_lost`, `overrun`, `stopped` or `unexpected_message`.
    `retry_after` is in seconds, where coming back later makes sense.
    """

    def __init__(self, code: str, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint, code=code)
        self.retry_after = retry_after


class SessionRefused(SessionError):
    """The session was not opened."""


class SessionFailed(SessionError):
    """The session was open, and then something went wrong.

    What had been committed is still in `LiveSession.transcript`.
    """


def stream_url(url: str) -> str:
    """Return the WebSocket address of the server at `url`: http(s), ws(s) or just HOST:PORT.

    Raises SessionRefused `cannot_connect` for anything else.
    """
    scheme, place, path, query = _address(url)
    return urlunsplit((scheme, place, f"{path}{_STREAM_PATH}", query, ""))


def http_url(url: str) -> str:
    """Return the HTTP address, without a slash at its end, of the server that `stream_url` finds at `url`.

    Raises SessionRefused `cannot_connect` as `stream_url` does.
    """
    scheme, place, path, _ = _address(url)
    return urlunsplit(("http" if scheme == "ws" else "https", place, path, "", ""))


def resume_address(address: str, resume_url: str | None) -> str:
    """Return where a session goes on: at the server that its own names, unless others could listen there.

    `address` is what `stream_url` returns. Raises SessionRefused `cannot_connect` as that does.
    """
    elsewhere = address if resume_url is None else stream_url(resume_url)
    return address if address.startswith("wss:") and not elsewhere.startswith("wss:") else elsewhere


def is_this_machine(url: str) -> bool:
    """Tell whether the address is this machine's: no proxy from the environment stands before it."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def _address(url: str) -> tuple[str, str, str, str]:
    """Return scheme (ws or wss), host with port, path before the stream's, and query of a server."""
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    try:
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        is_address = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an IPv6 bracket left open, a port that is no number
        is_address = False
    if not is_address:
        raise SessionRefused(
            "cannot_connect", f"{url!r} is not the address of a server.", f"Give one like {DEFAULT_URL}."
        )
    path = parts.path.rstrip("/").removesuffix(_STREAM_PATH)
    return schemes[parts.scheme], parts.netloc, path, parts.query


async def open_socket(url: str, token: str | None) -> ClientConnection:
    """Open a WebSocket to `url`, as `stream_url` returns it.

    Raises SessionRefused `unauthorized` or `cannot_connect`, the latter with `retry_after` where the
    server gave one.
    """
    # A proxy from the environment is for the world outside, never for a server on this machine.
    options: dict[str, Any] = {"proxy": None} if is_this_machine(url) else {}
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    try:
        return await open_websocket(
            url,
            additional_headers=headers,
            max_size=_LARGEST_MESSAGE_BYTES,
            compression=None,  # audio does not compress, and its senders are often small machines
            **options,
        )
    except InvalidStatus as error:
        raise _refused(url, error.response.status_code, error.response.headers.get("Retry-After")) from None
    except (InvalidHandshake, InvalidURI, EOFError) as error:
        raise SessionRefused(
            "cannot_connect",
            f"What answers at {url} is no live-asr server ({error}).",
            "Check host and port.",
        ) from None
    except TimeoutError:
        raise SessionRefused(
            "cannot_connect", f"{url} did not answer in time.", "Check host, port and network."
        ) from None
    except OSError as error:
        raise SessionRefused(
            "cannot_connect",
            f"No server answers at {url} ({error.strerror or error}).",
            "Start one with `live-asr serve`, or check host and port.",
        ) from None


async def close_socket(socket: ClientConnection) -> None:
    """Close a socket in good order, or all the same where that takes too long; idempotent.

    Where this is cancelled it is closed at once.
    """
    try:
        with suppress(TimeoutError):
            # websockets' own bound does not count while the network takes no more bytes.
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await socket.close()
    finally:
        socket.transport.abort()
        await socket.wait_closed()


def _refused(url: str, status: int, retry_after: str | None) -> SessionRefused:
    if status in (401, 403):
        return SessionRefused("unauthorized", f"{url} wants another access token.", "Pass `token`.")
    seconds = float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
    return SessionRefused(
        "cannot_connect",
        f"{url} answered with HTTP status {status} instead of opening a session.",
        "Check host, port and path; 503 means that the server is not ready yet.",
        seconds,
    )
