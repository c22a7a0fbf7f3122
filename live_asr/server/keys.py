"""Keys that open one kind of session for a while: for browsers, which must not hold the server's token."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

MOST_KEYS = 1000
"""The oldest are forgotten beyond that; a server that restarts forgets all of them."""


class ClientSecrets:
    """The keys that were given out and have not expired, each with the session that it is for."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def make(self, prefix: str, session: Mapping[str, Any], seconds: float) -> tuple[str, int]:
        """Return a new key, and the Unix time at which it expires."""
        now = time.time()
        self._keys = {key: kept for key, kept in self._keys.items() if kept[0] > now}
        while len(self._keys) >= MOST_KEYS:
            del self._keys[next(iter(self._keys))]
        key = prefix + secrets.token_urlsafe(24)
        self._keys[key] = (now + seconds, session)
        return key, int(now + seconds)

    def session_of(self, key: str | None) -> Mapping[str, Any] | None:
        """Return the session that a key is for; None where it is for none, or has expired."""
        expires, session = self._keys.get(key or "", (0.0, None))
        return session if expires > time.time() else None
