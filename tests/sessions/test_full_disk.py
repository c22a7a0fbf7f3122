"""A disk without room for the full pass: it waits, and nothing is lost meanwhile."""

from __future__ import annotations

import asyncio
import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
from scripted_pass import found

from live_asr.audio import recording
from live_asr.audio.recording import write_pcm
from live_asr.core.errors import DiskFull, EngineError
from live_asr.core.messages import AudioFormat, Notice
from live_asr.core.types import samples
from live_asr.sessions import finalizer
from live_asr.sessions.finalizer import Postponed
from live_asr.storage.files import RESERVE_BYTES
from tests.sessions.finalizing import AUDIO, TIMEOUT, Desk, opened, wait_for

SHORT = samples(2.0)
LONG = samples(60.0)


class Disk:
    """How much room the disk says that it has, beside what is kept for sessions that go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(Path.cwd())
        self.room_bytes = 0
        self.looks = 0

        def look(_: Path) -> object:
            self.looks += 1
            return usage._replace(free=RESERVE_BYTES + self.room_bytes)

        monkeypatch.setattr(shutil, "disk_usage", look)
        monkeypatch.setattr(finalizer, "ROOM_INTERVAL", 0.01)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def notices(desk: Desk) -> list[str]:
    return [notice.code for notice in desk.said_of(Notice)]


async def test_a_pass_waits_until_there_is_room_for_its_recording_and_its_client_hears_that_once(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as desk:
        session = await desk.session()
        waiting = asyncio.create_task(desk.finalizer.finalize(session))
        disk.room_bytes = 2 * SHORT - 1
        await wait_for(lambda: disk.looks > 5)
        assert not waiting.done()
        assert desk.database.session("a1").state == "finalizing"  # type: ignore[union-attr]
        assert desk.files() == {"session.json", "messages.jsonl", "audio.bin", "audio.crc"}
        assert notices(desk) == ["final_pass_postponed"]
        assert caplog.text.count("waits for room") == 1
        disk.room_bytes += 1
        async with asyncio.timeout(TIMEOUT):
            finished = await waiting
        assert (finished.final.labels, len(desk.full_pass.jobs)) == ("full", 1)
        assert np.array_equal(desk.full_pass.heard[0], AUDIO)
        assert notices(desk) == ["final_pass_postponed"]


async def test_a_pass_whose_recording_fills_the_disk_waits_as_well(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota, for one, is not to be seen beforehand."""
    disk.room_bytes = 10**9
    tries = 0
    to_bytes = recording._to_bytes

    def refuse_twice(heard: np.ndarray) -> bytes:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return to_bytes(heard)

    monkeypatch.setattr(recording, "_to_bytes", refuse_twice)
    async with opened(tmp_path) as desk:
        final = await desk.finalize(await desk.session())
        assert (final.labels, notices(desk)) == ("full", ["final_pass_postponed"])


async def test_the_server_s_end_leaves_a_pass_that_waits_for_room_to_the_next_run(
    tmp_path: Path, disk: Disk
) -> None:
    async with opened(tmp_path) as desk:
        session = await desk.session()
        waiting = asyncio.create_task(desk.finalizer.finalize(session))
        await wait_for(lambda: notices(desk) != [])
        desk.finalizer.postpone()
        with pytest.raises(Postponed):
            await waiting
        await desk.store.finish(session.spool, keep_audio=True)
    disk.room_bytes = 10**9
    async with opened(tmp_path) as desk:
        assert [stored.state for stored in desk.database.unfinished()] == ["finalizing"]
        assert (await desk.finalize(await desk.again(session))).labels == "full"


async def test_where_there_is_room_for_one_recording_the_other_waits(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = shutil.disk_usage

    def beside_what_is_written(folder: Path) -> object:
        written_bytes = sum(file.stat().st_size for file in tmp_path.rglob("*.pcm"))
        usage = look(folder)
        return usage._replace(free=usage.free - written_bytes)

    monkeypatch.setattr(shutil, "disk_usage", beside_what_is_written)
    disk.room_bytes = 3 * SHORT
    async with opened(tmp_path) as desk:
        desk.full_pass.may_end.clear()
        sessions = [await desk.session(name=name) for name in ("a1", "a2")]
        running = [asyncio.create_task(desk.finalizer.finalize(session)) for session in sessions]
        await wait_for(lambda: len(desk.full_pass.jobs) == 1 and notices(desk) != [])
        assert len([*tmp_path.rglob("*.pcm")]) == 1  # noqa: ASYNC240
        desk.full_pass.may_end.set()
        assert [done.final.labels for done in await asyncio.gather(*running)] == ["full", "full"]


async def test_long_recordings_that_wait_keep_no_short_one_from_its_pass(tmp_path: Path, disk: Disk) -> None:
    disk.room_bytes = 2 * SHORT
    async with opened(tmp_path) as desk:
        long = [await desk.session(name=f"a{number}", duration=60.0) for number in range(3)]
        waiting = [asyncio.create_task(desk.finalizer.finalize(session)) for session in long]
        await wait_for(lambda: len(notices(desk)) == 3)
        assert (await desk.finalize(await desk.session(name="b1"))).labels == "full"
        assert not any(task.done() for task in waiting)
        desk.finalizer.postpone()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_else_a_disk_refuses_is_a_pass_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(recording, "_to_bytes", refuse)
    async with opened(tmp_path, EngineError("never asked"), found()) as desk:
        final = await desk.finalize(await desk.session())
        assert (final.labels, desk.full_pass.jobs) == ("live", [])
        assert notices(desk) == ["final_pass_failed"]


async def test_writing_a_recording_ends_when_others_take_the_room_for_the_rest_of_it(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "audio.bin", tmp_path / "audio.pcm"
    source.write_bytes(bytes(2 * LONG))
    disk.room_bytes = 3 * LONG
    to_bytes = recording._to_bytes

    def meanwhile(heard: np.ndarray) -> bytes:
        disk.room_bytes -= LONG
        return to_bytes(heard)

    monkeypatch.setattr(recording, "_to_bytes", meanwhile)
    with pytest.raises(DiskFull, match="MB are free") as caught:
        await write_pcm(source, AudioFormat(), target, LONG)
    assert caught.value.code == "storage_full" and caught.value.hint
    assert 0 < target.stat().st_size < 2 * LONG


@pytest.mark.parametrize(
    ("start", "needed_bytes"),
    [(AudioFormat(), 2 * SHORT), (AudioFormat("container"), 2 * SHORT + 1000)],
)
async def test_a_recording_is_not_begun_without_room_for_all_of_it(
    tmp_path: Path, disk: Disk, start: AudioFormat, needed_bytes: int
) -> None:
    """A container may have its index last, and is copied once more then."""
    (tmp_path / "audio.bin").write_bytes(bytes(1000))
    disk.room_bytes = needed_bytes - 1
    with pytest.raises(DiskFull):
        await write_pcm(tmp_path / "audio.bin", start, tmp_path / "audio.pcm", SHORT)
    assert not (tmp_path / "audio.pcm").exists()
    disk.room_bytes = needed_bytes
    await write_pcm(tmp_path / "audio.bin", start, tmp_path / "audio.pcm", SHORT)
