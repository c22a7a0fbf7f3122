"""What the database keeps of jobs: those that wait, what they came to, and who is told."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, func, literal, select, text

from live_asr.core.errors import Superseded
from live_asr.storage import object_rows, tables
from live_asr.storage.database import Database, NewDelivery, finish_row, open_row
from live_asr.storage.gateways import guard, is_gone, job_claims, job_uploads
from live_asr.storage.tables import jobs, kept_results, sessions

MAX_WAITING = 10_000
"""Jobs that wait at once; more are refused."""
MAX_OF_ONE = 1000
"""Of them, those of one token: it leaves room for the others."""
PIECES_AT_ONCE = 64
"""So many pieces of a recording are erased at once."""
LOST_AFTER = "1 hour"
"""A recording to which nothing was added for so long is no job's any more where none names it."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended, as the session that it becomes."""

    id: str
    start: Mapping[str, Any] = field(repr=False)
    created_at: float
    """Unix time in seconds, as `ended_at`."""
    state: str
    """`done` or `failed`."""
    ended_at: float
    duration: float | None = None
    language: str | None = None
    revision: int = 0
    labels: str | None = None
    speakers: tuple[Mapping[str, Any], ...] = ()
    error: Mapping[str, str] | None = None
    text: str | None = None
    delivery: NewDelivery | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that came over HTTP and is not over."""

    id: str
    job: Mapping[str, Any] = field(repr=False)
    upload: str | None
    owner: str | None
    """The id of the token that it came with; None where it was the server's own, or nobody was asked."""
    attempts: int
    created_at: float
    is_taken: bool
    """Whether a server has it, of several; what one that is alone does is not said here."""


