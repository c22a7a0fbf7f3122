"""The ASGI application: routes, the socket, the page, and the headers that guard it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from live_asr import __version__
from live_asr.cluster.engine import RayEngine
from live_asr.cluster.pool import pool_of
from live_asr.config.settings import Settings
from live_asr.core.errors import EngineError, LiveAsrError, StorageError
from live_asr.core.export import FORMATS
from live_asr.delivery.addresses import guard
from live_asr.delivery.post import GuardedNetwork
from live_asr.delivery.webhook import WebhookSender, webhook_secret
from live_asr.inference.ipc import Load, Loaded
from live_asr.inference.local_engine import EngineCallbacks, LocalEngine
from live_asr.inference.pooled_engine import PooledEngine
from live_asr.jobs.downloads import Bounds, Downloader, resolve
from live_asr.jobs.http_queue import WaitingJobs
from live_asr.jobs.metrics import JobMetrics
from live_asr.jobs.pipeline import Doing
from live_asr.jobs.uploads import DatabaseUploads, FileUploads
from live_asr.server import events, jobs, rest
from live_asr.server import session_audio as audio
from live_asr.server import session_edits as changing
from live_asr.server import token_routes as minting
from live_asr.server.access import Access
from live_asr.server.audit import Audit, Audited
from live_asr.server.client_secrets import ClientSecrets
from live_asr.server.cors import AllowedOrigins
from live_asr.server.dialects import aymurai, deepgram, openai_rest, realtime, whisperlivekit
from live_asr.server.dialects.deepgram import callbacks
from live_asr.server.dialects.wyoming import serving_wyoming
from live_asr.server.exports import Exports
from live_asr.server.gauges import watch_lanes, watch_outbox
from live_asr.server.hosts import OwnHosts
from live_asr.server.links import Links
from live_asr.server.loop_lag import watch_loop
from live_asr.server.operators import OperatorsOnly
from live_asr.server.proxies import TrustedProxies, route_of
from live_asr.server.rates import BoundedRate, Rate, too_many_requests
from live_asr.server.state import ServerState
from live_asr.server.stream import Stream
from live_asr.sessions.archive import Archive, warn_of_others
from live_asr.sessions.audience import Viewers
from live_asr.sessions.capacity import Capacity
from live_asr.sessions.catalogue import Catalogue
from live_asr.sessions.finalizer import Finalizer, FullPassRunner, reachable_links_of
from live_asr.sessions.following import Following
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.registry import SessionRegistry
from live_asr.sessions.reserve import Reserve
from live_asr.sessions.retention import Retention
from live_asr.sessions.search_index import make_findable
from live_asr.storage.database import Database
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.jobs import JobDatabase
from live_asr.storage.journal import Journal
from live_asr.storage.objects import ObjectStore

log = logging.getLogger(__name__)

WATCH_INTERVAL = 5.0
"""Seconds between two looks whether the database is still this server's."""
MEDIA_SOURCES = "media-src 'self' blob:"
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self' ws: wss:",
        MEDIA_SOURCES,
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
JOBS_FOLDER = "jobs"
"""Below the data folder: recordings that are worked on."""
UPLOADS = "uploads"
"""Below that one: those that came with jobs."""
VIEWER_POLICY = CONTENT_SECURITY_POLICY.replace(
    "script-src 'self'; style-src 'self'",
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'",
)
"""For `/docs`, whose viewer is started by a script in its page, and styles itself."""
PAGE_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "permissions-policy": "microphone=(self), fullscreen=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def web_folder() -> Path:
    """Return where the page's files are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "web"
    return installed if installed.is_dir() else package.parent / "web"


def sessions_folder(settings: Settings) -> Path:
    """Return where sessions are kept."""
    return settings.storage.data / "sessions"


def build_state(
    settings: Settings,
    load: Load,
    *,
    database: JobDatabase,
    full_pass: FullPassRunner,
    warning: str = "",
    fallback: Callable[[str], Load] | None = None,
    models: Callable[[], str] = lambda: "",
    further: Sequence[Load] = (),
) -> ServerState:
    """Put a server together, with nothing started yet.

    `warning` says why the models are not on the GPU that there is; `fallback` is the engine's;
    `models` names what full passes are done by now, which a fallback changes; `further` is what the
    processes of further devices load.
    Raises ConfigError and StorageError for the key of the webhooks, as `webhook_secret` does.
    """
    metrics, audit = Metrics(), Audit(settings.server.audit_log)
    reserve = Reserve()

    def reserved() -> float:
        return reserve.share(time.monotonic())

    capacity = Capacity(reserved=reserved)

    def on_work(seconds: float) -> None:
        capacity.note_work(seconds)
        metrics.lane_busy_seconds.inc(seconds)

    pool = pool_of(settings)
    told = EngineCallbacks(
        on_restart=metrics.engine_restarts.inc,
        on_work=on_work,
        on_audio=capacity.note_audio,
        on_batch=lambda work, count: metrics.batch_size.labels(work).observe(count),
        reserved=reserved,
        on_spent=metrics.note_spent,
    )
    timeout = settings.inference.decode_timeout
    engine: LocalEngine | PooledEngine | RayEngine
    if pool is not None:
        engine = RayEngine(load, pool, timeout=timeout, **told)
    else:
        engines = [
            LocalEngine(one, timeout=timeout, warning=warning, fallback=fallback, **told)
            for one in (load, *further)
        ]
        engine = PooledEngine(engines) if further else engines[0]
    watch_lanes(engine, metrics)
    objects = open_objects(settings)
    store = open_journal(settings, database, objects)
    sender = WebhookSender(
        database,
        settings.webhook,
        webhook_secret(settings.webhook, settings.storage.data),
        links=partial(reachable_links_of, settings.server),
        on_tried=lambda delivery: metrics.webhook_tries.labels(delivery.state).inc(),
    )
    finalizer = Finalizer(
        settings,
        store,
        database,
        full_pass,
        wake=sender.wake,
        metrics=metrics,
        forms={callbacks.FORM: callbacks.body_of},
        reserve=reserve,
    )
    registry = SessionRegistry(
        *(settings, engine, store, database, finalizer, metrics),
        check_receiver=sender.check,
        on_opened=audit.opened,
        capacity=capacity,
    )
    if isinstance(engine, RayEngine):
        engine.wants = lambda: registry.wanted_lanes
    exports = Exports()
    catalogue = Catalogue(registry, finalizer, store, database, call=exports.call)
    following = Following(registry.audience_of, store, database)
    viewers = Viewers(
        *(registry.audience_of, store, database),
        most=settings.server.max_viewers,
        count=metrics.viewers.set,
        following=following if store.is_shared else None,
    )
    erased = partial(_forget, viewers, exports)
    retention = Retention(settings.storage, registry, store, database, erased=erased)
    archive = open_archive(settings, objects, store, database, catalogue, metrics)
    access, rate = _access(settings, database, metrics, audit)
    return ServerState(
        settings=settings,
        access=access,
        audit=audit,
        rate=rate,
        links=Links(access, database, days=settings.server.watch_link_days),
        engine=engine,
        full_pass=full_pass,
        store=store,
        database=database,
        sender=sender,
        registry=registry,
        catalogue=catalogue,
        exports=exports,
        viewers=viewers,
        following=following,
        retention=retention,
        metrics=metrics,
        client_secrets=ClientSecrets(),
        jobs=_waiting_jobs(settings, models, store, database, full_pass, sender, metrics),
        archive=archive,
    )


def open_objects(settings: Settings) -> ObjectStore | None:
    """Return where sessions go that are over; None where they stay. Raises as `ObjectStore` does."""
    return None if settings.storage.objects is None else ObjectStore(settings.storage.objects)


def open_journal(settings: Settings, database: Database, objects: ObjectStore | None) -> Journal:
    """Return what sessions are kept by, not started yet. Raises ConfigError."""
    folder, interval = sessions_folder(settings), settings.storage.fsync_interval
    if settings.storage.journal is None:
        return FileJournal(folder, interval=interval, compresses=objects is None)
    from live_asr.storage.postgres_journal import PostgresJournal

    return PostgresJournal(database, folder, interval=interval, objects=objects)


def open_archive(
    settings: Settings,
    objects: ObjectStore | None,
    journal: Journal,
    database: Database,
    catalogue: Catalogue,
    metrics: Metrics,
) -> Archive | None:
    """Return what moves sessions that are over, not started yet; None where they stay."""
    if objects is None:
        return None
    database.moves_finished = True

    async def render(session_id: str) -> str:
        record, _ = await catalogue.tagged_record(session_id)
        return await asyncio.to_thread(FORMATS["json"].render, record)

    return Archive(
        objects,
        journal,
        database,
        render=render,
        link_seconds=settings.storage.object_links,
        count=lambda state, number: metrics.objects.labels(state).set(number),
    )


def _waiting_jobs(
    settings: Settings,
    models: Callable[[], str],
    store: Journal,
    database: JobDatabase,
    full_pass: FullPassRunner,
    sender: WebhookSender,
    metrics: Metrics,
) -> WaitingJobs:
    """Put together what does jobs that come over HTTP; they are fetched as deliveries are sent, guarded."""
    bounds = Bounds(settings.jobs.max_bytes, settings.jobs.download_timeout)
    network = GuardedNetwork(resolve, why_not=guard(allow_private=settings.jobs.allow_private))
    doing = Doing(
        settings,
        database,
        Downloader(bounds, network=network),
        store,
        models=models,
        wake=sender.wake,
    )
    folder = settings.storage.data / JOBS_FOLDER
    return WaitingJobs(
        database,
        doing,
        full_pass,
        folder,
        DatabaseUploads(database) if store.is_shared else FileUploads(folder / UPLOADS, database),
        JobMetrics(metrics.registry),
        check_receiver=sender.check,
    )


def _forget(viewers: Viewers, exports: Exports, session_id: str) -> None:
    viewers.forget(session_id)
    exports.forget(session_id)


def _access(settings: Settings, database: Database, metrics: Metrics, audit: Audit) -> tuple[Access, Rate]:
    """Put together who may do what, and how often; wrong tokens are counted and noted."""
    rate = Rate(settings.server.requests_per_minute)

    def on_failed(address: str) -> None:
        metrics.wrong_tokens.inc()
        audit.write("wrong_token", address=address or None)

    def on_request(token: str) -> None:
        wait = rate.take(f"token {token}")
        if wait:
            raise too_many_requests(wait)

    data = settings.storage.data
    return Access(settings.server, database, data, on_failed=on_failed, rate=on_request), rate


@asynccontextmanager
async def at_work(
    state: ServerState, on_ready: Callable[[Loaded], None], on_failed: Callable[[LiveAsrError], None]
) -> AsyncIterator[None]:
    """Start all parts of a server in their order, and end them in the other one.

    The models are loaded beside; `on_ready` or `on_failed` tells how that ended.
    """

    async def come_up() -> None:
        try:
            loaded = await state.engine.start()
        except EngineError as error:
            on_failed(error)
            return
        on_ready(loaded)
        await watch_loop(state.metrics.loop_stall, state.metrics.loop_lag)

    await state.access.start()
    await state.store.start()
    await state.sender.start()
    await state.registry.recover()
    await warn_of_others(state.database, state.settings.storage.objects)
    if state.archive is not None:
        await state.archive.start()
    state.retention.start()
    await state.jobs.start()
    beside = [
        asyncio.create_task(come_up(), name="coming up"),
        asyncio.create_task(state.registry.watch_disk(), name="disk"),
        asyncio.create_task(state.registry.take_up_left(), name="sessions of others"),
        asyncio.create_task(state.registry.note_heard(), name="quotas"),
        asyncio.create_task(state.following.run(), name="sessions at others"),
        asyncio.create_task(make_findable(state.store, state.database), name="search"),
        asyncio.create_task(watch_database(state.database, on_failed), name="database"),
        asyncio.create_task(watch_outbox(state.database, state.metrics.webhooks), name="outbox"),
    ]
    try:
        async with serving_wyoming(state, on_failed):
            yield
    finally:
        await state.access.close()
        await state.retention.close()
        if state.archive is not None:
            await state.archive.close()
        await state.jobs.close()
        await state.registry.drain(state.settings.server.drain_timeout)
        await state.engine.close()
        await state.full_pass.close()
        await state.sender.close()
        await state.store.close()
        state.exports.close()
        await asyncio.to_thread(state.database.close)
        state.audit.close()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def watch_database(database: Database, on_failed: Callable[[LiveAsrError], None]) -> None:
    """See to it, until cancelled, that nobody else takes the database, and that what was erased is gone.

    Where another server has taken it while it was away, `on_failed` ends this one.
    """
    is_reported = False
    while True:
        await asyncio.sleep(WATCH_INTERVAL)
        try:
            await database.call(database.keep_hold)
            if database.log_holds_erased:
                await database.call(database.truncate_wal)
            is_reported = False
        except StorageError as error:
            if error.code == "database_taken":
                log.error("the database was lost: %s", error)
                on_failed(error)
                return
            if not is_reported:
                log.error("the database cannot be watched: %s", error)
            is_reported = True


def create_app(
    state: ServerState,
    *,
    on_ready: Callable[[Loaded], None] = lambda _: None,
    on_failed: Callable[[LiveAsrError], None] = lambda _: None,
) -> FastAPI:
    """Build the application of one server; its database is prepared.

    It answers at once; its models are loaded beside, and `on_ready` or `on_failed` tells how that ended. With
    the application all parts of `state` end.
    """
    app = FastAPIOffline(
        redoc_url=None,
        title="live-asr",
        version=__version__,
        summary="Live captions while people speak.",
        description="Captions are streamed over the WebSocket `/v1/stream`; see docs/protocol.md.",
        lifespan=lambda _: at_work(state, on_ready, on_failed),
    )
    app.state.server = state
    app.include_router(rest.router)
    app.include_router(events.router)
    app.include_router(minting.router)
    app.include_router(rest.sessions)
    app.include_router(jobs.router)
    app.include_router(changing.changes)
    app.include_router(audio.router)
    app.include_router(whisperlivekit.router)
    app.include_router(openai_rest.router)
    app.include_router(aymurai.router)
    app.include_router(deepgram.router)
    app.include_router(realtime.router)
    app.add_exception_handler(RequestValidationError, rest.tell_what_is_wrong)
    app.add_exception_handler(StorageError, rest.tell_what_fails)
    app.add_exception_handler(ClientDisconnect, rest.tell_nobody)

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await Stream(
            socket,
            settings=state.settings,
            access=state.access,
            registry=state.registry,
            metrics=state.metrics,
        ).run()

    web = web_folder()

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(web / "index.html")

    @app.get("/past", include_in_schema=False)
    async def past_page() -> FileResponse:
        return FileResponse(web / "past.html")

    @app.get("/watch/{session_id}", include_in_schema=False)
    @app.get("/overlay/{session_id}", include_in_schema=False)
    async def watch_page() -> FileResponse:
        return FileResponse(web / "watch.html")

    app.mount("/web", GZipMiddleware(StaticFiles(directory=web)), name="web")
    _add_guards(app, state)
    return app


def _add_guards(app: FastAPI, state: ServerState) -> None:
    """Put before all routes what each request passes: from the last one here to the first."""
    server = state.settings.server
    app.add_middleware(GuardHeaders, archive=state.archive)
    app.add_middleware(OperatorsOnly, access=state.access)
    app.add_middleware(BoundedRate, rate=state.rate)
    if server.allowed_origins:
        app.add_middleware(AllowedOrigins, allowed=server.allowed_origins)
    app.add_middleware(Audited, audit=state.audit)
    app.add_middleware(OwnHosts, settings=server)
    app.add_middleware(TrustedProxies, trusted=server.trusted_proxies, root_path=server.root_path)


class GuardHeaders:
    """Add the page's guarding headers to each response; the page may play audio out of `archive`."""

    def __init__(self, app: ASGIApp, archive: Archive | None = None) -> None:
        self._app = app
        self._archive = archive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        is_viewer = route_of(scope) == "/docs"

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if is_viewer:
                    headers["content-security-policy"] = VIEWER_POLICY
                elif self._archive is not None and self._archive.origin is not None:
                    headers["content-security-policy"] = CONTENT_SECURITY_POLICY.replace(
                        MEDIA_SOURCES, f"{MEDIA_SOURCES} {self._archive.origin}"
                    )
                for name, value in PAGE_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        await self._app(scope, receive, send_guarded)
