"""Jobs that came over HTTP: kept until they are done, one after the other, whatever ends the server between.

A job is the token's that it came with, as its session will be: `jobId` is a name among that token's jobs.
Where several servers share their sessions, they share these jobs, too: each is claimed by one of them.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from live_asr.core.errors import LiveAsrError, StorageError, Superseded, Unavailable
from live_asr.core.messages import Progress
from live_asr.jobs.downloads import Fetched
from live_asr.jobs.folder import looked_at
from live_asr.jobs.messages import Job, NotAJob, read_job
from live_asr.jobs.metrics import JobMetrics
from live_asr.jobs.pipeline import Asked, Doing, is_passing
from live_asr.jobs.results import session_id_of
from live_asr.jobs.transcription import Pass
from live_asr.jobs.uploads import Uploads
from live_asr.sessions.admission import SOMEBODY, Client
from live_asr.sessions.registry import CheckReceiver
from live_asr.storage.database import StoredSession
from live_asr.storage.files import made
from live_asr.storage.jobs import JobDatabase, Waiting

log = logging.getLogger(__name__)

SCOPE = "http"
MAX_RUNS = 3
"""So often a job is begun before it fails for good."""
RETRY_DELAY = 30.0
"""Seconds until a job that failed is begun again, where nothing else waits."""
LOOK_INTERVAL = 1.0
"""Seconds between two looks for jobs that came to other servers, or are left by them."""
WORK_PREFIX = ".job-"
UPLOAD_URL = "upload:"
"""Stands where a job came with its recording."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as it is now."""

    id: str
    state: str
    """`queued`, `running`, `done` or `failed`."""
    told: Mapping[str, Any]
    """`jobId` and `presentationId`."""
    owner: str | None = None
    """The id of the token that it came with; None where it was the server's own, or nobody was asked."""
    progress: Progress | None = None
    error: Mapping[str, str] | None = None


