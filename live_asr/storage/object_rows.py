"""What the database knows of the object store: what is there, what is to go there, what to be erased there.

A session that is over has a row for its result, and one for its audio and its messages each from when these
are about to be put there: whatever ends a server in between, the object is known. Rows outlive their session
until their objects are erased.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, func, or_, select, true

from live_asr.storage.gateways import is_gone
from live_asr.storage.records import OVER
from live_asr.storage.tables import insert_new, objects, sessions

if TYPE_CHECKING:
    from live_asr.storage.database import Database

AUDIO, MESSAGES, RESULT = "audio", "messages", "result"
"""Kinds of objects; a session has one of each at most."""
IN_ORDER = (RESULT, AUDIO, MESSAGES)
"""The kinds in the order in which all lock them."""
WAITING, STORED, DOOMED = "waiting", "stored", "doomed"
"""To be put there, or about to be; there; to be erased there."""
FAR = 86_400.0
"""Seconds: no try is put off by more, so what lies further ahead was put off by a clock that was wrong."""
AT_ONCE = 1000
"""Rows that are written in one transaction."""


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One object of a session."""

    session_id: str
    kind: str
    state: str
    name: str | None
    """Of the object, below the session's; None where none was begun."""
    media_type: str | None
    size_bytes: int | None
    next_at: float
    """Unix time in seconds of the next try."""

    @property
    def key(self) -> str:
        """Where it is in the store."""
        return key_of(self.session_id, self.name or "")


def key_of(session_id: str, name: str) -> str:
    """Return where an object of a session is in the store."""
    return f"{session_id}/{name}"


def note(connection: Connection, session_id: str, *, at: float) -> None:
    """Have a session that is over moved; where it is noted already that stays as it is."""
    row = {"session_id": session_id, "kind": RESULT, "state": WAITING, "next_at": at}
    insert_new(connection, objects, row)


def renew(connection: Connection, session_id: str) -> None:
    """Have the result put there once more: it has changed since."""
    changed = objects.update().where(_is(session_id, RESULT), objects.c.state != DOOMED)
    connection.execute(changed.values(state=WAITING, next_at=time.time()))


def doom(connection: Connection, session_id: str) -> None:
    """Have what there is of a session erased there. Idempotent."""
    for kind in IN_ORDER:
        its = objects.update().where(_is(session_id, kind), objects.c.state != DOOMED)
        connection.execute(its.values(state=DOOMED, next_at=0.0))


def other_stores(database: Database, store: str | None) -> dict[str, int]:
    """Return the stores besides one in which there are objects, and how many. Blocks; raises StorageError."""
    wanted = select(objects.c.store, func.count()).where(objects.c.store.is_distinct_from(store))
    with database.transaction(writes=False) as connection:
        rows = connection.execute(wanted.where(objects.c.store.is_not(None)).group_by(objects.c.store))
        return {row[0]: row[1] for row in rows}


def stored(database: Database, session_id: str, kind: str) -> tuple[str, str] | None:
    """Return in which store an object is, and where there; None where it is in none.

    Blocks; raises StorageError.
    """
    wanted = select(objects.c.store, objects.c.name).where(_is(session_id, kind), objects.c.state == STORED)
    with database.transaction(writes=False) as connection:
        row = connection.execute(wanted).first()
    return None if row is None else (row[0], key_of(session_id, row[1]))


def doom_audio_before(database: Database, before: float) -> int:
    """Have the audio erased there of sessions that ended before a time; return of how many it is.

    Blocks; raises StorageError.
    """
    old = select(sessions.c.id).where(sessions.c.state.in_(OVER), sessions.c.ended_at < before)
    its = objects.update().where(
        objects.c.kind == AUDIO, objects.c.state != DOOMED, objects.c.session_id.in_(old)
    )
    with database.transaction(writes=True) as connection:
        return connection.execute(its.values(state=DOOMED, next_at=0.0)).rowcount


