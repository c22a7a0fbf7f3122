"""From `stopped` to `final` on a real disk and a real database, with a full pass that does as it is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_pass import found, turn

from live_asr.config.settings import FinalSettings, WebhookSettings
from live_asr.core.errors import EngineError, LiveAsrError, StorageError
from live_asr.core.messages import (
    AudioFormat,
    Final,
    Notice,
    Progress,
    Start,
    Webhook,
    encode,
)
from live_asr.sessions.finalizer import Finished, Postponed
from live_asr.storage.database import Database
from live_asr.storage.files import LIVE_TURNS_FILE
from tests.sessions.finalizing import AUDIO, HOOK, RATE_HZ, opened, wait_for


def spoken(final: Final) -> list[tuple[str | None, str]]:
    return [(segment.speaker, segment.text) for segment in final.segments]


# What comes of it ---------------------------------------------------------------------------------


async def test_the_full_pass_s_words_and_speakers_are_the_result_and_all_is_written_down(
    tmp_path: Path,
) -> None:
    start = Start(webhook=Webhook(HOOK), metadata={"jobId": 7})
    async with opened(tmp_path) as desk:
        final = await desk.finalize(await desk.session(start))
        assert spoken(final) == [("SPEAKER_00", "won too"), ("SPEAKER_01", "three for")]
        assert [(s.label, s.live_labels) for s in final.speakers] == [
            ("SPEAKER_00", ("S1",)),
            ("SPEAKER_01", ("S2",)),
        ]
        assert (final.labels, final.revision, final.seq) == ("full", 1, 3)
        assert final.links["rttm"] == "/v1/sessions/a1/transcript.rttm"
        assert desk.kept()[-1] == json.loads(encode(final))
        assert desk.files() == {"session.json", "messages.jsonl", "turns.json"}
        assert desk.store.turns("a1") == (turn(0.0, 1.0, "SPEAKER_00"), turn(1.0, 2.0, "SPEAKER_01"))
        stored = desk.database.session("a1")
        assert stored is not None
        assert (stored.state, stored.revision, stored.labels, stored.duration) == ("done", 1, "full", 2.0)
        assert [speaker["label"] for speaker in stored.speakers] == ["SPEAKER_00", "SPEAKER_01"]
        (delivery,) = desk.database.deliveries()
        assert (delivery.url, delivery.state, desk.woken) == (HOOK, "pending", 1)
        told = json.loads(delivery.body)
        assert (told["status"], told["jobId"], told["transcript"]) == ("success", 7, "won too three for")
        assert told["metadata"]["processingTime"] >= 0


async def test_the_pass_hears_what_the_live_session_heard_and_what_was_asked_for(tmp_path: Path) -> None:
    stereo = np.repeat(AUDIO[::2], 2).tobytes()
    start = Start(
        audio=AudioFormat("pcm_s16le", 8000, 2),
        language="de",
        task="translate",
        vocabulary=("Nguyễn",),
        min_speakers=2,
        max_speakers=3,
    )
    async with opened(tmp_path) as desk:
        await desk.finalize(await desk.session(start, audio=stereo))
        (job,) = desk.full_pass.jobs
        assert (job.language, job.task, job.vocabulary) == ("de", "translate", ("Nguyễn",))
        assert (job.diarize, job.recognize, job.min_speakers, job.max_speakers) == (True, True, 2, 3)
        assert len(desk.full_pass.heard[0]) == 2 * RATE_HZ

        await desk.finalize(await desk.session(name="a2", audio=AUDIO.tobytes() + b"\0"))
        assert np.array_equal(desk.full_pass.heard[1], AUDIO)


async def test_the_pass_finds_the_language_by_itself_whatever_the_first_word_was_taken_for(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, found("eins zwei", language="de"), EngineError("killed")) as desk:
        start = Start(webhook=Webhook(HOOK))
        final = await desk.finalize(await desk.session(start, languages=("cy", "en", "en")))
        (job,) = desk.full_pass.jobs
        assert (job.language, final.language) == (None, "de")
        stored = desk.database.session("a1")
        assert stored is not None
        assert stored.language == "de"
        (delivery,) = desk.database.deliveries()
        assert json.loads(delivery.body)["metadata"]["language"] == "de"

        failed = await desk.finalize(await desk.session(name="a2", languages=("cy", "en", "en")))
        assert (failed.labels, failed.language) == ("live", "en")


async def test_a_recording_that_cannot_be_read_to_its_end_is_gone_over_as_far_as_it_goes(
    tmp_path: Path, sample_wav: Path
) -> None:
    wav = sample_wav.read_bytes()[: 10 * 2 * RATE_HZ]  # noqa: ASYNC240  a test may wait for its disk
    async with opened(tmp_path) as desk:
        start = Start(audio=AudioFormat("container"))
        await desk.finalize(await desk.session(start, audio=wav, duration=10.0))
        assert len(desk.full_pass.heard[0]) == pytest.approx(10 * RATE_HZ, abs=RATE_HZ / 10)


@pytest.mark.parametrize(
    ("start", "final", "jobs"),
    [
        (Start(final_pass=False), FinalSettings(), 0),
        (Start(diarize=False), FinalSettings(recognize=False), 0),
        (Start(diarize=False), FinalSettings(), 1),
        (Start(), FinalSettings(recognize=False), 1),
    ],
)
async def test_a_pass_is_made_only_where_it_has_something_to_find(
    tmp_path: Path, start: Start, final: FinalSettings, jobs: int
) -> None:
    async with opened(tmp_path, final=final) as desk:
        await desk.finalize(await desk.session(start))
        assert len(desk.full_pass.jobs) == jobs
        for job in desk.full_pass.jobs:
            assert (job.diarize, job.recognize) == (start.diarize, final.recognize)


@pytest.mark.parametrize(
    "session",
    [
        {"duration": 0.0, "audio": b"", "text": "", "heard_speech": False},
        {"duration": 0.9, "text": "one"},
        {"duration": 600.0, "text": "", "heard_speech": False},
    ],
    ids=["empty", "very short", "silent"],
)
async def test_a_session_with_nothing_to_find_is_done_at_once(
    tmp_path: Path, session: dict[str, Any]
) -> None:
    async with opened(tmp_path) as desk:
        final = await desk.finalize(await desk.session(**session))
        assert (desk.full_pass.jobs, desk.said) == ([], [])
        assert final.text.split() == session["text"].split()


async def test_without_weights_that_find_speakers_and_nothing_to_recognise_no_pass_is_made(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, final=FinalSettings(recognize=False)) as desk:
        desk.full_pass.can_diarize = False
        final = await desk.finalize(await desk.session())
        assert (desk.full_pass.jobs, final.labels) == ([], "live")


async def test_with_final_pass_off_the_live_record_is_the_result_under_final_labels(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        final = await desk.finalize(await desk.session(Start(final_pass=False)))
        assert spoken(final) == [("SPEAKER_00", "one two"), ("SPEAKER_01", "three four")]
        assert (final.labels, final.revision) == ("live", 1)
        assert desk.store.turns("a1") == (turn(0.0, 1.0, "SPEAKER_00"), turn(1.0, 2.0, "SPEAKER_01"))


async def test_turns_as_heard_live_are_kept_and_are_the_result_s_where_the_pass_has_none(
    tmp_path: Path,
) -> None:
    heard = (turn(0.0, 1.1, "S1"), turn(0.9, 2.0, "S2"), turn(0.0, 0.1, "S3"))  # S3 has no words
    expected = (turn(0.0, 1.1, "SPEAKER_00"), turn(0.9, 2.0, "SPEAKER_01"))
    async with opened(tmp_path, EngineError("killed")) as desk:
        desk.full_pass.may_end.clear()
        session = await desk.session(live_turns=heard)
        waiting = asyncio.create_task(desk.finalizer.finalize(session))
        await desk.full_pass.began.wait()
        desk.finalizer.postpone()
        with pytest.raises(Postponed):
            await waiting
        assert [job.live_turns for job in desk.full_pass.jobs] == [heard]
        await desk.store.finish(session.spool, keep_audio=True)
    async with opened(tmp_path, EngineError("killed")) as desk:
        final = await desk.finalize(await desk.again(session))
        assert {job.live_turns for job in desk.full_pass.jobs} == {heard}
        assert [speaker.duration for speaker in final.speakers] == [1.1, 1.1]
        assert desk.store.turns("a1") == expected
        assert desk.store.turns("a1", LIVE_TURNS_FILE) == heard


async def test_live_words_stand_where_the_pass_gives_none(tmp_path: Path) -> None:
    async with opened(tmp_path, found("", (turn(0.0, 2.0, "SPEAKER_00"),))) as desk:
        final = await desk.finalize(await desk.session())
        assert spoken(final) == [("SPEAKER_00", "one two three four")]
        assert final.labels == "full"


async def test_audio_is_erased_with_the_result_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.finalize(await desk.session())
        assert desk.files() == {"session.json", "messages.jsonl", "turns.json"}


async def test_the_url_of_the_settings_is_told_of_sessions_that_name_none(tmp_path: Path) -> None:
    async with opened(tmp_path, webhook=WebhookSettings(url=HOOK)) as desk:
        await desk.finalize(await desk.session())
        await desk.finalize(await desk.session(Start(webhook=Webhook("http://other/")), name="a2"))
        assert {delivery.url for delivery in desk.database.deliveries()} == {HOOK, "http://other/"}


async def test_without_any_url_nobody_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.finalize(await desk.session())
        assert (desk.database.deliveries(), desk.woken) == ([], 0)


# What goes wrong ----------------------------------------------------------------------------------


async def test_a_pass_that_fails_once_is_tried_again_and_its_client_hears_nothing_of_it(
    tmp_path: Path,
) -> None:
    progress = (("segmentation", 0.2), ("embeddings", 0.6))
    async with opened(tmp_path, EngineError("killed"), found(), progress=progress) as desk:
        final = await desk.finalize(await desk.session())
        assert (len(desk.full_pass.jobs), final.labels) == (2, "full")
        assert desk.said_of(Notice) == []
        fractions = [message.fraction for message in desk.said_of(Progress)]
        assert fractions == sorted(fractions)


async def test_a_pass_that_fails_twice_leaves_the_live_record_and_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path, EngineError("killed")) as desk:
        final = await desk.finalize(await desk.session())
        assert len(desk.full_pass.jobs) == 2
        assert spoken(final) == [("SPEAKER_00", "one two"), ("SPEAKER_01", "three four")]
        assert final.labels == "live"
        (notice,) = desk.said_of(Notice)
        assert notice.code == "final_pass_failed"
        assert "killed" not in notice.message
        assert desk.database.session("a1").state == "done"  # type: ignore[union-attr]


async def test_a_recording_that_is_gone_leaves_the_live_record(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        session = await desk.session()
        (session.spool.folder / "audio.bin").unlink()
        final = await desk.finalize(session)
        assert (desk.full_pass.jobs, final.labels) == ([], "live")
        assert [notice.code for notice in desk.said_of(Notice)] == ["final_pass_failed"]


async def test_a_recording_of_which_a_disk_lost_the_end_takes_no_word_from_the_result(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        said = "one two three four five six seven"
        final = await desk.finalize(await desk.session(text=said, speakers="S1 " * 7, duration=3.5))
        assert (desk.full_pass.jobs, final.labels) == ([], "live")
        assert final.text.strip() == said
        assert [notice.code for notice in desk.said_of(Notice)] == ["final_pass_failed"]


async def test_a_disk_that_refuses_the_result_is_an_error_and_nobody_is_told_of_success(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, webhook=WebhookSettings(url=HOOK)) as desk:
        session = await desk.session()
        messages = session.spool.folder / "messages.jsonl"
        messages.unlink()
        messages.symlink_to("/dev/full")
        with pytest.raises(StorageError, match="No space left"):
            await desk.finalize(session)
        assert desk.database.session("a1").state == "finalizing"  # type: ignore[union-attr]
        assert desk.database.deliveries() == []


async def test_a_database_that_is_away_for_a_moment_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Shaky(Database):
        faults = 1

        def finish_session(self, *args: Any, **kwargs: Any) -> None:
            if self.faults:
                self.faults -= 1
                raise StorageError("The database is away.", "Wait.", code="database")
            super().finish_session(*args, **kwargs)

    async with opened(tmp_path, database=Shaky) as desk:
        await desk.finalize(await desk.session())
        assert desk.database.session("a1").state == "done"  # type: ignore[union-attr]
        assert "waits for the database" in caplog.text


async def test_a_failed_session_is_told_of_with_the_words_there_are(tmp_path: Path) -> None:
    async with opened(tmp_path, webhook=WebhookSettings(url=HOOK)) as desk:
        session = await desk.session()
        error = LiveAsrError("The server ended before this session did.", code="interrupted")
        await desk.finalizer.fail("a1", session.start, session.transcript, error)
        stored = desk.database.session("a1")
        assert stored is not None
        assert (stored.state, stored.revision) == ("failed", 0)
        assert stored.error == {
            "code": "interrupted",
            "message": "The server ended before this session did.",
        }
        (delivery,) = desk.database.deliveries()
        told = json.loads(delivery.body)
        assert (told["status"], told["error"]["code"]) == ("failed", "interrupted")
        assert (told["transcript"], told["revision"]) == ("one two three four", 0)
        assert [speaker["label"] for speaker in stored.speakers] == ["S1", "S2"]
        assert [segment["speakerLabel"] for segment in told["segments"]] == ["S1", "S2"]
        assert "final" not in [message["type"] for message in desk.kept()]


# Ends and beginnings ------------------------------------------------------------------------------


async def test_a_pass_that_the_server_s_end_interrupts_is_made_by_the_next_run(tmp_path: Path) -> None:
    async with opened(tmp_path, webhook=WebhookSettings(url=HOOK)) as desk:
        desk.full_pass.may_end.clear()
        session = await desk.session()
        waiting = asyncio.create_task(desk.finalizer.finalize(session))
        await desk.full_pass.began.wait()
        assert desk.finalizer.progress("a1") is not None
        desk.finalizer.postpone()
        with pytest.raises(Postponed):
            await waiting
        assert desk.full_pass.cancelled == 1
        assert desk.finalizer.progress("a1") is None
        assert desk.files() == {"session.json", "messages.jsonl", "audio.bin", "audio.crc"}
        assert [stored.state for stored in desk.database.unfinished()] == ["finalizing"]
        with pytest.raises(Postponed):  # nor is another one begun
            await desk.finalizer.finalize(session)
        await desk.store.finish(session.spool, keep_audio=True)

    async with opened(tmp_path, webhook=WebhookSettings(url=HOOK)) as desk:
        final = await desk.finalize(await desk.again(session))
        assert (final.labels, len(desk.full_pass.jobs)) == ("full", 1)
        assert [message["type"] for message in desk.kept()] == ["commit", "stopped", "final"]
        assert len(desk.database.deliveries()) == 1


async def test_a_result_that_is_kept_is_not_made_again_but_told(tmp_path: Path) -> None:
    class Dying(Database):
        def finish_session(self, *args: Any, **kwargs: Any) -> None:
            raise KeyError("the server dies here")

    async with opened(tmp_path, database=Dying) as desk:
        session = await desk.session()
        with pytest.raises(KeyError):
            await desk.finalize(session)
        before = desk.kept()[-1]
        await desk.store.finish(session.spool, keep_audio=True)

    async with opened(tmp_path, webhook=WebhookSettings(url=HOOK)) as desk:
        for _ in range(2):  # the second time it died after the transaction
            final = await desk.finalize(await desk.again(session))
            assert json.loads(encode(final)) == before
        assert desk.full_pass.jobs == []
        assert [message["type"] for message in desk.kept()] == ["commit", "stopped", "final"]
        assert "audio.bin" not in desk.files()
        (delivery,) = desk.database.deliveries()
        told = json.loads(delivery.body)
        assert [speaker["totalDuration"] for speaker in told["diarization"]] == [1.0, 1.0]


async def test_a_cancelled_session_cancels_its_pass_and_leaves_the_next_one_its_turn(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        desk.full_pass.may_end.clear()
        first = asyncio.create_task(desk.finalizer.finalize(await desk.session()))
        await desk.full_pass.began.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert desk.full_pass.cancelled == 1
        assert not {name for name in desk.files() if name.endswith(".pcm")}
        desk.full_pass.may_end.set()
        assert (await desk.finalize(await desk.session(name="a2"))).labels == "full"


async def test_at_most_two_recordings_lie_decoded_on_the_disk(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        desk.full_pass.may_end.clear()
        sessions = [await desk.session(name=f"a{number}") for number in range(4)]
        running = [asyncio.create_task(desk.finalizer.finalize(session)) for session in sessions]
        await wait_for(lambda: len(desk.full_pass.jobs) == 2)
        assert len([*tmp_path.rglob("*.pcm")]) == 2  # noqa: ASYNC240
        desk.full_pass.may_end.set()
        done: list[Finished] = await asyncio.gather(*running)
        assert [one.final.labels for one in done] == ["full"] * 4


async def test_progress_is_told_at_most_four_times_a_second_and_the_newest_is_not_lost(
    tmp_path: Path,
) -> None:
    progress = (*(("segmentation", n / 200) for n in range(100)), ("embeddings", 0.75))
    async with opened(tmp_path, progress=progress) as desk:
        desk.full_pass.may_end.clear()
        running = asyncio.create_task(desk.finalizer.finalize(await desk.session()))
        await wait_for(lambda: Progress("embeddings", 0.75) in desk.said)
        told = desk.said_of(Progress)
        assert (told[0], told[-1]) == (Progress("loading", 0.0), Progress("embeddings", 0.75))
        assert len(told) <= 4
        desk.full_pass.may_end.set()
        await running


async def test_what_became_of_passes_is_counted(tmp_path: Path) -> None:
    async with opened(tmp_path, found(), EngineError("no"), EngineError("no"), found()) as desk:
        for number in range(3):
            await desk.finalize(await desk.session(name=f"a{number}"))
        value = desk.metrics.registry.get_sample_value
        assert value("live_asr_final_passes_total", {"outcome": "done"}) == 2
        assert value("live_asr_final_passes_total", {"outcome": "failed"}) == 1


async def test_it_tells_how_many_full_passes_are_waited_for_and_for_how_long(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:

        def told(name: str) -> float | None:
            return desk.metrics.registry.get_sample_value(f"live_asr_final_passes_{name}")

        assert (told("pending"), told("oldest_seconds")) == (0, 0)
        desk.full_pass.may_end.clear()
        sessions = [await desk.session(name=name) for name in ("a1", "a2", "a3")]
        tasks = [asyncio.create_task(desk.finalize(session)) for session in sessions]
        await wait_for(lambda: told("pending") == 3)
        assert (told("oldest_seconds") or 0) > 0
        desk.full_pass.may_end.set()
        await asyncio.gather(*tasks)
        assert (told("pending"), told("oldest_seconds")) == (0, 0)
