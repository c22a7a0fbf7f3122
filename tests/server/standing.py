"""The real server in this process without its models: for what is decided before any is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from scripted_pass import ScriptedPass, found
from serving import settings_of

from live_asr.core.messages import Start, to_dict
from live_asr.inference.ipc import Load
from live_asr.server.app import build_state, create_app
from live_asr.server.run import listen, server_of
from live_asr.server.state import ServerState
from live_asr.sessions.resume import digest_of, new_token
from live_asr.storage.database import database_url
from live_asr.storage.jobs import JobDatabase

NO_MODELS = Load(
    recognizer_name="none",
    recognizer_folder=Path("none"),
    detector_name="none",
    detector_file=Path("none"),
    device="cpu",
    compute_type="int8",
    workers=1,
    beam_size=1,
    segmentation_file=None,
    encoder_file=None,
)


@dataclass(frozen=True)
class Standing:
    """A server that listens and has nothing loaded: who may open a session is told to come back."""

    url: str
    http: httpx.AsyncClient
    state: ServerState

    @property
    def stream(self) -> str:
        """The address of its WebSocket."""
        return self.url.replace("http", "ws", 1) + "/v1/stream"

    async def keep_session(self, session_id: str, owner: str | None = None) -> str:
        """Keep a session that heard nothing, as if this token had opened it; return its key."""
        state, key = self.state, new_token()
        about = {"session": session_id, "start": to_dict(Start()), "token": digest_of(key)}
        spool = await state.store.open(session_id, about)
        await state.store.finish(spool, keep_audio=False)
        await state.database.call(
            state.database.add_session, session_id, to_dict(Start()), created_at=1e9, owner=owner
        )
        return key


@asynccontextmanager
async def standing(data: Path, **flags: object) -> AsyncIterator[Standing]:
    """Serve until the block ends; flags are `section__key`."""
    settings = settings_of(data, **flags)
    database = JobDatabase(database_url(settings.storage))
    database.prepare()
    state = build_state(settings, NO_MODELS, database=database, full_pass=ScriptedPass(found()))
    server = server_of(settings, create_app(state), [])
    server.config.lifespan = "off"  # which would load models
    listener = listen("127.0.0.1", 0)
    listener.listen()  # whoever comes before the server does waits
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await state.access.start()
    await state.store.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0) as http:
            yield Standing(url, http, state)
    finally:
        server.should_exit = True
        await running
        await state.access.close()
        await state.store.close()
        database.close()
