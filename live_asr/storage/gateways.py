"""The servers that share one database: which of them are there, who sends which delivery and does which job.

A server says every second that it is there, by the database's clock, and counts as gone once it has not for
`LEASE` seconds. What it was at is claimed by others then: with `SKIP LOCKED`, so that they do not wait for
each other, and checked again under the row's lock, so that one of them has it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.sql import ColumnElement

from live_asr.storage.tables import insert_shared
from live_asr.storage.tables import metadata as common

LEASE = 3.0
"""Seconds after which a server counts as gone that has not said that it is there."""
LEASE_AFTER_OUTAGE = 10.0
"""The same where this server could not say so either: the others may still be on their way back."""
BEAT_INTERVAL = 1.0
"""Seconds between two times that it says so."""
GUARD_TIMEOUT = "3s"
"""For so long a server that is frozen may keep others from taking over what it is about to end."""

metadata = MetaData()
deliveries = common.tables["deliveries"].to_metadata(metadata)
jobs = common.tables["jobs"].to_metadata(metadata)
sessions = common.tables["sessions"].to_metadata(metadata)

gateways = Table(
    "gateways",
    metadata,
    Column("id", Text, primary_key=True),
    Column("alive_until", DateTime(timezone=True), nullable=False),
)

delivery_claims = Table(  # who sends a delivery; void where that one is gone
    "delivery_claims",
    metadata,
    Column("delivery_id", Text, ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True),
    Column("gateway", Text, nullable=False),
)

job_claims = Table(  # who does a job, likewise
    "job_claims",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("gateway", Text, nullable=False),
)

job_uploads = Table(  # recordings that came with jobs, in pieces, for whoever does them
    "job_uploads",
    metadata,
    Column("upload", Text, primary_key=True),
    Column("number", Integer, primary_key=True),  # from 0 on
    Column("data", LargeBinary, nullable=False),
    Column("kept_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

heard_audio = Table(  # how many seconds of sessions that go on were heard, where tokens have quotas of them
    "heard_audio",
    metadata,
    Column("session_id", Text, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("seconds", Double, nullable=False),
)


def guard(connection: Connection) -> None:
    """Have a transaction end in which this server freezes: it may lock what others wait for."""
    connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{GUARD_TIMEOUT}'"))


def is_gone(gateway: ColumnElement[str] | ColumnElement[str | None]) -> ColumnElement[bool]:
    """Return whether a server is there no more, or none is named, as a condition."""
    alive = select(gateways.c.id).where(gateways.c.alive_until > func.now())
    return or_(gateway.is_(None), gateway.not_in(alive))


class Gateway:
    """This server among those that share the database. All of it blocks; `clock` is a monotonic one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.id = secrets.token_hex(6)
        self._clock = clock
        self._since: float | None = None
        """Since when it has been there without a gap; None where it is not."""
        self._patience = LEASE
        """Seconds after which it may claim what others were at."""

    @property
    def may_claim(self) -> bool:
        """Whether it may go on with what others were at.

        It has to be there for as long as they have to be silent. Where the database was away they all are
        silent, and nobody is gone: some come back later than others.
        """
        return self._since is not None and self._clock() - self._since >= self._patience

    def beat(self, connection: Connection) -> None:
        """Say that it is there."""
        until = func.now() + text(f"interval '{LEASE} seconds'")
        renewed = gateways.update().where(gateways.c.id == self.id, gateways.c.alive_until > func.now())
        if connection.execute(renewed.values(alive_until=until)).rowcount:
            return
        self._patience = LEASE if self._since is None else LEASE_AFTER_OUTAGE
        self._since = self._clock()
        begun = insert_shared(gateways).values(id=self.id, alive_until=until)
        connection.execute(
            begun.on_conflict_do_update(
                index_elements=["id"], set_={"alive_until": begun.excluded.alive_until}
            )
        )
        long_gone = gateways.c.alive_until < func.now() - text("interval '1 hour'")
        connection.execute(gateways.delete().where(long_gone))

    def leave(self, connection: Connection) -> None:
        """Say that it is gone: what it was at is anybody's from now on."""
        self._since = None
        connection.execute(gateways.delete().where(gateways.c.id == self.id))

    def claim_deliveries(self, connection: Connection, wanted: list[str]) -> set[str]:
        """Have these deliveries for this server, but for those that another one has; return which."""
        if not wanted:
            return set()
        claim = insert_shared(delivery_claims).values(
            [{"delivery_id": delivery_id, "gateway": self.id} for delivery_id in sorted(wanted)]
        )
        is_free = or_(delivery_claims.c.gateway == self.id, is_gone(delivery_claims.c.gateway))
        claimed = claim.on_conflict_do_update(
            index_elements=["delivery_id"], set_={"gateway": self.id}, where=is_free
        )
        return set(connection.scalars(claimed.returning(delivery_claims.c.delivery_id)))

    def is_not_others(self, delivery_id: ColumnElement[str]) -> ColumnElement[bool]:
        """Return whether no other server has a delivery, as a condition; under its lock that is final."""
        theirs = select(delivery_claims.c.delivery_id).where(
            delivery_claims.c.gateway != self.id, ~is_gone(delivery_claims.c.gateway)
        )
        return delivery_id.not_in(theirs)

    def claim_job(self, connection: Connection, job_id: str) -> bool:
        """Have a job for this server; return False where another one has it. Lock its row before."""
        is_free = job_claims.c.gateway == self.id
        if self.may_claim:
            is_free = or_(is_free, is_gone(job_claims.c.gateway))
        claim = insert_shared(job_claims).values(job_id=job_id, gateway=self.id)
        claimed = claim.on_conflict_do_update(
            index_elements=["job_id"], set_={"gateway": self.id}, where=is_free
        )
        return connection.scalar(claimed.returning(job_claims.c.job_id)) is not None

    def give_job_back(self, connection: Connection, job_id: str) -> None:
        """Let other servers have a job, if this one has it."""
        its = job_claims.delete().where(job_claims.c.job_id == job_id, job_claims.c.gateway == self.id)
        connection.execute(its)

    def may_do(self, job_id: ColumnElement[str]) -> ColumnElement[bool]:
        """Return whether a job is this server's, nobody's, or of one that is gone, as a condition."""
        theirs = select(job_claims.c.job_id).where(job_claims.c.gateway != self.id)
        if self.may_claim:
            theirs = theirs.where(~is_gone(job_claims.c.gateway))
        return job_id.not_in(theirs)

    def has_job(self, connection: Connection, job_id: str) -> bool:
        """Tell whether a job is this server's; while its row is locked that stays so."""
        claimed = select(job_claims.c.gateway).where(job_claims.c.job_id == job_id)
        return connection.scalar(claimed) == self.id
