"""Whether two names of a host mean the same one: what a browser says of its page, and what it asked for."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

Place = tuple[str, int | None]
"""A host in lower case and its port."""


def origin_place(origin: str) -> Place | None:
    """Return host and port of an origin such as `https://example.org`; None for what is no web origin.

    A path but `/`, a query, a fragment or a user's name makes it none.
    """
    try:
        parts = urlsplit(origin)
        is_bare = parts.path in ("", "/") and not parts.query and not parts.fragment
        if parts.scheme not in ("http", "https") or not is_bare or "@" in parts.netloc or not parts.hostname:
            return None
        return _host(parts.hostname), parts.port or DEFAULT_PORTS[parts.scheme]
    except ValueError:  # a port that is no number, a bracket left open
        return None


def is_same_host(origin: str, host: str | None) -> bool:
    """Tell whether an origin is that of a server which was asked by the `Host` header `host`.

    Hosts are compared without regard to case; a port that is not said is the default one of the origin's
    scheme, because a proxy may have spoken TLS where this server does not.
    """
    place = origin_place(origin)
    if place is None or host is None:
        return False
    scheme = urlsplit(origin).scheme
    return place == origin_place(f"{scheme}://{host}")


def is_listed(origin: str, allowed: Iterable[str]) -> bool:
    """Tell whether an origin is one of those, or `*` is: scheme, host and port are compared, not letters."""
    return any(entry in ("*", origin) or _same_origin(entry, origin) for entry in allowed)


def _same_origin(first: str, second: str) -> bool:
    place = origin_place(first)
    return (
        place is not None
        and place == origin_place(second)
        and urlsplit(first).scheme == urlsplit(second).scheme
    )


def _host(name: str) -> str:
    return name.lower().removesuffix(".")
