"""The spool, on a real disk: what is reported safe is there, in order, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import random
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from live_asr.core.errors import StorageError
from live_asr.core.types import Turn, samples
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.files import AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE, TURNS_FILE, prepare
from live_asr.storage.spool import Spool


class Session:
    """What a session is told by its spool."""

    def __init__(self) -> None:
        self.safe: list[int] = []
        self.failures: list[StorageError] = []

    async def open(self, store: FileJournal, name: str = "a1") -> Spool:
        spool = await store.open(name, {"session": name})
        spool.listen(self)
        return spool

    def acknowledge(self, safe_bytes: int) -> None:
        self.safe.append(safe_bytes)

    def release(self, count: int) -> None:
        """It asks for that itself."""

    def refuse(self, error: StorageError) -> None:
        self.failures.append(error)


@asynccontextmanager
async def open_store(folder: Path, interval: float = 0.01) -> AsyncIterator[FileJournal]:
    store = FileJournal(folder, interval=interval)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


def fill_disk(spool: Spool, name: str) -> None:
    """Have the system refuse one file's writes as a full disk does."""
    (spool.folder / name).unlink()
    (spool.folder / name).symlink_to("/dev/full")


async def test_what_is_reported_safe_is_on_disk_and_in_order(tmp_path: Path) -> None:
    session, chance = Session(), random.Random(1)
    expected = b""
    async with open_store(tmp_path) as store:
        spool = await session.open(store)
        for _ in range(300):
            data = chance.randbytes(chance.choice([1, 2, 3, 4000]))
            expected += data
            spool.append_audio(data)
            on_disk = (spool.folder / AUDIO_FILE).read_bytes()
            assert on_disk == expected[: len(on_disk)]
            assert len(on_disk) >= spool.safe_bytes
            await asyncio.sleep(0)
        await spool.settled()
        assert (spool.folder / AUDIO_FILE).read_bytes() == expected
    assert session.safe == sorted(set(session.safe))
    assert session.safe[-1] == spool.safe_bytes == len(expected)
    assert not session.failures


async def test_what_people_said_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        spool = await Session().open(store)
        assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700


async def test_messages_are_read_back_as_they_were_appended_and_a_torn_one_is_not(tmp_path: Path) -> None:
    messages = [b'{"seq":%d}' % number for number in range(1, 50)]
    async with open_store(tmp_path) as store:
        spool = await Session().open(store)
        for message in messages:
            spool.append_message(message)
        await spool.settled()
        with (spool.folder / MESSAGES_FILE).open("ab") as file:
            file.write(b'{"seq":50')  # the power went here
        assert [line.strip() for line in store.messages("a1")] == messages


async def test_a_session_that_is_waited_for_is_written_before_the_interval_is_over(tmp_path: Path) -> None:
    async with open_store(tmp_path, interval=3600.0) as store:
        spool = await Session().open(store)
        spool.append_audio(b"abc")
        async with asyncio.timeout(30):
            await spool.settled()
        assert spool.safe_bytes == 3


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    async with open_store(tmp_path, interval=3600.0) as store:
        spool = await Session().open(store)
        spool.append_audio(b"abc")
        spool.append_message(b'{"seq":1}')
    assert (spool.folder / AUDIO_FILE).read_bytes() == b"abc"
    assert list(store.messages("a1")) == [b'{"seq":1}']
    await store.close()


async def test_a_writer_that_is_cancelled_in_mid_write_loses_and_swaps_nothing(tmp_path: Path) -> None:
    session, expected = Session(), b""
    async with open_store(tmp_path, interval=3600.0) as store:
        spool = await session.open(store)
        for number in range(100):
            data = bytes([number]) * 100_000
            expected += data
            spool.append_audio(data)
            syncing = asyncio.create_task(store.sync())
            await asyncio.sleep(0)
            syncing.cancel()
        await spool.settled()
    assert (spool.folder / AUDIO_FILE).read_bytes() == expected
    assert session.safe[-1] == len(expected)


@pytest.mark.parametrize("name", [AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE])
async def test_a_full_disk_fails_the_session_it_hits_and_no_other(tmp_path: Path, name: str) -> None:
    hit, spared = Session(), Session()
    async with open_store(tmp_path) as store:
        full, fine = await hit.open(store, "full"), await spared.open(store, "fine")
        fill_disk(full, name)
        for spool in (full, fine):
            spool.append_audio(b"abc")
            spool.append_message(b"{}")
            await spool.settled()
        (error,) = hit.failures
        assert (error.code, error.close_code) == ("storage_full", 1011)
        assert "No space left" in error.message
        assert hit.safe == []
        assert (spared.safe, spared.failures) == ([3], [])
        # Nothing is collected for a disk that refused: it would only pile up.
        full.append_audio(b"def")
        assert not full.is_dirty
        await store.finish(full, keep_audio=True)
        assert len(hit.failures) == 1


