"""Drives one session: feeds it what arrives and performs what it asks for.

A socket and a file feed the same runner. What arrives is queued in the order it came, so that a
`finalize` between two chunks of audio means the same however long either takes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import orjson

from live_asr.audio.decoder import AudioDecoder
from live_asr.core.checkpoint import Models
from live_asr.core.clock import utc_text
from live_asr.core.connection_states import ConnectionState, Sent
from live_asr.core.errors import ClientError, DecoderError, LiveAsrError, MediaError, StorageError
from live_asr.core.languages import check_known
from live_asr.core.messages import (
    Ack,
    Final,
    Finalize,
    Finalized,
    Keepalive,
    Notice,
    Pause,
    Paused,
    ServerMessage,
    Speech,
    Stop,
    Time,
    Update,
    Updated,
)
from live_asr.core.session import Session, SessionEvent, SessionState
from live_asr.core.types import samples
from live_asr.inference.engine import Engine
from live_asr.models.interfaces import FloatArray
from live_asr.sessions.audience import Audience
from live_asr.sessions.connection import PAUSE_WINDOW, ClientConnection, Outbox
from live_asr.sessions.durable_log import DurableLog
from live_asr.sessions.idleness import Idleness
from live_asr.sessions.inference_tasks import DetectionTask, RecognitionTask, SpeakerTask
from live_asr.sessions.ingest import (
    AudioIntake,
    Control,
    Inbox,
    PendingRequests,
    Shelved,
    after_stop,
    check_window,
    rate_of,
)
from live_asr.sessions.latency import WordLatency
from live_asr.sessions.limits import NO_LIMITS, Limits, RealTime, too_long
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.shedding import Cadence
from live_asr.sessions.silence import Silence
from live_asr.sessions.ticks import Ticks
from live_asr.storage.spool import Spool

log = logging.getLogger(__name__)

LIVE_BACKLOG_SAMPLES = samples(60.0)
"""A live session is fed this far ahead of what was recognised; what comes beyond waits on disk."""
FILE_BACKLOG_SAMPLES = samples(20.0)
"""The same for a file, whose acknowledgements tell of what was worked off: they are what paces it."""
ACK_INTERVAL = 1.0
"""Seconds after which more is acknowledged of live audio that came too fast."""
ACK_PAUSE = 0.15
"""Seconds between two of a live session that hears by the tick: no more than one for each flush to disk."""
LAG_INTERVAL = 1.0
"""Seconds between two `lag` messages while audio arrives, or is caught up with."""


class SessionRunner:
    """One live session, from `ready` to `done`.

    `finalize` is called once the live transcript is complete and on disk; it hands in the result with
    `finish`, unless the server ends before there is one. A session whose client is lost waits for it for
    `resume_window` seconds, in its place, then ends as if stopped. While it is paused it waits for
    `pause_window` seconds, where that is longer. A client that says nothing for `idle_timeout` seconds, of a
    paused session for as long as that waits, is let go; 0: never. A session that reaches one of its `limits`
    ends as if stopped. `lose_decoder` is called where what decodes its audio is gone, and has it left;
    `died_at_bytes` is as for `AudioIntake`. `refused` is called where nothing is kept any more, and decides
    what becomes of the session; without it, it fails. Live sessions that share `ticks` hear what came
    together.
    """

    def __init__(
        self,
        session: Session,
        spool: Spool,
        *,
        decoder: AudioDecoder,
        engine: Engine,
        cadence: Cadence,
        metrics: Metrics,
        max_unacked_bytes: int,
        finalize: Callable[[SessionRunner], Awaitable[None]],
        resume_window: float = 0.0,
        idle_timeout: float = 0.0,
        pause_window: float = PAUSE_WINDOW,
        models: Models | None = None,
        limits: Limits = NO_LIMITS,
        lose_decoder: Callable[[SessionRunner, DecoderError], None] | None = None,
        died_at_bytes: int | None = None,
        refused: Callable[[SessionRunner, StorageError], None] | None = None,
        ticks: Ticks | None = None,
    ) -> None:
        self.session, self.spool = session, spool
        self._log = DurableLog(spool, self._give_out)
        self.audience = Audience(spool.kept_count)
        self.fault: LiveAsrError | None = None
        """Why the session failed; None while it has not."""
        self.heard_speech = False
        """Whether anything sounded like speech so far, words or not."""
        self._metrics, self._engine = metrics, engine
        self._models = models or Models()
        self.max_unacked_bytes = max_unacked_bytes
        """Audio that its client may have in flight."""
        self._finalize = finalize
        self._lose_decoder, self._refused = lose_decoder, refused
        self._inbox = Inbox()
        self._awaited: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        """Who waits for the session to have moved, and how far."""
        # A file waits for nobody: it is heard as fast as it can be.
        self._ticks = ticks if ticks is not None and session.start.pace == "realtime" else Ticks()
        self._drained = asyncio.Event()
        self._speakers = SpeakerTask(session, engine, self._until, self._advanced)
        self._recognition = self._recognition_at(cadence)
        self._is_paused = session.transcript.is_paused
        """Whether its client has paused, as it has said and the captions may not have come to yet."""
        self._windows = resume_window, max(resume_window, pause_window)
        self._patiences = idle_timeout, max(idle_timeout, pause_window) if idle_timeout else 0.0
        self._client = ClientConnection(self._window, self._end_as_if_stopped)
        self._idleness = Idleness(self._patience, self._is_at_work, self._warn_idle, self._end_idle)
        self._is_restored = False
        """Whether there is audio of an earlier run, to be heard before anything that arrives."""
        self._state_count = 0
        """How many kept messages the last state that was put down goes with."""
        self._pending = PendingRequests()
        self.received_bytes = 0
        """Audio taken so far, counted from the session's first byte."""
        self._acked_bytes = 0
        self._live = session.start.pace == "realtime"
        self._bytes_per_second = rate_of(session.start.audio)
        self._limits, self._ack_pace, self._ack_due = limits, RealTime(), 0.0
        self._ack_timer: asyncio.TimerHandle | None = None
        self._heard_pace: RealTime | None = None
        self._silence = Silence(lambda: self._inbox.put("silence"))
        self._audio_since_lag = False
        self._latency = WordLatency(
            metrics.first_appearance_seconds.observe, metrics.commit_latency_seconds.observe
        )
        self._intake = AudioIntake(
            session,
            decoder,
            self._until,
            self._heard,
            most_backlog_samples=LIVE_BACKLOG_SAMPLES if self._live else FILE_BACKLOG_SAMPLES,
            pace=self._ahead,
            died_at_bytes=died_at_bytes,
        )
        spool.listen(self)

    def _recognition_at(self, cadence: Cadence) -> RecognitionTask:
        return RecognitionTask(
            self.session,
            self._engine,
            self._speakers,
            self._until,
            self._advanced,
            cadence=cadence,
            metrics=self._metrics,
            tell=self.tell,
        )

    def _watch_of(self, channel: int) -> DetectionTask:
        return DetectionTask(self.session, self._engine, self._until, self._advanced, channel)

    # What the socket hands in ------------------------------------------------------------------------

    def tell(self, message: ServerMessage) -> None:
        """Say what does not come from the session itself, such as how far its full pass is."""
        self._tell(message)

    def receive_audio(self, data: bytes) -> None:
        """Take audio bytes as they came. Raises ClientError `overrun` beyond the window of the protocol."""
        check_window(self.received_bytes + len(data) - self._acked_bytes, self.max_unacked_bytes)
        match self._client.sent:
            case Sent.REFUSED:
                raise after_stop("audio")
            case Sent.DROPPED:
                self._drop_audio()
                return
            case Sent.IGNORED:
                return
        if self._limits.is_too_much(self.received_bytes + len(data)):
            self._end_for(too_long(f"A session may send {self._limits.bytes} bytes."))
            return
        self._idleness.touch()
        if self._is_paused and data:
            self.receive(Pause(paused=False))
        self._audio_since_lag = True
        if self._live:
            self._silence.wait()
        if not self.received_bytes and data:
            self.session.started_at = utc_text(datetime.now(UTC))
            self._put_state()
        self.spool.append_audio(data)
        self._inbox.put_audio(data, self.received_bytes)
        if self._live and self._bytes_per_second:
            start, end = self.received_bytes, self.received_bytes + len(data)
            rate = self._bytes_per_second
            self._latency.note_audio(start / rate, end / rate, time.monotonic())
        self.received_bytes += len(data)

    def receive(self, message: Update | Time | Finalize | Pause | Keepalive | Stop) -> None:
        """Take a control message, in order with the audio. Raises ClientError `overrun` for a flood."""
        if self._client.sent is Sent.IGNORED:
            return
        self._idleness.touch()
        if isinstance(message, Keepalive):
            return
        is_finalize = isinstance(message, Finalize)
        if not self._may_send:
            if self.outbox is not None and self.outbox.is_resumed:
                return  # said again, because nobody could know whether it had arrived
            raise after_stop(message.type)
        if isinstance(message, Time):
            self.session.receive_time(message)
            self._advanced()
            return
        self._pending.ask(is_finalize=is_finalize)
        if isinstance(message, Update):
            self._inbox.put(self._possible(message))
            return
        if isinstance(message, Pause):
            self._is_paused = message.paused
            self._idleness.touch()  # whose time may be shorter now
            self._inbox.put(message)
            return
        self._inbox.put("finalize" if is_finalize else "stop")
        if not is_finalize:
            self._client.stop()
            self._silence.close()
            self._acknowledge_safe()  # nobody is made to wait for what was sent already

    def _possible(self, update: Update) -> Update:
        """Return an update, without languages that the model does not know: no talk ends for that."""
        try:
            if self._engine.loaded is not None:
                model = self._engine.loaded.recognizer
                check_known((update.language, *(update.languages or ())), model.name, model.languages)
        except ClientError as error:
            self._tell(Notice("update_refused", f"{error.message} {error.hint}"))
            return replace(update, language=None, languages=None)
        return update

    # Losing a client, and getting it back ------------------------------------------------------------

    @property
    def outbox(self) -> Outbox | None:
        """What the client is to hear; None while there is none."""
        return self._client.outbox

    def attach(self) -> Outbox:
        """Give the session a new client; one that it still has, as far as it knows, is let go.

        What the client is to hear from here on is in the box that is returned.
        """
        self._send_all()
        outbox = self._client.attach(self._log.end)
        self._idleness.touch()
        self._pending.forget()
        if self._live and self._may_send:
            self._silence.wait()
        self._tell(Ack(self._acked_bytes))
        return outbox

    def restore(self) -> None:
        """Begin with what an earlier run left on disk, and wait for the client; before `run`."""
        self._is_restored = True
        self.received_bytes = self._acked_bytes = self.spool.safe_bytes
        self.heard_speech = True  # or not; this errs on the side of looking once more
        self._client.lose()
        if self.session.state is SessionState.FINALIZING:
            # Whether that was stopped or given up is not known, so that its client may have more audio.
            self._client.give_up()

    def lose_client(self, outbox: Outbox | None = None) -> None:
        """Take note that the client is gone: nothing is sent any more, what was heard is kept.

        Where `outbox` is given and the client has another one by now, nothing happens.
        """
        if not self.is_over and not self._client.is_other(outbox):
            self._silence.close()  # when it is back, its speech goes on as if nothing had been
            self._client.lose()

    @property
    def _may_send(self) -> bool:
        """Whether more may come from its client, now or once it is back."""
        return self._client.sent is Sent.TAKEN

    def _window(self) -> float:
        """Return for how many seconds to wait for a client that is lost now: who sent no audio lost none."""
        has_audio = self.received_bytes > 0 or self._is_restored
        return self._windows[self._is_paused] if has_audio else 0.0

    def _patience(self) -> float:
        return self._patiences[self._is_paused]

    def _is_at_work(self) -> bool:
        """Tell whether it is not the client's turn: it waits for what it sent, has stopped, or is gone."""
        is_its_turn = self._client.state is ConnectionState.ATTACHED
        return not is_its_turn or self.received_bytes > self._acked_bytes

    def _warn_idle(self, left: float) -> None:
        text = f"The session will end in {left:.0f} seconds unless something arrives."
        self._tell(Notice("idle", f"{text} Send audio, or `keepalive`."))

    def _end_idle(self) -> None:
        """End a session whose client says nothing."""
        self._end_for(
            ClientError(
                "idle",
                f"Nothing came for {self._patience():.0f} seconds.",
                "Send audio, or `keepalive` once a minute, for as long as the session is wanted.",
            )
        )

    def _end_for(self, reason: LiveAsrError) -> None:
        """Let the client go, and end the session as if it had stopped."""
        self.dismiss(reason)
        self._client.give_up()

    def _ahead(self) -> float:
        """Return for how many seconds to wait with live audio that came faster than anybody speaks.

        Of raw audio that is told by its bytes, which are not acknowledged so fast.
        """
        if self._heard_pace is None or not self._may_send:
            return 0.0
        return self._heard_pace.wait_for(self.session.heard_sample / samples(1.0))

    def _end_as_if_stopped(self) -> None:
        self._silence.close()
        self._acknowledge_safe()
        self._inbox.put("lost")

    def _drop_audio(self) -> None:
        """Pass over audio of a client that came back too late; it is told so once."""
        if self.outbox is not None and not self.outbox.is_late:
            self.outbox.is_late = True
            where = f"from byte {self.received_bytes} on"
            text = f"The session ended while you were away: audio {where} is not accepted."
            self._tell(Notice("audio_dropped", text))

    def leave(self, *, even_stopped: bool = False) -> None:
        """Stop working for a session that waits for audio, or for any, as it is, to be taken up again."""
        self._client.leave(even_stopped=even_stopped)

    def acknowledge(self, safe_bytes: int) -> None:
        """Tell the client what is on disk; a file's client, what was worked off as well."""
        position = self._paced(safe_bytes) if self._live else min(safe_bytes, self._intake.heard_bytes)
        if position <= self._acked_bytes:
            return
        if self._ticks.seconds and self._may_send:
            now = asyncio.get_running_loop().time()
            if now < self._ack_due:
                if self._ack_timer is None and not self.is_over:
                    delay = self._ack_due - now
                    self._ack_timer = asyncio.get_running_loop().call_later(delay, self._acknowledge_safe)
                return
            self._ack_due = now + ACK_PAUSE
        self._acked_bytes = position
        self._tell(Ack(position))

    def _paced(self, safe_bytes: int) -> int:
        """Return how much live audio on disk may be acknowledged; the rest waits for its time."""
        if not self._bytes_per_second or not self._may_send:
            return safe_bytes
        seconds = safe_bytes / self._bytes_per_second
        allowed = self._ack_pace.allowed(seconds)
        if allowed == seconds:
            return safe_bytes
        if self._ack_timer is None and not self.is_over:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_INTERVAL, self._acknowledge_safe)
        return int(allowed * self._bytes_per_second)

    def _acknowledge_safe(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        if not self.is_over:
            self.acknowledge(self.spool.safe_bytes)

    def release(self, count: int) -> None:
        """Let the client, and who watches, hear of the kept messages that are on disk."""
        self._log.release(count)

    def refuse(self, error: StorageError) -> None:
        """Take note that nothing more is kept."""
        if self._refused is not None:
            self._refused(self, error)
        else:
            self.fail(error)

    def dismiss(self, error: LiveAsrError, outbox: Outbox | None = None) -> None:
        """Tell the client why it must go; the session waits for it, as when its connection is lost.

        Nothing happens where the client is gone already or has another box than `outbox` by now, or is being
        told how it ended.
        """
        has_ended = self._client.state is ConnectionState.OVER
        if self.outbox is None or self._client.is_other(outbox) or has_ended:
            return
        self.outbox.dismiss(error)
        self._client.lose()

    def fail(self, error: LiveAsrError) -> None:
        """End the session for a reason outside it; the client is told."""
        if self._client.state is ConnectionState.OVER:
            return
        log.warning("session %s failed: %s", self.session.id, error)
        self.session.receive_break()
        self.fault = error
        self.audience.close(error)
        if self.outbox is not None:
            self.outbox.dismiss(error)
        self._client.end()

    def ends_within(self, age: float) -> float | None:
        """Return in how many seconds a session gives its place back that has had it for `age`; None where
        that is not known: it goes on for as long as somebody speaks."""
        if self._may_send:
            return self._client.expires_within()
        speed = max(1.0, (self.session.heard_sample - self.session.backlog_samples) / samples(max(age, 1.0)))
        return self.session.backlog_samples / samples(1.0) / speed

    @property
    def is_over(self) -> bool:
        """Whether the session is done or failed, or left to the server's next run."""
        return self._client.is_over

    @property
    def is_left(self) -> bool:
        """Whether it was left as it is, to be taken up again."""
        return self._client.state is ConnectionState.LEFT

    def close(self) -> None:
        """Free what a session holds that was never run. Idempotent."""
        self._intake.close()

    async def ended(self) -> None:
        """Wait until the session is done or failed."""
        await self._client.ended()

    # The work ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until the session is over. Never raises: what goes wrong ends this session and no other."""
        self._advanced()
        self._idleness.touch()
        work = [
            asyncio.create_task(self._ingest(), name=f"{self.session.id} ingest"),
            *(
                asyncio.create_task(self._watch_of(channel).run(), name=f"{self.session.id} detect {channel}")
                for channel in range(self.session.start.heard_channels)
            ),
            asyncio.create_task(self._recognition.run(), name=f"{self.session.id} recognize"),
            asyncio.create_task(self._speakers.run(), name=f"{self.session.id} speakers"),
            asyncio.create_task(self._report_lag(), name=f"{self.session.id} lag"),
            asyncio.create_task(self._finish(), name=f"{self.session.id} finish"),
        ]
        ended = asyncio.create_task(self.ended())
        try:
            done, _ = await asyncio.wait([*work, ended], return_when=asyncio.FIRST_COMPLETED)
            for task in work:
                if task in done:
                    self._account_for(task)
        finally:
            for task in [*work, ended]:
                task.cancel()
            await asyncio.gather(*work, ended, return_exceptions=True)
            self._intake.close()
            self._silence.close()
            self._idleness.close()
            if self._ack_timer is not None:
                self._ack_timer.cancel()
            self.audience.close()
            self._client.close()
            if self.outbox is not None:
                self.outbox.close()

    def _account_for(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.is_left:
            if isinstance(error, StorageError):
                self.fail(error)
                return
            log.error("session %s cannot go on", self.session.id, exc_info=error)
            self.fail(LiveAsrError("Something went wrong in the server.", "Open a new session."))

    async def _ingest(self) -> None:
        """Work off what arrived: keep it, decode it, hand it to the session."""
        await self._hear_kept_audio()
        self._heard_pace = RealTime() if self._live and not self._bytes_per_second else None
        self._ticks.count += 1
        try:
            await self._ingest_all()
        finally:
            self._ticks.count -= 1

    async def _ingest_all(self) -> None:
        while not self.is_over:
            if self._inbox.is_empty:  # what is behind already does not wait
                await self._inbox.wait()
                await self._ticks.next()
            item = await self._inbox.get()
            await self._intake.room()
            try:
                await self._ingest_one(item)
            except MediaError as error:
                self._give_up_on(error)
            except DecoderError as error:
                self._go_without_decoder(error)
                return
            for notice in self._intake.take_notices():
                self._tell(notice)
            self._advanced()
            await asyncio.sleep(0)  # nothing above has to wait for anything, and others want the loop too

    async def _hear_kept_audio(self) -> None:
        """Decode what an earlier run has kept, up to where the session goes on and beyond."""
        if not self._is_restored or self.session.state is not SessionState.OPEN:
            return
        try:
            await self._intake.hear_again(self.spool.read_audio(0, self.received_bytes))
        except MediaError as error:
            self._give_up_on(error)
        except DecoderError as error:
            self._go_without_decoder(error)
            return
        self._intake.take_notices()  # the run that heard it first has told of them

    def _give_up_on(self, error: MediaError) -> None:
        """End the session as if stopped, or as failed where nothing was heard: what follows is no audio."""
        if not self.session.received_sample:
            self.fail(error)
            return
        self.dismiss(error)
        self._client.give_up()

    def _go_without_decoder(self, error: DecoderError) -> None:
        """Have the session taken up again with another decoder; it hears what is on disk once more."""
        if self._lose_decoder is None:
            self.fail(error)
        else:
            self._lose_decoder(self, error)

    @property
    def died_at_bytes(self) -> int | None:
        """How far its audio was asked for when its decoder's process died."""
        return self._intake.died_at_bytes

    async def _ingest_one(self, item: bytes | Shelved | Control) -> None:
        if isinstance(item, bytes | Shelved):
            await self._ingest_audio(item)
        elif isinstance(item, Update):
            self.session.receive_update(item)
        elif isinstance(item, Pause):
            self.session.receive_pause(item)
        elif item == "finalize":
            self.session.receive_finalize()
        elif item == "silence":
            self.session.receive_silence()
        elif item == "stop":
            self.session.check(SessionEvent.STOP_RECEIVED)
            await self._intake.flush()
            self.session.receive_stop()
        else:
            if self.session.state is SessionState.STREAMING:
                try:
                    await self._intake.flush()
                except DecoderError:
                    raise
                except LiveAsrError as error:  # nobody is left to be told of an unreadable end
                    log.debug("session %s: its end cannot be read: %s", self.session.id, error)
            self.session.receive_loss()

    async def _ingest_audio(self, audio: bytes | Shelved) -> None:
        self.session.check(SessionEvent.AUDIO_RECEIVED)
        if isinstance(audio, Shelved):
            await self.spool.safe(audio.end_bytes)
            await self._intake.hear_again(self.spool.read_audio(audio.start_bytes, audio.end_bytes))
        else:
            await self._intake.hear(audio)
        if not self._live and self.spool.safe_bytes > self._acked_bytes:
            self.acknowledge(self.spool.safe_bytes)

    def _heard(self, audio: FloatArray) -> None:
        """Give decoded audio to the session, and have it looked at. Raises TooLong."""
        audio = audio[..., : self._limits.room(self.session.heard_sample)]
        self.session.receive_audio(audio)
        self._audio_since_lag = True
        self._metrics.audio_seconds.inc(audio.shape[-1] / samples(1.0))
        if self._heard_pace is not None:  # containers do not tell before how long their audio is
            end = self.session.heard_sample
            start = end - audio.shape[-1]
            self._latency.note_audio(start / samples(1.0), end / samples(1.0), time.monotonic())
        self._advanced()

    async def _report_lag(self) -> None:
        """Tell how far the captions are behind, until all is committed."""
        told = self.session.lag()
        while True:
            await asyncio.sleep(LAG_INTERVAL)
            if self.session.state is SessionState.FINALIZING:
                continue
            lag = self.session.lag(self._unheard_samples())
            if self._audio_since_lag or lag != told:  # what is caught up with after the last audio, too
                self._audio_since_lag = False
                if self._live:
                    self._metrics.lag_seconds.observe(lag.seconds)
                self._tell(lag)
                told = lag

    def _unheard_samples(self) -> int:
        """Return how much audio waits to be decoded, going by what was: containers do not tell."""
        heard_bytes = self._intake.heard_bytes
        waiting_bytes = self.received_bytes - heard_bytes
        return waiting_bytes * self.session.heard_sample // heard_bytes if heard_bytes else 0

    async def _finish(self) -> None:
        """Have the session finalized once it is drained and all it heard and said is on disk."""
        await self._drained.wait()
        await self.spool.settled()
        if self.is_over or self.session.state is not SessionState.FINALIZING:  # what is left is another one's
            return
        self._intake.close()
        await self._finalize(self)
        self._client.leave(even_stopped=True)  # where there is no result: the server ends before there is one

    def finish(self, final: Final, encoded: bytes) -> None:
        """Take the result, which is on disk already, and say it: the session is done."""
        self._send_all()
        self._client.end()
        self.session.finish(final)
        for message in self.session.messages():
            self._log.append_last(message, encoded)

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition of the session holds; it is looked at whenever the session has moved."""
        while not holds():
            woken = asyncio.get_running_loop().create_future()
            self._awaited.append((holds, woken))
            await woken

    def _advanced(self) -> None:
        """Send what the session has to say, and wake those for whom it has moved far enough."""
        self._send_all()
        if self.session.state is SessionState.FINALIZING:
            self._drained.set()
        awaited, self._awaited = self._awaited, []
        for entry in awaited:
            holds, woken = entry
            if woken.done():  # whoever waited has gone
                continue
            if holds():
                woken.set_result(None)
            else:
                self._awaited.append(entry)

    def _send_all(self) -> None:
        for message in self.session.messages():
            if isinstance(message, Finalized) and not self._pending.answer():
                continue
            if isinstance(message, Updated | Paused):
                self._pending.answer_kept()
            self.heard_speech = self.heard_speech or isinstance(message, Speech)
            self._tell(message)
        if self._state_count != self.spool.appended_count:
            self._state_count = self.spool.appended_count
            self._put_state()

    def _put_state(self) -> None:
        checkpoint = self.session.checkpoint().made_by(self._models)
        self.spool.set_state(orjson.dumps({**checkpoint.to_dict(), "received_bytes": self.received_bytes}))

    def _tell(self, message: ServerMessage) -> None:
        if self._live:
            self._latency.note_message(message, time.monotonic())
        self._log.append(message)

    def _give_out(self, index: int, message: ServerMessage, encoded: bytes) -> None:
        """Give what the log gives out to who watches, and to the client, unless it has come back since."""
        self.audience.publish(message, encoded)
        if self.outbox is None or index < self._client.index:
            return
        try:
            self.outbox.put(message, encoded)
        except ClientError as error:
            self.outbox.clear()
            self.dismiss(error)
