"""The log of all sessions: after a power cut what was acknowledged is in the sessions' files, and once."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Event

import pytest

from live_asr.core.errors import StorageError
from live_asr.storage import file_journal, write_ahead_log
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.files import AUDIO_FILE, CHECKS_FILE, EPOCH_FILE, FLAC_FILE, MESSAGES_FILE
from live_asr.storage.repair import repair
from live_asr.storage.spool import Batch, Spool
from live_asr.storage.write_ahead_log import NAME, WriteAheadLog, Written, replay
from tests.sessions.registering import eventually


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[FileJournal]:
    journal = FileJournal(folder, interval=0.01, compresses=False)
    await journal.start()
    try:
        yield journal
    finally:
        await journal.close()


def logs_in(folder: Path) -> dict[Path, bytes]:
    """Return the logs that are there."""
    return {path: path.read_bytes() for path in folder.glob(f"{NAME}*") if path.is_file()}


def names_in(folder: Path) -> set[str]:
    """Return what all there is in a folder."""
    return {path.name for path in folder.iterdir()}


class Heard:
    """What a session is told of what it has written."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.audio, self.messages = b"", list[bytes]()
        self.safe_bytes = self.kept_count = 0
        self.failures: list[StorageError] = []
        spool.listen(self)

    def say(self, audio: bytes, *, message: bool) -> None:
        self.audio += audio
        self.spool.append_audio(audio)
        if message:
            self.messages.append(b'{"type":"commit","seq":%d}' % (len(self.messages) + 1))
            self.spool.append_message(self.messages[-1])

    def acknowledge(self, safe_bytes: int) -> None:
        self.safe_bytes = safe_bytes

    def release(self, count: int) -> None:
        self.kept_count = count

    def refuse(self, error: StorageError) -> None:
        self.failures.append(error)


async def said(journal: FileJournal, name: str = "a1") -> Heard:
    """Open a session in which something was said, which is on disk."""
    heard = Heard(await journal.open(name, {}))
    heard.say(b"abc", message=True)
    await heard.spool.settled()
    return heard


class Disk:
    """What a power cut leaves of the files below a folder: what was synced, and more as chance has it."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder = folder
        self._chance = chance
        self._synced: dict[Path, bytes] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            for name in ("fsync", "fdatasync"):
                patched.setattr(os, name, self._sync)
            yield

    def _sync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_file():
            self._synced[path] = path.read_bytes()

    def cut_power(self, there: Path) -> None:
        """Leave what the disk has in another folder."""
        for path in self._folder.rglob("*"):
            if path.is_file():
                self._leave(path, path.read_bytes(), there)
        for path, synced in self._synced.items():  # that a file was erased may not be on the disk
            if not path.exists() and path.name.startswith(NAME) and self._chance.random() < 0.5:
                self._leave(path, synced, there)

    def _leave(self, path: Path, content: bytes, there: Path) -> None:
        synced = self._synced.get(path, b"")
        if not content.startswith(synced):  # replaced since
            synced = content
        left = there / path.relative_to(self._folder)
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(content[: self._chance.randint(len(synced), max(len(content), len(synced)))])


def cut(disk: Disk, there: Path, sessions: Sequence[Heard]) -> list[tuple[int, int]]:
    """Cut the power; return what each session was told by then."""
    disk.cut_power(there)
    return [(session.safe_bytes, session.kept_count) for session in sessions]


@asynccontextmanager
async def settling(journal: FileJournal) -> AsyncIterator[None]:
    """Have the log begin anew, and its sessions' files not synced before the block has come to its end."""
    sync, has_begun, may_go_on = write_ahead_log.sync_session, Event(), Event()

    def wait(folder: Path) -> None:
        has_begun.set()
        may_go_on.wait(10)
        sync(folder)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(write_ahead_log, "sync_session", wait)
        task = asyncio.create_task(journal._settle())
        if journal._log._dirty:
            await asyncio.to_thread(has_begun.wait, 10)
        try:
            yield
        finally:
            may_go_on.set()
            await task


