"""From `stopped` to `final`: the full pass, the record of it, and who is told.

Each step can be done again by another run of the server: what is on disk by then is not made anew. The
order is what makes it so. The turns and `final` are kept and the audio is erased before the database is told,
with the delivery, or in that one transaction, as the journal does it; only then anybody hears of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection

from live_asr.audio.recording import write_pcm
from live_asr.cluster.pool import passes_of
from live_asr.config.settings import ServerSettings, Settings
from live_asr.core.errors import (
    DecoderError,
    DiskFull,
    EngineError,
    LiveAsrError,
    StorageError,
    Superseded,
    told,
)
from live_asr.core.export import FORMATS
from live_asr.core.messages import Final, FinalSpeaker, Notice, Progress, ServerMessage, Start, encode
from live_asr.core.result import Result, live_result, make_result
from live_asr.core.speech_settings import whole_recording
from live_asr.core.transcript import Transcript
from live_asr.core.types import SAMPLE_RATE_HZ, Turn, samples, seconds
from live_asr.delivery.webhook import notice_of, webhook_body
from live_asr.full_pass.process import FullPassJob, FullPassResult
from live_asr.sessions.fair_queue import TooManyWait, Turns
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.reserve import Reserve
from live_asr.sessions.tracing import span
from live_asr.storage.database import Database, NewDelivery
from live_asr.storage.files import DECODED_FILE, LIVE_TURNS_FILE
from live_asr.storage.journal import Ending, Journal
from live_asr.storage.spool import Spool

INTERVAL = 0.25
"""Seconds between two messages: four a second look fluent."""


class PacedProgress:
    """Pass progress on, the newest last, at most every `INTERVAL` seconds; it never goes back.

    Call it from the event loop; `close` it in the end.
    """

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell
        self._newest: Progress | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last = float("-inf")
        self._fraction = 0.0
        self._position: int | None = None

    def __call__(self, stage: str, fraction: float) -> None:
        """Take note of how far the pass is: the stage it is in, and the fraction of the whole, 0 to 1."""
        # A pass that is repeated after a fault begins anew; to a reader that is a standstill.
        self._fraction = max(self._fraction, min(max(fraction, 0.0), 1.0))
        if stage != "loading":
            self._position = None
        self._newest = Progress(stage, round(self._fraction, 3), self._position)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            rest = self._last + INTERVAL - loop.time()
            if rest <= 0:
                self._say()
            else:
                self._timer = loop.call_later(rest, self._say)

    def wait(self, position: int) -> None:
        """Take note of how many passes come before this one."""
        self._position = position
        self("loading", 0.0)

    def close(self) -> None:
        """Say nothing more. Idempotent."""
        self._newest = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say(self) -> None:
        self._timer = None
        self._last = asyncio.get_running_loop().time()
        newest, self._newest = self._newest, None
        if newest is not None:
            self._tell(newest)


log = logging.getLogger(__name__)

SHORTEST_PASS_SAMPLES = samples(1.0)
"""In less there is nothing that the full pass could tell better than the live one."""
MAX_ATTEMPTS = 2
"""A full pass that fails is tried once more; its process is a new one then."""
MAX_PREPARED = 2
"""Recordings that lie decoded on the disk: the one that is gone over, and the next."""
ROOM_INTERVAL = 10.0
"""Seconds between two looks for room for a recording on a full disk."""
DOCUMENT = "docx"
"""The format that no text is: a document for a word processor, which the server renders."""
MAX_BACKOFF = 60.0
"""Seconds between two tries to reach a database that does not answer."""


BodyMaker = Callable[[str, Start, Final, tuple[str, str] | None], bytes]


class FullPassRunner(Protocol):
    """Where recordings are gone over once more, one at a time; see `full_pass.process.FullPass`."""

    @property
    def can_diarize(self) -> bool:
        """Whether it can tell speakers apart."""

    async def run(
        self, job: FullPassJob, on_progress: Callable[[str, float], None], *, gives_way: bool = False
    ) -> FullPassResult:
        """Go over one recording. Raises EngineError; a cancelled call stops the work."""

    async def close(self) -> None:
        """End the process, whatever it does. Idempotent."""


class Postponed(Exception):
    """The server ends; the full pass of this session is left to its next run."""


@dataclass(frozen=True, slots=True)
class Drained:
    """A session whose live transcript is complete and on disk."""

    session_id: str
    start: Start
    transcript: Transcript
    spool: Spool
    turns: tuple[Turn, ...] = ()
    """Who spoke when, as heard live; empty for a session of an earlier run, which has kept them."""
    heard_speech: bool = True
    """Whether anything in it sounded like speech, words or not; True where that is not known."""
    tell: Callable[[ServerMessage], None] = lambda _: None
    """Takes what its client may like to know meanwhile."""
    started_at: str | None = None
    """When its first audio came: ISO 8601, UTC; None where that is not known."""
    whose: str = ""
    """By what its client takes turns with others: token or address; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last message of a session, and its text as it goes over the wire."""

    final: Final
    encoded: bytes


class Finalizer:
    """Bring sessions from `stopped` to `done`.

    `wake` is called when a new delivery is in the database. `forms` make bodies of webhooks that have another
    form than ours, by its name, of a session's id, its start, its result and why it failed. `reserve` is told
    which passes are under way.
    """

    def __init__(
        self,
        settings: Settings,
        store: Journal,
        database: Database,
        full_pass: FullPassRunner,
        *,
        wake: Callable[[], None],
        metrics: Metrics,
        forms: Mapping[str, BodyMaker] | None = None,
        reserve: Reserve | None = None,
    ) -> None:
        self._reserve = reserve or Reserve()
        self._forms = dict(forms or {})
        self._settings = settings
        self._store = store
        self._database = database
        self._full_pass = full_pass
        self._wake = wake
        self._metrics = metrics
        at_once = MAX_PREPARED if passes_of(settings) is None else settings.cluster.full_passes + 1
        self._turns = Turns(at_once, settings.final.max_waiting)
        self._passes: dict[asyncio.Task[FullPassResult | None], float] = {}
        """Those that wait or are under way, and since when."""
        self._postponing = False
        self._progress: dict[str, Progress] = {}
        metrics.final_passes_pending.set_function(lambda: len(self._passes))
        metrics.final_passes_age.set_function(self._oldest)

    def progress(self, session_id: str) -> Progress | None:
        """Return how far the full pass of a session is; None where none is under way."""
        return self._progress.get(session_id)

    def _oldest(self) -> float:
        """Return for how many seconds the oldest of the full passes has waited."""
        now = time.monotonic()
        return now - min(self._passes.values(), default=now)

    def postpone(self) -> None:
        """Cancel the full passes and begin none any more: the server ends. Idempotent."""
        self._postponing = True
        for task in self._passes:
            task.cancel()

    async def finalize(self, session: Drained) -> Finished:
        """Make the result, keep it, and note in the database that the session is done.

        Raises Postponed where the server ends before the full pass does, StorageError when the disk refuses,
        Superseded where another server has the session by now.
        A cancelled call leaves what another one can go on from.
        """
        began = time.monotonic()
        await self._note_state(session.session_id)
        keep_audio = self._settings.storage.keep_audio
        final = session.transcript.final
        if final is not None:  # an earlier run came so far
            turns = await asyncio.to_thread(self._store.turns, session.session_id)
            ending = Ending(None, turns, keep_audio)
        else:
            result = await self._make(session)
            final, turns = result.final, result.turns
            ending = Ending(await asyncio.to_thread(encode, final), turns, keep_audio)
        await self._conclude(
            session.session_id,
            session.start,
            "done",
            final,
            turns,
            began=began,
            spool=session.spool,
            ending=ending,
        )
        if keep_audio:
            await self._store.compress(session.spool)
        return Finished(final, ending.final or b"")

    async def fail(
        self,
        session_id: str,
        start: Start,
        transcript: Transcript,
        error: LiveAsrError,
        *,
        spool: Spool | None = None,
        turns: tuple[Turn, ...] = (),
        received_samples: int = 0,
        started_at: str | None = None,
    ) -> None:
        """Note in the database that a session failed, and have its receiver told, with what words it has.

        `turns` are those heard live, which its `spool` keeps; `received_samples` is how much audio there was.
        """
        began = time.monotonic()

        def make() -> Result:
            return live_result(
                transcript,
                links_of(session_id),
                live_turns=self._keep_turns_of_failed(session_id, spool, turns),
                received_samples=received_samples,
                started_at=started_at,
            )

        result = await asyncio.to_thread(make)
        await self._conclude(
            session_id, start, "failed", result.final, result.turns, began=began, error=error, spool=spool
        )

    def _keep_turns_of_failed(
        self, session_id: str, spool: Spool | None, turns: tuple[Turn, ...]
    ) -> tuple[Turn, ...]:
        """Put live turns on disk, where exports read them, or return those that are there. Blocks."""
        try:
            if not turns or spool is None:
                return self._store.turns(session_id, LIVE_TURNS_FILE)
            self._store.write_turns(spool, turns, LIVE_TURNS_FILE)
        except (StorageError, OSError, KeyError) as error:  # the disk may be what the session failed for
            log.warning("session %s: who spoke when is not on disk: %s", session_id, error)
        return turns

    # The full pass ---------------------------------------------------------------------------------

    async def _make(self, session: Drained) -> Result:
        live_turns = await self._keep_live(session)
        found: FullPassResult | None = None
        if self._is_worth_a_pass(session):
            found = await self._pass(replace(session, turns=live_turns))
            if found is None:
                message = (
                    "The full pass over the recording failed: the live transcript and its speakers stand."
                )
                session.tell(Notice("final_pass_failed", message))
        return await asyncio.to_thread(
            make_result,
            session.transcript,
            links_of(session.session_id),
            turns=(found.turns if found else None) or (),
            words=(found.words if found else None) or (),
            language=found.language if found else None,
            live_turns=live_turns,
            started_at=session.started_at,
            has_speakers=session.start.channel_speakers,
        )

    async def _keep_live(self, session: Drained) -> tuple[Turn, ...]:
        """Put the live turns on disk, or return those that an earlier run put there."""
        if not session.turns:
            return await asyncio.to_thread(self._store.turns, session.session_id, LIVE_TURNS_FILE)
        await asyncio.to_thread(self._store.write_turns, session.spool, session.turns, LIVE_TURNS_FILE)
        return session.turns

    def _is_worth_a_pass(self, session: Drained) -> bool:
        start, transcript = session.start, session.transcript
        return (
            start.final_pass
            and (self._settings.final.recognize or self._is_diarized(start))
            and transcript.duration_samples >= SHORTEST_PASS_SAMPLES
            and (session.heard_speech or bool(transcript.words))
        )

    def _is_diarized(self, start: Start) -> bool:
        return start.diarize and self._full_pass.can_diarize and not start.channel_speakers

    async def _pass(self, session: Drained) -> FullPassResult | None:
        """Return what the full pass finds; None where it fails. Raises Postponed."""
        if self._postponing:
            raise Postponed
        task = asyncio.create_task(self._wait_and_pass(session), name=f"full pass {session.session_id}")
        self._passes[task] = time.monotonic()
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._passes.pop(task, None)
            self._progress.pop(session.session_id, None)
        if task.cancelled():
            raise Postponed
        return task.result()

    async def _wait_and_pass(self, session: Drained) -> FullPassResult | None:
        def tell(progress: Progress) -> None:
            self._progress[session.session_id] = progress
            session.tell(progress)

        on_progress = PacedProgress(tell)
        on_progress("loading", 0.0)
        try:
            with span("full pass", recording_seconds=session.transcript.duration_samples / SAMPLE_RATE_HZ):
                found = await self._pass_with_room(session, on_progress)
        except asyncio.CancelledError:
            self._metrics.final_passes.labels("cancelled").inc()
            raise
        finally:
            on_progress.close()
        self._metrics.final_passes.labels("failed" if found is None else "done").inc()
        return found

    async def _pass_with_room(self, session: Drained, on_progress: PacedProgress) -> FullPassResult | None:
        """Make the pass as soon as the disk has room for its recording; until then the session waits."""
        is_told = False
        while True:
            try:
                async with self._turns.turn(session.whose, on_progress.wait):
                    return await self._try_pass(session, on_progress)
            except TooManyWait:
                log.warning("session %s: too many full passes wait already", session.session_id)
                return None
            except DiskFull as error:
                if not is_told:
                    log.warning("session %s: its full pass waits for room: %s", session.session_id, error)
                    message = "The server's disk is full: the full pass will run once there is room."
                    session.tell(Notice("final_pass_postponed", message))
                is_told = True
            except DecoderError as error:
                log.warning("session %s: its full pass waits for a decoder: %s", session.session_id, error)
            await asyncio.sleep(ROOM_INTERVAL)

    async def _try_pass(self, session: Drained, on_progress: PacedProgress) -> FullPassResult | None:
        try:
            async with self._store.recording(session.spool) as recording:
                return await self._pass_over(recording, session, on_progress)
        except DiskFull:
            raise
        except StorageError as error:
            log.warning("session %s: its recording cannot be had: %s", session.session_id, error)
            return None

    async def _pass_over(
        self, recording: Path, session: Drained, on_progress: PacedProgress
    ) -> FullPassResult | None:
        pcm = recording.with_name(DECODED_FILE)
        start = session.start
        words = session.transcript.words
        first_word = seconds(words[0].start_sample) if words else 0.0
        spoken = whole_recording(start, session.transcript.updates, first_word)
        heard_samples = _heard_samples(session.transcript)
        try:
            channels = start.heard_channels
            count = await write_pcm(recording, start.audio, pcm, heard_samples, channels=channels)
            if count + SHORTEST_PASS_SAMPLES < heard_samples:
                # A disk that lost audio: words that were said in it would be missing from the result.
                log.warning("session %s: its recording is shorter than what was heard", session.session_id)
                return None
            log.info("session %s: full pass over %.1f s", session.session_id, count / SAMPLE_RATE_HZ)
            job = FullPassJob(
                audio_file=pcm,
                language=spoken.language,  # what was guessed live must not decide: the pass hears all of it
                task=start.task,
                vocabulary=spoken.vocabulary,
                diarize=start.diarize,
                recognize=self._settings.final.recognize,
                min_speakers=start.min_speakers,
                max_speakers=start.max_speakers,
                live=session.transcript.utterances(),
                live_turns=session.turns,
                languages=spoken.languages,
                channels=channels,
            )

            def told(stage: str, fraction: float) -> None:
                self._reserve.begin(session.session_id, count / SAMPLE_RATE_HZ, time.monotonic())
                on_progress(stage, fraction)

            for attempt in range(1, MAX_ATTEMPTS + 1):
                try:
                    return await self._full_pass.run(job, told)
                except EngineError as error:
                    log.warning("session %s: full pass %d failed: %s", session.session_id, attempt, error)
        except (DiskFull, DecoderError):
            raise
        except (OSError, StorageError) as error:
            log.warning("session %s: its recording cannot be read: %s", session.session_id, error)
        finally:
            self._reserve.end(session.session_id)
            pcm.unlink(missing_ok=True)
        return None

    # What is kept, and who is told -----------------------------------------------------------------

    async def _note_state(self, session_id: str) -> None:
        try:
            await self._database.call(self._database.set_state, session_id, "finalizing")
        except StorageError as error:  # it is for people to look at; the end of the session is written below
            log.warning("session %s: its state is not in the database: %s", session_id, error)

    async def _conclude(
        self,
        session_id: str,
        start: Start,
        state: str,
        final: Final,
        turns: tuple[Turn, ...],
        *,
        began: float,
        spool: Spool | None,
        ending: Ending | None = None,
        error: LiveAsrError | None = None,
    ) -> None:
        check = await self._store.conclude(spool, ending) if spool is not None else _unchecked
        url = start.webhook.url if start.webhook is not None else self._settings.webhook.url
        delivery: NewDelivery | None = None
        if url is not None:
            fault = None if error is None else (error.code, told(error).message)
            make = self._forms.get(start.webhook.form or "") if start.webhook is not None else None
            if make is not None:
                body = await asyncio.to_thread(make, session_id, start, final, fault)
            else:
                body = await asyncio.to_thread(
                    webhook_body,
                    session_id=session_id,
                    start=start,
                    final=final,
                    turns=turns,
                    error=fault,
                    processing_time=round(time.monotonic() - began, 3),
                )
            most_bytes = self._settings.webhook.max_bytes
            if most_bytes is not None and len(body) > most_bytes:
                links = reachable_links_of(self._settings.server, session_id)
                notice = await asyncio.to_thread(notice_of, body, links)
                body = notice or body
            delivery = NewDelivery(url, body)
        await self._persist(
            partial(
                self._database.finish_session,
                session_id,
                state=state,
                ended_at=time.time(),
                duration=final.duration,
                language=final.language,
                revision=final.revision,
                labels=final.labels,
                speakers=[speaker_dict(speaker) for speaker in final.speakers],
                error=None if error is None else {"code": error.code, "message": told(error).message},
                delivery=delivery,
                text=final.text.strip(),
                check=check,
            )
        )
        if delivery is not None:
            self._wake()

    async def _persist(self, write: Callable[[], None]) -> None:
        """Write to the database, however long it takes until it answers. Raises Superseded."""
        backoff = 1.0
        while True:
            try:
                await self._database.call(write)
                return
            except Superseded:
                raise
            except StorageError as error:
                log.error("the end of a session waits for the database: %s", error)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF)


def _unchecked(_: Connection) -> None:
    """Nobody writes this session any more."""


def _heard_samples(transcript: Transcript) -> int:
    return max(transcript.duration_samples, transcript.words_end_sample)


def links_of(session_id: str) -> dict[str, str]:
    """Return where the exports of a session are, by format."""
    return {name: f"/v1/sessions/{session_id}/transcript.{name}" for name in (*FORMATS, DOCUMENT)}


def reachable_links_of(settings: ServerSettings, session_id: str) -> dict[str, str]:
    """Return the same for a receiver of webhooks: whole addresses, where the server knows its own."""
    begin = (settings.public_url or settings.root_path).rstrip("/")
    return {name: begin + path for name, path in links_of(session_id).items()}


def speaker_dict(speaker: FinalSpeaker) -> dict[str, Any]:
    """Return a speaker as the wire has it."""
    return {
        "label": speaker.label,
        "live_labels": list(speaker.live_labels),
        "duration": speaker.duration,
        "turns": speaker.turns,
    }