class ObjectRows:
    """The rows of one database, for this server among others. All block, and raise StorageError.

    `store` is the URL of the store that is used: objects that are in another one are left alone. A session
    that is claimed is this server's to move for as long as it is there.
    """

    def __init__(self, database: Database, store: str) -> None:
        self._database = database
        self._store = store

    def catch_up(self) -> None:
        """Have moved what was over, and erased what was erased, where nobody thought of a store.

        That is without the setting, and by older versions.
        """
        gone = objects.update().where(~exists().where(sessions.c.id == objects.c.session_id))
        with self._database.transaction(writes=True) as connection:
            connection.execute(gone.where(objects.c.state != DOOMED).values(state=DOOMED, next_at=0.0))
        known = exists().where(objects.c.session_id == sessions.c.id, objects.c.kind == RESULT)
        missing = select(sessions.c.id).where(sessions.c.state.in_(OVER), ~known).limit(AT_ONCE)
        found: list[str] | None = None
        while found is None or len(found) == AT_ONCE:
            with self._database.transaction(writes=True) as connection:
                found = list(connection.scalars(missing))
                for session_id in found:
                    note(connection, session_id, at=0.0)

    def claim(self, now: float, *, limit: int) -> list[ObjectRow]:
        """Return results whose session is to be moved, the longest due first; they are this server's then."""
        due = _due(now, WAITING, limit).where(objects.c.kind == RESULT, self._is_here)
        gateway = self._database.gateway
        if gateway is None:
            with self._database.transaction(writes=False) as connection:
                return [_row(row) for row in connection.execute(due)]
        with self._database.transaction(writes=True) as connection:
            free = due.where(self._is_free).with_for_update(skip_locked=True)
            found = [_row(row) for row in connection.execute(free)]
            taken = objects.update().where(
                objects.c.session_id.in_([row.session_id for row in found]), objects.c.kind == RESULT
            )
            connection.execute(taken.values(gateway=gateway.id))
        return found

    def begin(self, session_id: str, kind: str, name: str, media_type: str) -> bool:
        """Note that audio or messages of a session are about to be put there.

        Return False, and note nothing, where it is not this server's to move any more.
        """
        with self._database.transaction(writes=True) as connection:
            if not self._holds(connection, session_id):
                return False
            begun = {
                "name": name,
                "media_type": media_type,
                "store": self._store,
                "gateway": self._gateway_id,
            }
            whose = {"session_id": session_id, "kind": kind}
            if insert_new(connection, objects, {**whose, **begun, "state": WAITING, "next_at": 0.0}):
                return True
            again = objects.update().where(_is(session_id, kind), objects.c.state == WAITING, self._is_here)
            return connection.execute(again.values(begun)).rowcount > 0

    def abandon_audio(self, session_id: str) -> None:
        """Have erased there what was begun of a session's audio, unless another server has that by now."""
        with self._database.transaction(writes=True) as connection:
            if self._holds(connection, session_id):
                begun = objects.update().where(_is(session_id, AUDIO), objects.c.state == WAITING)
                connection.execute(begun.values(state=DOOMED, next_at=0.0))

    def _holds(self, connection: Connection, session_id: str) -> bool:
        """Tell whether a session is this server's to move; it is until the transaction ends, then."""
        mine = select(objects.c.session_id).where(
            _is(session_id, RESULT), objects.c.state == WAITING, self._is_mine
        )
        return connection.scalar(mine.with_for_update()) is not None

    def begin_result(self, session_id: str, name: str, media_type: str) -> bool:
        """Note that the result is about to be put there; return False as `begin` does."""
        with self._database.transaction(writes=True) as connection:
            mine = objects.update().where(_is(session_id, RESULT), objects.c.state == WAITING, self._is_mine)
            begun = mine.values(name=name, media_type=media_type, store=self._store)
            return connection.execute(begun).rowcount > 0

    def finish(self, session_id: str, kind: str, size_bytes: int, *, due_at: float) -> bool:
        """Note that an object is there; return False where it is not this server's any more.

        So it is, too, where it was to be put there anew meanwhile: `due_at` is its `next_at` of when that was
        begun.
        """
        with self._database.transaction(writes=True) as connection:
            mine = objects.update().where(
                _is(session_id, kind),
                objects.c.state == WAITING,
                objects.c.next_at == due_at,
                self._is_mine,
            )
            stored = mine.values(state=STORED, size_bytes=size_bytes, gateway=None)
            return connection.execute(stored).rowcount > 0

    def let_go(self, session_id: str, *, next_at: float) -> None:
        """Let a session go that this server has claimed: it is to be tried again at a time, by any."""
        with self._database.transaction(writes=True) as connection:
            later = objects.update().where(_is(session_id, RESULT), objects.c.state == WAITING, self._is_mine)
            connection.execute(later.where(objects.c.next_at < next_at).values(next_at=next_at))
            for kind in IN_ORDER:
                its = objects.update().where(_is(session_id, kind), self._is_mine)
                connection.execute(its.values(gateway=None))

    def doom(self, session_id: str) -> None:
        """Have what there is of a session erased there."""
        with self._database.transaction(writes=True) as connection:
            doom(connection, session_id)

    def renew(self, session_id: str) -> None:
        """Have the result put there once more."""
        with self._database.transaction(writes=True) as connection:
            renew(connection, session_id)

    def doomed(self, now: float, *, limit: int, session_id: str | None = None) -> list[ObjectRow]:
        """Return objects that are to be erased, but for those that a server may still put there.

        Where `session_id` is given, only of that one, whenever they are due.
        """
        wanted = _due(now, DOOMED, limit)
        if session_id is not None:
            wanted = _all().where(objects.c.session_id == session_id, objects.c.state == DOOMED)
        with self._database.transaction(writes=False) as connection:
            return [_row(row) for row in connection.execute(wanted.where(self._is_free, self._is_here))]

    def has_doomed(self, session_id: str) -> bool:
        """Tell whether anything of a session is still to be erased, in this store or another."""
        wanted = select(objects.c.kind).where(objects.c.session_id == session_id, objects.c.state == DOOMED)
        with self._database.transaction(writes=False) as connection:
            return connection.execute(wanted).first() is not None

    def forget(self, row: ObjectRow) -> None:
        """Forget an object that was erased."""
        gone = objects.delete().where(_is(row.session_id, row.kind), objects.c.state == DOOMED)
        with self._database.transaction(writes=True) as connection:
            connection.execute(gone)

    def put_off(self, row: ObjectRow, *, next_at: float) -> None:
        """Have an object erased later."""
        later = objects.update().where(_is(row.session_id, row.kind), objects.c.state == DOOMED)
        with self._database.transaction(writes=True) as connection:
            connection.execute(later.values(next_at=next_at))

    def find(self, session_id: str, kind: str) -> ObjectRow | None:
        """Return what is known of an object; None where there is none, or it is in another store."""
        with self._database.transaction(writes=False) as connection:
            row = connection.execute(_all().where(_is(session_id, kind), self._is_here)).first()
        return None if row is None else _row(row)

    def count(self) -> dict[str, int]:
        """Return how many objects there are in each state but `stored`."""
        wanted = select(objects.c.state, func.count()).where(objects.c.state.in_((WAITING, DOOMED)))
        with self._database.transaction(writes=False) as connection:
            counted = {row[0]: row[1] for row in connection.execute(wanted.group_by(objects.c.state))}
        return {state: counted.get(state, 0) for state in (WAITING, DOOMED)}

    @property
    def _gateway_id(self) -> str | None:
        return self._database.gateway.id if self._database.gateway is not None else None

    @property
    def _is_here(self) -> ColumnElement[bool]:
        """Whether an object is in this store or, as yet, in none, as a condition."""
        return or_(objects.c.store.is_(None), objects.c.store == self._store)

    @property
    def _is_mine(self) -> ColumnElement[bool]:
        return objects.c.gateway.is_not_distinct_from(self._gateway_id)

    @property
    def _is_free(self) -> ColumnElement[bool]:
        """Whether no other server that is there is at it, as a condition."""
        if self._database.gateway is None:
            return true()
        return or_(self._is_mine, is_gone(objects.c.gateway))


def _is(session_id: str, kind: str) -> ColumnElement[bool]:
    return and_(objects.c.session_id == session_id, objects.c.kind == kind)


def _all() -> Select[Any]:
    return select(
        objects.c.session_id,
        objects.c.kind,
        objects.c.state,
        objects.c.name,
        objects.c.media_type,
        objects.c.size_bytes,
        objects.c.next_at,
    )


def _due(now: float, state: str, limit: int) -> Select[Any]:
    at = objects.c.next_at
    is_due = or_(at <= now, at > now + FAR)
    return _all().where(objects.c.state == state, is_due).order_by(at).limit(limit)


def _row(row: Row[Any]) -> ObjectRow:
    return ObjectRow(**row._mapping)