class JobDatabase(Database):
    """The database, with what jobs need. Methods block, as those of `Database`."""

    def finish_job(self, end: JobEnd, keep: Callable[[Connection], None] = lambda _: None) -> bool:
        """Keep how a job ended, as a session, and that somebody is to be told, in one transaction.

        `keep` keeps more in it. Returns False, and changes nothing, where that job has ended already, here or
        elsewhere, by who shares the database. Raises Superseded where another server does it now.
        """
        with self._writing() as connection:
            if self._gateway is not None:
                guard(connection)
                locked = select(jobs.c.id).where(jobs.c.id == end.id).with_for_update()
                if connection.scalar(locked) is None:
                    return False
                if not self._gateway.has_job(connection, end.id):
                    raise Superseded("Another server has taken this job over.")
            owner = connection.scalar(select(jobs.c.owner).where(jobs.c.id == end.id))
            open_row(connection, end.id, end.start, end.created_at, owner)
            told = finish_row(
                connection,
                end.id,
                {
                    "state": end.state,
                    "ended_at": end.ended_at,
                    "duration": end.duration,
                    "language": end.language,
                    "revision": end.revision,
                    "labels": end.labels,
                    "speakers": [dict(speaker) for speaker in end.speakers],
                    "error": None if end.error is None else dict(end.error),
                },
                end.delivery,
                end.text,
            )
            if told:
                keep(connection)
            connection.execute(jobs.delete().where(jobs.c.id == end.id))
            if self.moves_finished:
                object_rows.note(connection, end.id, at=end.ended_at)
        return told

    def delete_session(self, session_id: str) -> bool:
        """Erase a session and its delivery, and what was kept of it for the same recording."""
        with self._writing() as connection:
            connection.execute(kept_results.delete().where(kept_results.c.session_id == session_id))
        return super().delete_session(session_id)

    # What is kept for the same recording --------------------------------------------------------------

    def keep_result(self, key: str, session_id: str, result: bytes, *, created_at: float) -> None:
        """Keep what a recording came to with these options; what is kept already stays."""
        row = {"key": key, "session_id": session_id, "result": result, "created_at": created_at}
        with self._writing() as connection:
            tables.insert_new(connection, kept_results, row)

    def forget_result(self, session_id: str) -> bool:
        """Forget what was kept for a session that did not come about; return False where it did."""
        with self._writing() as connection:
            if connection.scalar(select(sessions.c.id).where(sessions.c.id == session_id)) is not None:
                return False
            connection.execute(kept_results.delete().where(kept_results.c.session_id == session_id))
        return True

    def kept_result(self, key: str) -> bytes | None:
        """Return what a recording came to before; None where nothing is kept of it."""
        with self._reading() as connection:
            found = connection.scalar(select(kept_results.c.result).where(kept_results.c.key == key))
        return None if found is None else bytes(found)

    # Those that wait ----------------------------------------------------------------------------------

    def add_job(
        self,
        job_id: str,
        job: Mapping[str, Any],
        *,
        upload: str | None,
        created_at: float,
        owner: str | None = None,
    ) -> bool:
        """Keep a job that is to be done; return False where there is one of that id, or there are too many.

        `owner` is the token that it came with, whose its session will be.
        """
        row = {
            "id": job_id,
            "job": dict(job),
            "upload": upload,
            "owner": owner,
            "attempts": 0,
            "created_at": created_at,
        }
        with self._writing() as connection:
            count = select(func.count()).select_from(jobs)
            is_room = (connection.scalar(count) or 0) < MAX_WAITING
            if owner is not None:
                is_room &= (connection.scalar(count.where(jobs.c.owner == owner)) or 0) < MAX_OF_ONE
            return is_room and tables.insert_new(connection, jobs, row)

    def waiting_job(self, job_id: str) -> Waiting | None:
        """Return a job that is not over; None where there is none of that id."""
        if self._gateway is None:
            wanted = select(jobs, literal(False).label("is_taken"))
        else:
            is_taken = and_(job_claims.c.gateway.is_not(None), ~is_gone(job_claims.c.gateway))
            wanted = select(jobs, is_taken.label("is_taken")).outerjoin(
                job_claims, job_claims.c.job_id == jobs.c.id
            )
        with self._reading() as connection:
            row = connection.execute(wanted.where(jobs.c.id == job_id)).first()
        return None if row is None else Waiting(**row._mapping)

    def waiting(self) -> list[tuple[str, str | None]]:
        """Return the jobs that are not over, oldest first: the id of each, and its owner.

        Of several servers that share them each has those that no other one does.
        """
        wanted = select(jobs.c.id, jobs.c.owner).order_by(jobs.c.created_at, jobs.c.id)
        if self._gateway is not None:
            wanted = wanted.where(self._gateway.may_do(jobs.c.id))
        with self._reading() as connection:
            return [(job_id, owner) for job_id, owner in connection.execute(wanted)]

    def take_job(self, job_id: str) -> Waiting | None:
        """Have a job for this server; None where it is over, or another one has it."""
        if self._gateway is not None:
            free = select(jobs.c.id).where(jobs.c.id == job_id, self._gateway.may_do(jobs.c.id))
            with self._writing() as connection:
                if connection.scalar(free.with_for_update(skip_locked=True)) is None:
                    return None
                if not self._gateway.claim_job(connection, job_id):
                    return None
        return self.waiting_job(job_id)

    def begin_job(self, job_id: str) -> None:
        """Count one more run of a job."""
        with self._writing() as connection:
            begun = jobs.update().where(jobs.c.id == job_id)
            connection.execute(begun.values(attempts=jobs.c.attempts + 1))

    def give_job_back(self, job_id: str) -> None:
        """Take a run back that was no fault of the job's, and let other servers have it."""
        with self._writing() as connection:
            begun = jobs.update().where(jobs.c.id == job_id)
            connection.execute(begun.values(attempts=jobs.c.attempts - 1))
            if self._gateway is not None:
                self._gateway.give_job_back(connection, job_id)

    # Recordings that came with them --------------------------------------------------------------------

    def uploads(self) -> set[str]:
        """Return the names of the recordings that jobs wait with."""
        with self._reading() as connection:
            return set(connection.scalars(select(jobs.c.upload).where(jobs.c.upload.is_not(None))))

    def add_piece(self, upload: str, number: int, data: bytes) -> None:
        """Keep a piece of a recording for all servers that share the database, as all below."""
        with self._writing() as connection:
            connection.execute(job_uploads.insert().values(upload=upload, number=number, data=data))

    def size_of_upload(self, upload: str) -> tuple[int, int]:
        """Return of how many pieces a recording is, and of how many bytes."""
        size = func.coalesce(func.sum(func.octet_length(job_uploads.c.data)), 0)
        wanted = select(func.count(), size).where(job_uploads.c.upload == upload)
        with self._reading() as connection:
            count, size_bytes = connection.execute(wanted).one()
        return count, size_bytes

    def piece(self, upload: str, number: int) -> bytes:
        """Return a piece of a recording that is there."""
        its = job_uploads.c.upload == upload, job_uploads.c.number == number
        with self._reading() as connection:
            return bytes(connection.execute(select(job_uploads.c.data).where(*its)).scalar_one())

    def forget_pieces(self, upload: str) -> bool:
        """Erase some pieces of a recording; return whether there were any."""
        its = job_uploads.c.upload == upload
        some = select(job_uploads.c.number).where(its).limit(PIECES_AT_ONCE)
        with self._writing() as connection:
            gone = connection.execute(job_uploads.delete().where(its, job_uploads.c.number.in_(some)))
        return gone.rowcount > 0

    def lost_uploads(self) -> list[str]:
        """Return the recordings that no job names and that nobody adds to any more."""
        named = select(jobs.c.upload).where(jobs.c.upload.is_not(None))
        wanted = (
            select(job_uploads.c.upload)
            .where(job_uploads.c.upload.not_in(named))
            .group_by(job_uploads.c.upload)
            .having(func.max(job_uploads.c.kept_at) < func.now() - text(f"interval '{LOST_AFTER}'"))
        )
        with self._reading() as connection:
            return list(connection.scalars(wanted))


def delivery_id_of(job_id: str) -> str:
    """Return the `webhook-id` of a job's end, the same on whichever worker that is told of it."""
    digest = hashlib.sha256(job_id.encode()).digest()
    return "msg_" + base64.b32encode(digest[:10]).decode().lower()
