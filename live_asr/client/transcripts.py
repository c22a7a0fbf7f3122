"""Transcripts of a session, as the server renders them."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from live_asr.client.connection import SessionError, http_url, is_this_machine

_TIMEOUT = 60.0
"""Seconds without a byte: a long transcript takes a while to be rendered, on a loaded machine longer."""


async def fetch_transcript(url: str, link: str, *, token: str | None = None) -> str:
    """Fetch what a `link` of `final.links` leads to, from the server at `url`.

    It holds the best revision there is; `?revision=0` behind it asks for the live one. Raises
    SessionError: `cannot_connect`, `unauthorized`, `session_unknown` for one that the server does not
    have (any more), `bad_server_message` for a link that leads elsewhere.
    """
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or not parts.path.startswith("/"):
        # The token goes along, so a link may not choose whom it is shown to.
        raise SessionError("bad_server_message", f"{link!r} does not lead to the server itself.")
    address = http_url(url)
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    try:
        async with httpx.AsyncClient(trust_env=not is_this_machine(address), timeout=_TIMEOUT) as http:
            response = await http.get(address + link, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise SessionError("cannot_connect", f"{link} could not be fetched: {reason}.") from None
    match response.status_code:
        case httpx.codes.OK:
            return response.content.decode("utf-8", "replace")
        case httpx.codes.UNAUTHORIZED | httpx.codes.FORBIDDEN:
            raise SessionError("unauthorized", f"{address} wants another access token.", "Pass `token`.")
        case httpx.codes.NOT_FOUND:
            raise SessionError("session_unknown", f"{address} has no {link}.")
        case status:
            raise SessionError("cannot_connect", f"{address} answered {link} with HTTP status {status}.")