@pytest.mark.parametrize("seed", range(40))
async def test_what_was_acknowledged_is_there_after_a_power_cut_and_can_be_added_to(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    before, after = tmp_path / "before", tmp_path / "after"
    disk = Disk(before, chance)
    with disk.watched():
        async with running(before) as journal:
            sessions = [Heard(await journal.open(f"s{number}", {})) for number in range(3)]
            for _ in range(chance.randint(1, 40)):
                for session in chance.sample(sessions, chance.randint(1, 3)):
                    session.say(chance.randbytes(chance.randint(0, 9000)), message=chance.random() < 0.3)
                what = chance.random()
                if what < 0.5:
                    await chance.choice(sessions).spool.settled()
                elif what < 0.6:
                    await journal._settle()
                elif what < 0.7:  # somebody takes it over
                    taken = chance.choice(sessions)
                    await taken.spool.settled()
                    taken.spool = await journal.reopen(taken.spool.session_id)
                    taken.spool.listen(taken)
            if chance.random() < 0.5:
                async with settling(journal):
                    for session in sessions:
                        session.say(chance.randbytes(500), message=True)
                        await session.spool.settled()
                    told = cut(disk, after, sessions)
            else:
                told = cut(disk, after, sessions)
    async with running(after) as journal:
        assert not logs_in(after)
        for session, (safe_bytes, kept_count) in zip(sessions, told, strict=True):
            name = session.spool.session_id
            spool = await journal.reopen(name)
            assert spool.safe_bytes >= safe_bytes and spool.kept_count >= kept_count
            kept = [piece async for piece in journal.read_audio(name, 0, spool.safe_bytes)]
            assert b"".join(kept)[:safe_bytes] == session.audio[:safe_bytes]
            assert list(journal.messages(name)) == session.messages[: spool.kept_count]
            spool.append_audio(b"more")
            await spool.settled()
            assert repair(after / name).audio_bytes == spool.safe_bytes


async def test_a_server_that_ends_leaves_no_log_and_one_that_runs_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_ahead_log, "SETTLE_INTERVAL", 0.05)
    monkeypatch.setattr(file_journal, "SETTLE_LOOK", 0.01)
    async with running(tmp_path) as journal:
        heard = await said(journal)
        await eventually(lambda: not logs_in(tmp_path))
        heard.say(b"def", message=True)
        await heard.spool.settled()
    assert not logs_in(tmp_path)
    assert (tmp_path / "a1" / AUDIO_FILE).read_bytes() == b"abcdef"


async def test_what_was_erased_is_in_no_log_a_moment_later_and_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_journal, "SETTLE_LOOK", 0.01)
    async with running(tmp_path) as journal:
        for name in ("a1", "b2"):
            heard = Heard(await journal.open(name, {}))
            heard.say(b"secret", message=True)
            await journal.finish(heard.spool, keep_audio=True)
        logs = logs_in(tmp_path)
        assert any(b"secret" in kept for kept in logs.values())
        assert journal.erase_audio("a1")
        assert journal.mark_deleted("b2")
        journal.erase("b2")
        await eventually(lambda: not logs_in(tmp_path))
    for path, kept in logs.items():  # as a power cut would have it
        path.write_bytes(kept)
    async with running(tmp_path) as journal:
        assert journal.kept_audio("a1") is None
        assert len(list(journal.messages("a1"))) == 1
        assert not (tmp_path / "b2").exists()


async def test_audio_that_was_compressed_is_not_written_beside_it(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        heard = Heard(await journal.open("a1", {}))
        heard.say(b"abc", message=False)
        await heard.spool.settled()
        logs = logs_in(tmp_path)
    for file in (AUDIO_FILE, CHECKS_FILE):
        (tmp_path / "a1" / file).rename(tmp_path / "a1" / FLAC_FILE)
    for path, kept in logs.items():
        path.write_bytes(kept)
    replay(tmp_path)
    assert not (tmp_path / "a1" / AUDIO_FILE).exists()


async def test_where_the_log_cannot_be_written_the_sessions_files_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: WriteAheadLog) -> int:
        return os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(WriteAheadLog, "_begun", full)
    disk = Disk(tmp_path, random.Random(1))
    with disk.watched():
        async with running(tmp_path) as journal:
            heard = Heard(await journal.open("a1", {}))
            for number in range(3):
                heard.say(b"abc", message=True)
                await heard.spool.settled()
                for file, size in ((AUDIO_FILE, 3), (CHECKS_FILE, 16), (MESSAGES_FILE, 1)):
                    assert len(disk._synced[tmp_path / "a1" / file]) >= size * (number + 1)
    assert (heard.safe_bytes, heard.kept_count, heard.failures) == (9, 3, [])


