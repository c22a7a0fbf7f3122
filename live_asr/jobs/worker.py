"""The worker: lanes that take jobs from a queue, one each, until a signal.

A message is deleted once what its job came to is in the outbox. Whatever ends the worker before that, the
queue gives the message to another one, which does the job again or finds that it is over.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from live_asr.config.settings import JobsSettings
from live_asr.core.errors import LiveAsrError, StorageError
from live_asr.jobs.doing import Asked, Doing, is_passing
from live_asr.jobs.messages import Job, NotAJob, read_body
from live_asr.jobs.metrics import JobMetrics
from live_asr.jobs.queue import Message, Queue, QueueError
from live_asr.jobs.recognizing import Pass
from live_asr.jobs.results import session_id_of
from live_asr.storage.files import made

log = logging.getLogger(__name__)

MAX_BACKOFF = 30.0
"""Seconds between two tries to reach a queue, a disk or a database that does not answer."""
MAX_RETRY_DELAY = 30.0
"""Seconds after which a job that failed is tried again."""
DEPTH_INTERVAL = 60.0
"""Seconds between two looks at how many messages wait."""
LOG_STEP = 0.1
"""Share of a job after which the log tells how far it is."""
TOO_OFTEN = "too_many_receives"


class Worker:
    """Takes jobs from a queue in as many lanes as there are passes.

    `folder` is its own; what is there is erased with it. `drain_timeout` is how many seconds running jobs get
    where the settings let them finish.
    """

    def __init__(
        self,
        settings: JobsSettings,
        queue: Queue,
        doing: Doing,
        passes: Sequence[Pass],
        folder: Path,
        metrics: JobMetrics,
        *,
        drain_timeout: float,
    ) -> None:
        self._settings = settings
        self._drain_timeout = drain_timeout
        self._retry_delay = min(MAX_RETRY_DELAY, settings.visibility / 4)
        self._queue = queue
        self._doing = doing
        self._passes = passes
        self._folder = folder
        self._metrics = metrics
        self._stopping = asyncio.Event()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._working: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Take no more jobs, and end. Idempotent; call it on the event loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until it is told to stop; running jobs are given back or finished, as the settings say."""
        lanes = [
            asyncio.create_task(self._lane(number, full_pass), name=f"lane {number}")
            for number, full_pass in enumerate(self._passes)
        ]
        looking = asyncio.create_task(self._look_at_depth(), name="queue depth")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({*lanes, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping.is_set():  # a fault of ours: say it, rather than go on with fewer
                await next(lane for lane in lanes if lane.done())
            await self._end_jobs()
        finally:
            for task in (*lanes, looking, stopping):
                task.cancel()
            await asyncio.gather(*lanes, looking, stopping, return_exceptions=True)

    async def _end_jobs(self) -> None:
        if self._working and self._settings.on_stop == "finish":
            log.info("%d jobs get %.0f s to finish", len(self._working), self._drain_timeout)
            await asyncio.wait(self._working, timeout=self._drain_timeout)
        if self._working:
            log.info("%d jobs are given back to the queue", len(self._working))
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    async def _lane(self, number: int, full_pass: Pass) -> None:
        backoff, fault = 1.0, ""
        while not self._stopping.is_set():
            try:
                message = await self._queue.receive()
            except QueueError as error:
                if error.message != fault:  # once, not each time
                    log.error("no jobs can be taken: %s", error)
                fault = error.message
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, MAX_BACKOFF)
                continue
            backoff, fault = 1.0, ""
            if message is None:
                continue
            if self._stopping.is_set():
                await self._queue.release(message)
                return
            # A task of its own: what ends the lane must not end the job that may still finish.
            task = asyncio.create_task(self._take(message, number, full_pass), name=f"message {message.id}")
            self._working.add(task)
            task.add_done_callback(self._working.discard)
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                log.error("message %s met a fault of ours", message.id, exc_info=task.exception())
                await self._queue.release(message, self._retry_delay)

    # One message --------------------------------------------------------------------------------------

    async def _take(self, message: Message, lane: int, full_pass: Pass) -> None:
        """Do what a message asks for. A cancelled call gives it back at once."""
        self._metrics.received(message.age)
        self._metrics.running.inc()
        try:
            async with self._queue.held(message):
                fault = await self._do_patiently(message, lane, full_pass)
                await self._settle(message, fault)
        except asyncio.CancelledError:
            await asyncio.shield(self._queue.release(message))
            raise
        except QueueError as error:  # it comes again, and is known to be over by then
            log.warning("message %s is done, and the queue was not told: %s", message.id, error)
        finally:
            self._metrics.running.dec()

    async def _do_patiently(self, message: Message, lane: int, full_pass: Pass) -> _Fault | None:
        """Do all jobs of a message, however long the disk or the database takes to be there again.

        Neither is a job's fault: given back, one message after the other would be received too often.
        """
        backoff = 1.0
        while True:
            try:
                return await self._do_all(message, lane, full_pass)
            except StorageError as error:
                log.error("message %s waits for the disk or the database: %s", message.id, error)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF)

    async def _do_all(self, message: Message, lane: int, full_pass: Pass) -> _Fault | None:
        """Do all jobs of a message; return what is the matter with one of them, None where all are over."""
        try:
            jobs = read_body(message.body)
        except NotAJob as error:
            return await self._refuse(message, error)
        worst: _Fault | None = None
        for job in jobs:
            session_id = session_id_of(self._queue.url, job.job_id)
            lock = self._locks.setdefault(session_id, asyncio.Lock())
            async with lock:  # the same job twice at once: the second one finds the first one's result
                fault = await self._do(job, session_id, message, lane, full_pass)
            if fault is not None and (worst is None or not fault.is_final):
                worst = fault
        return worst

    async def _do(
        self, job: Job, session_id: str, message: Message, lane: int, full_pass: Pass
    ) -> _Fault | None:
        began = time.monotonic()
        failed_id = session_id_of(self._queue.url, job.job_id, message.id)
        if await self._doing.ended(session_id) is not None:
            log.info("job %s is over already", job.job_id, extra=_fields(job, message))
            return None
        failed = await self._doing.ended(failed_id)
        if failed is not None and failed.error is not None:  # and the queue wants to see it once more
            return _Fault(failed.error["code"], failed.error["message"], is_final=True)
        if message.receives > self._last_receive:
            # Every worker that had it died, or gave it back: it may be what kills them.
            error = LiveAsrError(f"It was received {message.receives} times.", code=TOO_OFTEN)
            return await self._fail(Asked(job, failed_id, message.sent_at), error, began, session_id)
        log.info("job %s begins, receive %d", job.job_id, message.receives, extra=_fields(job, message))
        folder = self._folder / f"lane-{lane}"
        try:
            await asyncio.to_thread(made, folder)
            recording = await self._doing.bring(job, folder)
            asked = Asked(job, session_id, message.sent_at)
            told = _Told(job, lane, self._metrics)
            done = await self._doing.do(asked, recording, full_pass, told, folder=folder, began=began)
        except StorageError:
            raise
        except LiveAsrError as error:
            if is_passing(error) and message.receives < self._last_receive:
                fields = _fields(job, message, code=error.code)
                log.warning("job %s is tried again: %s", job.job_id, error, extra=fields)
                self._metrics.retried(error.code)
                return _Fault(error.code, str(error), is_final=False)
            return await self._fail(Asked(job, failed_id, message.sent_at), error, began, session_id)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        took = time.monotonic() - began
        fields = _fields(job, message, audioSeconds=done.audio_seconds, seconds=round(took, 3))
        log.info(
            "job %s is done: %.1f s of audio in %.1f s", job.job_id, done.audio_seconds, took, extra=fields
        )
        self._metrics.done(done.audio_seconds, done.work_seconds, is_new=done.is_new)
        return None

    @property
    def _last_receive(self) -> int:
        redrive = self._queue.redrive
        most = self._settings.max_receives
        return most if redrive is None else min(most, redrive.max_receives)

    async def _fail(self, asked: Asked, error: LiveAsrError, began: float, tried: str) -> _Fault:
        fields = {"fields": {"jobId": asked.job.job_id, "code": error.code}}
        log.error("job %s failed: %s", asked.job.job_id, error, extra=fields)
        await self._doing.fail(asked, error, began=began, tried=tried)
        self._metrics.failed(error.code)
        return _Fault(error.code, str(error), is_final=True)

    async def _refuse(self, message: Message, error: NotAJob) -> _Fault:
        """Put a message aside that is no job; where it says whose it is, that one is told."""
        log.error("message %s is no job: %s", message.id, error)
        self._metrics.failed(error.code)
        job_id = error.told.get("jobId")
        if job_id is not None:
            job = Job(job_id, "", error.told.get("presentationId"))
            failed_id = session_id_of(self._queue.url, job_id, message.id)
            await self._doing.fail(Asked(job, failed_id, message.sent_at), error, began=time.monotonic())
        return _Fault(error.code, str(error), is_final=True)

    async def _settle(self, message: Message, fault: _Fault | None) -> None:
        """Tell the queue what became of a message. Raises QueueError."""
        if fault is None:
            await self._queue.delete(message)
        elif fault.is_final:
            await self._queue.put_aside(message, fault.code, fault.reason)
        else:
            await self._queue.release(message, self._retry_delay)

    async def _look_at_depth(self) -> None:
        while True:
            try:
                self._metrics.waiting(await self._queue.depth())
            except QueueError as error:
                log.debug("how many messages wait is not known: %s", error)
            await asyncio.sleep(DEPTH_INTERVAL)


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a message's job has not succeeded."""

    code: str
    reason: str
    is_final: bool
    """Whether it is not tried again."""


def _fields(job: Job, message: Message, **more: object) -> dict[str, object]:
    """Return what a line of the log says of a job where it is an object."""
    told = {"jobId": job.job_id, "messageId": message.id, "receive": message.receives, **more}
    return {"fields": told}


class _Told:
    """Tells of a job's progress, in the log and as a metric."""

    def __init__(self, job: Job, lane: int, metrics: JobMetrics) -> None:
        self._job = job
        self._lane = lane
        self._metrics = metrics
        self._logged = 0.0

    def __call__(self, stage: str, fraction: float) -> None:
        """Take note of the stage, and of the share of the whole that is done, 0 to 1."""
        self._metrics.progress(self._lane, fraction)
        if fraction >= self._logged + LOG_STEP:
            self._logged = fraction
            log.info("job %s: %s, %.0f %%", self._job.job_id, stage, 100 * fraction)
