"""A registry over a scripted recogniser, and clients that open sessions there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from scripted_pass import ScriptedPass, found

from live_asr.config.settings import ServerSettings, Settings, StorageSettings, WebhookSettings
from live_asr.core.messages import RecognizerInfo, Resume, Start, Stop
from live_asr.inference.ipc import Loaded
from live_asr.sessions.finalizer import Finalizer
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.registry import SessionRegistry
from live_asr.sessions.resume import OpenSession
from live_asr.storage.database import Database, sqlite_url
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.journal import Journal
from live_asr.storage.postgres_journal import PostgresJournal
from tests.sessions.scripted_engine import SCRIPT, ScriptedEngine, pcm

TIMEOUT = 30.0
START = Start(pace="fast", language="en", diarize=False, final_pass=False)


async def eventually(holds: Callable[[], bool]) -> None:
    """Look again and again until this holds."""
    async with asyncio.timeout(TIMEOUT):
        while not holds():  # noqa: ASYNC110 — what is looked at tells nobody that it has changed
            await asyncio.sleep(0.01)


class LoadedEngine(ScriptedEngine):
    """The scripted engine as a registry wants it."""

    warning = ""

    def __init__(self) -> None:
        super().__init__(SCRIPT)
        self.loaded = Loaded(RecognizerInfo("scripted", ("en",), "cpu", "none"), "loudness")

    async def wait(self) -> Loaded:
        return self.loaded


class Server:
    """One run of a server, on a folder; with the URL of a PostgreSQL, one of several that share that."""

    def __init__(self, folder: Path, window: float, url: str | None = None, **flags: Any) -> None:
        settings = Settings(
            server=ServerSettings(**{"resume_window": window, "max_sessions": 2, **flags}),
            storage=StorageSettings(data=folder),
            webhook=WebhookSettings(url="http://127.0.0.1:9/hook"),
        )
        self.folder = folder
        self.engine = LoadedEngine()
        self.database = Database(url or sqlite_url(folder / "live-asr.db"))
        self.store: Journal = (
            PostgresJournal(self.database, folder / "sessions", interval=0.01)
            if url is not None
            else FileJournal(folder / "sessions", interval=0.01)
        )
        metrics = Metrics()
        finalizer = Finalizer(
            settings, self.store, self.database, ScriptedPass(found()), wake=lambda: None, metrics=metrics
        )
        self.registry = SessionRegistry(
            settings,
            self.engine,  # type: ignore[arg-type]
            self.store,
            self.database,
            finalizer,
            metrics,
        )

    def state(self, session: str) -> str:
        stored = self.database.session(session)
        assert stored is not None
        return stored.state

    async def done(self, session: str) -> None:
        await eventually(lambda: self.state(session) in ("done", "failed"))

    async def has(self, session: str) -> None:
        """Wait until a session has been taken up."""
        await eventually(lambda: self.registry.runner_of(session) is not None)


@asynccontextmanager
async def running(
    folder: Path, window: float = 60.0, url: str | None = None, **flags: Any
) -> AsyncIterator[Server]:
    """Run a server; flags are settings of its section `server`."""
    server = Server(folder, window, url, **flags)
    await asyncio.to_thread(server.database.prepare)
    await server.store.start()
    await server.registry.recover()
    beside = [
        asyncio.create_task(work) for work in (server.registry.take_up_left(), server.registry.note_heard())
    ]
    try:
        yield server
    finally:
        for task in beside:
            task.cancel()
        await server.registry.drain(TIMEOUT)
        await server.store.close()
        server.database.close()


class Client:
    """One connection: what it heard."""

    def __init__(self, opened: OpenSession) -> None:
        self.opened = opened
        self.heard: list[dict[str, Any]] = [json.loads(text) for text in opened.missed]
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while (text := await self.opened.outbox.get()) is not None:
            self.heard.append(json.loads(text))
            self._changed.set()

    @property
    def kept(self) -> list[dict[str, Any]]:
        return [message for message in self.heard if "seq" in message]

    @property
    def runner(self) -> Any:
        return self.opened.runner

    async def until(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT):
            while not (found := [m for m in self.heard if m["type"] == kind]):
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    async def ended(self) -> int:
        async with asyncio.timeout(TIMEOUT):
            await self._reading
        return self.opened.outbox.close_code

    def resume(self, last_seq: int | None = None) -> Resume:
        seqs = [message["seq"] for message in self.kept]
        return Resume(
            self.opened.id, self.opened.token, max(seqs, default=0) if last_seq is None else last_seq
        )


async def gone_on(server: Server, first: Client) -> Client:
    """Take a session up again once it can be, send the rest of its audio, and hear its end."""
    await server.has(first.opened.id)
    second = Client(await server.registry.resume(first.resume()))
    second.runner.receive_audio(pcm()[second.opened.received_bytes :])
    second.runner.receive(Stop())
    await second.until("final")
    return second


def text_of(*clients: Client) -> str:
    kept = [message for client in clients for message in client.kept]
    assert [message["seq"] for message in kept] == list(range(1, len(kept) + 1))
    return "".join(message["text"] for message in kept if message["type"] == "commit")
