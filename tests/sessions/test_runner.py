"""The runner with scripted models and a real disk: order, bounds, and what goes wrong behind it."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from live_asr.audio.decoder import open_decoder
from live_asr.core.errors import ClientError, EngineError, StorageError, Unavailable
from live_asr.core.messages import AudioFormat, Finalize, Notice, Pause, Start, Stop, encode
from live_asr.core.result import make_result
from live_asr.core.session import Session, SessionState
from live_asr.core.types import Word, samples
from live_asr.models.scripted import audio_of, spoken
from live_asr.sessions.ingest import MAX_BYTES, PIECE_BYTES, Inbox, Shelved, window_bytes
from live_asr.sessions.limits import BURST, NO_LIMITS, Limits
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.runner import Cadence, SessionRunner
from live_asr.sessions.shedding import Shed
from live_asr.storage.file_journal import FileJournal
from tests.sessions.scripted_engine import SCRIPT, SECOND_BYTES, SECONDS, TEXT, ScriptedEngine, pcm

TIMEOUT = 30.0


async def finalize(runner: SessionRunner) -> None:
    """Make the result of what was heard live."""
    final = make_result(runner.session.transcript, {"json": "/a1.json"}).final
    runner.spool.append_message(encode(final))
    await runner.spool.settled()
    runner.finish(final, encode(final))


class Bench:
    """A runner at work, and what it says."""

    def __init__(self, runner: SessionRunner, engine: ScriptedEngine, store: FileJournal) -> None:
        self.runner = runner
        self.engine = engine
        self.store = store
        self.heard: list[dict[str, Any]] = []
        outbox = runner.outbox
        assert outbox is not None
        self.outbox = outbox
        self._changed = asyncio.Event()
        self.running = asyncio.create_task(runner.run())
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while (text := await self.outbox.get()) is not None:
            self.heard.append(json.loads(text))
            self._changed.set()

    def come_back(self) -> None:
        """Take the session up again over another connection."""
        self.outbox = self.runner.attach()
        self._reading.cancel()
        self._reading = asyncio.create_task(self._read())

    async def until(self, kind: str, number: int = 0) -> dict[str, Any]:
        """Return a message of this type: the first, or that with this number."""
        async with asyncio.timeout(TIMEOUT):
            while len(found := [m for m in self.heard if m["type"] == kind]) <= number:
                self._changed.clear()
                await self._changed.wait()
        return found[number]

    async def ended(self) -> None:
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(self.running, self._reading)

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.heard]

    @property
    def text(self) -> str:
        return "".join(m["text"] for m in self.heard if m["type"] == "commit")


@asynccontextmanager
async def bench(
    tmp_path: Path,
    start: Start | None = None,
    *,
    script: tuple[Word, ...] = SCRIPT,
    window_bytes: int = 1024 * 1024,
    resume_window: float = 0.0,
    pause_window: float = 0.0,
    finalize: Callable[[SessionRunner], Awaitable[None]] = finalize,
    limits: Limits = NO_LIMITS,
) -> AsyncIterator[Bench]:
    store = FileJournal(tmp_path, interval=0.01)
    await store.start()
    start = start or Start(pace="fast")
    engine = ScriptedEngine(script)
    runner = SessionRunner(
        Session("a1", start),
        await store.open("a1", {}),
        decoder=open_decoder(start.audio),
        engine=engine,  # type: ignore[arg-type]
        cadence=Cadence(),
        metrics=Metrics(),
        max_unacked_bytes=window_bytes,
        finalize=finalize,
        resume_window=resume_window,
        pause_window=pause_window,
        limits=limits,
    )
    bench = Bench(runner, engine, store)
    yield bench
    await bench.ended()
    await store.close()


# Order ----------------------------------------------------------------------------------------------


async def test_what_arrives_is_worked_off_in_the_order_it_came(tmp_path: Path) -> None:
    audio = pcm()
    async with bench(tmp_path) as desk:
        desk.runner.receive_audio(audio[: 2 * SECOND_BYTES])
        desk.runner.receive(Finalize())
        desk.runner.receive_audio(audio[2 * SECOND_BYTES :])
        desk.runner.receive(Finalize())
        desk.runner.receive(Stop())
    finalized = [m["time"] for m in desk.heard if m["type"] == "finalized"]
    assert finalized == [2.0, SECONDS]
    assert [m["type"] for m in desk.heard if "seq" in m][-2:] == ["stopped", "final"]
    assert desk.types[-1] == "final"
    assert desk.outbox.close_code == 1000


async def test_final_comes_only_once_everything_is_on_disk(tmp_path: Path) -> None:
    audio = pcm()
    async with bench(tmp_path) as desk:
        async with desk.store._writer._writing:  # the disk takes its time
            desk.runner.receive_audio(audio)
            desk.runner.receive(Stop())
            await desk.until("partial")
            async with asyncio.timeout(TIMEOUT):
                await desk.runner._drained.wait()
            assert desk.runner.session.state is SessionState.FINALIZING
            assert desk.runner.session.transcript.last_seq > 0
            assert not {"ack", "commit", "stopped", "final"} & set(desk.types)
        await desk.until("final")
        assert desk.types.index("ack") < desk.types.index("final")
        assert desk.runner.spool.safe_bytes == len(audio)
    kept = [json.loads(line) for line in desk.store.messages("a1")]
    assert kept == [m for m in desk.heard if "seq" in m]


async def test_the_result_is_asked_for_once_the_live_transcript_is_on_disk(tmp_path: Path) -> None:
    asked: list[SessionRunner] = []
    messages = tmp_path / "a1" / "messages.jsonl"

    async def look(runner: SessionRunner) -> None:
        asked.append(runner)
        kept = [json.loads(line)["type"] for line in messages.read_text().splitlines()]
        assert kept[-1] == "stopped"
        assert runner.heard_speech
        runner.tell(Notice("soon", "It is being made."))
        await finalize(runner)

    async with bench(tmp_path, finalize=look) as desk:
        desk.runner.receive_audio(pcm())
        desk.runner.receive(Stop())
    assert asked == [desk.runner]
    assert [kind for kind in desk.types if kind != "ack"][-3:] == ["stopped", "notice", "final"]


async def test_what_comes_while_the_result_is_made_is_refused_and_the_result_is_made(tmp_path: Path) -> None:
    began, may_go_on = asyncio.Event(), asyncio.Event()

    async def wait(runner: SessionRunner) -> None:
        began.set()
        await may_go_on.wait()
        await finalize(runner)

    async with bench(tmp_path, finalize=wait) as desk:
        desk.runner.receive_audio(pcm())
        desk.runner.receive(Stop())
        await began.wait()
        with pytest.raises(ClientError) as refusal:
            desk.runner.receive_audio(pcm())
        assert refusal.value.code == "unexpected_message"
        desk.runner.dismiss(refusal.value)
        assert (tmp_path / "a1" / "audio.bin").stat().st_size == len(pcm())
        may_go_on.set()
    assert desk.runner.session.state is SessionState.DONE
    assert desk.outbox.close_code == 1008


async def test_a_result_that_cannot_be_kept_fails_the_session_and_tells_no_path(tmp_path: Path) -> None:
    async def refuse(runner: SessionRunner) -> None:
        raise StorageError("The disk is full.", "Make room.")

    async with bench(tmp_path, finalize=refuse) as desk:
        desk.runner.receive_audio(pcm())
        desk.runner.receive(Stop())
    assert (desk.heard[-1]["code"], desk.heard[-1]["message"]) == (
        "storage_full",
        "The server cannot do this now.",  # what the disk said is for the log
    )
    assert isinstance(desk.runner.fault, StorageError)
    assert desk.runner.session.state is SessionState.FAILED


async def test_a_recording_is_acknowledged_piece_by_piece_as_it_is_worked_off(tmp_path: Path) -> None:
    async with bench(tmp_path) as desk:
        desk.engine.may_work.clear()
        desk.runner.receive_audio(bytes(30 * SECOND_BYTES))
        number = 0
        while (await desk.until("ack", number))["bytes"] < 20 * SECOND_BYTES:
            number += 1
        # The recogniser stands still: so much is taken in advance, and not the rest of the frame.
        assert desk.heard[-1]["bytes"] < 21 * SECOND_BYTES
        desk.engine.may_work.set()
        desk.runner.receive(Stop())
        await desk.until("final")
    assert max(m["bytes"] for m in desk.heard if m["type"] == "ack") == 30 * SECOND_BYTES


async def test_the_loop_is_free_between_the_pieces_of_a_large_frame(tmp_path: Path) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with bench(tmp_path) as desk:
        counting = asyncio.create_task(count())
        desk.runner.receive_audio(bytes(64 * PIECE_BYTES))
        desk.runner.receive(Stop())
        await desk.until("stopped")
        counting.cancel()
    assert turns >= 64


# Bounds ---------------------------------------------------------------------------------------------


async def test_more_than_the_window_is_an_overrun_and_what_fits_is_kept(tmp_path: Path) -> None:
    async with bench(tmp_path, Start()) as desk, desk.store._writer._writing:  # nothing can be acknowledged
        for _ in range(16):
            desk.runner.receive_audio(bytes(65_536))
        with pytest.raises(ClientError) as refusal:
            desk.runner.receive_audio(b"\0")
        assert refusal.value.code == "overrun"
        desk.runner.dismiss(refusal.value)
    assert (tmp_path / "a1" / "audio.bin").stat().st_size == 16 * 65_536
    assert (desk.heard[-1]["type"], desk.heard[-1]["code"]) == ("error", "overrun")
    assert desk.runner.session.state is SessionState.DONE


@pytest.mark.parametrize(
    ("audio", "frame_bytes"),
    [
        (AudioFormat("pcm_f32le", 48_000, 2), 384_000),
        (AudioFormat("mulaw", 8_000, 1), 8_000),
        (AudioFormat("container"), 384_000),
    ],
    ids=str,
)
async def test_a_live_client_may_stall_for_half_a_minute_at_its_own_rate(
    tmp_path: Path, audio: AudioFormat, frame_bytes: int
) -> None:
    start = Start(audio=audio)
    window = window_bytes(start, 65_536)
    async with (
        bench(tmp_path, start, window_bytes=window) as desk,
        desk.store._writer._writing,
    ):  # the disk stalls
        for _ in range(30):
            desk.runner.receive_audio(bytes(frame_bytes))
        assert desk.runner._inbox.held_bytes <= MAX_BYTES
        with pytest.raises(ClientError, match="at most"):
            desk.runner.receive_audio(b"\0")
        desk.runner.dismiss(ClientError("overrun", "", ""))
    assert (tmp_path / "a1" / "audio.bin").stat().st_size == 30 * frame_bytes


def test_a_file_waits_for_its_acknowledgements_in_the_least_window() -> None:
    assert window_bytes(Start(AudioFormat("pcm_f32le", 48_000, 2), pace="fast"), 65_536) == 65_536


async def test_unanswered_controls_are_bounded_and_answered_ones_are_not(tmp_path: Path) -> None:
    async with bench(tmp_path) as desk:
        for number in range(500):
            desk.runner.receive(Finalize())
            await desk.until("finalized", number)
        desk.engine.may_work.clear()
        desk.runner.receive_audio(pcm())
        with pytest.raises(ClientError) as refusal:
            for _ in range(500):
                desk.runner.receive(Finalize())
        assert refusal.value.code == "overrun"
        desk.engine.may_work.set()
        desk.runner.dismiss(refusal.value)


async def test_a_client_that_does_not_read_is_let_go_and_its_words_are_kept(tmp_path: Path) -> None:
    script = spoken(" ".join(f"word{number}" for number in range(100)), 0.5, gap=0.1)
    async with bench(tmp_path, script=script, window_bytes=4 * 1024 * 1024) as desk:
        outbox = desk.runner.outbox
        assert outbox is not None
        desk._reading.cancel()
        desk._reading = asyncio.create_task(asyncio.Event().wait())  # it reads nothing any more
        outbox._most_bytes = 2000
        desk.runner.receive_audio((audio_of(script, samples(45)) * 32767).astype("<i2").tobytes())
        async with asyncio.timeout(TIMEOUT):
            await desk.running
        assert desk.outbox.close_code == 1008
        assert [json.loads(await outbox.get() or b"")["code"], await outbox.get()] == ["slow_client", None]
        desk._reading.cancel()
        desk._reading = asyncio.create_task(asyncio.sleep(0))
    assert desk.runner.session.state is SessionState.DONE
    assert desk.runner.session.transcript.text.split()[-1] == "word99"


async def test_an_inbox_keeps_audio_in_pieces_whatever_it_came_in() -> None:
    inbox = Inbox()
    audio = np.random.default_rng(0).bytes(5 * PIECE_BYTES + 7)
    for first in range(0, PIECE_BYTES + 5, 3):
        inbox.put_audio(audio[first : min(first + 3, PIECE_BYTES + 5)])
    inbox.put_audio(audio[PIECE_BYTES + 5 :])
    inbox.put_audio(b"")
    inbox.put("stop")
    inbox.put_audio(b"more")
    items = [await inbox.get() for _ in range(8)]
    assert items[6:] == ["stop", b"more"]
    assert [len(item) for item in items[:6]] == [PIECE_BYTES] * 5 + [7]
    assert b"".join(item for item in items[:6] if isinstance(item, bytes)) == audio


async def test_an_inbox_leaves_on_disk_what_it_has_no_room_for() -> None:
    inbox = Inbox()
    for position in range(0, MAX_BYTES + 3 * PIECE_BYTES, PIECE_BYTES):
        inbox.put_audio(bytes(PIECE_BYTES), position)
    inbox.put("finalize")
    assert inbox.held_bytes == MAX_BYTES
    held = [await inbox.get() for _ in range(MAX_BYTES // PIECE_BYTES)]
    assert {type(item) for item in held} == {bytes}
    inbox.put_audio(b"more", MAX_BYTES + 3 * PIECE_BYTES)  # there is room again; older goes first
    assert await inbox.get() == Shelved(MAX_BYTES, MAX_BYTES + 3 * PIECE_BYTES)
    assert [await inbox.get() for _ in range(2)] == ["finalize", b"more"]
    assert inbox.held_bytes == 0


async def test_a_live_session_whose_models_stand_still_is_acknowledged_and_bounded(tmp_path: Path) -> None:
    minutes = 2  # what may come at once
    async with bench(tmp_path, Start()) as desk:
        desk.engine.may_work.clear()
        audio = pcm() + bytes((minutes * 60 - 6) * SECOND_BYTES)
        for first in range(0, len(audio), SECOND_BYTES):
            desk.runner.receive_audio(audio[first : first + SECOND_BYTES])
            async with asyncio.timeout(TIMEOUT):
                await desk.runner.spool.safe(first + SECOND_BYTES)
        assert desk.runner.session.received_sample < 90 * 16_000
        assert desk.runner._inbox.held_bytes <= MAX_BYTES
        lag = await desk.until("lag")
        desk.engine.may_work.set()
        desk.runner.receive(Stop())
        stopped = await desk.until("stopped")
    assert (stopped["text"], stopped["duration"]) == (TEXT, minutes * 60)
    assert lag["seconds"] <= minutes * 60
    assert max(m["bytes"] for m in desk.heard if m["type"] == "ack") == len(audio)


# What goes wrong ------------------------------------------------------------------------------------


async def test_a_detection_that_fails_is_asked_for_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as desk:
        desk.engine.detect_faults = iter([EngineError("gone"), EngineError("gone again")])
        desk.runner.receive_audio(pcm())
        desk.runner.receive(Stop())
    assert desk.text == TEXT
    assert "error" not in desk.types


async def test_a_detection_that_always_fails_ends_the_session_with_words_for_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as desk:
        desk.engine.detect_faults = iter([EngineError("gone")] * 100)
        desk.runner.receive_audio(pcm())
        await desk.until("error")
    assert (desk.heard[-1]["code"], desk.outbox.close_code) == ("internal", 1011)
    assert desk.heard[-1]["hint"]
    assert "gone" not in desk.heard[-1]["message"]


async def test_a_decode_that_fails_is_told_and_the_session_goes_on(tmp_path: Path) -> None:
    async with bench(tmp_path) as desk:
        desk.engine.recognize_faults = iter([EngineError("gone")])
        desk.runner.receive_audio(pcm())
        desk.runner.receive(Stop())
    notices = [m for m in desk.heard if m["type"] == "notice"]
    assert [notice["code"] for notice in notices] == ["step_failed"]
    assert desk.text == TEXT


async def test_a_client_that_is_lost_costs_no_word(tmp_path: Path) -> None:
    async with bench(tmp_path) as desk:
        desk.runner.receive_audio(pcm())
        desk.runner.lose_client()
    assert desk.runner.outbox is None
    assert desk.runner.session.transcript.text == TEXT
    assert desk.runner.session.state is SessionState.DONE


async def test_the_first_reason_stands_and_nothing_is_said_after_the_end(tmp_path: Path) -> None:
    async with bench(tmp_path) as desk:
        desk.runner.dismiss(ClientError("already_started", "A second `start` came.", "Do not."))
        desk.runner.dismiss(Unavailable("shutting_down", "The server ends.", "Wait.", retry_after=1.0))
        desk.runner.fail(StorageError("The disk is full.", "Make room."))
    assert [m["code"] for m in desk.heard if m["type"] == "error"] == ["already_started"]
    assert desk.outbox.close_code == 1008

    async with bench(tmp_path / "another") as desk:
        desk.runner.receive(Stop())
        await desk.until("final")
        desk.runner.dismiss(ClientError("bad_message", "What?", "Nothing."))
        desk.runner.fail(StorageError("The disk is full.", "Make room."))
    assert desk.types == ["stopped", "final"]
    assert desk.outbox.close_code == 1000


async def test_a_session_that_fails_in_the_moment_in_which_it_is_left_has_failed(tmp_path: Path) -> None:
    async with bench(tmp_path) as desk:
        desk.runner.receive_audio(pcm())
        desk.runner.leave(even_stopped=True)
        assert desk.runner.is_left
        desk.runner.fail(ClientError("session_erased", "It was erased.", "Open a new one."))
    assert (desk.runner.is_left, desk.runner.session.state) == (False, SessionState.FAILED)


@pytest.mark.parametrize("end", ["left", "failed"])
async def test_what_comes_when_nobody_works_for_the_session_any_more_is_neither_kept_nor_refused(
    tmp_path: Path, end: str
) -> None:
    async with bench(tmp_path) as desk:
        if end == "left":
            desk.runner.leave()
        else:
            desk.runner.fail(StorageError("The disk is full.", "Make room."))
        desk.runner.receive_audio(pcm())
        for message in (Finalize(), Stop()):
            desk.runner.receive(message)
    assert (desk.runner.received_bytes, desk.types) == (0, ["error"] if end == "failed" else [])


async def test_audio_that_follows_stop_is_refused_and_neither_kept_nor_heard(tmp_path: Path) -> None:
    async with bench(tmp_path) as desk:
        desk.engine.may_work.clear()
        desk.runner.receive_audio(pcm(2.0))
        desk.runner.receive(Stop())
        with pytest.raises(ClientError) as refusal:
            desk.runner.receive_audio(bytes(SECOND_BYTES))
        desk.engine.may_work.set()
    assert refusal.value.code == "unexpected_message"
    assert (tmp_path / "a1" / "audio.bin").stat().st_size == 2 * SECOND_BYTES
    assert desk.runner.session.transcript.duration_samples == samples(2.0)


async def test_bytes_that_are_no_media_are_the_client_s_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(tmp_path, Start(audio=AudioFormat("container"), pace="fast")) as desk:
        desk.runner.receive_audio(b"\x89PNG\r\n\x1a\n" + bytes(100))
        desk.runner.receive_audio(bytes(4 * PIECE_BYTES))
    assert (desk.heard[-1]["code"], desk.outbox.close_code) == ("not_audio", 1003)
    assert desk.runner.session.state is SessionState.FAILED
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_finalize_and_a_stop_that_are_said_again_after_a_loss_end_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path, resume_window=TIMEOUT) as desk:
        desk.runner.receive_audio(pcm())
        desk.engine.may_work.clear()
        desk.runner.receive(Finalize())
        desk.runner.receive(Stop())
        desk.come_back()
        desk.runner.receive(Finalize())
        desk.runner.receive(Stop())
        desk.engine.may_work.set()
        await desk.until("final")
    assert {"error", "finalized"}.isdisjoint(desk.types)
    assert desk.outbox.close_code == 1000


async def test_a_paused_session_waits_longer_for_a_client_that_is_lost(tmp_path: Path) -> None:
    async with bench(tmp_path, resume_window=0.0, pause_window=TIMEOUT) as desk:
        desk.runner.receive_audio(pcm())
        desk.runner.receive(Pause())
        assert (await desk.until("paused"))["paused"]
        assert desk.text == TEXT
        desk.runner.lose_client()
        desk.come_back()
        desk.runner.receive(Pause(paused=False))
        desk.runner.receive_audio(bytes(SECOND_BYTES))
        desk.runner.lose_client()  # nobody is waited for any more
    assert desk.runner.session.transcript.duration_samples == samples(SECONDS + 1.0)
    kept = [json.loads(line) for line in desk.store.messages("a1")]
    assert [m["paused"] for m in kept if m["type"] == "paused"] == [True, False]


async def test_audio_ends_a_pause_by_itself(tmp_path: Path) -> None:
    audio = pcm()
    async with bench(tmp_path) as desk:
        desk.runner.receive_audio(audio[: 2 * SECOND_BYTES])
        desk.runner.receive(Pause())
        desk.runner.receive_audio(audio[2 * SECOND_BYTES :])
        desk.runner.receive(Stop())
    told = [m for m in desk.heard if m["type"] == "paused"]
    assert [(m["time"], m["paused"]) for m in told] == [(2.0, True), (2.0, False)]
    assert desk.text.split()[-1] == "ten"


async def test_a_client_that_comes_back_too_late_is_told_so_and_hears_the_end(tmp_path: Path) -> None:
    async with bench(tmp_path, resume_window=0.0) as desk:
        desk.runner.receive_audio(pcm())
        desk.engine.may_work.clear()
        desk.runner.lose_client()
        desk.come_back()
        for _ in range(3):
            desk.runner.receive_audio(bytes(SECOND_BYTES))
        desk.runner.receive(Stop())
        desk.engine.may_work.set()
        await desk.until("final")
    assert desk.types.count("notice") == 1
    assert (await desk.until("notice"))["code"] == "audio_dropped"
    assert (desk.text, "error" in desk.types) == (TEXT, False)
    assert (tmp_path / "a1" / "audio.bin").stat().st_size == len(pcm())


async def test_a_client_that_comes_back_too_late_twice_is_not_refused_the_second_time(tmp_path: Path) -> None:
    async with bench(tmp_path, resume_window=0.0) as desk:
        desk.runner.receive_audio(pcm())
        desk.engine.may_work.clear()
        for _ in range(2):
            desk.runner.lose_client()
            desk.come_back()
            desk.runner.receive_audio(bytes(SECOND_BYTES))
        desk.engine.may_work.set()
        await desk.until("final")
    assert ("error" in desk.types, desk.outbox.close_code) == (False, 1000)


async def test_a_session_that_is_cancelled_leaves_no_task_and_no_open_box(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with bench(tmp_path) as desk:
        desk.runner.receive_audio(pcm())
        await desk.until("commit")
        desk.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await desk.running
        desk.running = asyncio.create_task(asyncio.sleep(0))
    assert asyncio.all_tasks() == before


# How much, and how fast ------------------------------------------------------------------------------


def flac(duration: float) -> bytes:
    """Return silence as FLAC, which takes next to nothing."""
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, samples(duration)), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 16_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return out.getvalue()


@pytest.mark.parametrize("pace", ["fast", "realtime"])
async def test_a_session_that_is_as_long_as_it_may_be_ends_with_what_was_heard(
    tmp_path: Path, pace: Any
) -> None:
    container = Start(audio=AudioFormat("container"), pace=pace)
    async with bench(tmp_path, container, resume_window=TIMEOUT, limits=Limits(seconds=20.0)) as desk:
        desk.runner.receive_audio(flac(60.0))
    assert (desk.heard[-1]["code"], desk.outbox.close_code) == ("too_long", 1008)
    assert desk.runner.session.state is SessionState.DONE
    assert desk.runner.session.transcript.duration_samples == samples(20.0)


async def test_a_session_takes_no_more_bytes_than_it_may(tmp_path: Path) -> None:
    audio = pcm()
    limits = Limits(bytes=len(audio))
    async with bench(tmp_path, resume_window=TIMEOUT, limits=limits) as desk:
        desk.runner.receive_audio(audio)
        desk.runner.receive_audio(b"\0\0")
    assert (desk.heard[-1]["code"], desk.outbox.close_code) == ("too_long", 1008)
    assert desk.runner.session.state is SessionState.DONE
    assert desk.runner.session.transcript.final is not None
    assert desk.runner.session.transcript.final.text == TEXT
    assert (tmp_path / "a1" / "audio.bin").stat().st_size == len(audio)


async def test_live_audio_is_acknowledged_no_faster_than_somebody_could_speak(tmp_path: Path) -> None:
    second = bytes(SECOND_BYTES)
    async with bench(tmp_path, Start(pace="realtime"), window_bytes=10_000_000) as desk:
        for count in range(1, 1 + 2 * int(BURST)):
            desk.runner.receive_audio(second)
            await desk.runner.spool.safe(count * SECOND_BYTES)
        acked = max(m["bytes"] for m in desk.heard if m["type"] == "ack")
        assert acked / SECOND_BYTES <= BURST * 1.5
        assert desk.runner.session.state is SessionState.STREAMING
        desk.runner.receive(Stop())  # nobody is made to wait for what was sent already
    assert max(m["bytes"] for m in desk.heard if m["type"] == "ack") == 2 * BURST * SECOND_BYTES


async def test_of_live_audio_that_comes_too_fast_more_and_more_is_acknowledged(tmp_path: Path) -> None:
    async with bench(tmp_path, Start(pace="realtime"), window_bytes=20_000_000) as desk:
        desk.runner.receive_audio(bytes(SECOND_BYTES))
        await desk.until("ack")
        desk.runner.receive_audio(bytes(int(4 * BURST) * SECOND_BYTES))
        acked = [(await desk.until("ack", number))["bytes"] for number in range(1, 4)]
        assert acked[0] >= BURST * SECOND_BYTES
        assert acked[0] < acked[1] < acked[2] < desk.runner.received_bytes
        desk.runner.receive(Stop())


async def test_late_answers_of_a_recogniser_that_was_away_count_as_no_load(tmp_path: Path) -> None:
    async with bench(tmp_path, Start(pace="realtime")) as desk:
        metric = desk.runner._metrics.shed
        desk.engine.waited, desk.engine.changed_at = 9.0, time.monotonic()
        desk.runner.receive_audio(pcm())
        await desk.until("commit")
        assert [metric.labels(shed.name.lower())._value.get() for shed in list(Shed)[1:]] == [0] * 5
        desk.runner.receive(Stop())
        await desk.until("final")
    assert "notice" not in desk.types
    assert desk.text == TEXT


async def test_what_a_loaded_recogniser_is_spared_is_told_once_and_counted(tmp_path: Path) -> None:
    script = spoken(" ".join(f"w{index}" for index in range(60)), 0.5)
    audio = (audio_of(script, samples(20.0)) * 32767).astype("<i2").tobytes()
    async with bench(tmp_path, Start(pace="realtime"), script=script) as desk:
        metric = desk.runner._metrics.shed
        desk.engine.waited = 9.0
        for start in range(0, len(audio), SECOND_BYTES):
            desk.runner.receive_audio(audio[start : start + SECOND_BYTES])
        await desk.until("notice")
        assert [metric.labels(shed.name.lower())._value.get() for shed in list(Shed)[1:]] == [1] * 5
        desk.engine.waited = 0.0
        desk.runner.receive(Stop())
        await desk.until("final")
    notices = [m for m in desk.heard if m["type"] == "notice"]
    assert [m["code"] for m in notices] == ["degraded"] * len(notices)
    assert len({m["message"] for m in notices}) == len(notices) <= 2
    assert [metric.labels(shed.name.lower())._value.get() for shed in list(Shed)[1:]] == [0] * 5
    assert desk.text == "".join(word.text for word in script)
