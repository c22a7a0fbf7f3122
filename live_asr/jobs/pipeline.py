"""One job from its URL to the outbox: brought, recognised, written, told. Every step may be done again."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from live_asr.config.settings import Settings
from live_asr.core.errors import ClientError, LiveAsrError, MediaError, StorageError, Superseded, told
from live_asr.core.messages import Start, to_dict
from live_asr.core.result import Result
from live_asr.delivery.payload import notice_of, webhook_body
from live_asr.jobs.downloads import Downloader, Fetched, Unfetched
from live_asr.jobs.messages import Job
from live_asr.jobs.recording_urls import Stored, locate
from live_asr.jobs.results import Options, Outcome, ending_of, exports_of, keep_session, start_of
from live_asr.jobs.transcription import OnProgress, Pass, Recognized, Recognizing
from live_asr.sessions.finalizer import reachable_links_of, speaker_dict
from live_asr.storage.database import NewDelivery, StoredSession
from live_asr.storage.jobs import JobDatabase, JobEnd, delivery_id_of
from live_asr.storage.journal import Journal

log = logging.getLogger(__name__)

RECORDING = "recording"
AWS = ".amazonaws.com"
MAX_BACKOFF = 60.0
"""Seconds between two tries to reach a database that does not answer."""
PERMANENT = (ClientError, MediaError)
"""What another try would end in as well."""
PASSING_CODES = ("denied",)
"""But for these: rights are given and taken."""
PREFIX = re.compile(r"s3://([^/]+)/?(.*)", re.DOTALL)
UNSAFE = re.compile(r"[^\w./-]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """A job, and the session that it becomes."""

    job: Job
    session_id: str
    created_at: float
    """Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a job that succeeded took."""

    audio_seconds: float
    work_seconds: float
    is_new: bool
    """Whether its recording was recognised for it; else it was known."""
    outcome: Outcome


class Doing:
    """Does jobs, each as often as somebody asks, with one effect.

    `models` names what writes and tells speakers apart now; `wake` is called when a new delivery is in the
    database; `s3` is boto3's client, None where there is none.
    """

    def __init__(
        self,
        settings: Settings,
        database: JobDatabase,
        downloader: Downloader,
        store: Journal,
        *,
        models: Callable[[], str],
        wake: Callable[[], None],
        s3: Any | None = None,
        threads: Executor | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._downloader = downloader
        self._store = store
        self._models = models
        self._wake = wake
        self._s3 = s3
        self._threads = threads
        self._recognizing = Recognizing(database, max_hours=settings.jobs.max_hours)

    async def ended(self, session_id: str) -> StoredSession | None:
        """Return how a job ended, here or on a worker that shares the database; None where it has not.

        Raises StorageError.
        """
        return await self._database.call(self._database.session, session_id)

    async def bring(self, job: Job, folder: Path) -> Fetched:
        """Download a job's recording into a folder. Raises as `locate` and `Downloader.bring` do."""
        jobs = self._settings.jobs
        endpoint = self._s3.meta.endpoint_url if self._s3 is not None else None
        if endpoint is not None and AWS in endpoint:
            endpoint = None  # whose hosts are known, with those that are presigned
        place = await asyncio.to_thread(
            locate,
            job.audio_url,
            endpoint=endpoint,
            bucket=jobs.bucket,
            files=jobs.files,
            insecure=jobs.allow_private,
        )
        target = folder / RECORDING
        try:
            return await self._downloader.bring(place, target)
        except ClientError as error:
            if error.code != "denied" or not isinstance(place, Stored) or not place.is_presigned:
                raise
            if self._s3 is None:
                raise
            # What was presigned has expired, perhaps; the worker's own rights may do.
            return await self._downloader.bring(replace(place, url=None, is_presigned=False), target)

    async def do(
        self,
        asked: Asked,
        recording: Fetched,
        full_pass: Pass,
        on_progress: OnProgress,
        *,
        folder: Path,
        began: float,
    ) -> Done:
        """Do a job whose recording is here, up to the outbox; `began` is by the monotonic clock.

        In `folder` lies what is worked on.

        Raises MediaError, EngineError, StorageError and Unfetched, and Superseded where another server has
        the job by now; a cancelled call leaves nothing that a later one stumbles over.
        """
        options = self.options_of(asked.job)
        found = await self._recognizing.result_of(recording, options, full_pass, on_progress, folder)
        if found.is_new:
            kept = await asyncio.to_thread(found.outcome.to_bytes)
            await self._database.call(
                self._database.keep_result, found.key, asked.session_id, kept, created_at=time.time()
            )
        start = start_of(asked.job, options, recording.name)
        keep = await asyncio.to_thread(keep_session, self._store, asked.session_id, start, found.outcome)
        await self._write_besides(asked, found)
        outcome = found.outcome
        result = replace(outcome.result, final=outcome.final_of(asked.session_id))
        await self._end(asked, start, began, result=result, audio_format=outcome.audio_format, keep=keep)
        return Done(outcome.result.final.duration, found.seconds, found.is_new, outcome)

    async def fail(
        self, asked: Asked, error: LiveAsrError, *, began: float, tried: str | None = None
    ) -> None:
        """Keep that a job failed for good, and have its receiver told.

        `tried` is the session that it should have become, where that is another one: what there is of it is
        erased, since nobody would ever erase it for its age. Raises StorageError, Superseded likewise.
        """
        await self._erase(tried or asked.session_id)
        start = start_of(asked.job, self.options_of(asked.job), "")
        name = asked.job.audio_url.partition("?")[0].rpartition("/")[2]
        fault = {"code": error.code, "message": str(told(error))}
        await self._end(asked, start, began, fault=fault, audio_format=ending_of(name) or "unknown")

    def options_of(self, job: Job) -> Options:
        """Return what a job's result hangs on: what it says, and what the settings say where it is silent."""
        settings = self._settings
        least, most = job.min_speakers, job.max_speakers
        if least is None and most is None:
            least, most = settings.jobs.min_speakers, settings.jobs.max_speakers
        return Options(
            language=job.language or settings.streaming.language,
            vocabulary=job.vocabulary,
            diarize=settings.jobs.diarize,
            min_speakers=least,
            max_speakers=most,
            models=self._models(),
        )

    async def _erase(self, session_id: str) -> None:
        is_left = await self._database.call(self._database.forget_result, session_id)
        if is_left and not self._store.is_shared:  # a database has all of it or nothing
            await asyncio.to_thread(self._store.mark_deleted, session_id)
            await asyncio.to_thread(self._store.erase, session_id)

    # What is kept, and who is told --------------------------------------------------------------------

    async def _end(
        self,
        asked: Asked,
        start: Start,
        began: float,
        *,
        audio_format: str,
        result: Result | None = None,
        fault: Mapping[str, str] | None = None,
        keep: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """Keep how a job ended, with its `result` or its `fault`, and have its receiver told.

        `keep` keeps the rest of it in the same transaction.
        """
        final = result.final if result is not None else None
        body = await asyncio.to_thread(
            webhook_body,
            session_id=asked.session_id,
            start=start,
            final=final,
            turns=result.turns if result is not None else (),
            error=(fault["code"], fault["message"]) if fault is not None else None,
            processing_time=time.monotonic() - began,
            audio_format=audio_format,
            rest=asked.job.rest,
        )
        end = JobEnd(
            asked.session_id,
            to_dict(start),
            asked.created_at,
            "failed" if final is None else "done",
            time.time(),
            error=fault,
            delivery=self._delivery(asked, body),
        )
        if final is not None:
            end = replace(
                end,
                duration=final.duration,
                language=final.language,
                revision=final.revision,
                labels=final.labels,
                speakers=tuple(speaker_dict(speaker) for speaker in final.speakers),
                text=final.text.strip(),
            )
        await self._persist(end, keep)

    def _delivery(self, asked: Asked, body: bytes) -> NewDelivery | None:
        webhook = self._settings.webhook
        url = asked.job.webhook_url or webhook.url
        if url is None:
            return None
        if webhook.max_bytes is not None and len(body) > webhook.max_bytes:
            links = reachable_links_of(self._settings.server, asked.session_id)
            body = notice_of(body, links) or body
        return NewDelivery(url, body, delivery_id_of(asked.session_id))

    async def _persist(self, end: JobEnd, keep: Callable[[Connection], None]) -> None:
        """Write to the database, however long it takes until it answers.

        The result is worth more than time.
        """
        backoff = 1.0
        while True:
            try:
                is_told = await self._database.call(self._database.finish_job, end, keep)
                if is_told and end.delivery is not None:
                    self._wake()
                return
            except Superseded:
                raise
            except StorageError as error:
                log.error("the end of job %s waits for the database: %s", end.id, error)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF)

    async def _write_besides(self, asked: Asked, found: Recognized) -> None:
        """Write the result to S3, where that is wanted: before anybody is told. Raises Unfetched."""
        prefix = self._settings.jobs.result_prefix
        if prefix is None or self._s3 is None:
            return
        target = PREFIX.fullmatch(prefix)
        if target is None:
            raise ClientError("bad_config", "jobs.result_prefix does not begin with s3://.")
        job_id = str(asked.job.job_id)
        name = UNSAFE.sub("_", job_id)
        if name != job_id:  # as that of another job may be by now
            name = f"{name}-{asked.session_id[:8]}"
        written = await asyncio.to_thread(exports_of, asked.session_id, found.outcome, asked.job.told)
        for ending, body, media_type in written:
            put = partial(
                self._s3.put_object,
                Bucket=target[1],
                Key=f"{target[2]}{name}.{ending}",
                Body=body,
                ContentType=media_type,
            )
            await self._put(put)

    async def _put(self, put: Callable[[], Mapping[str, Any]]) -> None:
        from botocore.exceptions import BotoCoreError
        from botocore.exceptions import ClientError as AnsweredError

        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, put)
        except (AnsweredError, BotoCoreError, OSError) as error:
            fault = Unfetched(f"The result cannot be written to S3: {error}", code="upload")
            raise fault from error


def is_passing(error: LiveAsrError) -> bool:
    """Tell whether a job that failed so may succeed when it is tried again."""
    return (
        not isinstance(error, PERMANENT) and error.code != "forbidden_target"
    ) or error.code in PASSING_CODES
