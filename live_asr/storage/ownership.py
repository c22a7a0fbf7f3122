"""Whose sessions are, what that costs them, and how often the links to them were revoked.

All block, and raise StorageError when the database fails.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Column, ColumnElement, Connection, func, or_, select, text

from live_asr.storage.database import OPEN, OVER, Database
from live_asr.storage.gateways import guard, heard_audio
from live_asr.storage.tables import erased, insert_shared, links, owners, sessions

DAY = 86_400.0
OPENING = 0x11FE
"""First half of the key of the lock under which sessions of a token are opened; the other half is its own."""


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


def spent(database: Database, owner: str, *, after: float, here: Collection[str] = ()) -> float:
    """Return how many seconds of audio a token had that ended after a time, with those made with it.

    Where several servers share the database, with what has been noted of sessions that go on, but for those
    that do so `here`.
    """
    kept = (
        select(func.sum(sessions.c.duration))
        .join(owners, owners.c.session_id == sessions.c.id)
        .where(_theirs(owners.c.owner, owner), sessions.c.ended_at > after)
    )
    gone = select(func.sum(erased.c.duration)).where(
        _theirs(erased.c.owner, owner), erased.c.ended_at > after
    )
    elsewhere = (
        select(func.sum(heard_audio.c.seconds))
        .join(sessions, sessions.c.id == heard_audio.c.session_id)
        .join(owners, owners.c.session_id == sessions.c.id)
        .where(_theirs(owners.c.owner, owner), sessions.c.state.not_in(OVER), sessions.c.id.not_in(here))
    )
    wanted = (kept, gone, elsewhere) if database.is_shared else (kept, gone)
    with database.transaction(writes=False) as connection:
        return sum(float(connection.scalar(one) or 0.0) for one in wanted)


def note_heard(database: Database, heard: Mapping[str, float]) -> None:
    """Note how many seconds were heard of sessions that go on here, for the other servers."""
    if not heard:
        return
    note = insert_shared(heard_audio)
    noted = note.on_conflict_do_update(index_elements=["session_id"], set_={"seconds": note.excluded.seconds})
    rows = [{"session_id": session_id, "seconds": heard[session_id]} for session_id in sorted(heard)]
    with database.transaction(writes=True) as connection:
        connection.execute(noted, rows)


def count_open(connection: Connection, owner: str) -> int:
    """Return how many sessions of a token take a place at all servers, with those of tokens made with it.

    Nobody else who counts them opens one before the transaction ends.
    """
    guard(connection)
    lock = text("SELECT pg_advisory_xact_lock(:opening, hashtext(:owner))")
    connection.execute(lock, {"opening": OPENING, "owner": owner})
    wanted = (
        select(func.count())
        .select_from(sessions)
        .join(owners, owners.c.session_id == sessions.c.id)
        .where(_theirs(owners.c.owner, owner), sessions.c.state == OPEN)
    )
    return connection.scalar(wanted) or 0


def _theirs(column: Column[str], owner: str) -> ColumnElement[bool]:
    return or_(column == owner, column.startswith(f"{owner}.", autoescape=True))


def keep_spent(database: Database, session_id: str, heard: float, *, now: float) -> None:
    """Keep for a day what a session cost its token that is about to be erased.

    `heard` is how many seconds of audio it had so far, where it is not over and goes on here.
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
        if database.is_shared and not heard:
            noted = select(heard_audio.c.seconds).where(heard_audio.c.session_id == session_id)
            heard = connection.scalar(noted) or 0.0
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
