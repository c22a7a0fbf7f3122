"""What the database keeps of jobs: those that wait, what they came to, and who is told."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from live_asr.storage import object_rows, tables
from live_asr.storage.database import Database, NewDelivery, finish_row, open_row
from live_asr.storage.tables import jobs, kept_results, sessions

MAX_WAITING = 10_000
"""Jobs that wait at once; more are refused."""
MAX_OF_ONE = 1000
"""Of them, those of one token: it leaves room for the others."""


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


class JobDatabase(Database):
    """The database, with what jobs need. Methods block, as those of `Database`."""

    def finish_job(self, end: JobEnd) -> bool:
        """Keep how a job ended, as a session, and that somebody is to be told, in one transaction.

        Returns False, and changes nothing, where that job has ended already, here or on another worker that
        shares the database.
        """
        with self._writing() as connection:
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
        with self._reading() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
        return None if row is None else Waiting(**row._mapping)

    def waiting(self) -> list[tuple[str, str | None]]:
        """Return the jobs that are not over, oldest first: the id of each, and its owner."""
        wanted = select(jobs.c.id, jobs.c.owner).order_by(jobs.c.created_at, jobs.c.id)
        with self._reading() as connection:
            return [(job_id, owner) for job_id, owner in connection.execute(wanted)]

    def begin_job(self, job_id: str, *, by: int) -> None:
        """Count one more run of a job, or by -1 take one back that was no fault of its own."""
        with self._writing() as connection:
            begun = jobs.update().where(jobs.c.id == job_id)
            connection.execute(begun.values(attempts=jobs.c.attempts + by))


def delivery_id_of(job_id: str) -> str:
    """Return the `webhook-id` of a job's end, the same on whichever worker that is told of it."""
    digest = hashlib.sha256(job_id.encode()).digest()
    return "msg_" + base64.b32encode(digest[:10]).decode().lower()
