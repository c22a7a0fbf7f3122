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
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, Row, Select, and_, case, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from live_asr.config.settings import StorageSettings
from live_asr.core.errors import ConfigError, StorageError
from live_asr.core.normalize import folded
from live_asr.core.urls import receiver_of
from live_asr.storage import object_rows, tables
from live_asr.storage.gateways import Gateway
from live_asr.storage.records import (
    DEAD,
    DELIVERED,
    DELIVERY_STATES,
    OPEN,
    OVER,
    PENDING,
    Delivery,
    Edition,
    NewDelivery,
    StoredSession,
)
from live_asr.storage.tables import deliveries, editions, owners, sessions, texts

__all__ = [
    "DEAD",
    "DELIVERED",
    "DELIVERY_STATES",
    "OPEN",
    "OVER",
    "PENDING",
    "Database",
    "Delivery",
    "Edition",
    "NewDelivery",
    "StoredSession",
    "database_url",
    "sqlite_url",
]

FILE = "live-asr.db"
"""SQLite's file in the data folder."""
THREADS = 4
"""Calls of the event loop at once; as many connections stay open."""
MAX_WAIT = 1.2 * 24 * 3600.0
"""Seconds: no try is put off by more, so what lies further ahead was put off by a clock that was wrong."""

EXCERPT_CHARACTERS = 200
"""Of what was said, beside a session that was found."""
BEFORE_CHARACTERS = 60
"""Of them before the word that it was found by."""

P = ParamSpec("P")
T = TypeVar("T")


