"""The links that let an audience watch one session: they expire, and can be revoked."""

from __future__ import annotations

import asyncio
import hmac
import math
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable

from live_asr.server.access import Access
from live_asr.storage import ownership
from live_asr.storage.database import Database

DAY = 86_400.0
AUDIO_DAYS = 1.0
"""For which what opens a session's audio counts: each reply about the session has a new one."""
SIGNATURE_BYTES = 18
_SHAPE = re.compile(r"([0-9a-z]{1,9})\.[\w-]{24}", re.ASCII)
"""What a link holds: when it expires, in base 36, and its signature."""


class Links:
    """What such links hold: until when they count, and a proof that this server has made them.

    Of each session the database has how often its links were revoked, which goes into the proof, so that none
    of them has to be kept. `clock` gives Unix time in seconds.
    """

    def __init__(
        self, access: Access, database: Database, *, days: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._access = access
        self._database = database
        self._days = days
        self._clock = clock
        self._revoked: dict[str, int] = {}
        """How often, of sessions whose links were revoked in this run."""

    async def token(self, session_id: str) -> str | None:
        """Return what the link of a session holds now; None where nobody is asked for anything.

        It is the same for all who ask within a day.
        """
        if not self._access.asks:
            return None
        return await self._made_now("watch", session_id, await self._secret(), self._days)

    async def check(self, session_id: str, given: str) -> bool:
        """Tell whether this is what a link of a session holds that counts."""
        return await self._counts("watch", session_id, await self._secret(), given)

    def has_expired(self, given: str) -> bool:
        """Tell whether what a link holds counts no more by the clock; False for what no link ever held."""
        expires_at = _expiry_of(given)
        return expires_at is not None and expires_at <= self._clock()

    async def audio_token(self, session_id: str, secret: str | None = None) -> str:
        """Return what opens the audio of a session now; it expires and is revoked like a link.

        `secret` is what it is made of where nobody is asked for a token.
        """
        return await self._made_now("listen", session_id, secret or await self._secret(), AUDIO_DAYS)

    async def check_audio(self, session_id: str, given: str, secret: str | None = None) -> bool:
        """Tell whether this opens the audio of a session; `secret` is as for `audio_token`."""
        return await self._counts("listen", session_id, secret or await self._secret(), given)

    async def was_good(self, session_id: str, given: str) -> bool:
        """Tell whether this is what a link of a session held once: who has it guesses nothing."""
        expires_at = _expiry_of(given)
        if expires_at is None:
            return False
        secret = await self._secret()
        count = await self._database.call(ownership.links_revoked, self._database, session_id)
        made = [
            _made("watch", secret, session_id, before, expires_at)
            for before in range(max(0, count - 99), count + 1)
        ]
        return any(hmac.compare_digest(given.encode(), one.encode()) for one in made)

    async def revoke(self, session_id: str) -> None:
        """Have no link of a session count that was made so far; who watches by one is let go."""
        count = await self._database.call(ownership.revoke_links, self._database, session_id)
        self._revoked[session_id] = count

    def revoked_count(self, session_id: str) -> int:
        """Return how often the links of a session were revoked in this run, to see whether that changes."""
        return self._revoked.get(session_id, 0)

    async def _secret(self) -> str:
        return await asyncio.to_thread(self._access.links_secret)

    async def _made_now(self, purpose: str, session_id: str, secret: str, days: float) -> str:
        expires_at = math.ceil(self._clock() / DAY + days) * int(DAY)
        return await self._made(purpose, session_id, secret, expires_at)

    async def _counts(self, purpose: str, session_id: str, secret: str, given: str) -> bool:
        expires_at = _expiry_of(given)
        if expires_at is None or self.has_expired(given):
            return False
        wanted = await self._made(purpose, session_id, secret, expires_at)
        return hmac.compare_digest(given.encode(), wanted.encode())

    async def _made(self, purpose: str, session_id: str, secret: str, expires_at: int) -> str:
        count = await self._database.call(ownership.links_revoked, self._database, session_id)
        return _made(purpose, secret, session_id, count, expires_at)


def _made(purpose: str, secret: str, session_id: str, count: int, expires_at: int) -> str:
    said = f"{purpose} {session_id} {count} {expires_at}"
    digest = hmac.digest(secret.encode(), said.encode(), "sha256")
    return f"{_base36(expires_at)}.{urlsafe_b64encode(digest[:SIGNATURE_BYTES]).decode()}"


def _expiry_of(given: str) -> int | None:
    """Return the Unix time at which what a link holds expires; None for what no link ever held."""
    shape = _SHAPE.fullmatch(given)
    return int(shape[1], 36) if shape is not None else None


def _base36(number: int) -> str:
    assert number >= 0
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
    return text or "0"
