"""Runs one server: from settings and weights to a listening socket, until a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.config
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from live_asr.cluster.full_passes import RayFullPass
from live_asr.cluster.pool import passes_of
from live_asr.config.settings import ServerSettings, Settings
from live_asr.core.errors import ConfigError, LiveAsrError, WeightsError
from live_asr.core.urls import is_reached_by_others
from live_asr.full_pass.process import FullPass
from live_asr.inference.ipc import Load, Loaded
from live_asr.inference.memory import return_freed_memory
from live_asr.models.device import AUTO, cpu_count, pick_compute_type, why_not_gpu
from live_asr.server.access import made_token
from live_asr.server.app import build_state, create_app, sessions_folder
from live_asr.server.connections import Connections
from live_asr.server.dialects.tellers import TELLERS
from live_asr.server.http import PatientHttp
from live_asr.server.logs import log_config
from live_asr.server.tracing import start_tracing
from live_asr.server.websocket import MAX_FRAME_BYTES, StreamProtocol
from live_asr.storage.database import database_url
from live_asr.storage.files import prepare
from live_asr.storage.jobs import JobDatabase
from live_asr.storage.lock import held
from live_asr.storage.objects import ObjectStore
from live_asr.weights.resolver import (
    ModelResolver,
    ModelSet,
    Pipeline,
    Voices,
    device_here,
    full_pass_load,
    is_elsewhere,
    models_of,
)

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 5
"""Seconds that clients get to take their last messages once all sessions are over."""
CERTIFICATE_INTERVAL = 2.0
"""Seconds between two looks whether the certificate was replaced."""
MAX_FILES = 65_536
MEASURED_FILE = "measured.json"
"""Beside the weights: what a decode takes on this machine."""
MAX_WORKERS = 8
"""More windows at once bring nothing on one machine's memory bus."""


def run(settings: Settings, brought: ModelSet) -> None:
    """Serve until SIGINT or SIGTERM; open sessions are brought to their end first.

    Raises ConfigError when the address cannot be listened on, StorageError when the data folder cannot
    be written, another server serves from it, or the database or the object store cannot be used, EngineError
    when the models cannot be loaded.
    """
    with held(settings.storage.data):
        _serve(settings, brought)


def _serve(given: Settings, brought: ModelSet) -> None:
    settings = with_token(given)
    logging.config.dictConfig(log_config(settings.server.log_level, settings.server.log_format))
    check_certificate(settings.server)
    prepare(sessions_folder(settings))
    if settings.storage.objects is not None:
        asyncio.run(ObjectStore(settings.storage.objects).check())
    database = JobDatabase(database_url(settings.storage))
    database.prepare()
    database.hold(shared=settings.storage.journal is not None)
    _raise_file_limit()
    return_freed_memory()
    listener = listen(settings.server.host, settings.server.port)
    address = _address(settings.server, listener.getsockname()[1])
    lacks = [*brought.lacks(), why_not_gpu(settings.inference.device)]
    for lack in filter(None, lacks):
        log.warning("%s", lack)
    load, further = further_loads(settings, load_of(settings, brought))
    where = f"by workers at {settings.inference.engine}" if is_elsewhere(settings) else f"on {load.device}"
    print(f"live-asr: loading {load.recognizer_name} {where} …", flush=True)

    def on_ready(loaded: Loaded) -> None:
        # All that was imported lives as long as the process: without it, a collection holds the loop for
        # a millisecond rather than fifty.
        gc.collect()
        gc.freeze()
        print(banner(settings, brought, loaded, address=address, workers=loaded.lanes), flush=True)
        token = settings.server.token
        if token is not None and given.server.token is None:
            print(f"  open it at       {address}/#token={token.get_secret_value()}", flush=True)

    def on_failed(error: LiveAsrError) -> None:
        if not server.should_exit:  # else it is because the server ends that they could not be loaded
            failures.append(error)
            server.should_exit = True

    failures: list[LiveAsrError] = []
    with _noted_signals() as told:
        full_pass = full_pass_of(settings, brought)
        state = build_state(
            settings,
            load,
            database=database,
            full_pass=full_pass,
            warning=why_not_gpu(settings.inference.device),
            fallback=fallback_of(settings, brought, full_pass) if isinstance(full_pass, FullPass) else None,
            models=lambda: models_of(full_pass.load),
            further=further,
        )
        app = create_app(state, on_ready=on_ready, on_failed=on_failed)
        server = server_of(settings, app, told)
        stop_tracing = start_tracing(os.environ)
        try:
            server.run(sockets=[listener])
        finally:
            stop_tracing()
    if failures:
        raise failures[0]


