"""All sessions of one server: admission, the live ones, the ones that are over.

Nothing per session lives anywhere else: a session that ends takes everything of its own with it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from live_asr.config import Settings
from live_asr.core.captioner import CaptionOptions
from live_asr.core.export import FORMATS, Record
from live_asr.core.messages import Start, decode_server, to_dict
from live_asr.core.segmenter import SegmenterOptions
from live_asr.core.session import Session, SessionState
from live_asr.core.transcript import Transcript
from live_asr.core.types import samples
from live_asr.core.window import WindowOptions
from live_asr.errors import ClientError, LiveAsrError, Unavailable
from live_asr.inference.channel import Loaded
from live_asr.inference.engine import Engine
from live_asr.sessions.decoding import open_decoder
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.runner import Cadence, SessionRunner
from live_asr.storage.spool import SpoolStore

log = logging.getLogger(__name__)

RETRY_AFTER = 15.0
"""Seconds after which a refused client may try again: talks end at any time."""
LEAST_FREE_BYTES = 64 * 1024 * 1024
"""With less room on the disk no session is taken: it could not be kept."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that was admitted: its secret, its models, what drives it, and the task that does."""

    token: str
    loaded: Loaded
    runner: SessionRunner
    task: asyncio.Task[None]


def caption_options(settings: Settings) -> CaptionOptions:
    """Return the streaming policy that the settings describe."""
    streaming = settings.streaming
    return CaptionOptions(
        segmenter=SegmenterOptions(
            on_probability=streaming.vad_threshold,
            # Hysteresis: what goes on may be less clear than what begins.
            off_probability=max(0.01, streaming.vad_threshold - 0.15),
            end_silence_samples=samples(streaming.end_silence),
        ),
        window=WindowOptions(
            first_step_samples=samples(streaming.first_step),
            step_samples=samples(streaming.step),
            trim_above_samples=samples(streaming.window),
            carry_samples=samples(streaming.carry),
        ),
        doubt_probability=streaming.doubt,
        edge_guard_samples=samples(streaming.edge_guard),
        longest_utterance_samples=samples(streaming.max_utterance),
    )