def database_url(settings: StorageSettings) -> str:
    """Return the URL of the database: the configured one, else SQLite in the data folder.

    Where the journal is in a database, it is that one: how a session ends is written where its words are.
    Raises ConfigError where another one is configured besides.
    """
    if settings.journal is not None:
        if settings.database not in (None, settings.journal):
            raise ConfigError(
                "storage.journal and storage.database name two databases.",
                "Leave storage.database unset: sessions and deliveries are kept where the journal is.",
            )
        return settings.journal.get_secret_value()
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
        self._is_to_be_held = self._is_shared = False
        self._probe: asyncio.Future[None] | None = None
        self._gateway: Gateway | None = None
        """This server, where several share the database."""
        self.log_holds_erased = False
        """Whether SQLite's log still has text that was erased."""
        self.moves_finished = False
        """Whether sessions that are over are to be moved to an object store."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="database")

    async def call(self, method: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the database in one of its own threads, and wait for it on the event loop.

        `asyncio.to_thread` has few threads, which also bring audio to the disk: a database that hangs must
        not take those.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(method, *args, **kwargs))

    def prepare(self) -> None:
        """Bring the tables up to date. Raises StorageError when the database cannot be reached or was made by
        a version that this one cannot follow."""
        with tables.translate_errors(self._engine):
            tables.prepare(self._writer)

    def hold(self, *, shared: bool = False) -> None:
        """Hold the database for this server alone until `close`. Raises StorageError where another does.

        With `shared` it is held together with all others that hold it so.
        """
        with tables.translate_errors(self._engine):
            self._held = tables.hold(self._engine, shared=shared)
        self._is_to_be_held, self._is_shared = self._held is not None, shared

    def try_hold(self) -> bool:
        """Hold the database as a server does; return False where another one does."""
        with tables.translate_errors(self._engine):
            self._held, is_held = tables.try_hold(self._engine)
        self._is_to_be_held = self._held is not None
        return is_held

    def keep_hold(self) -> None:
        """See that the database is still held, and hold it again where its server began anew meanwhile.

        Raises StorageError with the code `database_taken` where another server holds it by now, and any
        other where that is not known.
        """
        if not self._is_to_be_held:
            return
        with suppress(SQLAlchemyError):  # the connection is gone, and the lock with it
            if self._held is not None and tables.is_held(self._held):
                return
        held, self._held = self._held, None
        if held is not None:
            with suppress(SQLAlchemyError):
                held.invalidate()
                held.close()
        with tables.translate_errors(self._engine):
            try:
                self._held = tables.hold(self._engine, shared=self._is_shared)
            except StorageError as error:
                raise StorageError(error.message, error.hint, code="database_taken") from None

    async def answers(self, patience: float) -> bool:
        """Tell whether the database takes a transaction within so many seconds; asked by one at a time."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(self.call(self._try_writing))
            self._probe.add_done_callback(_retrieve)
        done, _ = await asyncio.wait({self._probe}, timeout=patience)
        return bool(done) and self._probe.exception() is None

    def _try_writing(self) -> None:
        with self._writing() as connection:
            connection.execute(select(tables.schema.c.version))

    def is_prepared(self) -> bool:
        """Tell whether a server has made the tables, without making anything."""
        with tables.translate_errors(self._engine):
            return tables.is_prepared(self._engine)

    def close(self) -> None:
        """Close all connections. Idempotent; nothing is called afterwards."""
        self._threads.shutdown(wait=False)
        if self._held is not None:
            self._held.close()
            self._held = None
        self._engine.dispose()

    # Several servers on one database -----------------------------------------------------------------

    @property
    def can_be_shared(self) -> bool:
        """Whether several servers may use it together."""
        return self._engine.dialect.name == "postgresql"

    @property
    def gateway(self) -> Gateway | None:
        """This server, where several share the database."""
        return self._gateway

    @property
    def is_shared(self) -> bool:
        """Whether several servers use it together, of which this is one; see `share`."""
        return self._gateway is not None

    def share(self, gateway: Gateway) -> None:
        """Use the database as one of several servers from now on."""
        self._gateway = gateway

    def own_connection(self) -> OwnConnection:
        """Return a connection for one thread, each of whose statements is a transaction of its own."""
        return OwnConnection(self._engine)

    def transaction(self, *, writes: bool) -> AbstractContextManager[Connection]:
        """Return one transaction, for tables that are not about sessions."""
        return self._writing() if writes else self._reading()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with tables.translate_errors(self._engine), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction: all of the block is kept, or nothing."""
        with tables.translate_errors(self._engine), self._writer.begin() as connection:
            yield connection

    # Sessions ---------------------------------------------------------------------------------------

    def add_session(
        self,
        session_id: str,
        start: Mapping[str, Any],
        *,
        created_at: float,
        owner: str | None = None,
        check: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """Keep that a session was opened, in state `open`; one that is there stays as it is.

        Its title is that of `start`, if it has one; `owner` is the token that opened it. Where `check`
        raises, in the same transaction, nothing is kept.
        """
        with self._writing() as connection:
            check(connection)
            open_row(connection, session_id, start, created_at, owner)

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
        text: str | None = None,
        check: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """Keep how a session ended, and that somebody is to be told, in one transaction.

        `state` is `done` or `failed`; `text` is what was said, to be found by. A session that is over stays
        as it is and is told of once, so a caller that does not know whether it got this far before it died
        can do it again. `check` is called in the same transaction and may add to it: see `Journal.conclude`;
        where it raises, nothing is kept.
        """
        with self._writing() as connection:
            check(connection)
            finish_row(
                connection,
                session_id,
                {
                    "state": state,
                    "ended_at": ended_at,
                    "duration": duration,
                    "language": language,
                    "revision": revision,
                    "labels": labels,
                    "speakers": [dict(speaker) for speaker in speakers],
                    "error": None if error is None else dict(error),
                },
                delivery,
                text,
            )
            if self.moves_finished:
                object_rows.note(connection, session_id, at=ended_at)

    def session(self, session_id: str) -> StoredSession | None:
        """Return what is kept of a session; None when there is none."""
        with self._reading() as connection:
            row = connection.execute(_titled().where(sessions.c.id == session_id)).first()
        return None if row is None else _session(row)

    def sessions_by_id(self, session_ids: Collection[str]) -> dict[str, StoredSession]:
        """Return what is kept of these sessions, as far as there are such ones."""
        with self._reading() as connection:
            rows = connection.execute(_titled().where(sessions.c.id.in_(session_ids)))
            return {row.id: _session(row) for row in rows}

    def sessions(
        self,
        *,
        limit: int = 50,
        before: str | None = None,
        words: Sequence[str] = (),
        owner: str | None = None,
    ) -> list[StoredSession]:
        """Return the newest sessions, newest first; those opened before `before`, the id of the last one
        seen, where it is given. Nothing follows an id that there is not.

        Where `words` are given, only those sessions that have each of them in their title, in a speaker's
        name or, once they are over, in what was said. Where `owner` is given, only that token's, and those of
        tokens that were made with it.
        """
        wanted = _titled().order_by(sessions.c.created_at.desc(), sessions.c.id.desc()).limit(limit)
        if words:
            found = select(texts.c.session_id)
            for word in map(folded, words):
                found = found.where(
                    or_(
                        texts.c.heading.contains(word, autoescape=True),
                        texts.c.folded.contains(word, autoescape=True),
                    )
                )
            wanted = wanted.where(sessions.c.id.in_(found))
        if owner is not None:
            wanted = wanted.where(
                or_(owners.c.owner == owner, owners.c.owner.startswith(f"{owner}.", autoescape=True))
            )
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
        wanted = _titled().where(sessions.c.state.not_in(OVER))
        with self._reading() as connection:
            return [_session(row) for row in connection.execute(wanted.order_by(sessions.c.created_at))]

    def newest(self) -> float | None:
        """Return the Unix time at which the newest session was opened; None where there is none."""
        with self._reading() as connection:
            newest: float | None = connection.scalar(select(func.max(sessions.c.created_at)))
        return newest

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
            if connection.execute(named.values(names=dict(names))).rowcount:
                object_rows.renew(connection, session_id)
                title = connection.scalar(select(texts.c.title).where(texts.c.session_id == session_id))
                _put_text(connection, session_id, heading=_heading(title, names))

    def set_title(self, session_id: str, title: str | None) -> None:
        """Replace what people call a session; None takes that away."""
        with self._writing() as connection:
            names = connection.scalar(select(sessions.c.names).where(sessions.c.id == session_id))
            if names is not None:
                _put_text(connection, session_id, title=title, heading=_heading(title, names))

    # What was said, and what people made of it ---------------------------------------------------------

    def excerpts(self, session_ids: Collection[str], word: str | None = None) -> dict[str, str]:
        """Return a little of what was said in each of these sessions, around `word` where it has that."""
        start: Any = 1
        if word is not None:
            at = tables.position_of(self._engine, texts.c.folded, folded(word))
            start = case((at > BEFORE_CHARACTERS, at - BEFORE_CHARACTERS), else_=1)
        shown = func.substr(texts.c.text, start, EXCERPT_CHARACTERS)
        wanted = select(texts.c.session_id, shown, start).where(texts.c.session_id.in_(session_ids))
        with self._reading() as connection:
            rows = connection.execute(wanted.where(texts.c.text.is_not(None))).all()
        return {row[0]: _excerpt(row[1], is_first=row[2] == 1) for row in rows}

    def unread(self, *, limit: int = 100) -> list[str]:
        """Return sessions that are over and cannot be found by what was said in them yet."""
        wanted = (
            select(sessions.c.id)
            .outerjoin(texts, texts.c.session_id == sessions.c.id)
            .where(sessions.c.state.in_(OVER), texts.c.text.is_(None))
            .limit(limit)
        )
        with self._reading() as connection:
            return list(connection.scalars(wanted))

    def set_text(self, session_id: str, text: str) -> None:
        """Have a session found by what was said in it; one that is erased meanwhile stays erased."""
        with self._writing() as connection:
            if connection.scalar(select(sessions.c.id).where(sessions.c.id == session_id)) is not None:
                _put_text(connection, session_id, text=_storable(text), folded=folded(text))

    def edition(self, session_id: str) -> Edition | None:
        """Return what people made of a session's result; None where nobody ever changed it."""
        with self._reading() as connection:
            row = connection.execute(_edition_of(session_id)).first()
        return None if row is None else Edition(**row._mapping)

    def set_edition(
        self,
        session_id: str,
        edition: Edition,
        *,
        revision: int,
        speakers: Sequence[Mapping[str, Any]],
        text: str,
    ) -> bool:
        """Keep what people made of a session's result, all of it in one transaction.

        Returns False, and changes nothing, where the edition before it is not the newest any more, or the
        session is gone.
        """
        kept = {"number": edition.number, "final": edition.final, "turns": edition.turns}
        with self._writing() as connection:
            # Locked, where a transaction alone does not do that: of two at once the second one is refused.
            locked = select(sessions.c.id).where(sessions.c.id == session_id).with_for_update()
            if connection.scalar(locked) is None:
                return False
            newest = connection.execute(_edition_of(session_id)).first()
            if (newest.number if newest else 0) != edition.number - 1:
                return False
            if newest is None:
                connection.execute(editions.insert().values(session_id=session_id, **kept))
            else:
                connection.execute(
                    editions.update().where(editions.c.session_id == session_id).values(**kept)
                )
            changed = sessions.update().where(sessions.c.id == session_id)
            connection.execute(
                changed.values(revision=revision, speakers=[dict(speaker) for speaker in speakers])
            )
            _put_text(connection, session_id, text=_storable(text), folded=folded(text))
            object_rows.renew(connection, session_id)
        return True

    def delete_session(self, session_id: str) -> bool:
        """Erase a session and its delivery, a pending one too; return False when there is none.

        What there is of it in an object store is noted to be erased there.
        """
        with self._writing() as connection:
            found = connection.execute(sessions.delete().where(sessions.c.id == session_id)).rowcount > 0
            object_rows.doom(connection, session_id)
        self.truncate_wal()
        return found

    def truncate_wal(self) -> None:
        """Take erased text out of SQLite's log; `log_holds_erased` tells whether that has to be repeated."""
        with tables.translate_errors(self._engine):
            self.log_holds_erased = not tables.truncate_wal(self._engine)

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
        self,
        now: float,
        *,
        limit: int,
        without: Collection[str] = (),
        receivers: Collection[str] = (),
        is_first: bool = False,
    ) -> list[Delivery]:
        """Return the pending deliveries whose time has come, the longest due first.

        A first try is due at once, whatever its time: the clock may have been ahead when that was written.
        `without` names deliveries, and `receivers` receivers, that have enough of attention already.
        With `is_first`, only those that nobody has tried yet.
        """
        at = deliveries.c.next_at
        wanted = (
            select(deliveries)
            .where(deliveries.c.state == PENDING)
            .where(or_(at <= now, at > now + MAX_WAIT, deliveries.c.tries == 0))
            .where(deliveries.c.id.not_in(without), deliveries.c.receiver.not_in(receivers))
            .order_by(at)
            .limit(limit)
        )
        if is_first:
            wanted = wanted.where(deliveries.c.tries == 0)
        return self._deliveries(wanted) if self._gateway is None else self._claimed(wanted, self._gateway)

    def _claimed(self, wanted: Select[Any], gateway: Gateway) -> list[Delivery]:
        """Return those of some deliveries that no other server has: they are this one's while it is there."""
        free = wanted.where(gateway.is_not_others(deliveries.c.id))
        with self._writing() as connection:
            rows = connection.execute(free.with_for_update(of=deliveries, skip_locked=True)).all()
            found = [_delivery(row) for row in rows]
            claimed = gateway.claim_deliveries(connection, [delivery.id for delivery in found])
        return [delivery for delivery in found if delivery.id in claimed]

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