async def test_of_many_that_are_written_together_one_fails_and_no_other(tmp_path: Path) -> None:
    sessions = [Session() for _ in range(24)]
    async with open_store(tmp_path, interval=3600.0) as store:
        spools = [await session.open(store, f"s{place}") for place, session in enumerate(sessions)]
        fill_disk(spools[0], AUDIO_FILE)
        for place, spool in enumerate(spools):
            spool.append_audio(bytes([place]) * (place + 1))
        await store.sync()
        (error,) = sessions[0].failures
        assert (error.code, sessions[0].safe) == ("storage_full", [])
        for place, (spool, session) in enumerate(zip(spools, sessions, strict=True)):
            if place:
                assert (session.safe, session.failures) == ([place + 1], [])
                assert (spool.folder / AUDIO_FILE).read_bytes() == bytes([place]) * (place + 1)


async def test_a_session_that_raises_when_told_does_not_stop_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising(Session):
        def acknowledge(self, safe_bytes: int) -> None:
            raise ValueError("not today")

    other = Session()
    async with open_store(tmp_path) as store:
        bad = await Raising().open(store, "bad")
        good = await other.open(store, "good")
        for _ in range(3):
            for spool in (bad, good):
                spool.append_audio(b"abc")
            await good.settled()
    assert other.safe[-1] == 9
    assert "not today" in caplog.text


@pytest.mark.parametrize("keep", [True, False])
async def test_audio_is_kept_after_the_end_only_where_it_is_wished_for(tmp_path: Path, keep: bool) -> None:
    async with open_store(tmp_path) as store:
        spool = await Session().open(store)
        spool.append_audio(b"abc")
        spool.append_message(b'{"seq":1}')
        await store.finish(spool, keep_audio=keep)
        assert (spool.folder / AUDIO_FILE).exists() == keep
        assert (spool.folder / CHECKS_FILE).exists() == keep
        assert list(store.messages("a1")) == [b'{"seq":1}']


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(StorageError, match="file") as refusal:
        prepare(place / "sessions")
    assert "--data" in refusal.value.hint
    with pytest.raises(StorageError):
        await FileJournal(place).start()


async def test_an_id_that_is_taken_is_refused_and_its_files_stay_as_they_are(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        spool = await Session().open(store)
        spool.append_audio(b"abc")
        await spool.settled()
        with pytest.raises(StorageError):
            await Session().open(store)
        assert (spool.folder / AUDIO_FILE).read_bytes() == b"abc"


@pytest.mark.parametrize(
    "name", ["", "..", "../a1", "a/1", "a1\0", "nobody", "a" * 300, "é" * 60, "a 1", "."]
)
async def test_an_id_of_no_session_is_unknown(tmp_path: Path, name: str) -> None:
    async with open_store(tmp_path) as store:
        await Session().open(store)
        with pytest.raises(KeyError):
            list(store.messages(name))


async def test_free_space_of_a_folder_that_is_gone_is_an_error_of_the_disk(tmp_path: Path) -> None:
    store = FileJournal(tmp_path / "sessions")
    with pytest.raises(StorageError):
        store.free_bytes()


async def test_a_session_of_an_earlier_run_is_added_to_after_its_last_whole_message(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        spool = await Session().open(store)
        spool.append_message(b'{"seq":1}')
        await store.finish(spool, keep_audio=True)
    with (tmp_path / "a1" / MESSAGES_FILE).open("ab") as file:
        file.write(b'{"seq":2')  # the power went
    async with open_store(tmp_path) as store:
        spool = await store.reopen("a1")
        spool.append_message(b'{"seq":2}')
        await store.finish(spool, keep_audio=True)
        assert list(store.messages("a1")) == [b'{"seq":1}', b'{"seq":2}']
        with pytest.raises(KeyError):
            await store.reopen("nobody")


async def test_turns_are_kept_to_the_millisecond_and_a_session_without_them_has_none(tmp_path: Path) -> None:
    turns = (
        Turn(samples(0.5), samples(1.25), "SPEAKER_00"),
        Turn(samples(1.0), samples(2.001), "SPEAKER_01"),
    )
    async with open_store(tmp_path) as store:
        spool = await Session().open(store)
        assert store.turns("a1") == ()
        store.write_turns(spool, turns)
        assert store.turns("a1") == turns
        store.write_turns(spool, turns[:1])
        assert store.turns("a1") == turns[:1]
        (tmp_path / "a1" / TURNS_FILE).write_text("[{}")
        assert store.turns("a1") == ()
        with pytest.raises(KeyError):
            store.turns("nobody")


async def test_a_full_disk_keeps_the_turns_that_were_there(tmp_path: Path) -> None:
    turns = (Turn(0, samples(1.0), "SPEAKER_00"),)
    async with open_store(tmp_path) as store:
        spool = await Session().open(store)
        store.write_turns(spool, turns)
        (tmp_path / "a1" / "turns.new").mkdir()  # nothing can be written there
        with pytest.raises(StorageError):
            store.write_turns(spool, ())
        assert store.turns("a1") == turns


async def test_a_session_that_is_to_be_erased_is_unknown_at_once_and_found_again_for_that(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path) as store:
        await store.finish(await Session().open(store), keep_audio=True)
        assert store.condemned() == []
        assert store.mark_deleted("a1")
        assert store.condemned() == ["a1"]
        with pytest.raises(KeyError):
            list(store.messages("a1"))
        assert not store.mark_deleted("a1")
        store.erase("a1")
        store.erase("a1")
        assert not any(tmp_path.iterdir())  # noqa: ASYNC240  a test may wait for its disk
        for name in ("..", ".", "", "nobody"):
            assert not store.mark_deleted(name)
