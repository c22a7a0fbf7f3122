"""A full disk: said by `readyz`, told to clients, and never at the price of what was acknowledged."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from scripted_pass import ScriptedPass, found
from serving import serving
from talking import call

from live_asr.storage import files
from live_asr.storage.file_journal import FileJournal
from tests.server.resuming import check_record, record, resumed

SECOND_BYTES = 32_000
SPEECH = slice(14 * SECOND_BYTES, 18 * SECOND_BYTES)


async def test_a_server_without_room_on_its_disk_is_not_ready_and_takes_no_session(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, models_dir, ScriptedPass(found())) as served:
        assert (await served.http.get("/readyz")).status_code == 200
        with monkeypatch.context() as full:
            full.setattr(FileJournal, "free_bytes", lambda _: 1024)
            answer = await served.http.get("/readyz")
            assert (answer.status_code, answer.json()) == (503, {"status": "the disk is full"})
            async with call(served.stream) as caller:
                refusal = await caller.start()
                assert refusal["code"] == "storage_full"
                assert await caller.closed() == 1011
        assert (await served.http.get("/readyz")).status_code == 200


async def test_a_disk_that_runs_full_ends_the_session_and_keeps_what_it_acknowledged(
    models_dir: Path, tmp_path: Path, sample_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = files.append

    def refuse(path: Path, data: bytes) -> None:
        if path.name.startswith("audio") and path.stat().st_size > SECOND_BYTES:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, data)

    monkeypatch.setattr(files, "append", refuse)
    async with serving(tmp_path, models_dir, ScriptedPass(found())) as served, call(served.stream) as caller:
        session = (await caller.start())["session"]
        for first in range(0, 3 * SECOND_BYTES, SECOND_BYTES // 2):
            await caller.send(sample_pcm[SPEECH][first : first + SECOND_BYTES // 2])
            # Each is on disk before the next one is sent, until the disk refuses.
            await caller.when(lambda: caller.in_flight_bytes == 0 or bool(caller.all("error")))
            if caller.all("error"):
                break
        error = await caller.until("error")
        assert error["code"] == "storage_full"
        assert await caller.closed() == 1011
        acknowledged = caller.acks[-1][0] if caller.acks else 0
        kept = (served.folder(session) / "audio.bin").read_bytes()
        assert kept[:acknowledged] == sample_pcm[SPEECH][:acknowledged]
        assert len(kept) >= acknowledged


async def test_sessions_wait_while_the_disk_is_nearly_full_and_go_on_when_there_is_room(
    models_dir: Path, tmp_path: Path, sample_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = sample_pcm[SPEECH]
    running = serving(tmp_path, models_dir, ScriptedPass(found()), server__resume_window=60.0)
    async with running as served:
        async with call(served.stream) as first:
            ready = await first.start(final_pass=False)
            await first.send(speech[: 2 * SECOND_BYTES])
            await first.when(lambda: first.in_flight_bytes == 0)
            with monkeypatch.context() as full:
                full.setattr(FileJournal, "free_bytes", lambda _: 1024)
                assert await first.closed() == 1011
                assert first.heard[-1]["code"] == "storage_full"
                async with call(served.stream) as early:
                    wanted = {"session": ready["session"], "token": ready["token"], "last_seq": 0}
                    assert (await early.start(resume=wanted))["code"] == "loading"
        async with resumed(served.stream, ready, first.heard) as (second, again):
            assert again["received_bytes"] == 2 * SECOND_BYTES
            second.sent_bytes = again["received_bytes"]
            await second.send(speech[2 * SECOND_BYTES :])
            final = await second.finished()
    assert final["duration"] == len(speech) / SECOND_BYTES
    check_record(record(first, second))
