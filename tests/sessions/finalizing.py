"""A finalizer over a scripted full pass."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scripted_pass import ScriptedPass, found, words

from live_asr.config.settings import FinalSettings, Settings, StorageSettings, WebhookSettings
from live_asr.core.errors import EngineError
from live_asr.core.messages import (
    Commit,
    Final,
    KeptMessage,
    ServerMessage,
    Start,
    Stopped,
    UtteranceMessage,
    encode,
    to_dict,
    wire_word,
)
from live_asr.core.transcript import Transcript
from live_asr.core.types import Turn
from live_asr.full_pass.process import FullPassResult
from live_asr.sessions.finalizer import Drained, Finalizer
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.resume import read_transcript
from live_asr.storage.database import Database, sqlite_url
from live_asr.storage.file_journal import FileJournal

TIMEOUT = 30.0
RATE_HZ = 16_000
HOOK = "http://127.0.0.1:9/hook"
AUDIO = (np.sin(np.arange(2 * RATE_HZ) / 20) * 20_000).astype("<i2")
"""Two seconds."""


class Desk:
    """A finalizer at work, with all that it writes to."""

    def __init__(
        self, folder: Path, full_pass: ScriptedPass, settings: Settings, kind: type[Database]
    ) -> None:
        self.folder = folder
        self.full_pass = full_pass
        self.store = FileJournal(folder / "sessions", interval=0.01)
        self.database = kind(sqlite_url(folder / "live-asr.db"))
        self.woken = 0
        self.said: list[ServerMessage] = []
        self.metrics = Metrics()
        self.finalizer = Finalizer(
            settings, self.store, self.database, full_pass, wake=self._wake, metrics=self.metrics
        )

    def _wake(self) -> None:
        self.woken += 1

    async def session(
        self,
        start: Start | None = None,
        *,
        name: str = "a1",
        text: str = "one two three four",
        speakers: str = "S1 S1 S2 S2",
        audio: bytes = AUDIO.tobytes(),
        duration: float = 2.0,
        heard_speech: bool = True,
        live_turns: tuple[Turn, ...] = (),
        languages: tuple[str, ...] = (),
    ) -> Drained:
        """Make a session that has just said `stopped`; `languages` are those of its utterances of a word."""
        start = start or Start()
        about = {"start": to_dict(start)}
        spool = await self.store.open(name, about)
        await asyncio.to_thread(self.database.add_session, name, to_dict(start), created_at=1.0)
        spool.append_audio(audio)
        transcript = Transcript()
        labels = [None] * 99 if not speakers else [*speakers.split()]
        said = [replace(word, speaker=label) for word, label in zip(words(text), labels, strict=False)]
        whole = "".join(word.text for word in said)
        messages: list[KeptMessage] = [Commit(1, tuple(map(wire_word, said)), whole, 0)]
        for number, code in enumerate(languages):
            messages.append(
                UtteranceMessage(2 + number, number, number / 2, number / 2 + 0.5, "", None, code)
            )
        for message in (*messages, Stopped(len(messages) + 1, duration, whole)):
            transcript.apply(message)
            spool.append_message(encode(message))
        await spool.settled()
        return Drained(name, start, transcript, spool, live_turns, heard_speech, self.said.append)

    async def finalize(self, session: Drained) -> Final:
        async with asyncio.timeout(TIMEOUT):
            return (await self.finalizer.finalize(session)).final

    async def again(self, session: Drained) -> Drained:
        """Return the session as another run of the server finds it."""
        spool = await self.store.reopen(session.session_id)
        transcript = await asyncio.to_thread(read_transcript, self.store, session.session_id)
        return Drained(session.session_id, session.start, transcript, spool)

    def kept(self, name: str = "a1") -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.store.messages(name)]

    def files(self, name: str = "a1") -> set[str]:
        return {path.name for path in (self.store.folder / name).iterdir()}

    def said_of(self, kind: type[ServerMessage]) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]


@asynccontextmanager
async def opened(
    tmp_path: Path,
    *answers: FullPassResult | EngineError,
    progress: tuple[tuple[str, float], ...] = (),
    final: FinalSettings | None = None,
    webhook: WebhookSettings | None = None,
    keep_audio: bool = False,
    database: type[Database] = Database,
) -> AsyncIterator[Desk]:
    settings = Settings(
        storage=StorageSettings(data=tmp_path, keep_audio=keep_audio),
        final=final or FinalSettings(),
        webhook=webhook or WebhookSettings(),
    )
    desk = Desk(tmp_path, ScriptedPass(*(answers or (found(),)), progress=progress), settings, database)
    await desk.store.start()
    desk.database.prepare()
    try:
        yield desk
    finally:
        await desk.store.close()
        desk.database.close()


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110  what is waited for tells nobody
            await asyncio.sleep(0.01)