async def test_where_neither_can_be_synced_the_session_ends_and_is_whole_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with running(tmp_path) as journal:
        heard = await said(journal)
        with monkeypatch.context() as patched:
            patched.setattr(WriteAheadLog, "append", refuse)
            patched.setattr(file_journal, "sync_session", refuse)
            heard.say(b"def", message=True)
            await heard.spool.settled()
        assert (heard.safe_bytes, heard.kept_count) == (3, 1)
        assert [type(failure) for failure in heard.failures] == [StorageError], "it is not taken up again"
        assert "No space left" in heard.failures[0].message
    assert logs_in(tmp_path)
    for file in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE):
        (tmp_path / "a1" / file).write_bytes(b"")
    async with running(tmp_path) as journal:
        spool = await journal.reopen("a1")
        assert (spool.safe_bytes, spool.kept_count) == (3, 1)


async def test_a_session_whose_files_cannot_be_synced_is_told_and_whole_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = write_ahead_log.sync_session

    def refuse(folder: Path) -> None:
        if folder.name == "bad":
            raise OSError(5, "Input/output error")
        sync(folder)

    async with running(tmp_path) as journal:
        bad, good = await said(journal, "bad"), await said(journal, "good")
        with monkeypatch.context() as patched:
            patched.setattr(write_ahead_log, "sync_session", refuse)
            await journal._settle()
        assert "Input/output error" in bad.failures[0].message and not good.failures
        assert logs_in(tmp_path)
    (tmp_path / "bad" / AUDIO_FILE).write_bytes(b"")  # what such a disk may have of it
    (tmp_path / "bad" / MESSAGES_FILE).write_bytes(b"")
    async with running(tmp_path) as journal:
        spool = await journal.reopen("bad")
        assert (spool.safe_bytes, spool.kept_count) == (3, 1)
        assert (tmp_path / "bad" / AUDIO_FILE).read_bytes() == b"abc"


