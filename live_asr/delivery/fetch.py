"""One GET of an address that may be called, for a file that somebody else's request names.

As deliveries are: no redirect is followed, no proxy is taken from the environment, and the address that was
looked at is the one that is connected to.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore

from live_asr.core.errors import ClientError
from live_asr.delivery.post import Target

CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 30.0
"""Seconds until the host answers, and between two pieces of its answer."""
FAILURES = (TimeoutError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


@asynccontextmanager
async def fetched(
    url: str, *, network: httpcore.AsyncNetworkBackend, tls: ssl.SSLContext
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give the body of what is at `url`, in pieces, for as long as the block lasts.

    Raises ForbiddenTarget for where nothing may be fetched from, and ClientError `remote_content` for a host
    that does not answer with 200, or not to the end.
    """
    target = Target.of(url)
    headers = {"Host": target.host, "Connection": "close", "Accept": "*/*", "Accept-Encoding": "identity"}
    if target.authorization is not None:
        headers["Authorization"] = target.authorization
    timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT}
    async with httpcore.AsyncHTTPConnection(
        target.url.origin, ssl_context=tls, network_backend=network
    ) as connection:
        request = httpcore.Request(
            "GET", target.url, headers=list(headers.items()), extensions={"timeout": timeouts}
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT + READ_TIMEOUT):
                response = await connection.handle_async_request(request)
        except FAILURES as error:
            raise _unfetched(f"does not answer: {type(error).__name__}") from error
        try:
            if response.status != 200:
                raise _unfetched(f"answered {response.status}")
            yield _pieces(response)
        finally:
            await response.aclose()


async def _pieces(response: httpcore.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in response.aiter_stream():
            yield piece
    except FAILURES as error:
        raise _unfetched(f"broke off: {type(error).__name__}") from error


def _unfetched(fault: str) -> ClientError:
    return ClientError(
        "remote_content", f"The host of the URL {fault}.", "Give a URL that answers with the file itself."
    )
