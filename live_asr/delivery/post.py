"""One POST to an address that may be called.

No redirect is followed, no proxy is taken from the environment, and no connection is used twice: each try
resolves the name anew, and the address that was looked at is the one that is connected to.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import certifi
import httpcore

from live_asr.core.errors import LiveAsrError

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host name and port → its addresses in numbers. Raises OSError where there are none."""

SCHEMES = {"http": 80, "https": 443}


class ForbiddenTarget(LiveAsrError):
    """The URL leads where deliveries may not go; trying again changes nothing."""

    code = "forbidden_target"


@dataclass(frozen=True, slots=True)
class Patience:
    """How much of a receiver's time and bytes a try takes. Seconds."""

    connect: float = 10.0
    total: float = 30.0
    """From resolving the name to the end of the answer."""
    most_bytes: int = 1024 * 1024
    """Of the answer's body that are read; its content means nothing to us."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart."""

    url: httpcore.URL
    """Without user information."""
    host: str
    """What the header `Host` says."""
    authorization: str | None
    """What the user information says, as a header."""

    @classmethod
    def of(cls, url: str) -> Target:
        """Take a URL apart. Raises ForbiddenTarget for what is no absolute http or https URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
            host = (parts.hostname or "").encode("idna")
        except ValueError:  # an unclosed bracket, a port that is none, a label of no length
            raise ForbiddenTarget("The URL cannot be read.") from None
        if parts.scheme not in SCHEMES:
            raise ForbiddenTarget(f"The URL is of the scheme {parts.scheme!r}, not http or https.")
        if not host or port == 0:
            raise ForbiddenTarget("The URL names no host.")
        shown = f"[{host.decode()}]" if b":" in host else host.decode()
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
            "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?") if parts.query else ""
        )
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        return cls(
            httpcore.URL(scheme=parts.scheme.encode(), host=host, port=port, target=target.encode()),
            shown if port in (None, SCHEMES[parts.scheme]) else f"{shown}:{port}",
            authorization,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver said."""

    status: int
    retry_after: str | None


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that may be called, and to no others.

    `why_not` says of a host and one of its addresses of what kind it is, where it may not be called.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        why_not: Callable[[str, str], str | None],
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._resolve = resolve
        self._why_not = why_not
        self._network = network or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve the name once and connect to the first of its addresses that may be called and answers.

        Raises ForbiddenTarget when none of them may, httpcore's errors when none answers.
        """
        try:
            async with asyncio.timeout(timeout):
                addresses = list(dict.fromkeys(await self._resolve(host, port)))
        except TimeoutError:
            raise httpcore.ConnectTimeout("its name was not resolved in time") from None
        except OSError as error:
            raise httpcore.ConnectError(f"its name is not known: {error.strerror or error}") from error
        refused = {address: self._why_not(host, address) for address in addresses}
        open_to_us = [address for address in addresses if refused.get(address) is None]
        if addresses and not open_to_us:
            # Its kind says enough: to what address a name of the inner network leads is nobody's business.
            raise ForbiddenTarget(f"The URL's host has an address that is {refused[addresses[0]]}.")
        failure: Exception = httpcore.ConnectError("its name has no address")
        for address in open_to_us:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def tls_context() -> ssl.SSLContext:
    """Return the usual verification: the system's authorities, and Mozilla's where it has none. Blocks."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


async def post(
    target: Target,
    body: bytes,
    headers: Mapping[str, str],
    *,
    network: httpcore.AsyncNetworkBackend,
    tls: ssl.SSLContext,
    patience: Patience,
) -> Answer:
    """Send the body once and return what was answered.

    The answer counts from its status on: what follows is read, up to a bound, out of courtesy. Raises
    ForbiddenTarget, TimeoutError when there is no status in time, and httpcore's NetworkError,
    TimeoutException and ProtocolError.
    """
    answer: Answer | None = None
    sent = {"Host": target.host, "Content-Type": "application/json", "Connection": "close", **headers}
    if target.authorization is not None:
        sent["Authorization"] = target.authorization
    timeouts = {"connect": patience.connect, "read": patience.total, "write": patience.total}
    origin = target.url.origin
    try:
        async with (
            asyncio.timeout(patience.total),
            httpcore.AsyncHTTPConnection(origin, ssl_context=tls, network_backend=network) as connection,
            connection.stream(
                "POST",
                target.url,
                headers=list(sent.items()),
                content=body,
                extensions={"timeout": timeouts},
            ) as response,
        ):
            answer = Answer(response.status, _header(response, b"retry-after"))
            await _read(response, patience.most_bytes)
    except (TimeoutError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError):
        if answer is None:
            raise
    return answer


async def _read(response: httpcore.Response, most_bytes: int) -> None:
    read_bytes = 0
    async for chunk in response.aiter_stream():
        read_bytes += len(chunk)
        if read_bytes >= most_bytes:
            return


def _header(response: httpcore.Response, name: bytes) -> str | None:
    for key, value in response.headers:
        if key.lower() == name:
            return value.decode("latin-1")
    return None
