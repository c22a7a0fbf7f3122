"""Keys that open one kind of session for a while: for browsers, which must not hold the server's token."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from live_asr.sessions.places import root_of

MAX_KEYS = 1000
"""Of one token; the oldest are forgotten beyond that. A server that restarts forgets all of them."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a key is for."""

    expires_at: float
    """Unix time in seconds."""
    session: Mapping[str, Any]
    owner: str | None
    """The token that it was made with."""


class ClientSecrets:
    """The keys that were given out and have not expired, each with the session that it is for."""

    def __init__(self) -> None:
        self._keys: dict[str, Made] = {}

    def make(
        self, prefix: str, session: Mapping[str, Any], seconds: float, owner: str | None = None
    ) -> tuple[str, int]:
        """Return a new key, and the Unix time at which it expires; `owner` is the token it is made with."""
        now = time.time()
        self._keys = {key: kept for key, kept in self._keys.items() if kept.expires_at > now}
        theirs = [key for key, kept in self._keys.items() if root_of(kept.owner) == root_of(owner)]
        for key in theirs[: max(0, len(theirs) + 1 - MAX_KEYS)]:
            del self._keys[key]
        key = prefix + secrets.token_urlsafe(24)
        self._keys[key] = Made(now + seconds, session, owner)
        return key, int(now + seconds)

    def made(self, key: str | None) -> Made | None:
        """Return what a key is for; None where it is for nothing, or has expired."""
        found = self._keys.get(key or "")
        return found if found is not None and found.expires_at > time.time() else None
