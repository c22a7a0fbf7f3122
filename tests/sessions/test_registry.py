"""All sessions of a server with scripted models, a real disk and database: resumed, left behind, taken up."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from scripted_pass import ScriptedPass, found
from test_runner import SCRIPT, SECOND_BYTES, SECONDS, TEXT, ScriptedEngine, pcm

from live_asr.config.settings import ServerSettings, Settings, StorageSettings, WebhookSettings
from live_asr.core.errors import ClientError, Unavailable
from live_asr.core.messages import Resume, Start, Stop
from live_asr.inference.ipc import Loaded
from live_asr.models.interfaces import RecognizerInfo
from live_asr.sessions import admission
from live_asr.sessions.finalizer import Finalizer
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.registry import SessionRegistry
from live_asr.sessions.resume import OpenSession
from live_asr.storage.database import Database, sqlite_url
from live_asr.storage.spool import SpoolStore

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
    """One run of a server, on a folder."""

    def __init__(self, folder: Path, window: float) -> None:
        settings = Settings(
            server=ServerSettings(resume_window=window, max_sessions=2),
            storage=StorageSettings(data=folder),
            webhook=WebhookSettings(url="http://127.0.0.1:9/hook"),
        )
        self.folder = folder
        self.engine = LoadedEngine()
        self.store = SpoolStore(folder / "sessions", interval=0.01)
        self.database = Database(sqlite_url(folder / "live-asr.db"))
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
async def running(folder: Path, window: float = 60.0) -> AsyncIterator[Server]:
    server = Server(folder, window)
    await asyncio.to_thread(server.database.prepare)
    await server.store.start()
    await server.registry.recover()
    try:
        yield server
    finally:
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


async def test_a_session_that_is_taken_up_has_its_client_s_place_and_the_bounds_of_any(
    tmp_path: Path,
) -> None:
    ours = admission.Client("a1")
    async with running(tmp_path) as server:
        first = Client(await server.registry.open(START, ours))
        first.runner.receive_audio(pcm()[:SECOND_BYTES])
        await first.until("ack")
    async with running(tmp_path) as server:
        await server.has(first.opened.id)
        with pytest.raises(Unavailable, match="token"):
            server.registry.admit(START, ours)  # of two places one token has one
        server.registry.admit(START, admission.Client("b2"))
        second = Client(await server.registry.resume(first.resume()))
        assert second.runner._limits == await server.registry.limits_of(ours)
        second.runner.receive(Stop())
        await second.until("final")
        await server.done(first.opened.id)
        server.registry.admit(START, ours)


async def test_a_lost_client_takes_its_session_up_and_hears_all_of_it_once(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(pcm()[: 3 * SECOND_BYTES])
        await first.until("commit")
        first.runner.lose_client(first.opened.outbox)
        await first.ended()
        second = Client(await server.registry.resume(first.resume()))
        assert second.opened.received_bytes == 3 * SECOND_BYTES
        second.runner.receive_audio(pcm()[3 * SECOND_BYTES :])
        second.runner.receive(Stop())
        final = await second.until("final")
        assert await second.ended() == 1000
    assert text_of(first, second) == TEXT
    assert final["duration"] == SECONDS


def copy_as_left_by_a_kill(now: Path, later: Path) -> None:
    # Files that are about to replace others come and go while this copies.
    shutil.copytree(now, later, ignore=shutil.ignore_patterns("*.new"))


@pytest.mark.parametrize("seconds", [0.0, 0.4, 1.9, 2.6, 4.1, SECONDS])
async def test_whatever_instant_a_server_dies_at_the_next_one_goes_on_there(
    tmp_path: Path, seconds: float
) -> None:
    now, later = tmp_path / "now", tmp_path / "later"
    sent = pcm()[: int(seconds * 16_000) * 2]
    async with running(now) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(sent)
        await eventually(lambda: first.runner.session.lag().received >= seconds - 0.1)
        heard = first.resume()
        acknowledged = max((m["bytes"] for m in first.heard if m["type"] == "ack"), default=0)
        count = len(first.kept)
        await asyncio.to_thread(copy_as_left_by_a_kill, now, later)
    del first.heard[first.heard.index(first.kept[count - 1]) + 1 if count else 0 :]
    async with running(later) as heir:
        await heir.has(first.opened.id)
        second = Client(await heir.registry.resume(heard))
        received = second.opened.received_bytes
        assert acknowledged <= received <= len(sent)
        second.runner.receive_audio(pcm()[received:])
        second.runner.receive(Stop())
        final = await second.until("final")
        await heir.done(first.opened.id)
        assert len(await asyncio.to_thread(heir.database.deliveries)) == 1
    assert text_of(first, second) == TEXT
    assert final["duration"] == SECONDS


async def test_a_session_whose_client_never_comes_back_ends_by_itself_and_is_told_of_once(
    tmp_path: Path,
) -> None:
    now, later = tmp_path / "now", tmp_path / "later"
    async with running(now) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(pcm())
        await first.until("commit")
        await eventually(lambda: first.runner.spool.safe_bytes == len(pcm()))
        await asyncio.to_thread(copy_as_left_by_a_kill, now, later)
    for _ in range(2):  # the second run finds nothing to do
        async with running(later, window=0.1) as heir:
            await heir.done(first.opened.id)
            assert await asyncio.to_thread(heir.state, first.opened.id) == "done"
            assert len(await asyncio.to_thread(heir.database.deliveries)) == 1
            record = Client(await heir.registry.resume(first.resume(0)))
            assert await record.ended() == 1000
            assert text_of(record) == TEXT
            assert record.opened.received_bytes == len(pcm())


async def test_a_server_that_is_told_to_end_leaves_its_sessions_to_the_next_one(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(pcm()[: 4 * SECOND_BYTES])
        await first.until("commit")
        await server.registry.drain(TIMEOUT)
        assert await first.ended() == 1012
        with pytest.raises(Unavailable, match="shutting down"):
            await server.registry.resume(first.resume())
        assert await asyncio.to_thread(server.state, first.opened.id) == "open"
    async with running(tmp_path) as heir:
        second = await gone_on(heir, first)
    assert text_of(first, second) == TEXT


async def test_a_session_that_waits_keeps_its_place(tmp_path: Path) -> None:
    async with running(tmp_path, window=1.0) as server:
        clients = [Client(await server.registry.open(START)) for _ in range(2)]
        for client in clients:
            client.runner.lose_client()
        with pytest.raises(Unavailable) as refusal:
            await server.registry.open(START)
        assert refusal.value.code == "server_full"
        for client in clients:
            await server.done(client.opened.id)
        assert server.registry.has_room


async def test_strangers_and_those_who_claim_too_much_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = Client(await server.registry.open(START))
        mine = client.resume()
        for wanted in (Resume(mine.session, "another"), Resume("nobody", mine.token), Resume("../a", "b")):
            with pytest.raises(ClientError) as refusal:
                await server.registry.resume(wanted)
            assert refusal.value.code == "session_unknown"
        with pytest.raises(ClientError, match="last_seq") as claimed:
            await server.registry.resume(client.resume(7))
        assert claimed.value.close_code == 1007
        assert client.runner.outbox is client.opened.outbox, "nobody was disturbed"
        assert mine.token not in (tmp_path / "sessions" / mine.session / "session.json").read_text()
