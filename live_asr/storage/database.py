"""The database: which sessions there are, what became of them, and who is still to be told.

The end of a session and the delivery that tells of it are written in one transaction, so that neither is
there without the other, whatever kills the server. Methods block for as long as the disk takes and may be
called from any thread; on the event loop by `call` alone. All raise StorageError when the database fails.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Connection, Row, Select, and_, func, or_, select

from live_asr.config import StorageSettings
from live_asr.core.urls import receiver_of
from live_asr.storage import tables
from live_asr.storage.tables import deliveries, sessions

FILE = "live-asr.db"
"""SQLite's file in the data folder."""
THREADS = 4
"""Calls of the event loop at once; as many connections stay open."""
OPEN = "open"
OVER = ("done", "failed")
"""The states that a session does not leave."""
PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"
DELIVERY_STATES = (PENDING, DELIVERED, DEAD)
LONGEST_WAIT = 1.2 * 24 * 3600.0
"""Seconds: no try is put off by more, so what lies further ahead was put off by a clock that was wrong."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredSession:
    """What is kept of a session besides its audio and messages."""

    id: str
    state: str
    """`open`, `streaming`, `draining`, `finalizing`, `done` or `failed`."""
    created_at: float
    """Unix time in seconds."""
    ended_at: float | None
    """Unix time in seconds; None while it is not over."""
    duration: float | None
    """Seconds of audio; None while it is not over."""
    language: str | None
    revision: int
    """1 for the result; 0 for the live record of a session that goes on, or failed."""
    labels: str | None
    """Where the speakers come from: `full`, `live` or None."""
    speakers: Sequence[Mapping[str, Any]]
    """As in the message `final`."""
    error: Mapping[str, str] | None
    """`code` and `message` of a failed session."""
    start: Mapping[str, Any] = field(repr=False)
    """The client's message `start`. Its webhook's URL may hold a secret."""
    names: Mapping[str, str]
    """Names that people typed in, by speaker label."""


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What is to be told, and to whom."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One row of the outbox."""

    id: str
    """The `webhook-id`: made once, the same on every try."""
    session_id: str
    url: str = field(repr=False)
    """May hold a secret; `receiver` is what may be shown."""
    body: bytes = field(repr=False)
    state: str
    """`pending`, `delivered` or `dead`."""
    attempts: int
    """Tries so far, ever."""
    tries: int
    """Tries so far in this round; `retry` begins a new one."""
    next_at: float
    """Unix time in seconds of the next try, where it is pending; else of the last change."""
    created_at: float
    """Unix time in seconds."""
    last_status: int | None
    """HTTP status of the last answer; None where there was none."""
    last_error: str | None
    """Why the last try failed, as a sentence; None where it did not."""

    @property
    def receiver(self) -> str:
        """Scheme, host and port of the URL: what may be logged of it."""
        return receiver_of(self.url)


def database_url(settings: StorageSettings) -> str:
    """Return the URL of the database: the configured one, else SQLite in the data folder."""
    if settings.database is not None:
        return settings.database.get_secret_value()
    return sqlite_url(settings.data / FILE)


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path.absolute()}"


