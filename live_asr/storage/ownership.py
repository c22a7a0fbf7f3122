"""Whose sessions are, what that costs them, and how often the links to them were revoked.

All block, and raise StorageError when the database fails.
"""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, func, or_, select

from live_asr.storage.database import Database
from live_asr.storage.tables import erased, links, owners, sessions

DAY = 86_400.0


def owner_of(database: Database, session_id: str) -> str | None:
    """Return the token that opened a session; None where it was nobody's. Raises KeyError."""
    wanted = (
        select(sessions.c.id, owners.c.owner)
        .outerjoin(owners, owners.c.session_id == sessions.c.id)
        .where(sessions.c.id == session_id)
    )
    with database.transaction(writes=False) as connection:
        row = connection.execute(wanted).first()
    if row is None:
        raise KeyError(session_id)
    owner: str | None = row.owner
    return owner


def spent(database: Database, owner: str, *, after: float) -> float:
    """Return how many seconds of audio a token had that ended after a time, with those made with it."""

    def theirs(column: Column[str]) -> ColumnElement[bool]:
        return or_(column == owner, column.startswith(f"{owner}.", autoescape=True))

    kept = (
        select(func.sum(sessions.c.duration))
        .join(owners, owners.c.session_id == sessions.c.id)
        .where(theirs(owners.c.owner), sessions.c.ended_at > after)
    )
    gone = select(func.sum(erased.c.duration)).where(theirs(erased.c.owner), erased.c.ended_at > after)
    with database.transaction(writes=False) as connection:
        return float(connection.scalar(kept) or 0.0) + float(connection.scalar(gone) or 0.0)


def keep_spent(database: Database, session_id: str, heard: float, *, now: float) -> None:
    """Keep for a day what a session cost its token that is about to be erased.

    `heard` is how many seconds of audio it had so far, where it is not over.
    """
    wanted = (
        select(owners.c.owner, sessions.c.duration, sessions.c.ended_at)
        .join(sessions, owners.c.session_id == sessions.c.id)
        .where(sessions.c.id == session_id)
    )
    with database.transaction(writes=True) as connection:
        connection.execute(
            erased.delete().where(or_(erased.c.session_id == session_id, erased.c.ended_at < now - DAY))
        )
        row = connection.execute(wanted).first()
        if row is not None and (row.ended_at or now) >= now - DAY:
            connection.execute(
                erased.insert().values(
                    session_id=session_id,
                    owner=row.owner,
                    ended_at=row.ended_at or now,
                    duration=row.duration or heard,
                )
            )


def links_revoked(database: Database, session_id: str) -> int:
    """Return how often the links for a session's audience were revoked."""
    wanted = select(links.c.revoked).where(links.c.session_id == session_id)
    with database.transaction(writes=False) as connection:
        return connection.scalar(wanted) or 0


def revoke_links(database: Database, session_id: str) -> int:
    """Revoke the links for a session's audience; return how often that was done. Raises KeyError."""
    with database.transaction(writes=True) as connection:
        if connection.scalar(select(sessions.c.id).where(sessions.c.id == session_id)) is None:
            raise KeyError(session_id)
        its = links.c.session_id == session_id
        count = (connection.scalar(select(links.c.revoked).where(its)) or 0) + 1
        if count == 1:
            connection.execute(links.insert().values(session_id=session_id, revoked=count))
        else:
            connection.execute(links.update().where(its).values(revoked=count))
        return count
