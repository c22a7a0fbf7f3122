"""Drives one session: feeds it what arrives and performs what it asks for.

A socket and a file feed the same runner. What arrives is queued in the order it came, so that a
`finalize` between two chunks of audio means the same however long either takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from live_asr.core.messages import (
    KEPT,
    Ack,
    Final,
    Finalize,
    Finalized,
    Notice,
    Ready,
    ServerMessage,
    Speech,
    Stop,
    encode,
    error_message,
)
from live_asr.core.session import Session, SessionEvent, SessionState
from live_asr.core.types import samples
from live_asr.errors import ClientError, EngineError, LiveAsrError, MediaError, StorageError
from live_asr.inference.channel import Detected
from live_asr.inference.engine import Engine
from live_asr.inference.interfaces import FloatArray, SpeechState
from live_asr.inference.scheduler import FILE_BUDGET, FINAL_BUDGET, STEP_BUDGET
from live_asr.sessions.decoding import AudioDecoder
from live_asr.sessions.following import SpeakerFollower
from live_asr.sessions.inbox import Control, Inbox
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.outbox import Outbox
from live_asr.storage.spool import Spool

log = logging.getLogger(__name__)

LIVE_BACKLOG_SAMPLES = samples(600.0)
"""A live session is fed this far ahead of what was recognised; what comes beyond is not acknowledged."""
FILE_BACKLOG_SAMPLES = samples(20.0)
"""The same for a file sent as fast as acknowledgements allow: they are what paces it."""
LAG_INTERVAL = 1.0
"""Seconds between two `lag` messages while audio arrives."""
MOST_UNANSWERED = 64
"""Nobody sends so many `finalize` before the first is answered, but by mistake."""
MOST_DETECT_ATTEMPTS = 3
"""Speech that nobody judges is speech that is lost, so a detection that fails is asked for again."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """How steps lengthen when the inference process is loaded."""

    step_samples: int = samples(0.7)
    """Where answers come in time."""
    loaded_step_samples: int = samples(1.0)
    """Where they take longer than `loaded_latency`, waiting included."""
    overloaded_step_samples: int = samples(1.5)
    """Where they take longer than `overloaded_latency`."""
    loaded_latency: float = 0.5
    overloaded_latency: float = 1.0

    def step_for(self, latency: float) -> int:
        """Return the step for answers that take so many seconds, on average."""
        if latency > self.overloaded_latency:
            return max(self.step_samples, self.overloaded_step_samples)
        if latency > self.loaded_latency:
            return max(self.step_samples, self.loaded_step_samples)
        return self.step_samples


class SessionRunner:
    """One live session, from `ready` to `done`.

    `finalize` is called once the live transcript is complete and on disk; it hands in the result with
    `finish`, unless the server ends before there is one.
    """

    def __init__(
        self,
        session: Session,
        *,
        decoder: AudioDecoder,
        engine: Engine,
        cadence: Cadence,
        metrics: Metrics,
        max_unacked_bytes: int,
        finalize: Callable[[SessionRunner], Awaitable[None]],
    ) -> None:
        self.session = session
        self.outbox: Outbox | None = Outbox()
        self.failure: LiveAsrError | None = None
        """Why the client was let go; None while all is well."""
        self.fault: LiveAsrError | None = None
        """Why the session failed; None while it has not."""
        self.heard_speech = False
        """Whether anything sounded like speech so far, words or not."""
        self._decoder = decoder
        self._engine = engine
        self._cadence = cadence
        self._metrics = metrics
        self._max_unacked_bytes = max_unacked_bytes
        self._finalize = finalize
        self._spool_or_none: Spool | None = None
        self._inbox = Inbox()
        self._moved = asyncio.Event()
        self._drained = asyncio.Event()
        self._speakers = SpeakerFollower(session, engine, self._next_move, self._advanced)
        self._finishing = False
        self._unanswered = 0
        self._received_bytes = 0
        self._ingested_bytes = 0
        self._acked_bytes = 0
        self._speech_state = SpeechState.initial()
        self._latency = 0.0
        self._live = session.start.pace == "realtime"
        self._audio_since_lag = False
        self._ended = asyncio.Event()

    # What the socket hands in ------------------------------------------------------------------------

    def attach_spool(self, spool: Spool) -> None:
        """Give the session its place on disk; before it is run."""
        self._spool_or_none = spool

    @property
    def spool(self) -> Spool:
        """The session's place on disk. Raises RuntimeError before `attach_spool`."""
        if self._spool_or_none is None:
            raise RuntimeError("the session has no place on disk yet")
        return self._spool_or_none

    def greet(self, ready: Ready) -> None:
        """Say the first thing that the client hears."""
        self._tell(ready)

    def tell(self, message: ServerMessage) -> None:
        """Say what does not come from the session itself, such as how far its full pass is."""
        self._tell(message)

    def receive_audio(self, data: bytes) -> None:
        """Take audio bytes as they came. Raises ClientError `overrun` beyond the window of the protocol."""
        self._received_bytes += len(data)
        unacked = self._received_bytes - self._acked_bytes
        if unacked > self._max_unacked_bytes:
            raise ClientError(
                "overrun",
                f"{unacked} bytes are unacknowledged; at most {self._max_unacked_bytes} may be.",
                "Keep `max_unacked_bytes` of `ready`: wait for `ack` before sending more.",
            )
        self._inbox.put_audio(data)

    def receive(self, message: Finalize | Stop) -> None:
        """Take a control message, in order with the audio. Raises ClientError `overrun` for a flood."""
        self._unanswered += 1
        if self._unanswered > MOST_UNANSWERED:
            raise ClientError(
                "overrun",
                f"{self._unanswered} messages wait for their answer; more are not taken.",
                "Wait for `finalized` before you send another `finalize`.",
            )
        self._inbox.put("finalize" if isinstance(message, Finalize) else "stop")

    def lose_client(self) -> None:
        """Take note that the client is gone: nothing is sent any more, what was heard is kept."""
        if self.outbox is not None:
            self.outbox.close()
            self.outbox = None
            self._inbox.put("lost")

    def acknowledge(self, safe_bytes: int) -> None:
        """Tell the client what is on disk; a file's client, what was worked off as well."""
        position = safe_bytes if self._live else min(safe_bytes, self._ingested_bytes)
        if position > self._acked_bytes:
            self._acked_bytes = position
            self._tell(Ack(position))

    def dismiss(self, error: LiveAsrError) -> None:
        """Tell the client why it must go, and bring what was heard to its end without it.

        Nothing happens where the client is gone already, or is being told how it ended.
        """
        if self.outbox is None or self._finishing or self.session.state is SessionState.FAILED:
            return
        self.failure = error
        self._tell(error_message(error))
        self.lose_client()

    def fail(self, error: LiveAsrError) -> None:
        """End the session for a reason outside it; the client is told."""
        if self._finishing or self.session.state is SessionState.FAILED:
            return
        log.warning("session %s failed: %s", self.session.id, error)
        self.session.receive_break()
        self.fault = error
        if self.outbox is not None:
            self.failure = error
            self._tell(error_message(error))
            self.outbox.close()
        self._ended.set()

    @property
    def close_code(self) -> int:
        """The WebSocket close code that tells the client how it ended."""
        return self.failure.close_code if self.failure else 1000

    def close(self) -> None:
        """Free what a session holds that was never run. Idempotent."""
        self._decoder.close()

    async def ended(self) -> None:
        """Wait until the session is done or failed."""
        await self._ended.wait()

    # The work ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until the session is over. Never raises: what goes wrong ends this session and no other."""
        work = [
            asyncio.create_task(self._ingest(), name=f"{self.session.id} ingest"),
            asyncio.create_task(self._detect(), name=f"{self.session.id} detect"),
            asyncio.create_task(self._recognize(), name=f"{self.session.id} recognize"),
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
            self._decoder.close()
            if self.outbox is not None:
                self.outbox.close()

    def _account_for(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            if isinstance(error, StorageError):
                self.fail(error)
                return
            log.error("session %s cannot go on", self.session.id, exc_info=error)
            self.fail(LiveAsrError("Something went wrong in the server.", "Open a new session."))

    async def _ingest(self) -> None:
        """Work off what arrived: keep it, decode it, hand it to the session."""
        while True:
            item = await self._inbox.get()
            await self._room_for_more()
            try:
                await self._ingest_one(item)
            except (ClientError, MediaError) as error:
                # The client's fault ends its connection; what it said until then is kept.
                self.dismiss(error)
            self._advanced()
            await asyncio.sleep(0)  # nothing above has to wait for anything, and others want the loop too

    async def _ingest_one(self, item: bytes | Control) -> None:
        if isinstance(item, bytes):
            await self._ingest_audio(item)
        elif item == "finalize":
            self.session.receive_finalize()
        elif item == "stop":
            self.session.check(SessionEvent.STOP_RECEIVED)
            await self._flush_decoder()
            self.session.receive_stop()
        elif not self._finishing:
            if self.session.state is SessionState.STREAMING:
                with contextlib.suppress(LiveAsrError):  # nobody is left to be told of an unreadable end
                    await self._flush_decoder()
            self.session.receive_loss()

    async def _ingest_audio(self, data: bytes) -> None:
        self.session.check(SessionEvent.AUDIO_RECEIVED)
        self.spool.append_audio(data)
        self._hand_over(await self._decoder.feed(data))
        while self._decoder.has_more:
            await self._room_for_more()
            self._hand_over(await self._decoder.feed(b""))
        self._ingested_bytes += len(data)
        if not self._live and self.spool.safe_bytes > self._acked_bytes:
            self.acknowledge(self.spool.safe_bytes)

    async def _flush_decoder(self) -> None:
        """Hand over what the decoder still holds. Raises MediaError when it never found any audio."""
        self._hand_over(await self._decoder.finish())
        while self._decoder.has_more:
            await self._room_for_more()
            self._hand_over(await self._decoder.finish())

    def _hand_over(self, audio: FloatArray) -> None:
        """Give decoded audio to the session, and have it looked at."""
        self.session.receive_audio(audio)
        self._audio_since_lag = True
        self._metrics.audio_seconds.inc(audio.size / samples(1.0))
        self._advanced()

    async def _room_for_more(self) -> None:
        """Wait while the recogniser is too far behind to take more."""
        most = LIVE_BACKLOG_SAMPLES if self._live else FILE_BACKLOG_SAMPLES
        while self.session.backlog_samples > most:
            self._moved.clear()
            await self._moved.wait()

    async def _detect(self) -> None:
        """Have speech judged, whenever there is audio to judge."""
        while True:
            audio = self.session.unjudged()
            if audio is None:
                await self._next_move()
                continue
            answer = await self._judge(audio)
            self._speech_state = answer.state
            self.session.receive_probabilities(answer.probabilities)
            self._advanced()

    async def _judge(self, audio: FloatArray) -> Detected:
        """Have one stretch judged. Raises EngineError when that fails again and again."""
        for attempt in range(1, MOST_DETECT_ATTEMPTS):
            try:
                return await self._engine.detect(audio, self._speech_state)
            except EngineError as error:
                log.warning("session %s: detection %d failed: %s", self.session.id, attempt, error)
        return await self._engine.detect(audio, self._speech_state)

    async def _recognize(self) -> None:
        """Have windows recognised, whenever the policy wants one."""
        while True:
            wanted = self.session.decode()
            if wanted is None:
                await self._next_move()
                continue
            request, audio = wanted
            budget = (FINAL_BUDGET if request.final else STEP_BUDGET) if self._live else FILE_BUDGET
            try:
                answer = await self._engine.recognize(request, audio, budget)
            except EngineError as error:
                log.warning("session %s: a step could not be recognised: %s", self.session.id, error)
                self._tell(Notice("step_failed", "A stretch of speech could not be recognised."))
                self.session.receive_decode_failure()
            else:
                self._metrics.decode_seconds.observe(answer.took)
                self._metrics.queue_seconds.observe(answer.waited)
                await self._speakers.known_until(request.end_sample)
                self.session.receive_hypothesis(answer.hypothesis)
                self._adapt(answer.waited + answer.took)
            self._advanced()

    def _adapt(self, latency: float) -> None:
        """Lengthen the steps of a live session where answers come late, and let it skip where too late."""
        if not self._live:
            return
        before = self._cadence.step_for(self._latency)
        self._latency += 0.3 * (latency - self._latency)
        now = self._cadence.step_for(self._latency)
        self.session.set_step(now, overloaded=samples(self._latency) > 0.9 * now)
        if now > before and now == self._cadence.overloaded_step_samples:
            self._tell(Notice("degraded", "The server is busy: captions come later than usual."))

    async def _report_lag(self) -> None:
        while True:
            await asyncio.sleep(LAG_INTERVAL)
            if self._audio_since_lag:
                self._audio_since_lag = False
                self._tell(self.session.lag())

    async def _finish(self) -> None:
        """Have the session finalized once it is drained and all it heard and said is on disk."""
        await self._drained.wait()
        await self.spool.settled()
        if self.session.state is not SessionState.FINALIZING:
            return
        self._decoder.close()
        await self._finalize(self)
        self._ended.set()

    def finish(self, final: Final, encoded: bytes) -> None:
        """Take the result, which is on disk already, and say it: the session is done."""
        self._send_all()
        self._finishing = True
        self.session.finish(final)
        for message in self.session.messages():
            self._send(message, encoded)
        self._ended.set()

    async def _next_move(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def _advanced(self) -> None:
        """Send what the session has to say, and wake who waits for it to have moved."""
        self._send_all()
        if self.session.state is SessionState.FINALIZING:
            self._drained.set()
        self._moved.set()

    def _send_all(self) -> None:
        for message in self.session.messages():
            self._unanswered -= isinstance(message, Finalized)
            self.heard_speech = self.heard_speech or isinstance(message, Speech)
            self._tell(message)

    def _tell(self, message: ServerMessage) -> None:
        encoded = encode(message)
        if isinstance(message, KEPT):
            self.spool.append_message(encoded)
        self._send(message, encoded)

    def _send(self, message: ServerMessage, encoded: bytes) -> None:
        if self.outbox is None:
            return
        try:
            self.outbox.put(message, encoded)
        except ClientError as error:
            self.outbox.clear()
            self.dismiss(error)