class Database:
    """Sessions and deliveries.

    Made without touching the disk or the network; call `prepare` before all else. Raises ConfigError for
    a URL of no database that we know.
    """

    def __init__(self, url: str) -> None:
        self._engine = tables.open_engine(url)
        self._writer = self._engine.execution_options(writes=True)
        self._held: Connection | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="database")

    async def call(self, method: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the database in one of its own threads, and wait for it on the event loop.

        `asyncio.to_thread` has few threads, which also bring audio to the disk: a database that hangs must
        not take those.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(method, *args, **kwargs))

    def prepare(self) -> None:
        """Make the tables that are missing. Raises StorageError when the database cannot be reached or
        was made by another version."""
        with tables.sentences(self._engine):
            tables.prepare(self._writer)

    def hold(self) -> None:
        """Hold the database for this server alone until `close`. Raises StorageError where another does."""
        with tables.sentences(self._engine):
            self._held = tables.hold(self._engine)

    def is_prepared(self) -> bool:
        """Tell whether a server has made the tables, without making anything."""
        with tables.sentences(self._engine):
            return tables.is_prepared(self._engine)

    def close(self) -> None:
        """Close all connections. Idempotent; nothing is called afterwards."""
        self._threads.shutdown(wait=False)
        if self._held is not None:
            self._held.close()
            self._held = None
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with tables.sentences(self._engine), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction: all of the block is kept, or nothing."""
        with tables.sentences(self._engine), self._writer.begin() as connection:
            yield connection

    # Sessions ---------------------------------------------------------------------------------------

    def add_session(self, session_id: str, start: Mapping[str, Any], *, created_at: float) -> None:
        """Keep that a session was opened, in state `open`; one that is there stays as it is."""
        with self._writing() as connection:
            if connection.scalar(select(sessions.c.id).where(sessions.c.id == session_id)) is None:
                connection.execute(
                    sessions.insert().values(
                        id=session_id,
                        state=OPEN,
                        created_at=created_at,
                        revision=0,
                        start=dict(start),
                        speakers=[],
                        names={},
                    )
                )

    def set_state(self, session_id: str, state: str) -> None:
        """Keep the state of a session; one that is over, or unknown, stays as it is."""
        with self._writing() as connection:
            connection.execute(sessions.update().where(_is_unfinished(session_id)).values(state=state))

    def finish_session(
        self,
        session_id: str,
        *,
        state: str,
        ended_at: float,
        duration: float | None = None,
        language: str | None = None,
        revision: int = 0,
        labels: str | None = None,
        speakers: Sequence[Mapping[str, Any]] = (),
        error: Mapping[str, str] | None = None,
        delivery: NewDelivery | None = None,
    ) -> None:
        """Keep how a session ended, and that somebody is to be told, in one transaction.

        `state` is `done` or `failed`. A session that is over stays as it is and is told of once, so a
        caller that does not know whether it got this far before it died can do it again.
        """
        with self._writing() as connection:
            ended = connection.execute(
                sessions.update()
                .where(_is_unfinished(session_id))
                .values(
                    state=state,
                    ended_at=ended_at,
                    duration=duration,
                    language=language,
                    revision=revision,
                    labels=labels,
                    speakers=[dict(speaker) for speaker in speakers],
                    error=None if error is None else dict(error),
                )
            )
            if delivery is not None and ended.rowcount:
                connection.execute(
                    deliveries.insert().values(
                        id=_new_delivery_id(),
                        session_id=session_id,
                        url=delivery.url,
                        receiver=receiver_of(delivery.url),
                        body=delivery.body,
                        state=PENDING,
                        attempts=0,
                        tries=0,
                        next_at=ended_at,
                        created_at=ended_at,
                    )
                )

    def session(self, session_id: str) -> StoredSession | None:
        """Return what is kept of a session; None when there is none."""
        with self._reading() as connection:
            row = connection.execute(select(sessions).where(sessions.c.id == session_id)).first()
        return None if row is None else _session(row)

    def sessions(self, *, limit: int = 50, before: str | None = None) -> list[StoredSession]:
        """Return the newest sessions, newest first; those opened before `before`, the id of the last one
        seen, where it is given. Nothing follows an id that there is not."""
        wanted = select(sessions).order_by(sessions.c.created_at.desc(), sessions.c.id.desc()).limit(limit)
        with self._reading() as connection:
            if before is not None:
                seen = select(sessions.c.created_at).where(sessions.c.id == before)
                at = connection.scalar(seen)
                if at is None:
                    return []
                older = sessions.c.created_at < at
                wanted = wanted.where(or_(older, and_(sessions.c.created_at == at, sessions.c.id < before)))
            return [_session(row) for row in connection.execute(wanted)]

    def unfinished(self) -> list[StoredSession]:
        """Return the sessions that are neither done nor failed, oldest first."""
        wanted = select(sessions).where(sessions.c.state.not_in(OVER))
        with self._reading() as connection:
            return [_session(row) for row in connection.execute(wanted.order_by(sessions.c.created_at))]

    def ended(
        self, *, before: float, after: tuple[float, str] | None = None, limit: int = 100
    ) -> list[tuple[str, float]]:
        """Return sessions that ended before a time, each with its end, the longest ended first.

        `after` is the end and the id of the last one seen, where it is given.
        """
        wanted = (
            select(sessions.c.id, sessions.c.ended_at)
            .where(sessions.c.state.in_(OVER), sessions.c.ended_at < before)
            .order_by(sessions.c.ended_at, sessions.c.id)
            .limit(limit)
        )
        if after is not None:
            at, seen = after
            later = and_(sessions.c.ended_at == at, sessions.c.id > seen)
            wanted = wanted.where(or_(sessions.c.ended_at > at, later))
        with self._reading() as connection:
            return [(row[0], row[1]) for row in connection.execute(wanted)]

    def set_names(self, session_id: str, names: Mapping[str, str]) -> None:
        """Replace the names that people gave to a session's speakers."""
        with self._writing() as connection:
            named = sessions.update().where(sessions.c.id == session_id)
            connection.execute(named.values(names=dict(names)))

    def delete_session(self, session_id: str) -> bool:
        """Erase a session and its delivery, a pending one too; return False when there is none."""
        with self._writing() as connection:
            found = connection.execute(sessions.delete().where(sessions.c.id == session_id)).rowcount > 0
        with tables.sentences(self._engine):
            tables.empty_log(self._engine)
        return found

    # The outbox -------------------------------------------------------------------------------------

    def deliveries(
        self, *, state: str | None = None, session_id: str | None = None, limit: int = 100
    ) -> list[Delivery]:
        """Return the newest deliveries, newest first; those in `state` and of `session_id` where given."""
        wanted = select(deliveries).order_by(deliveries.c.created_at.desc(), deliveries.c.id).limit(limit)
        if state is not None:
            wanted = wanted.where(deliveries.c.state == state)
        if session_id is not None:
            wanted = wanted.where(deliveries.c.session_id == session_id)
        return self._deliveries(wanted)

    def due(
        self, now: float, *, limit: int, without: Collection[str] = (), receivers: Collection[str] = ()
    ) -> list[Delivery]:
        """Return the pending deliveries whose time has come, the longest due first.

        A first try is due at once, whatever its time: the clock may have been ahead when that was written.
        `without` names deliveries, and `receivers` receivers, that have enough of attention already.
        """
        at = deliveries.c.next_at
        wanted = (
            select(deliveries)
            .where(deliveries.c.state == PENDING)
            .where(or_(at <= now, at > now + LONGEST_WAIT, deliveries.c.tries == 0))
            .where(deliveries.c.id.not_in(without), deliveries.c.receiver.not_in(receivers))
            .order_by(at)
            .limit(limit)
        )
        return self._deliveries(wanted)

    def record_try(
        self,
        delivery_id: str,
        *,
        state: str,
        next_at: float,
        last_status: int | None,
        last_error: str | None,
        due_at: float | None = None,
        body: bytes | None = None,
    ) -> Delivery | None:
        """Keep what became of one try; return the delivery, or None where it was erased meanwhile.

        `due_at` is its `next_at` of when the try began. Where that has changed, somebody has asked for
        another try in the meantime: then a failure leaves it due. `body` replaces what is sent from now on.
        """
        with self._writing() as connection:
            # Locked, where reading alone does not do that: a `retry` in between would be overwritten.
            row = connection.execute(_one(delivery_id).with_for_update()).first()
            if row is None:
                return None
            before = _delivery(row)
            values: dict[str, Any] = {
                "attempts": before.attempts + 1,
                "last_status": last_status,
                "last_error": last_error,
            }
            if body is not None:
                values["body"] = body
            if state == DELIVERED or due_at is None or due_at == before.next_at:
                values |= {"state": state, "tries": before.tries + 1, "next_at": next_at}
            connection.execute(deliveries.update().where(deliveries.c.id == delivery_id).values(values))
            return _delivery(connection.execute(_one(delivery_id)).one())

    def retry(self, delivery_id: str, *, now: float) -> Delivery | None:
        """Make a dead or pending delivery due now, with all its tries before it again.

        Returns it; as it is, where it was delivered; None when there is no such one.
        """
        with self._writing() as connection:
            connection.execute(
                deliveries.update()
                .where(deliveries.c.id == delivery_id, deliveries.c.state != DELIVERED)
                .values(state=PENDING, tries=0, next_at=now)
            )
            row = connection.execute(_one(delivery_id)).first()
        return None if row is None else _delivery(row)

    def retry_dead(self, *, now: float) -> int:
        """Do the same with all dead deliveries; return how many there were."""
        with self._writing() as connection:
            dead = deliveries.update().where(deliveries.c.state == DEAD)
            return connection.execute(dead.values(state=PENDING, tries=0, next_at=now)).rowcount

    def count_deliveries(self) -> dict[str, int]:
        """Return how many deliveries there are in each state."""
        wanted = select(deliveries.c.state, func.count()).group_by(deliveries.c.state)
        with self._reading() as connection:
            counted = {row[0]: row[1] for row in connection.execute(wanted)}
        return {state: counted.get(state, 0) for state in DELIVERY_STATES}

    def _deliveries(self, wanted: Select[Any]) -> list[Delivery]:
        with self._reading() as connection:
            return [_delivery(row) for row in connection.execute(wanted)]


def _is_unfinished(session_id: str) -> Any:
    return and_(sessions.c.id == session_id, sessions.c.state.not_in(OVER))


def _one(delivery_id: str) -> Select[Any]:
    return select(deliveries).where(deliveries.c.id == delivery_id)


def _new_delivery_id() -> str:
    """Return 80 random bits in lower case and digits: short enough to be typed."""
    return "msg_" + base64.b32encode(secrets.token_bytes(10)).decode().lower()


def _session(row: Row[Any]) -> StoredSession:
    return StoredSession(**row._mapping)


def _delivery(row: Row[Any]) -> Delivery:
    values = dict(row._mapping)
    del values["receiver"]
    return Delivery(**values)