class SessionRegistry:
    """Open sessions within the bounds of the server, and find them again."""

    def __init__(self, settings: Settings, engine: Engine, store: SpoolStore, metrics: Metrics) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._metrics = metrics
        self._options = caption_options(settings)
        self._live: dict[str, SessionRunner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = 0
        self._draining = False

    @property
    def has_room(self) -> bool:
        """Whether another session would be admitted now."""
        return not self._draining and len(self._live) + self._opening < self._settings.server.max_sessions

    async def open(self, start: Start) -> OpenSession:
        """Admit a session and begin to work for it.

        Raises Unavailable when the server is full, shutting down or has no models at this moment,
        ClientError when it cannot do what `start` asks for, StorageError when the disk refuses.
        """
        loaded = self._admit(start)
        session_id = secrets.token_hex(12)
        self._opening += 1
        try:
            if await asyncio.to_thread(self._store.free_bytes) < LEAST_FREE_BYTES:
                raise Unavailable(
                    "storage_full",
                    "The server's disk is full.",
                    "The operator has to make room; try again later.",
                    retry_after=60.0,
                    close_code=1011,
                )
            runner = self._runner(session_id, start)
            try:
                spool = await self._store.open(
                    session_id,
                    {"session": session_id, "start": to_dict(start)},
                    runner.acknowledge,
                    runner.fail,
                )
            except BaseException:
                runner.close()
                raise
            runner.attach_spool(spool)
        finally:
            self._opening -= 1
        self._live[session_id] = runner
        if self._draining:  # it began while the disk was at work: the drain has not seen this one
            runner.dismiss(_shutting_down())
        self._metrics.sessions.inc()
        self._metrics.sessions_total.inc()
        task = asyncio.create_task(self._run(runner), name=f"session {session_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return OpenSession(secrets.token_urlsafe(24), loaded, runner, task)

    async def drain(self, patience: float) -> None:
        """Refuse new sessions, tell the clients of the open ones, and bring what was heard to its end.

        What is not done after `patience` seconds is given up.
        """
        self._draining = True
        for runner in self._live.values():
            runner.dismiss(_shutting_down())
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=patience)
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def live(self, session_id: str) -> SessionRunner | None:
        """Return the runner of a live session; None when there is no such one."""
        return self._live.get(session_id)

    async def record(self, session_id: str, *, live_revision: bool = False) -> Record:
        """Return the transcript of a session, live or over, as far as it is known.

        Raises KeyError when there is no such session.
        """
        runner = self._live.get(session_id)
        if runner is not None:
            return Record.of(session_id, runner.session.transcript, live=live_revision)
        return await asyncio.to_thread(self._read_record, session_id, live_revision)

    def _read_record(self, session_id: str, live_revision: bool) -> Record:
        transcript = Transcript()
        for line in self._store.messages(session_id):
            try:
                transcript.apply(decode_server(line))
            except LiveAsrError as error:
                # A disk that lost a stretch in the middle: what came before it is still what was said.
                log.warning("session %s can be read only in part: %s", session_id, error)
                break
        return Record.of(session_id, transcript, live=live_revision)

    def _admit(self, start: Start) -> Loaded:
        if self._draining:
            raise _shutting_down()
        if start.resume is not None:
            raise ClientError(
                "session_unknown",
                f"There is no session {start.resume.session!r} that can be taken up again.",
                "Open a new session with a `start` without `resume`.",
            )
        loaded = self._engine.loaded
        if loaded is None:
            raise Unavailable(
                "loading",
                "The models are still being loaded.",
                "Try again in a few seconds.",
                retry_after=3.0,
            )
        if start.language is not None and start.language not in loaded.recognizer.languages:
            known = ", ".join(loaded.recognizer.languages)
            raise ClientError(
                "language_unsupported",
                f"The model {loaded.recognizer.name} does not know the language {start.language!r}.",
                f"It knows: {known}. Give null to have the language detected.",
            )
        if start.task == "translate" and loaded.recognizer.languages == ("en",):
            raise ClientError(
                "task_unsupported",
                f"The model {loaded.recognizer.name} knows only English and translates nothing.",
                "Ask for `transcribe`, or run the server with a multilingual model.",
            )
        if not self.has_room:
            raise Unavailable(
                "server_full",
                f"All {self._settings.server.max_sessions} places are taken.",
                f"Try again in {RETRY_AFTER:.0f} seconds.",
                retry_after=RETRY_AFTER,
            )
        return loaded

    def _runner(self, session_id: str, start: Start) -> SessionRunner:
        if start.language is None and self._settings.streaming.language is not None:
            start = replace(start, language=self._settings.streaming.language)
        return SessionRunner(
            Session(session_id, start, self._options),
            decoder=open_decoder(start.audio, self._store.folder),
            engine=self._engine,
            cadence=Cadence(step_samples=self._options.window.step_samples),
            metrics=self._metrics,
            max_unacked_bytes=self._settings.server.max_unacked_bytes,
            links=links(session_id),
        )

    async def _run(self, runner: SessionRunner) -> None:
        try:
            try:
                await runner.run()
            finally:
                # Without its transcript, the audio is all that there is of what was acknowledged.
                complete = runner.session.state is SessionState.DONE
                keep_audio = self._settings.storage.keep_audio or not complete
                await self._store.finish(runner.spool, keep_audio=keep_audio)
        except Exception:  # nobody awaits this task; the place is given back whatever happens
            log.exception("session %s could not be finished", runner.session.id)
        finally:
            del self._live[runner.session.id]
            self._metrics.sessions.dec()


def _shutting_down() -> Unavailable:
    return Unavailable(
        "shutting_down",
        "The server is shutting down.",
        "Connect again in a moment; what was acknowledged is in the transcript.",
        retry_after=5.0,
        close_code=1012,
    )


def links(session_id: str) -> Mapping[str, str]:
    """Return where the exports of a session are, by format."""
    return {name: f"/v1/sessions/{session_id}/transcript.{name}" for name in FORMATS}