def full_pass_of(settings: Settings, brought: ModelSet) -> FullPass | RayFullPass:
    """Return what goes over recordings: a process of this machine, or a cluster."""
    load, pool = full_pass_load(settings, brought), passes_of(settings)
    return FullPass(load) if pool is None else RayFullPass(load, pool, settings.cluster.full_passes)


def with_token(settings: Settings) -> Settings:
    """Return the settings, with a token where others reach the address and none is set.

    Raises StorageError where it cannot be kept.
    """
    server = settings.server
    if server.token is not None or server.insecure or not is_reached_by_others(server.host):
        return settings
    token = SecretStr(made_token(settings.storage.data))
    return settings.model_copy(update={"server": server.model_copy(update={"token": token})})


def server_of(settings: Settings, app: FastAPI, told: list[int]) -> _Server:
    """Build the server; `told` fills with the signals that came before it could take them itself."""
    limits = settings.server
    connections = Connections(limits.max_connections_per_address, limits.trusted_proxies)
    return _Server(
        uvicorn.Config(
            app,
            # One implementation of WebSockets everywhere; compression would cost more CPU than a caption.
            ssl_certfile=limits.tls_cert,
            ssl_keyfile=limits.tls_key,
            http=partial(PatientHttp, all_connections=connections),  # type: ignore[arg-type]
            ws=partial(StreamProtocol, all_connections=connections, tellers=TELLERS),  # type: ignore[arg-type]
            ws_max_size=MAX_FRAME_BYTES,
            ws_per_message_deflate=False,
            loop="uvloop" if sys.platform != "win32" else "asyncio",
            log_config=None,
            access_log=settings.server.log_level == "debug",
            server_header=False,
            proxy_headers=False,  # whom to trust is a setting of ours
            timeout_graceful_shutdown=CLOSE_TIMEOUT,
        ),
        told,
    )


def banner(settings: Settings, brought: ModelSet, loaded: Loaded, *, address: str, workers: int) -> str:
    """Say to people where the server is and what it runs on."""
    model = loaded.recognizer
    recognizer = f"{brought.final_recognizer.name}; " if settings.final.recognize else ""
    return (
        f"live-asr: serving at {address}\n"
        f"  recogniser       {model.name} ({model.compute_type}, on {model.device},"
        f" {workers} window{'s' if workers > 1 else ''} at once;"
        f" from {brought.recognizer.source})\n"
        f"  speech detector  {loaded.detector_name} (from {brought.detector.source})\n"
        f"  speakers live    {_told_apart(brought.voices)}\n"
        f"  full pass        {recognizer}speakers {_told_apart(brought.pipeline)}\n"
        f"  data             {settings.storage.data}"
    )


def _told_apart(by: Voices | Pipeline | WeightsError) -> str:
    return f"not told apart: {by.message}" if isinstance(by, WeightsError) else f"told apart by {by.name}"


def load_of(settings: Settings, brought: ModelSet) -> Load:
    """Return what the inference process is to load."""
    device = device_here(settings)
    workers = settings.inference.workers or (min(cpu_count(), MAX_WORKERS) if device == "cpu" else 2)
    voices = None if isinstance(brought.voices, WeightsError) else brought.voices
    return Load(
        recognizer_name=brought.recognizer.name,
        recognizer_folder=brought.recognizer.folder,
        detector_name=brought.detector.name,
        detector_file=brought.detector.model_file,
        device=device,
        compute_type=pick_compute_type(settings.inference.compute_type, device),
        workers=workers,
        beam_size=settings.inference.beam_size,
        segmentation_file=voices.segmentation_file if voices else None,
        encoder_file=voices.encoder_file if voices else None,
        kernels_file=settings.models.dir / MEASURED_FILE if settings.inference.kernels == AUTO else None,
        measured_file=settings.models.dir / MEASURED_FILE if settings.server.admission == "load" else None,
    )


