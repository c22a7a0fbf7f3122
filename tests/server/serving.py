"""The real server with real models, in this process or one of its own, and a full pass that is scripted."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from scripted_pass import ScriptedPass, found

from live_asr.config.settings import Settings, load_settings
from live_asr.core.errors import WeightsError
from live_asr.inference.ipc import Load
from live_asr.server.app import build_state, create_app
from live_asr.server.run import listen, load_of, server_of
from live_asr.server.state import ServerState
from live_asr.storage.database import database_url
from live_asr.storage.jobs import JobDatabase
from live_asr.weights.resolver import ModelSet
from live_asr.weights.store import resolve

MODEL = "tiny.en"
NOBODY = WeightsError("Nobody is told apart here: captions are what these tests are about.")


@dataclass(frozen=True)
class Served:
    """A server in this process."""

    url: str
    http: httpx.AsyncClient
    full_pass: ScriptedPass
    data: Path
    running: asyncio.Task[None]
    """Ends with the server."""
    state: ServerState

    @property
    def stream(self) -> str:
        """The address of its WebSocket."""
        return self.url.replace("http", "ws", 1) + "/v1/stream"

    def folder(self, session: str) -> Path:
        """The folder of a session."""
        return self.data / "sessions" / session


def settings_of(data: Path, **flags: object) -> Settings:
    """Make settings; flags are `section__key`."""
    given = {"storage.data": str(data), "inference.device": "cpu", "server.port": 0}
    given |= {"server.resume_window": 0.0, "server.admission": "count", "inference.kernels": "plain"}
    given |= {key.replace("__", "."): value for key, value in flags.items()}
    return load_settings(flags=given, environment={}).settings


@asynccontextmanager
async def serving(
    data: Path,
    models_dir: Path,
    full_pass: ScriptedPass,
    *,
    models: Callable[[], str] = lambda: "scripted",
    load: Load | None = None,
    **flags: object,
) -> AsyncIterator[Served]:
    """Serve until the block ends; then the server is told to stop, as by a signal.

    `load` is what the inference process loads; else the models for tests.
    """
    settings = settings_of(data, **flags)
    recognizer, detector = (resolve(name, models_dir=models_dir) for name in (MODEL, "silero-vad"))
    database = JobDatabase(database_url(settings.storage))
    database.prepare()
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    state = build_state(
        settings,
        load or load_of(settings, ModelSet(recognizer, detector, NOBODY, recognizer, NOBODY, ())),
        database=database,
        full_pass=full_pass,
        models=models,
    )
    app = create_app(state, on_ready=lambda _: ready.set_result(None), on_failed=ready.set_exception)
    server = server_of(settings, app, [])
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.wait([ready, running], return_when=asyncio.FIRST_COMPLETED)
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0) as http:
            yield Served(url, http, full_pass, data, running, state)
    finally:
        server.should_exit = True
        await running


async def main(data: Path, models_dir: Path, does: str) -> None:
    """Serve until a signal; the full pass never ends, or finds something at once."""
    full_pass = ScriptedPass(found())
    if does == "hang":
        full_pass.may_end.clear()
    webhook = {"webhook__url": "http://127.0.0.1:9/hook", "webhook__allow_private": True}
    async with serving(data, models_dir, full_pass, **webhook) as served:
        print(served.url, flush=True)
        await asyncio.wait({served.running})


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
