"""The tokens that the operator gives to others: named, for certain things only, for a while, revocable.

A secret is shown once and kept nowhere: what is kept is its digest. It is random and long, so that a plain
digest is enough.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select

from live_asr.core.errors import ConfigError
from live_asr.storage.database import Database
from live_asr.storage.tables import tokens

SCOPES = ("caption", "webhook", "watch", "read", "admin")
PREFIX = "la_"
SECRET_BYTES = 24
ID_BYTES = 5
MAX_NAME = 80


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token."""

    id: str
    """Of a token that was made with another one, that one's id, a dot and its own."""
    name: str
    digest: str
    scopes: tuple[str, ...]
    created_at: float
    """Unix time in seconds, as below."""
    expires_at: float | None
    """None where it does not expire."""
    revoked_at: float | None
    """None while it is not revoked."""

    @property
    def maker(self) -> str | None:
        """The id of the token that it was made with; None where it was the operator's."""
        return self.id.rpartition(".")[0] or None

    def is_good(self, now: float) -> bool:
        """Tell whether it may be used at a time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def digest_of(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_token(
    name: str,
    scopes: Collection[str],
    *,
    now: float,
    seconds: float | None = None,
    maker: str | None = None,
) -> tuple[Token, str]:
    """Return a new token, and its secret. Raises ConfigError for a name or a scope that there is not."""
    given = " ".join(name.split())
    if not given or len(given) > MAX_NAME:
        raise ConfigError(f"A token needs a name of 1 to {MAX_NAME} characters.")
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        what = f"There is no scope {unknown[0]!r}." if unknown else "A token needs a scope."
        raise ConfigError(what, f"Scopes are {', '.join(SCOPES)}.")
    own_id = secrets.token_hex(ID_BYTES)
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    token = Token(
        id=own_id if maker is None else f"{maker}.{own_id}",
        name=given,
        digest=digest_of(secret),
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created_at=now,
        expires_at=None if seconds is None else now + seconds,
        revoked_at=None,
    )
    return token, secret


def add(database: Database, token: Token) -> None:
    """Keep a token. Blocks. Raises StorageError, as all below."""
    values = {name: getattr(token, name) for name in tokens.c.keys()}  # noqa: SIM118  no mapping
    with database.transaction(writes=True) as connection:
        connection.execute(tokens.insert().values({**values, "scopes": list(token.scopes)}))


def listed(database: Database) -> list[Token]:
    """Return all tokens, oldest first. Blocks."""
    with database.transaction(writes=False) as connection:
        rows = connection.execute(select(tokens).order_by(tokens.c.created_at, tokens.c.id)).all()
    return [_token(row._mapping) for row in rows]


def revoke(database: Database, which: str, *, now: float) -> list[Token]:
    """Revoke the tokens of an id or a name, and those that were made with them; return which. Blocks."""
    with database.transaction(writes=True) as connection:
        named = or_(tokens.c.id == which, tokens.c.name == which)
        ids = list(connection.scalars(select(tokens.c.id).where(named)))
        found: list[Any] = []
        for token_id in ids:
            theirs = or_(tokens.c.id == token_id, tokens.c.id.startswith(f"{token_id}.", autoescape=True))
            good = tokens.c.revoked_at.is_(None)
            found += connection.execute(select(tokens).where(theirs, good)).all()
            connection.execute(tokens.update().where(theirs, good).values(revoked_at=now))
    return [_token(row._mapping) for row in found]


def forget_expired(database: Database, *, before: float) -> None:
    """Forget the tokens that were made with others and expired before a time. Blocks."""
    with database.transaction(writes=True) as connection:
        connection.execute(tokens.delete().where(tokens.c.id.contains("."), tokens.c.expires_at < before))


def _token(values: Any) -> Token:
    return Token(**{**values, "scopes": tuple(values["scopes"])})
