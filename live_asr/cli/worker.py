"""The command `live-asr worker`: one worker, from settings and weights to the last job, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.config
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any

from prometheus_client import start_http_server

from live_asr.config.settings import Settings
from live_asr.core.errors import ConfigError
from live_asr.delivery.addresses import guard
from live_asr.delivery.post import GuardedNetwork
from live_asr.delivery.signature import webhook_secret
from live_asr.delivery.webhook import WebhookSender
from live_asr.full_pass.process import FullPass
from live_asr.jobs.delivery import Delivering
from live_asr.jobs.downloads import Bounds, Downloader, resolve
from live_asr.jobs.metrics import JobMetrics, emf_stream
from live_asr.jobs.pipeline import PREFIX, Doing
from live_asr.jobs.queue import Queue, clients
from live_asr.jobs.retention import sweep_forever
from live_asr.jobs.worker import Worker
from live_asr.models.device import cpu_count, why_not_gpu
from live_asr.server.logs import log_config
from live_asr.sessions.finalizer import reachable_links_of
from live_asr.storage.database import database_url
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.files import prepare
from live_asr.storage.jobs import JobDatabase
from live_asr.storage.lock import own_folder
from live_asr.weights.resolver import ModelSet, full_pass_load, models_of

log = logging.getLogger(__name__)

FOLDER = "work"
"""Below the data folder: a folder for each worker, with what it works on; `jobs` there is the server's."""
SESSIONS = "sessions"


def check(settings: Settings) -> None:
    """Refuse settings without which a worker has nothing to do. Raises ConfigError."""
    if settings.jobs.queue_url is None:
        raise ConfigError(
            "The worker does not know its queue.",
            "Set jobs.queue_url, LIVE_ASR_JOBS__QUEUE_URL or AWS_SQS_ASR_QUEUE_URL.",
        )
    least, most = settings.jobs.min_speakers, settings.jobs.max_speakers
    if least is not None and most is not None and least > most:
        raise ConfigError(f"jobs.min_speakers is {least} and jobs.max_speakers is {most}.", "Swap them.")
    prefix = settings.jobs.result_prefix
    if prefix is not None and not PREFIX.fullmatch(prefix):
        raise ConfigError(
            f"jobs.result_prefix cannot be {prefix!r}.", "Write it as s3://bucket/transcripts/."
        )


def run(settings: Settings, brought: ModelSet) -> None:
    """Work until SIGINT or SIGTERM.

    Raises ConfigError where boto3 is missing or wrongly set up, QueueError where the queue cannot be looked
    at, StorageError where the data folder cannot be written or the database cannot be reached.
    """
    logging.config.dictConfig(log_config(settings.server.log_level, settings.server.log_format))
    for lack in filter(None, [*brought.lacks(), why_not_gpu(settings.inference.device)]):
        log.warning("%s", lack)
    prepare(settings.storage.data / SESSIONS)
    asyncio.run(_work(settings, brought))


async def _work(settings: Settings, brought: ModelSet) -> None:
    jobs, data = settings.jobs, settings.storage.data
    sqs, receiving, s3 = await asyncio.to_thread(clients, jobs)
    load = full_pass_load(settings, brought, cores=max(1, cpu_count() // jobs.lanes))
    async with contextlib.AsyncExitStack() as stack:
        queue = Queue(sqs, jobs, receiving)
        stack.callback(queue.close)
        await queue.look()
        database = JobDatabase(database_url(settings.storage))
        stack.push_async_callback(asyncio.to_thread, database.close)
        await asyncio.to_thread(database.prepare)
        sender = sender_of(settings, database)
        delivering = Delivering(sender, database, data)
        stack.push_async_callback(delivering.close)
        passes = [FullPass(load) for _ in range(jobs.lanes)]
        for one in passes:
            stack.push_async_callback(one.close)
        threads = ThreadPoolExecutor(2 * jobs.lanes, "s3")
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        doing = doing_of(settings, database, models_of(load), sender, s3=s3, threads=threads)
        metrics = JobMetrics(emf=emf_stream(jobs.emf), queue=queue.url.rpartition("/")[2])
        folder = stack.enter_context(own_folder(data / FOLDER))
        worker = Worker(
            jobs, queue, doing, passes, folder, metrics, drain_timeout=settings.server.drain_timeout
        )
        stack.enter_context(_signals(worker))
        if jobs.metrics_port is not None:
            server, _ = start_http_server(jobs.metrics_port, settings.server.host, metrics.registry)
            log.info("metrics are served on port %d", server.server_port)
        if settings.webhook.url is None:
            log.warning("webhook.url is not set: only jobs that name a webhookUrl are told of")
        if settings.storage.keep_transcripts_days is not None:
            days = settings.storage.keep_transcripts_days
            sweeping = asyncio.create_task(sweep_forever(database, data / SESSIONS, days), name="retention")
            stack.callback(sweeping.cancel)
        await delivering.start()
        what = f"{jobs.lanes} at once, {models_of(load)} on {load.device}"
        log.info("taking jobs from %s: %s", queue.url, what)
        await worker.run()
    log.info("stopped")


def sender_of(settings: Settings, database: JobDatabase) -> WebhookSender:
    """Return the sender of a process without a server, whose operator's own address may be a private one.

    Raises ConfigError and StorageError for the key, as `webhook_secret` does.
    """
    return WebhookSender(
        database,
        settings.webhook,
        webhook_secret(settings.webhook, settings.storage.data),
        links=partial(reachable_links_of, settings.server),
        trusts_own=True,
    )


def doing_of(
    settings: Settings,
    database: JobDatabase,
    models: str,
    sender: WebhookSender,
    *,
    s3: Any | None = None,
    threads: Executor | None = None,
) -> Doing:
    """Return what does the jobs of a process without a server."""
    jobs = settings.jobs
    downloader = Downloader(
        Bounds(jobs.max_bytes, jobs.download_timeout),
        network=GuardedNetwork(resolve, why_not=guard(allow_private=jobs.allow_private)),
        s3=s3,
        threads=threads,
    )
    return Doing(
        settings,
        database,
        downloader,
        FileJournal(settings.storage.data / SESSIONS),
        models=lambda: models,
        wake=sender.wake,
        s3=s3,
        threads=threads,
    )


@contextlib.contextmanager
def _signals(worker: Worker) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, worker.stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