def further_loads(settings: Settings, load: Load) -> tuple[Load, list[Load]]:
    """Return what the first process loads and what those of further devices do, by `inference.devices`.

    Raises ConfigError where these are not of the kind that is used here.
    """
    devices = settings.inference.devices
    if not devices:
        return load, []
    kind = devices[0].partition(":")[0]
    if kind != load.device:
        raise ConfigError(
            f"inference.devices names {kind}, and the models run on {load.device}.",
            f"Set inference.device to {kind}, or leave inference.devices out.",
        )
    if kind == "cpu":
        workers = settings.inference.workers or max(1, load.workers // len(devices))
        loads = [replace(load, workers=workers) for _ in devices]
    else:
        loads = [replace(load, gpu=int(device.partition(":")[2])) for device in devices]
    return loads[0], loads[1:]


def fallback_of(settings: Settings, brought: ModelSet, full_pass: FullPass) -> Callable[[str], Load] | None:
    """Return what has the CPU do the work of a GPU that fails; None where a device was named."""
    if settings.inference.device != AUTO or settings.inference.devices:
        return None

    def fall_back(reason: str) -> Load:
        log.warning("Using the CPU instead of the GPU. %s", reason)
        on_cpu = settings.inference.model_copy(update={"device": "cpu", "compute_type": AUTO})
        changed = settings.model_copy(update={"inference": on_cpu})
        try:
            models = ModelResolver(changed).bring_all()
        except LiveAsrError as error:  # the GPU's model, then, which is slow
            log.warning("%s", error)
            models = brought
        full_pass.use(full_pass_load(changed, models))
        return load_of(changed, models)

    return fall_back


class _Server(uvicorn.Server):
    """uvicorn's server, which tells open sessions before it closes their sockets."""

    def __init__(self, config: uvicorn.Config, told: list[int]) -> None:
        super().__init__(config)
        self._told = told
        self._certificate: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.config.ssl is not None:
            self._certificate = asyncio.create_task(watch_certificate(self.config), name="certificate")
        self.should_exit = self.should_exit or bool(self._told)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._certificate is not None:
            self._certificate.cancel()
        state = self.config.app.state.server  # type: ignore[union-attr]
        await state.registry.drain(state.settings.server.drain_timeout)
        state.following.close()
        await super().shutdown(sockets)


async def watch_certificate(config: uvicorn.Config) -> None:
    """Read certificate and key again, until cancelled, when their files change; connections that are open
    keep what they have. A pair that cannot be read, as while it is replaced, leaves the one before."""
    assert config.ssl is not None and config.ssl_certfile is not None, "it speaks TLS"
    known = _times_of(config)
    while True:
        await asyncio.sleep(CERTIFICATE_INTERVAL)
        times = await asyncio.to_thread(_times_of, config)
        if times == known:
            continue
        try:
            config.ssl.load_cert_chain(config.ssl_certfile, config.ssl_keyfile)
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate cannot be read, the one before stays: %s", error)
            continue
        known = times
        log.info("the certificate was read again")


def _times_of(config: uvicorn.Config) -> list[float]:
    """Return when the files of the certificate were changed; nothing of one that is not there. Blocks."""
    times = []
    for name in (config.ssl_certfile, config.ssl_keyfile):
        with suppress(OSError):
            times.append(Path(str(name)).stat().st_mtime)
    return times


def check_certificate(settings: ServerSettings) -> None:
    """Raise ConfigError where certificate and key are not there, or do not belong together."""
    if settings.tls_cert is None and settings.tls_key is None:
        return
    if settings.tls_cert is None or settings.tls_key is None:
        raise ConfigError("server.tls_cert and server.tls_key belong together.", "Set both, or none.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # SSLError is one
        raise ConfigError(
            f"The certificate cannot be used: {error.strerror or error}.",
            "server.tls_cert is the certificate with those above it, server.tls_key its key, both in PEM.",
        ) from error


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Note signals rather than raise in the middle of whatever runs: there an exception may be lost."""
    told: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: told.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets us: each connection is one, and so is each write."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket. Raises ConfigError when the address is taken or is not this machine's."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}.",
            "Choose another address with --host and --port; --port 0 takes a free one.",
        ) from error
    listener.set_inheritable(False)
    return listener


def _address(settings: ServerSettings, port: int) -> str:
    """Return the address that a person on this machine would type."""
    host, scheme = settings.host, "http" if settings.tls_cert is None else "https"
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1", "localhost") else host
    return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}"
