"""Reverse proxies in front of the server: under which address people reach it.

A proxy that is trusted says so in `X-Forwarded-Prefix`, `X-Forwarded-Host` and `X-Forwarded-Proto`, and who
asks in `X-Forwarded-For`; from anybody else these headers mean nothing. Behind this, a request looks as if it
had come without a proxy:
`root_path` is the path before the server's own, `path` begins with it, whether the proxy cut it off or not,
`scheme` and the header `Host` are what the browser asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import quote, unquote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from live_asr.config.values import ANY_PROXY, PREFIX

UNTRUSTED = "live_asr.untrusted_proxy"
"""Key of a scope: the address of a peer that speaks like a proxy and is not trusted."""
BEFORE_PROXIES = "live_asr.host_before_proxies"
"""Key of a scope: the header `Host` that a trusted proxy has replaced by what it told."""
FORWARDED = ("x-forwarded-prefix", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-for")
HOST = re.compile(r"[A-Za-z0-9._~:\[\]-]{1,255}")


class TrustedProxies:
    """Take from trusted proxies under which address people reach the server.

    `trusted` holds addresses, networks, or `*` for any peer; `root_path` counts where no proxy names one.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[str], root_path: str = "") -> None:
        self._app = app
        self._root_path = unquote(root_path)
        self._networks = networks_of(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on as it was before the proxies."""
        if scope["type"] in ("http", "websocket"):
            self._apply(scope)
        await self._app(scope, receive, send)

    def _apply(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        root_path = self._root_path
        if any(name in headers for name in FORWARDED):
            peer = (scope.get("client") or ("",))[0]
            if is_among(peer, self._networks):
                root_path = _prefix(headers) or root_path
                _take_host(scope, headers)
                _take_scheme(scope, headers)
                scope["client"] = self._asker(headers)
            else:
                scope[UNTRUSTED] = peer
        if root_path:
            _put_below(scope, root_path)

    def _asker(self, headers: Headers) -> tuple[str, int] | None:
        """Return whom the proxies tell of: the last address that is no trusted one's. None where they do not.

        What stands before that one is only what it says of itself.
        """
        told = ",".join(headers.getlist("x-forwarded-for"))
        for address in reversed([part.strip() for part in told.split(",")]):
            if self._networks is not None and is_among(address, self._networks):
                continue
            with suppress(ValueError):
                return str(ip_address(address.strip("[]"))), 0
            return None
        return None


Networks = list[IPv4Network | IPv6Network] | None
"""Those of proxies; None for all there are."""


def networks_of(trusted: Sequence[str]) -> Networks:
    """Read the addresses and networks of proxies, of which `*` stands for all."""
    if ANY_PROXY in trusted:
        return None
    return [ip_network(entry, strict=False) for entry in trusted]


def is_among(peer: str, networks: Networks) -> bool:
    """Tell whether an address is one of these networks'."""
    if networks is None:
        return True
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:  # a Unix socket has no address
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def root_path_of(scope: Scope) -> str:
    """Return the path before the server's own as a URL has it: "" or `/captions`."""
    return quote(scope.get("root_path", ""), safe="/~!$&'()*+,;=:@")


def route_of(scope: Scope) -> str:
    """Return the path of a request below the server's own root."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _put_below(scope: Scope, root_path: str) -> None:
    """Say that the server's own paths begin behind `root_path`, which the proxy may have cut off."""
    path = scope["path"]
    scope["root_path"] = root_path
    if path != root_path and not path.startswith(f"{root_path}/"):
        scope["path"] = root_path + path
        if scope.get("raw_path") is not None:
            scope["raw_path"] = quote(root_path).encode() + scope["raw_path"]


def _prefix(headers: Headers) -> str:
    """Return the path that proxies cut off, the outermost's first; "" where they tell none that can be."""
    told = ",".join(headers.getlist("x-forwarded-prefix"))
    joined = "".join(part.strip().rstrip("/") for part in told.split(","))
    return unquote(joined) if PREFIX.fullmatch(joined) else ""


def _take_host(scope: Scope, headers: Headers) -> None:
    told = headers.get("x-forwarded-host", "").split(",")[0].strip()
    if HOST.fullmatch(told):
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope[BEFORE_PROXIES] = headers.get("host")
        scope["headers"] = [(b"host", told.encode()), *others]


def _take_scheme(scope: Scope, headers: Headers) -> None:
    told = headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    is_socket = scope["type"] == "websocket"
    if told in ("https", "wss"):
        scope["scheme"] = "wss" if is_socket else "https"
    elif told in ("http", "ws"):
        scope["scheme"] = "ws" if is_socket else "http"