async def test_what_the_system_forgot_of_a_session_is_in_a_log_though_it_says_no_more_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells once that it could not write a file; what came meanwhile was lost with that, too."""
    async with running(tmp_path) as journal:
        heard = await said(journal)
        with monkeypatch.context() as patched:
            sync = write_ahead_log.sync_session

            def forget(folder: Path) -> None:
                may_go_on.wait(10)
                raise OSError(5, "Input/output error")

            may_go_on = Event()
            patched.setattr(write_ahead_log, "sync_session", forget)
            task = asyncio.create_task(journal._settle())
            await asyncio.sleep(0.05)
            heard.say(b"def", message=True)
            await heard.spool.settled()
            may_go_on.set()
            await task
            patched.setattr(write_ahead_log, "sync_session", sync)
        await journal._settle()
        assert (heard.safe_bytes, heard.kept_count, len(heard.failures)) == (6, 2, 1)
        for file in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE):
            (tmp_path / "a1" / file).write_bytes(b"")
    async with running(tmp_path) as journal:
        spool = await journal.reopen("a1")
        assert (spool.safe_bytes, spool.kept_count) == (6, 2)


async def test_one_session_s_trouble_at_the_start_is_nobody_else_s(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await said(journal, "bad")
        await said(journal, "good")
        logs = logs_in(tmp_path)
    for name in ("bad", "good"):
        (tmp_path / name / AUDIO_FILE).write_bytes(b"")
        (tmp_path / name / MESSAGES_FILE).write_bytes(b"")
    (tmp_path / "bad" / CHECKS_FILE).unlink()
    (tmp_path / "bad" / CHECKS_FILE).mkdir()
    for path, kept in logs.items():
        path.write_bytes(kept)
    async with running(tmp_path) as journal:
        spool = await journal.reopen("good")
        assert (spool.safe_bytes, spool.kept_count) == (3, 1)
        assert logs_in(tmp_path), "which may have more of the other one"
    (tmp_path / "bad" / CHECKS_FILE).rmdir()
    async with running(tmp_path) as journal:
        for name in ("bad", "good"):
            spool = await journal.reopen(name)
            assert (spool.safe_bytes, spool.kept_count) == (3, 1)
        assert not logs_in(tmp_path)


async def test_a_log_that_cannot_be_read_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / f"{NAME}x").touch()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match=f"{NAME}x, .* cannot be read: Permission denied") as refusal:
        await FileJournal(tmp_path).start()
    assert "move it away" in refusal.value.hint


async def test_what_is_called_a_log_and_is_none_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}folder").mkdir()
    os.mkfifo(tmp_path / f"{NAME}pipe")
    (tmp_path / f"{NAME}nowhere").symlink_to("nowhere")
    async with running(tmp_path) as journal:
        await said(journal)
    assert names_in(tmp_path) == {f"{NAME}folder", f"{NAME}nowhere", f"{NAME}pipe", "a1"}


def test_a_flipped_bit_takes_its_entry_and_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sessions = [tmp_path / name for name in ("a1", "b2", "c3")]
    for session in sessions:
        session.mkdir()
        for file in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE):
            (session / file).touch()
    log = WriteAheadLog(tmp_path)
    log.append([Written(session, 1, Batch(b"abc", (b'{"seq":1}',), None, 3, 1)) for session in sessions])
    (path,) = logs_in(tmp_path)
    kept = bytearray(path.read_bytes())
    log.settle()
    kept[len(kept) // 2] ^= 1
    path.write_bytes(kept)
    replay(tmp_path)
    assert [repair(session).message_count for session in sessions] == [1, 0, 1]
    assert "not as it was written" in caplog.text


def test_what_an_older_writer_wrote_does_not_replace_what_a_newer_one_did(tmp_path: Path) -> None:
    session = tmp_path / "a1"
    session.mkdir()
    (session / CHECKS_FILE).touch()
    (session / MESSAGES_FILE).touch()
    (session / AUDIO_FILE).write_bytes(b"new")
    (session / EPOCH_FILE).write_bytes(b"2")
    log = WriteAheadLog(tmp_path)
    log.append([Written(session, 1, Batch(b"old", (), None, 3, 0))])
    kept = logs_in(tmp_path)
    log.settle()
    for path, content in kept.items():
        path.write_bytes(content)
    replay(tmp_path)
    assert (session / AUDIO_FILE).read_bytes() == b"new"


async def test_a_log_that_cannot_be_erased_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    async with running(tmp_path) as journal:
        await said(journal)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", refuse)
            await journal._settle()
        assert logs_in(tmp_path)
    assert not logs_in(tmp_path)


async def test_after_a_kill_nothing_is_said_of_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "one") as journal:
        heard = Heard(await journal.open("a1", {}))
        for _ in range(3):
            heard.say(b"abc", message=True)
            await heard.spool.settled()
        shutil.copytree(tmp_path / "one", tmp_path / "other")
    files = {path: path.read_bytes() for path in (tmp_path / "other" / "a1").iterdir()}
    async with running(tmp_path / "other") as journal:
        await journal.reopen("a1")
    assert {path: path.read_bytes() for path in files} == files
    assert not caplog.records


@pytest.mark.parametrize("end", [b"", b"\0", bytes(100), b"\xff" * 100], ids=["cut", "zero", "zeros", "ones"])
@pytest.mark.parametrize("cut", [1, 20, 60, 130])
def test_half_an_entry_is_no_entry(tmp_path: Path, cut: int, end: bytes) -> None:
    session = tmp_path / "a1"
    session.mkdir()
    for file in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE):
        (session / file).touch()
    log = WriteAheadLog(tmp_path)
    log.append([Written(session, 1, Batch(b"abc", (b'{"seq":1}',), None, 3, 1))])
    log.append([Written(session, 1, Batch(b"x" * 100, (b'{"seq":2}',), None, 103, 2))])
    (path,) = tmp_path.glob(f"{NAME}*")
    kept = path.read_bytes()
    log.settle()
    path.write_bytes(kept[:-cut] + end)
    replay(tmp_path)
    intact = repair(session)
    assert (intact.audio_bytes, intact.message_count) == (3, 1)
    assert (session / AUDIO_FILE).read_bytes() == b"abc"