class OwnConnection:
    """A connection outside of the pool, for statements in the words of the driver.

    Raises StorageError where the database is away or cannot do it now, else the driver's own errors.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with tables.translate_errors(engine), tables.translate_driver_errors(engine):
            self._pooled = engine.raw_connection()
            driver: Any = self._pooled.driver_connection
            self._pooled.detach()
            self._driver = driver
            self._driver.autocommit = True
            self._driver.execute(f"SET statement_timeout = {tables.TIMEOUT * 1000}")

    def execute(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement, and return its rows."""
        with tables.translate_driver_errors(self._engine), self._driver.cursor() as cursor:
            cursor.execute(statement, parameters)
            found: list[tuple[Any, ...]] = cursor.fetchall()
        return found

    def close(self) -> None:
        """Close it, whatever state it is in. Idempotent."""
        with suppress(Exception):
            self._driver.close()


def open_row(
    connection: Connection,
    session_id: str,
    start: Mapping[str, Any],
    created_at: float,
    owner: str | None = None,
) -> None:
    """Keep that a session was opened; one that is there, of another server too, stays as it is."""
    title = " ".join(_storable(start.get("title") or "").split()) or None
    opened = tables.insert_new(
        connection,
        sessions,
        {
            "id": session_id,
            "state": OPEN,
            "created_at": created_at,
            "revision": 0,
            "start": dict(start),
            "speakers": [],
            "names": {},
        },
    )
    if not opened:
        return
    if owner is not None:
        connection.execute(owners.insert().values(session_id=session_id, owner=owner))
    if title is not None:
        _put_text(connection, session_id, title=title, heading=folded(title))