class WaitingJobs:
    """Takes jobs and does them one by one, beside live sessions and after their full passes.

    Owners take turns, and the jobs of each are done in their order.

    In `folder` lies what is worked on, in `uploads` what came with jobs.
    """

    def __init__(
        self,
        database: JobDatabase,
        doing: Doing,
        full_pass: Pass,
        folder: Path,
        uploads: Uploads,
        metrics: JobMetrics,
        check_receiver: CheckReceiver | None = None,
    ) -> None:
        self._database = database
        self._doing = doing
        self._full_pass = full_pass
        self._folder = folder
        self._uploads = uploads
        self._metrics = metrics
        self._check_receiver = check_receiver
        self._wanted = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._running: str | None = None
        self._progress: Progress | None = None
        self._later: dict[str, float] = {}
        """Jobs that failed, and when they are begun again, by the monotonic clock."""
        self._turns: dict[str | None, float] = {}
        """When a job of each owner was last begun, by the same clock."""

    async def start(self) -> None:
        """Go on with what an earlier run has left, and begin what comes; nothing may come before.

        Raises StorageError.
        """
        await asyncio.to_thread(_clear, self._folder)
        await self._uploads.clear()
        self._working = asyncio.create_task(self._work_forever(), name="jobs")

    async def close(self) -> None:
        """Leave what is not done to the next run. Idempotent."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
            self._working = None

    async def submit(
        self,
        value: Mapping[str, Any],
        recording: tuple[str, IO[bytes]] | None,
        client: Client = SOMEBODY,
    ) -> tuple[JobStatus, bool]:
        """Take a client's job, with its recording and what that is called if it came with it; return what is
        known of it, and whether it is a new one.

        The same `jobId` of the same token is the same job, unless it has failed. Raises NotAJob, ClientError
        for a receiver that the client may not name, StorageError, and Unavailable where too many wait.
        """
        given = dict(value)
        if recording is not None:
            given["audioUrl"] = f"{UPLOAD_URL}{recording[0]}"
        name = given.setdefault("jobId", uuid4().hex)
        job = read_job(given)
        scope = _scope_of(client.owner)
        job_id = session_id_of(scope, name)
        known = await self.status(job_id)
        if known is not None and known.state == "failed":
            job_id, known = session_id_of(scope, name, uuid4().hex), None
        if known is not None:
            return known, False
        if job.webhook_url is not None and self._check_receiver is not None:
            await self._check_receiver(
                job.webhook_url, is_known=client.is_known, may_name=client.may_name_receivers
            )
        upload = None
        if recording is not None:
            upload = await self._uploads.keep(job_id, recording[1])
        kept = await self._database.call(
            self._database.add_job,
            job_id,
            given,
            upload=upload,
            created_at=time.time(),
            owner=client.owner,
        )
        if kept:
            self._wanted.set()
            return JobStatus(job_id, "queued", job.told, client.owner), True
        waiting = await self._database.call(self._database.waiting_job, job_id)
        if upload is not None and (waiting is None or waiting.upload != upload):
            await self._uploads.forget(upload)
        if waiting is None:
            raise Unavailable("too_many_jobs", "Too many jobs wait.", "Come back later.", retry_after=60.0)
        return JobStatus(job_id, "queued", job.told, client.owner), False

    async def status(self, job_id: str) -> JobStatus | None:
        """Return what is known of a job; None where there is none. Raises StorageError."""
        waiting = await self._database.call(self._database.waiting_job, job_id)
        if waiting is not None:
            told = _job_of(waiting).told
            if job_id == self._running:
                return JobStatus(job_id, "running", told, waiting.owner, self._progress)
            if waiting.is_taken:
                return JobStatus(job_id, "running", told, waiting.owner)
            return JobStatus(job_id, "queued", told, waiting.owner)
        stored = await self._database.call(self._database.session, job_id)
        return None if stored is None else _ended(stored)

    async def find(self, name: str, owner: str | None = None) -> JobStatus | None:
        """Return what is known of a job by its id, or by the `jobId` that the token `owner` gave it."""
        return await self.status(name) or await self.status(session_id_of(_scope_of(owner), name))

    # The work -----------------------------------------------------------------------------------------

    async def _work_forever(self) -> None:
        while True:
            self._wanted.clear()
            patience = LOOK_INTERVAL if self._database.is_shared else RETRY_DELAY
            try:
                found = await self._next()
                if found is not None:
                    await self._run(found)
                    continue
            except StorageError as error:
                log.error("jobs wait for the disk or the database: %s", error)
                patience = RETRY_DELAY
            except Exception:  # nobody awaits this task, and the next job may fare better
                log.exception("a job met a fault of the server")
                patience = RETRY_DELAY
            try:
                async with asyncio.timeout(patience):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _next(self) -> Waiting | None:
        """Have the oldest job of the owner whose turn it is; None where nothing is to be begun now."""
        now = time.monotonic()
        waiting = await self._database.call(self._database.waiting)
        ready = [one for one in waiting if self._later.get(one[0], 0.0) <= now]
        while ready:
            job_id, owner = min(ready, key=lambda one: self._turns.get(one[1], 0.0))
            taken = await self._database.call(self._database.take_job, job_id)
            if taken is not None:
                self._turns[owner] = now
                return taken
            ready.remove((job_id, owner))  # another server has it by now
        return None

    async def _run(self, waiting: Waiting) -> None:
        self._running, self._progress = waiting.id, None
        self._metrics.running.inc()
        began = time.monotonic()
        # Counted at once: what takes the server down is not begun without end.
        await self._database.call(self._database.begin_job, waiting.id)
        job = _job_of(waiting)
        asked = Asked(job, waiting.id, waiting.created_at)
        try:
            read_job(waiting.job)  # what another version has kept may be no job to this one
            if waiting.attempts >= MAX_RUNS:
                raise LiveAsrError("The server ended while it was done, again and again.", code="interrupted")
            with tempfile.TemporaryDirectory(dir=made(self._folder), prefix=WORK_PREFIX) as name:
                folder = Path(name)
                recording = await self._recording(waiting, job, folder)
                done = await self._doing.do(
                    asked, recording, self._full_pass, self._tell, folder=folder, began=began
                )
            self._metrics.done(done.audio_seconds, done.work_seconds, is_new=done.is_new)
        except asyncio.CancelledError:
            await asyncio.shield(self._database.call(self._database.give_job_back, waiting.id))
            raise
        except Superseded as error:
            log.warning("job %s is left to who does it: %s", job.job_id, error)
            return
        except StorageError as error:  # no fault of the job, which does not fail by it
            log.error("job %s waits for the disk or the database: %s", job.job_id, error)
            self._later[waiting.id] = time.monotonic() + RETRY_DELAY
            await self._database.call(self._database.give_job_back, waiting.id)
            return
        except LiveAsrError as error:
            if is_passing(error) and waiting.attempts + 1 < MAX_RUNS:
                log.warning("job %s is tried again: %s", job.job_id, error)
                self._metrics.retried(error.code)
                self._later[waiting.id] = time.monotonic() + RETRY_DELAY
                return
            log.error("job %s failed: %s", job.job_id, error)
            self._metrics.failed(error.code)
            await self._doing.fail(asked, error, began=began)
        finally:
            self._running, self._progress = None, None
            self._metrics.running.dec()
        self._later.pop(waiting.id, None)
        if waiting.upload is not None:
            await self._uploads.forget(waiting.upload)

    async def _recording(self, waiting: Waiting, job: Job, folder: Path) -> Fetched:
        if waiting.upload is None:
            return await self._doing.bring(job, folder)
        try:
            path = await self._uploads.bring(waiting.upload, folder)
            found = await asyncio.to_thread(looked_at, path)
        except OSError as error:
            raise LiveAsrError(f"The upload is gone: {error.strerror or error}.", code="not_found") from error
        return Fetched(found.path, job.audio_url.removeprefix(UPLOAD_URL), found.size_bytes, found.digest)

    def _tell(self, stage: str, fraction: float) -> None:
        self._progress = Progress(stage, round(min(max(fraction, 0.0), 1.0), 3))
        self._metrics.progress(0, fraction)


def _job_of(waiting: Waiting) -> Job:
    """Return a job as it was asked for; one that cannot be read any more by its name alone."""
    try:
        return read_job(waiting.job)
    except NotAJob as error:
        return Job(error.told.get("jobId", waiting.id), "", error.told.get("presentationId"))


def _scope_of(owner: str | None) -> str:
    return SCOPE if owner is None else f"{SCOPE} {owner}"


def _ended(stored: StoredSession) -> JobStatus:
    told = {
        name: value
        for name, value in dict(stored.start.get("metadata") or {}).items()
        if name in ("jobId", "presentationId")
    }
    return JobStatus(stored.id, stored.state, told, stored.owner, error=stored.error)


def _clear(folder: Path) -> None:
    """Erase what an earlier run has left of its work."""
    for worked_on in folder.glob(f"{WORK_PREFIX}*"):
        shutil.rmtree(worked_on, ignore_errors=True)
