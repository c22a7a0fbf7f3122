"""All sessions of one server: who is admitted, who is at work, what an earlier run left unfinished.

Nothing per session lives anywhere else: a session that ends takes everything of its own with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from sqlalchemy import Connection

from live_asr.audio.isolated_decoder import open_guarded_decoder
from live_asr.config.settings import COUNTED_SESSIONS, Settings
from live_asr.core.checkpoint import Checkpoint
from live_asr.core.clock import utc_text
from live_asr.core.errors import (
    ClientError,
    DecoderDied,
    DecoderError,
    DiskFull,
    LiveAsrError,
    MediaError,
    StorageError,
    Superseded,
    Unavailable,
)
from live_asr.core.messages import Notice, Resume, Start, to_dict
from live_asr.core.session import Session, SessionState
from live_asr.core.types import SAMPLE_RATE_HZ
from live_asr.inference.engine import Engine
from live_asr.inference.ipc import Loaded
from live_asr.sessions import tracing
from live_asr.sessions.admission import SOMEBODY, Client, check_start, quota_reached, server_full
from live_asr.sessions.audience import Audience
from live_asr.sessions.capacity import Capacity, Machine
from live_asr.sessions.client_quotas import Places, key_of, root_of
from live_asr.sessions.disk_space import Room, disk_full
from live_asr.sessions.endings import Endings
from live_asr.sessions.finalizer import Drained, Finalizer, Postponed
from live_asr.sessions.ingest import window_bytes
from live_asr.sessions.limits import Limits
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.policy import caption_options, models_of, options_of, speaker_options_of
from live_asr.sessions.resume import (
    OpenSession,
    Resumption,
    digest_of,
    loading,
    new_token,
    read_transcript,
    remains_of,
    shutting_down,
    start_of,
)
from live_asr.sessions.runner import SessionRunner
from live_asr.sessions.shedding import Cadence
from live_asr.sessions.ticks import Ticks
from live_asr.storage import ownership
from live_asr.storage.database import OVER, Database, StoredSession
from live_asr.storage.journal import Journal
from live_asr.storage.spool import Spool

log = logging.getLogger(__name__)

TRY_AGAIN_AFTER = 30.0
"""Seconds until a session is taken up again that disk or database did not let be taken up."""
DECODER_AGAIN_AFTER = 5.0
"""Seconds until a session is taken up again whose decoder could not be started."""
HOUR = 3600.0
NOTE_INTERVAL = 5.0
"""Seconds between two times that other servers are told what sessions have cost their tokens so far."""
CLAIM_INTERVAL = 1.0
"""Seconds between two looks for sessions of servers that are gone, where several share a journal."""
TAKE_OVER_TIMEOUT = 10.0
"""Seconds for which a client waits for its session to be taken over, before it is told to come again."""
ELSEWHERE = "Another server goes on with this session."
MAX_COMPLETED = 8
"""Stopped sessions of an earlier run that are taken up at once; their transcripts are held in memory."""
IN_WORK = (SessionState.OPEN, SessionState.STREAMING, SessionState.DRAINING, SessionState.FINALIZING)
"""States of sessions that are worked for; the others are over."""


class CheckReceiver(Protocol):
    """Refuses receivers that clients may not name; see `WebhookSender.check`."""

    async def __call__(self, url: str, *, is_known: bool, may_name: bool) -> None:
        """Raise ClientError for one that is refused."""


class SessionRegistry:
    """Open sessions within the bounds of the server, and bring all of them to their end."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Journal,
        database: Database,
        finalizer: Finalizer,
        metrics: Metrics,
        check_receiver: CheckReceiver | None = None,
        on_opened: Callable[[str, Client], None] = lambda _, __: None,
        capacity: Capacity | None = None,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._database = database
        self._finalizer = finalizer
        self._metrics = metrics
        self._check_receiver = check_receiver
        self._on_opened = on_opened
        self._options = caption_options(settings)
        self._room = Room(store)
        self._resumption = Resumption(store, database, self.runner_of)
        self._live: dict[str, SessionRunner] = {}
        """Those that take a place."""
        self._finalizing: dict[str, SessionRunner] = {}
        """Those that have said `stopped`."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """What is done for each of them, and for those of an earlier run that are taken up."""
        self._whose: dict[str, Client] = {}
        """Who opened those that are worked for, as far as that is known."""
        self._erased: set[str] = set()
        """Those whose end is nobody's business any more."""
        self._taken_over: set[str] = set()
        """Those that another server goes on with."""
        self._taking_over: dict[str, asyncio.Event] = {}
        """Those whose client has come here and waits; set once there is a runner, or none will be."""
        self._pausing: set[str] = set()
        """Those whose decoder could not be started."""
        self._died_at: dict[str, int] = {}
        """Those whose decoder's process died, and how far into the audio."""
        self._completing = asyncio.Semaphore(MAX_COMPLETED)
        self._capacity = capacity or Capacity()
        self._endings = Endings()
        self._ticks = Ticks()
        self._since: dict[str, float] = {}
        """When each of those that are live got its place."""
        self._places = Places(self.places, settings.server.max_sessions_per_client)
        self._opening = 0
        self._draining = False
        metrics.places.set_function(lambda: self.places)
        metrics.places_free.set_function(lambda: self.free_places)
        metrics.load.set_function(lambda: self._capacity.load_of(self._taken))
        for state in IN_WORK:
            metrics.sessions_by_state.labels(state.value).set_function(partial(self._count_in, state))

    def _count_in(self, state: SessionState) -> int:
        return sum(
            runner.session.state is state for runner in (*self._live.values(), *self._finalizing.values())
        )

    @property
    def has_room(self) -> bool:
        """Whether another session would be admitted now."""
        return not self._draining and self.free_places > 0

    @property
    def places(self) -> int:
        """How many sessions there may be at once: so many are allowed, or as many as the machine carries."""
        most = self._settings.server.max_sessions
        if self._settings.server.admission == "count":
            return most or COUNTED_SESSIONS
        if (loaded := self._engine.loaded) is not None:
            self._capacity.use(Machine(loaded.lanes, loaded.step_seconds, loaded.most_batch, loaded.others))
        carried = self._capacity.places
        return carried if most is None else min(most, carried)

    @property
    def wanted_lanes(self) -> float:
        """How many of the recogniser's lanes the sessions that there are are predicted to keep busy."""
        return self._capacity.lanes_of(self._taken)

    @property
    def free_places(self) -> int:
        """How many more sessions would be taken now."""
        return max(0, self.places - self._taken)

    @property
    def _taken(self) -> int:
        return len(self._live) + self._opening

    def full(self) -> Unavailable:
        """Return the refusal of somebody for whom there is no place now; it says when there will be one."""
        now = time.monotonic()
        ages = [now - since for since in self._since.values()]
        known = [
            seconds
            for session_id, runner in self._live.items()
            if (seconds := runner.ends_within(now - self._since[session_id])) is not None
        ]
        seconds = self._endings.retry_after(ages, known, now)
        return server_full(self.places, retry_after=seconds)

    async def has_disk(self) -> bool:
        """Tell whether the disk has room for a session. Raises StorageError when that is not known."""
        return await self._room.look()

    async def open(self, start: Start, client: Client = SOMEBODY) -> OpenSession:
        """Admit a session of a client, and begin to work for it.

        Raises Unavailable when the server is full, shutting down or has no models at this moment,
        ClientError when it cannot do what `start` asks for, StorageError when the disk refuses.
        """
        loaded = self.admit(start)
        session_id, token = secrets.token_hex(12), new_token()
        self._places.take(session_id, client)
        self._opening += 1
        try:
            if not await self.has_disk():
                raise disk_full()
            limits = await self.limits_of(client)
            if start.webhook is not None and self._check_receiver is not None:
                await self._check_receiver(
                    start.webhook.url, is_known=client.is_known, may_name=client.may_name_receivers
                )
            session = Session(
                session_id,
                self._in_language(start),
                options_of(self._options, start),
                speakers=speaker_options_of(loaded),
            )
            spool = await self._keep_opening(session_id, to_dict(start), token, client.owner)
            runner = self._runner_of(session, spool, loaded, limits)
            outbox = runner.outbox
            assert outbox is not None, "nobody has had it yet"
        except BaseException:
            self._places.give_back(session_id)
            raise
        finally:
            self._opening -= 1
        self._metrics.sessions_total.inc()
        self._whose[session_id] = client
        self._on_opened(session_id, client)
        self._begin(runner)
        if self._engine.warning:
            runner.tell(
                Notice("gpu_unused", "The server's GPU cannot be used: captions are made on its CPU.")
            )
        now = utc_text(datetime.now(UTC))
        return OpenSession(session_id, token, loaded, runner, outbox, started_at=now)

    def _begin(self, runner: SessionRunner) -> None:
        """Give a session its place, and work for it."""
        session_id = runner.session.id
        self._live[session_id] = runner
        self._since[session_id] = time.monotonic()
        self._metrics.sessions.inc()
        if self._draining:  # it began while the disk was at work: the drain has not seen this one
            self._send_away(runner)
        self._follow(session_id, partial(self._run, runner))

    @staticmethod
    def _send_away(runner: SessionRunner) -> None:
        runner.dismiss(shutting_down())
        runner.leave()

    async def resume(self, wanted: Resume) -> OpenSession:
        """Take a session up again for a client that has lost its connection; see `Resumption.resume`.

        Raises Unavailable, too, where the server ends or has no models yet.
        """
        if self._draining:
            raise shutting_down()
        loaded = self._loaded()
        if self._store.is_shared:
            await self._take_over(wanted)
        try:
            resumed = await self._resumption.resume(wanted, loaded)
        except Superseded:
            raise loading(ELSEWHERE) from None
        if self._draining:  # it began while the disk was at work: the drain has not seen this connection
            resumed.outbox.dismiss(shutting_down())
        self._metrics.sessions_resumed.inc()
        return resumed

    async def _take_over(self, wanted: Resume) -> None:
        """Take a session over whose client has come here, and wait for its runner.

        Nothing happens where the client may not have it, or it is over. Raises Unavailable where it takes a
        place and there is none.
        """
        session_id = wanted.session
        runner = self.runner_of(session_id)
        if runner is not None:
            await self._store.let_go_of_lost()
            if not runner.is_left:
                return
            if (leaving := self._tasks.get(session_id)) is not None:  # it has been elsewhere and comes back
                await asyncio.wait({leaving})
        stored = await self._database.call(self._database.session, session_id)
        if stored is None or stored.state in OVER or not await self._resumption.may_resume(wanted):
            return
        if session_id not in self._tasks:
            if self.free_places < 1:
                raise self.full()
            log.info("session %s is taken over for its client", session_id)
            self._opening += 1
            self._follow(session_id, partial(self._take_up, session_id))
        if self.runner_of(session_id) is not None:
            return
        taken = self._taking_over.setdefault(session_id, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TAKE_OVER_TIMEOUT):
                await taken.wait()

    def _is_taken_up(self, session_id: str) -> None:
        if (waiting := self._taking_over.pop(session_id, None)) is not None:
            waiting.set()

    async def watch_disk(self) -> None:
        """Work until cancelled: before the disk is full, let clients go and leave their sessions as they are.

        What was acknowledged is safe then, and each is taken up again once there is room.
        """
        await self._room.watch(self._leave_all)

    def _leave_all(self) -> None:
        for runner in list(self._live.values()):
            runner.dismiss(disk_full())
            runner.leave()

    def _refused(self, runner: SessionRunner, error: StorageError) -> None:
        """Take note that what a session wrote is not kept."""
        if isinstance(error, Superseded):
            self._let_go(runner)
        elif isinstance(error, DiskFull):
            self._room.refuse()
            runner.dismiss(disk_full())
            runner.leave(even_stopped=True)
        if not runner.is_left:
            runner.fail(error)

    def _let_go(self, runner: SessionRunner) -> None:
        """Leave a session to who has taken it over."""
        session_id = runner.session.id
        log.warning("session %s was taken over by another server: nothing more of it is written", session_id)
        self._taken_over.add(session_id)
        runner.dismiss(loading(ELSEWHERE))
        runner.leave(even_stopped=True)

    def _lost_decoder(self, runner: SessionRunner, error: DecoderError) -> None:
        """Have a session taken up again, from what is on disk, with another decoder."""
        log.error("session %s is taken up again: %s", runner.session.id, error)
        if runner.died_at_bytes is not None:
            self._died_at[runner.session.id] = runner.died_at_bytes
        runner.dismiss(loading("What reads this session's audio is being started again."))
        runner.leave(even_stopped=True)
        if not isinstance(error, DecoderDied):
            self._pausing.add(runner.session.id)

    # The end of the server, and of a session ---------------------------------------------------------

    async def drain(self, patience: float) -> None:
        """Refuse new sessions, and leave the open ones to the next run of the server, as their clients hear.

        Those that are stopped are brought to the end of their live transcript; their full passes are left to
        the next run, too. What else is not done after `patience` seconds is given up. Idempotent.
        """
        self._draining = True
        for runner in (*self._live.values(), *self._finalizing.values()):
            self._send_away(runner)
        self._finalizer.postpone()
        for session_id, task in self._tasks.items():
            if self.runner_of(session_id) is None:  # not taken up yet: it is left as it is
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=patience)
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def runner_of(self, session_id: str) -> SessionRunner | None:
        """Return the runner of a session that is live or being finalized; None when there is no such one."""
        return self._live.get(session_id) or self._finalizing.get(session_id)

    def audience_of(self, session_id: str) -> Audience | None:
        """Return who watches a session that goes on; None when there is no such one."""
        runner = self.runner_of(session_id)
        return None if runner is None else runner.audience

    async def erase(self, session_id: str) -> bool:
        """End a session if it goes on, and erase its audio, its text and what was to be told of it.

        Returns False when there is no such session. Raises StorageError when disk or database refuse; what is
        left is erased by another call, or by the next run of the server.
        """
        task, runner = self._tasks.get(session_id), self.runner_of(session_id)
        if task is not None:
            self._erased.add(session_id)
            if runner is None:
                task.cancel()
            else:
                runner.fail(
                    ClientError("session_erased", "This session was erased.", "Open a new session to go on.")
                )
            await asyncio.wait({task})
            self._erased.discard(session_id)
        was_kept = await asyncio.to_thread(self._store.mark_deleted, session_id)
        heard = runner.session.heard_sample / SAMPLE_RATE_HZ if runner is not None else 0.0
        await self._database.call(ownership.keep_spent, self._database, session_id, heard, now=time.time())
        was_known = await self._database.call(self._database.delete_session, session_id)
        await asyncio.to_thread(self._store.erase, session_id)
        return was_kept or was_known

    # What an earlier run left ------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take up, beside all else, what an earlier run of the server left unfinished.

        Call it before the first session is opened. Where the journal is shared, `take_up_left` does so.
        Raises StorageError when disk or database refuse.
        """
        for session_id in await asyncio.to_thread(self._store.condemned):
            await self._database.call(self._database.delete_session, session_id)
            await asyncio.to_thread(self._store.erase, session_id)
        if self._store.is_shared:
            return
        unfinished = await self._database.call(self._database.unfinished)
        if unfinished:
            count = len(unfinished)
            log.info("resuming %d session%s of an earlier run", count, "s" * (count != 1))
        self._opening += len(unfinished)  # places, until it is known whether they take one
        for stored in unfinished:
            self._follow(stored.id, partial(self._take_up, stored.id))

    async def take_up_left(self) -> None:
        """Work until cancelled: go on with sessions whose server is gone, where several share the journal."""
        is_told = False
        while self._store.is_shared:
            await asyncio.sleep(CLAIM_INTERVAL)
            if self._draining:
                return
            try:
                claimed = await self._database.call(self._store.claim, MAX_COMPLETED)
                is_told = False
            except StorageError as error:
                if not is_told:
                    log.error("sessions of other servers cannot be looked for: %s", error)
                is_told = True
                continue
            for session_id in claimed:
                if session_id not in self._tasks:
                    log.info("session %s is taken up: its server is gone", session_id)
                    self._opening += 1
                    self._follow(session_id, partial(self._take_up, session_id))

    async def _take_up(self, session_id: str) -> bool:
        """Go on with a session of which there is something, to its end, in a place that is reserved.

        Never raises but when it is cancelled; returns whether it has to be taken up again.
        """
        place = contextlib.ExitStack()
        place.callback(self._give_reservation_back)
        stored: StoredSession | None = None
        try:
            stored = await self._database.call(self._database.session, session_id)
            if stored is None:
                return False
            start = self._in_language(start_of(stored))
            self._whose[session_id] = Client(stored.owner)
            if not (await asyncio.to_thread(read_transcript, self._store, session_id)).is_stopped:
                return await self._go_on(session_id, start, place)
            place.close()
            async with self._completing:
                return await self._complete(session_id, start)
        except Superseded:
            log.warning("session %s was taken over by another server meanwhile", session_id)
            return False
        except (StorageError, OSError) as error:  # disk or database may be in better order in a while
            log.error("session %s could not be resumed and will be tried again: %s", session_id, error)
            place.close()
            await asyncio.sleep(TRY_AGAIN_AFTER)
            return True
        except Exception:  # one session's trouble keeps no other from being taken up
            log.exception("session %s cannot be resumed", session_id)
            if stored is not None:
                await self._give_up(stored)
            return False
        finally:
            place.close()

    def _give_reservation_back(self) -> None:
        self._opening -= 1

    async def _give_up(self, stored: StoredSession) -> None:
        """Have it noted and told that a session cannot be taken up."""
        start, transcript = await asyncio.to_thread(remains_of, self._store, stored)
        fault = LiveAsrError("The server ended before this session did.", code="interrupted")
        await self._finalizer.fail(stored.id, start, transcript, fault)

    async def _go_on(self, session_id: str, start: Start, place: contextlib.ExitStack) -> bool:
        """Go on with a session whose audio had not ended: wait for its client, then end it as if stopped."""
        loaded = await self._engine.wait()
        runner = await self._rebuilt(session_id, start, loaded)
        place.close()
        self._places.take_again(session_id, self._whose[session_id])
        self._metrics.sessions.inc()
        self._live[session_id] = runner
        self._since[session_id] = time.monotonic()
        self._is_taken_up(session_id)
        if self._draining:
            self._send_away(runner)
        return await self._run(runner)

    async def _complete(self, session_id: str, start: Start) -> bool:
        """Have the result made of a session that had said `stopped`."""
        runner = await self._rebuilt(session_id, start, None)
        if runner.session.transcript.final is None:
            self._finalizing[session_id] = runner
            self._is_taken_up(session_id)
            return await self._run(runner)
        runner.close()
        session = runner.session
        try:
            with contextlib.suppress(Postponed):
                await self._finalizer.finalize(Drained(session.id, start, session.transcript, runner.spool))
        finally:
            await self._store.finish(runner.spool, keep_audio=True)
        return False

    async def _rebuilt(self, session_id: str, start: Start, loaded: Loaded | None) -> SessionRunner:
        """Make a session again of what is on disk of it. Raises KeyError and StorageError as `reopen`."""
        spool = await self._store.reopen(session_id)
        try:
            transcript = await asyncio.to_thread(read_transcript, self._store, session_id)
            checkpoint = Checkpoint.from_dict(await asyncio.to_thread(self._store.state, session_id))
            checkpoint = checkpoint.for_models(models_of(loaded))
            session = Session.restored(
                session_id,
                start,
                transcript,
                checkpoint,
                options_of(self._options, start),
                speakers=speaker_options_of(loaded),
            )
            runner = self._runner_of(session, spool, loaded, self._limits)
        except BaseException:
            await self._store.finish(spool, keep_audio=True)
            raise
        runner.restore()
        return runner

    # A new session -----------------------------------------------------------------------------------

    def admit(self, start: Start, client: Client = SOMEBODY) -> Loaded:
        """Return the models that a client's session would have that was opened now. Raises as `open` does."""
        if self._draining:
            raise shutting_down(
                "Open the session again in a moment, here or on another server.", close_code=1013
            )
        loaded = self.check(start)
        if self.free_places < 1:
            raise self.full()
        self._places.most = self.places
        self._places.check(client)
        return loaded

    def check(self, start: Start) -> Loaded:
        """Return the models, which can do what `start` asks for. Raises ClientError, and Unavailable."""
        loaded = self._loaded()
        check_start(self._in_language(start), loaded.recognizer)
        return loaded

    def _loaded(self) -> Loaded:
        if self._engine.loaded is None:
            raise loading("The models are still being loaded.")
        return self._engine.loaded

    def _in_language(self, start: Start) -> Start:
        given = self._settings.streaming.language
        names_some = start.language is not None or bool(start.languages)
        return start if names_some or given is None else replace(start, language=given)

    async def limits_of(self, client: Client) -> Limits:
        """Return how much a client's session may be. Raises Unavailable `quota_reached`."""
        limits = self._limits
        quota, owner = self._settings.server.token_hours_per_day, root_of(client.owner)
        if quota is not None and owner is not None:
            here = self._heard()
            spent = await self._database.call(
                ownership.spent, self._database, owner, after=time.time() - 24 * HOUR, here=here
            )
            spent += sum(
                seconds
                for session_id, seconds in here.items()
                if root_of(self._whose.get(session_id, SOMEBODY).owner) == owner
            )
            if spent >= quota * HOUR:
                raise quota_reached(quota)
            left = quota * HOUR - spent
            limits = replace(limits, seconds=left if limits.seconds is None else min(limits.seconds, left))
        return limits

    def _heard(self) -> dict[str, float]:
        """Return how many seconds of audio each session has had that is worked for here."""
        return {
            session_id: runner.session.heard_sample / SAMPLE_RATE_HZ
            for session_id, runner in (self._live | self._finalizing).items()
        }

    def _check_everywhere(self, owner: str | None, connection: Connection) -> None:
        """Refuse one more session of a token that has as many as it may have, at all servers. Blocks.

        Where the operator has not said how many, each server has a bound of its own alone. Raises
        Unavailable.
        """
        may, owner = self._settings.server.max_sessions_per_client, root_of(owner)
        if not self._store.is_shared or may is None or owner is None:
            return
        if ownership.count_open(connection, owner) >= may:
            raise server_full(may, "token")

    async def note_heard(self) -> None:
        """Work until cancelled: tell other servers what the sessions here have cost their tokens so far."""
        is_wanted = self._store.is_shared and self._settings.server.token_hours_per_day is not None
        while is_wanted:
            await asyncio.sleep(NOTE_INTERVAL)
            owned = {
                session_id: seconds
                for session_id, seconds in self._heard().items()
                if self._whose.get(session_id, SOMEBODY).owner is not None
            }
            try:
                await self._database.call(ownership.note_heard, self._database, owned)
            except StorageError as error:  # whoever asks meanwhile has a little more
                log.warning("other servers cannot be told what tokens have used: %s", error)

    @property
    def _limits(self) -> Limits:
        """How much any session may be."""
        return Limits(self._settings.server.max_session_hours * HOUR, self._settings.server.max_session_bytes)

    def _runner_of(
        self, session: Session, spool: Spool, loaded: Loaded | None, limits: Limits
    ) -> SessionRunner:
        return SessionRunner(
            session,
            spool,
            decoder=open_guarded_decoder(
                session.start.audio, self._store.folder, channels=session.start.heard_channels
            ),
            engine=self._engine,
            cadence=Cadence(step_samples=self._options.window.step_samples),
            metrics=self._metrics,
            max_unacked_bytes=window_bytes(session.start, self._settings.server.max_unacked_bytes),
            finalize=self._finalize,
            resume_window=self._settings.server.resume_window,
            idle_timeout=self._settings.server.idle_timeout,
            models=models_of(loaded),
            limits=limits,
            lose_decoder=self._lost_decoder,
            died_at_bytes=self._died_at.get(session.id),
            refused=self._refused,
            ticks=self._ticks,
        )

    async def _keep_opening(
        self, session_id: str, start: dict[str, Any], token: str, owner: str | None
    ) -> Spool:
        """Put on disk, then in the database, that there is such a session. Raises StorageError."""
        about = {"session": session_id, "start": start, "token": digest_of(token)}
        spool = await self._store.open(session_id, about)
        try:
            await self._database.call(
                self._database.add_session,
                session_id,
                start,
                created_at=time.time(),
                owner=owner,
                check=partial(self._check_everywhere, owner),
            )
        except BaseException:
            await self._store.finish(spool, keep_audio=True)
            await asyncio.to_thread(self._store.mark_deleted, session_id)
            await asyncio.to_thread(self._store.erase, session_id)
            raise
        return spool

    def _follow(self, session_id: str, work: Callable[[], Awaitable[bool]]) -> None:
        """Have it worked for a session, for as long as that says that there is more to do."""

        async def to_its_end() -> None:
            tracing.session_id.set(session_id)
            more = await work()
            while more and not self._draining:
                await self._room.wait()
                if session_id in self._pausing:
                    self._pausing.discard(session_id)
                    await asyncio.sleep(DECODER_AGAIN_AFTER)
                self._opening += 1
                more = await self._take_up(session_id)

        task = self._tasks[session_id] = asyncio.create_task(to_its_end(), name=f"session {session_id}")

        def forget(_: asyncio.Task[None]) -> None:
            self._tasks.pop(session_id, None)
            self._is_taken_up(session_id)
            self._died_at.pop(session_id, None)
            self._pausing.discard(session_id)
            self._taken_over.discard(session_id)

        task.add_done_callback(forget)

    async def _run(self, runner: SessionRunner) -> bool:
        """Work for a session until it is over. Never raises; returns whether it was left to be taken up."""
        session_id = runner.session.id
        try:
            try:
                await self._traced(runner)
            finally:
                # Without its result, the audio is all that there is of what was acknowledged.
                # Where a process died of it, it may not have been the audio that was to blame.
                keep_audio = not isinstance(runner.fault, MediaError) or session_id in self._died_at
                await self._store.finish(runner.spool, keep_audio=keep_audio)
            if runner.fault is not None and not self._is_nobodys(session_id):
                session = runner.session
                await self._finalizer.fail(
                    session_id,
                    session.start,
                    session.transcript,
                    runner.fault,
                    spool=runner.spool,
                    turns=session.turns(),
                    received_samples=session.received_sample,
                    started_at=session.started_at,
                )
        except Superseded:
            self._let_go(runner)
        except Exception:  # nobody awaits this task; the place is given back whatever happens
            log.exception("session %s could not be finished", session_id)
        finally:
            self._give_place_back(runner)
            self._finalizing.pop(session_id, None)
            self._whose.pop(session_id, None)
        return runner.is_left and not self._is_nobodys(session_id)

    def _is_nobodys(self, session_id: str) -> bool:
        """Tell whether what becomes of a session is no business of this server any more."""
        return session_id in self._erased or session_id in self._taken_over

    @staticmethod
    async def _traced(runner: SessionRunner) -> None:
        """Have a session run, as one span."""
        session = runner.session
        with tracing.span("session", session=session.id, pace=session.start.pace) as span:
            try:
                await runner.run()
            finally:
                span.set_attribute("live_asr.state", session.state.value)
                span.set_attribute("live_asr.audio_seconds", session.heard_sample / SAMPLE_RATE_HZ)
                span.set_attribute("live_asr.words", len(session.transcript.words))

    async def _finalize(self, runner: SessionRunner) -> None:
        """Have the result of a session made, and say it: what the runner asks for at its end."""
        session = runner.session
        self._finalizing[session.id] = runner
        self._give_place_back(runner)
        drained = Drained(
            session.id,
            session.start,
            session.transcript,
            runner.spool,
            session.turns(),
            runner.heard_speech,
            runner.tell,
            session.started_at,
            key_of(self._whose.get(session.id, SOMEBODY)),
        )
        try:
            with contextlib.suppress(Postponed):
                finished = await self._finalizer.finalize(drained)
                runner.finish(finished.final, finished.encoded)
        except (DiskFull, Superseded) as error:
            self._refused(runner, error)

    def _give_place_back(self, runner: SessionRunner) -> None:
        self._places.give_back(runner.session.id)
        if self._live.pop(runner.session.id, None) is not None:
            self._metrics.sessions.dec()
            self._endings.note(time.monotonic() - self._since.pop(runner.session.id))