def finish_row(
    connection: Connection,
    session_id: str,
    end: Mapping[str, Any],
    delivery: NewDelivery | None,
    text: str | None,
) -> bool:
    """Keep how a session ended and that somebody is to be told; return False where it was over already."""
    ended = connection.execute(sessions.update().where(_is_unfinished(session_id)).values(**end))
    if not ended.rowcount:
        return False
    if text is not None:
        _put_text(connection, session_id, text=_storable(text), folded=folded(text))
    if delivery is not None:
        connection.execute(
            deliveries.insert().values(
                id=delivery.id or _new_delivery_id(),
                session_id=session_id,
                url=delivery.url,
                receiver=receiver_of(delivery.url),
                body=delivery.body,
                state=PENDING,
                attempts=0,
                tries=0,
                next_at=end["ended_at"],
                created_at=end["ended_at"],
            )
        )
    return True


def _retrieve(probe: asyncio.Future[None]) -> None:
    """Look at what became of a probe, which nobody may be waiting for any more."""
    if not probe.cancelled():
        probe.exception()


def _titled() -> Select[Any]:
    """Select sessions with their titles and owners."""
    return (
        select(sessions, texts.c.title, owners.c.owner)
        .outerjoin(texts, texts.c.session_id == sessions.c.id)
        .outerjoin(owners, owners.c.session_id == sessions.c.id)
    )


def _heading(title: str | None, names: Mapping[str, str]) -> str:
    return folded("\n".join([title or "", *names.values()]))


def _put_text(connection: Connection, session_id: str, **values: str | None) -> None:
    """Keep what a session is found by; what is not named stays as it is."""
    kept = connection.execute(texts.update().where(texts.c.session_id == session_id).values(values))
    if kept.rowcount == 0:
        connection.execute(texts.insert().values(session_id=session_id, **values))


def _storable(text: str) -> str:
    """Return a text without what PostgreSQL cannot keep."""
    return text.replace("\0", "")


def _excerpt(text: str, *, is_first: bool) -> str:
    """Return a piece of a text as whole words, with an ellipsis where something is left out."""
    words = " ".join(text.split())
    if not is_first:
        words = "… " + words.partition(" ")[2]
    return words.rpartition(" ")[0] + " …" if len(text) == EXCERPT_CHARACTERS and " " in words else words


def _edition_of(session_id: str) -> Select[Any]:
    return select(editions.c.number, editions.c.final, editions.c.turns).where(
        editions.c.session_id == session_id
    )


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
