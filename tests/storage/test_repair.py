"""Files that a crash has torn, on a real disk: what is believed of them is what was written."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.core.messages import AudioFormat, Start, to_dict
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.files import (
    AUDIO_FILE,
    CHECK,
    CHECKS_FILE,
    FLAC_FILE,
    MESSAGES_FILE,
    PIECE_BYTES,
    STATE_FILE,
    UNFINISHED_FILE,
    check_of,
    pieces_of,
    unsealed,
    with_checksum,
    write_batch,
)
from live_asr.storage.repair import IntactPrefix, repair
from live_asr.storage.spool import Batch

MESSAGES = [json.dumps({"seq": number, "text": "ü" * number}).encode() for number in range(1, 8)]
WRITTEN = b"".join(map(with_checksum, MESSAGES))


def damaged(how: str, at: int) -> bytes:
    """Return the messages' file as a crash may leave it."""
    if how == "torn":
        return WRITTEN[:at]
    if how == "zeros":
        return WRITTEN[:at] + bytes(50)
    if how == "flipped":
        return WRITTEN[:at] + bytes([WRITTEN[at] ^ 1]) + WRITTEN[at + 1 :]
    return WRITTEN[:at] + WRITTEN[at + 20 :]


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["torn", "zeros", "flipped", "a stretch lost"]), st.integers(0, len(WRITTEN) - 1))
def test_what_is_left_of_damaged_messages_is_a_record_from_its_first_message_on(how: str, at: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / MESSAGES_FILE
        path.write_bytes(damaged(how, at))
        intact = repair(Path(place))
        left = [unsealed(line) or b"" for line in path.read_bytes().splitlines(keepends=True)]
        assert [json.loads(line)["seq"] for line in left] == list(range(1, intact.message_count + 1))
        whole_before = WRITTEN[:at].count(b"\n")
        assert intact.message_count >= whole_before, "what came before the damage is kept"
        assert left == MESSAGES[: len(left)], "and nothing is believed that was not written"
        assert repair(Path(place)) == intact, "mending again changes nothing"


# Audio and messages, damaged alike -----------------------------------------------------------------


@dataclass(frozen=True)
class Session:
    """What was written of a session, batch by batch, and its folder."""

    folder: Path
    batches: Sequence[bytes]
    messages: Sequence[bytes]

    @property
    def audio(self) -> bytes:
        return b"".join(self.batches)

    @property
    def ends(self) -> list[int]:
        """Where in the audio batches end, 0 before the first."""
        return [sum(map(len, self.batches[:count])) for count in range(len(self.batches) + 1)]

    def left(self, file: str) -> bytes:
        return (self.folder / file).read_bytes()

    def check_is_sound(self, intact: IntactPrefix) -> None:
        """Check that the files, once mended, can be read to their ends, and are left alone from then on."""
        files = [self.left(file) for file in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE)]
        assert len(files[0]) == intact.audio_bytes
        assert len(files[1]) % CHECK.size == 0
        last = files[1][-CHECK.size :]
        if last:
            end_bytes, length_bytes, _ = CHECK.unpack(last)
            assert end_bytes == intact.audio_bytes
            assert last == check_of(files[0][end_bytes - length_bytes :], end_bytes)
        else:
            assert intact.audio_bytes == 0
        lines = [unsealed(line) or b"null" for line in files[2].splitlines(keepends=True)]
        assert [json.loads(line)["seq"] for line in lines] == [*range(1, intact.message_count + 1)]
        assert list(self.messages[: len(lines)]) == lines
        assert repair(self.folder) == intact
        assert [self.left(file) for file in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE)] == files

    def check_goes_on(self) -> None:
        """Check that what is added now is believed later."""
        intact = repair(self.folder)
        message = json.dumps({"seq": intact.message_count + 1}).encode()
        count = intact.message_count + 1
        added = Batch(b"more", (message,), None, intact.audio_bytes + 4, count)
        write_batch(self.folder, added, 1)
        again = repair(self.folder)
        assert (again.audio_bytes, again.message_count) == (intact.audio_bytes + 4, count)
        assert self.left(AUDIO_FILE).endswith(b"more")


@contextmanager
def written(batches: Sequence[bytes], message_count: int = 3) -> Iterator[Session]:
    """Have files as the spool writes them; that they are, `test_a_batch_is_written…` checks."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)  # hundreds of sessions, none of which outlives its test
        session = Session(Path(place), batches, MESSAGES[:message_count])
        (session.folder / AUDIO_FILE).write_bytes(session.audio)
        spans = list(pairwise(session.ends))
        checks = [check_of(session.audio[start:end], end) for start, end in spans]
        (session.folder / CHECKS_FILE).write_bytes(b"".join(checks))
        (session.folder / MESSAGES_FILE).write_bytes(b"".join(map(with_checksum, session.messages)))
        yield session


@dataclass(frozen=True)
class Damage:
    """What happens to one of the files; `at` is where, as a part of its length."""

    file: str
    how: str
    at: float
    garbage: bytes
    bit: int

    def do(self, folder: Path) -> int:
        """Do it, and return the first byte that is not as it was."""
        path = folder / self.file
        data = path.read_bytes()
        position = min(int(self.at * len(data)), max(0, len(data) - 1))
        if self.how == "garbage":
            path.write_bytes(data + self.garbage)
            return len(data)
        if self.how == "cut":
            path.write_bytes(data[:position])
        elif data:
            flipped = data[position] ^ (1 << self.bit)
            path.write_bytes(data[:position] + bytes([flipped]) + data[position + 1 :])
        return position


AUDIO = st.lists(st.binary(min_size=1, max_size=60), max_size=7)
DAMAGE = st.builds(
    Damage,
    st.sampled_from([AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE]),
    st.sampled_from(["cut", "garbage", "flip"]),
    st.floats(0.0, 1.0),
    st.binary(min_size=1, max_size=50) | st.integers(1, 50).map(bytes),
    st.integers(0, 7),
)


def expected_audio(session: Session, damage: Damage, position: int) -> bytes:
    """Return the audio that is to be left: up to the last batch that neither file says was changed.

    Where no such batch is left, all of it is.
    """
    left = session.left(AUDIO_FILE)
    if damage.file == MESSAGES_FILE or not session.batches:
        return left
    if damage.how == "garbage":
        return session.audio
    if damage.file == AUDIO_FILE:
        struck = max(index for index, end in enumerate(session.ends[:-1]) if end <= position)
    else:
        struck = position // CHECK.size
    is_last = struck == len(session.batches) - 1
    if struck > 0 and (damage.how == "cut" or is_last):
        return session.audio[: session.ends[struck]]
    return left  # a click with intact audio behind it, or nothing that tells what is sound


@settings(deadline=None, max_examples=400)
@given(AUDIO, st.integers(0, 7), DAMAGE)
def test_whatever_befalls_one_file_all_are_cut_behind_what_is_sound_and_nothing_else_is(
    batches: list[bytes], message_count: int, damage: Damage
) -> None:
    with written(batches, message_count) as session:
        before = session.left(MESSAGES_FILE)
        position = damage.do(session.folder)
        expected = expected_audio(session, damage, position)
        intact = repair(session.folder)
        session.check_is_sound(intact)
        assert session.left(AUDIO_FILE) == expected
        assert intact.audio_bytes == len(expected)
        unharmed = before[:position].count(b"\n") if damage.file == MESSAGES_FILE else message_count
        assert intact.message_count >= unharmed, "what came before the damage is kept"
        session.check_goes_on()


@settings(deadline=None, max_examples=200)
@given(AUDIO, st.lists(DAMAGE, min_size=2, max_size=8))
def test_whatever_befalls_all_files_what_is_left_can_be_added_to(
    batches: list[bytes], damages: list[Damage]
) -> None:
    with written(batches) as session:
        for damage in damages:
            damage.do(session.folder)
        session.check_is_sound(repair(session.folder))
        session.check_goes_on()


@settings(deadline=None, max_examples=100)
@given(AUDIO, st.data())
def test_a_power_cut_leaves_all_that_was_synced(batches: list[bytes], data: st.DataObject) -> None:
    with written(batches) as session:
        synced = data.draw(st.integers(0, len(batches)))
        # The audio of a batch is synced before its check is written: of the next one, anything may be there.
        audio_bytes = data.draw(st.integers(session.ends[synced], len(session.audio)))
        checks_bytes = synced * CHECK.size
        if synced < len(batches) and audio_bytes >= session.ends[synced + 1]:
            checks_bytes += data.draw(st.integers(0, CHECK.size - 1))
        (session.folder / AUDIO_FILE).write_bytes(session.audio[:audio_bytes])
        (session.folder / CHECKS_FILE).write_bytes(session.left(CHECKS_FILE)[:checks_bytes])
        intact = repair(session.folder)
        # Of the first batch it cannot be told whether its check was lost or never there.
        assert intact.audio_bytes == (session.ends[synced] or audio_bytes)
        session.check_is_sound(intact)
        session.check_goes_on()


@contextmanager
def unsynced(folder: Path, count_bytes: int) -> Iterator[Callable[[], None]]:
    """Have a disk that has got only so much of each file so far; what is yielded cuts its power."""
    platter = {path: path.read_bytes()[:count_bytes] for path in folder.iterdir()}
    fsync = os.fsync

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_file():
            platter[path] = path.read_bytes()
        fsync(descriptor)

    def cut_power() -> None:
        for path, data in platter.items():
            path.write_bytes(data)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", sync)
        yield cut_power


@pytest.mark.parametrize("garbage", [b"", b"torn"])
def test_what_a_killed_server_had_not_synced_is_on_the_disk_once_it_is_believed(garbage: bytes) -> None:
    """Else it would be acknowledged from memory, and gone with the power."""
    with written([b"first batch", b"second", b"third"]) as session:
        for file in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE):
            with (session.folder / file).open("ab") as writing:
                writing.write(garbage)
        with unsynced(session.folder, 20) as cut_power:
            intact = repair(session.folder)
            assert (intact.audio_bytes, intact.message_count) == (len(session.audio), len(session.messages))
            cut_power()
        assert repair(session.folder) == intact


def test_a_batch_is_written_as_these_tests_write_it(tmp_path: Path) -> None:
    with written([b"one", b"twotwo"], 2) as session:
        write_batch(tmp_path, Batch(b"one", (MESSAGES[0],), None, 3, 1), 1)
        write_batch(tmp_path, Batch(b"twotwo", (MESSAGES[1],), None, 9, 2), 1)
        for file in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE):
            assert (tmp_path / file).read_bytes() == session.left(file)


@pytest.mark.parametrize(
    ("audio", "where"),
    [
        (AudioFormat("pcm_s16le", 8000, 2), "bytes 64000 to 96000 (2.00 s to 3.00 s)"),
        (AudioFormat("mulaw", 8000, 1), "bytes 64000 to 96000 (8.00 s to 12.00 s)"),
        (AudioFormat("container"), "bytes 64000 to 96000 are"),
    ],
)
def test_a_click_is_told_of_with_its_place_and_what_follows_it_is_kept(
    audio: AudioFormat, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    batches = [bytes([number]) * 32_000 for number in range(5)]
    with written(batches) as session:
        about = {"start": to_dict(Start(audio=audio))}
        (session.folder / "session.json").write_text(json.dumps(about))
        damage = Damage(AUDIO_FILE, "flip", 0.5, b"", 3)
        damage.do(session.folder)
        clicked = session.left(AUDIO_FILE)
        with caplog.at_level(logging.WARNING):
            assert repair(session.folder).audio_bytes == len(session.audio)
        assert session.left(AUDIO_FILE) == clicked != session.audio
        assert where in caplog.text


def test_checks_that_are_changed_put_no_other_audio_in_doubt(caplog: pytest.LogCaptureFixture) -> None:
    """A position that is wrong by a bit does not move what follows it."""
    with written([b"a" * 100, b"b" * 100, b"c" * 100]) as session:
        checks = bytearray(session.left(CHECKS_FILE))
        checks[CHECK.size] ^= 1
        (session.folder / CHECKS_FILE).write_bytes(checks)
        assert repair(session.folder).audio_bytes == 300
        assert "bytes 100 to 200" in caplog.text


def test_audio_of_a_version_that_made_no_checks_is_believed_and_checked_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    earlier = bytes(range(256)) * (PIECE_BYTES // 100)
    with written([earlier]) as session:
        (session.folder / CHECKS_FILE).unlink()
        assert repair(session.folder).audio_bytes == len(earlier)
        assert session.left(AUDIO_FILE) == earlier
        session.check_goes_on()
        assert not caplog.records
        changed = bytearray(session.left(AUDIO_FILE))
        changed[10] ^= 4
        (session.folder / AUDIO_FILE).write_bytes(changed)
        assert repair(session.folder).audio_bytes == len(changed)
        assert f"bytes 0 to {PIECE_BYTES}" in caplog.text


@pytest.mark.parametrize("left", [b"", b"torn", bytes(3 * CHECK.size)], ids=["empty", "torn", "zeros"])
def test_audio_whose_checks_are_lost_is_believed_and_checked_from_then_on(
    left: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with written([b"a" * 100, b"b" * 100, b"c" * 100]) as session:
        (session.folder / CHECKS_FILE).write_bytes(left)
        intact = repair(session.folder)
        assert (intact.audio_bytes, session.left(AUDIO_FILE)) == (300, session.audio)
        assert "300 bytes" in caplog.text and "unchecked" in caplog.text
        session.check_is_sound(intact)
        session.check_goes_on()


@pytest.mark.parametrize("gone", [(), (CHECKS_FILE,), (CHECKS_FILE, AUDIO_FILE)])
@pytest.mark.parametrize("file", [FLAC_FILE, UNFINISHED_FILE])
def test_audio_that_the_compressor_has_is_left_to_it(gone: tuple[str, ...], file: str) -> None:
    with written([b"a" * 100, b"b" * 100]) as session:
        (session.folder / file).write_bytes(b"fLaC")
        (session.folder / CHECKS_FILE).write_bytes(b"anything")
        for name in gone:
            (session.folder / name).unlink()
        before = {path.name: path.read_bytes() for path in session.folder.iterdir()}
        assert repair(session.folder).message_count == len(session.messages)
        assert {path.name: path.read_bytes() for path in session.folder.iterdir()} == before


def test_an_hour_of_audio_is_not_read_into_memory_at_once(tmp_path: Path) -> None:
    import tracemalloc

    piece, count = bytes(1_000_000), 60
    with (tmp_path / AUDIO_FILE).open("wb") as audio, (tmp_path / CHECKS_FILE).open("wb") as checks:
        for number in range(1, count + 1):
            audio.write(piece)
            checks.write(check_of(piece, number * len(piece)))
    tracemalloc.start()
    try:
        assert repair(tmp_path).audio_bytes == count * len(piece)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_what_is_sound_is_left_as_it_is() -> None:
    with written([b"1234567"], len(MESSAGES)) as session:
        intact = repair(session.folder)
        assert (intact.audio_bytes, intact.message_count) == (7, len(MESSAGES))
        assert session.left(MESSAGES_FILE) == WRITTEN
        assert session.left(AUDIO_FILE) == b"1234567"


def test_a_session_that_has_no_files_yet_has_nothing(tmp_path: Path) -> None:
    intact = repair(tmp_path)
    assert (intact.audio_bytes, intact.message_count) == (0, 0)
    assert not list(tmp_path.iterdir())


# Through the spool ---------------------------------------------------------------------------------


async def test_a_session_that_is_opened_again_goes_on_where_its_files_end(tmp_path: Path) -> None:
    store = FileJournal(tmp_path, interval=0.01)
    await store.start()
    spool = await store.open("a1", {"session": "a1"})
    spool.append_audio(b"abc")
    spool.append_message(MESSAGES[0])
    spool.set_state(b'{"last_seq": 1}')
    await spool.settled()
    assert store.state("a1") == {"last_seq": 1}
    await store.finish(spool, keep_audio=True)
    with (tmp_path / "a1" / MESSAGES_FILE).open("ab") as file:
        file.write(MESSAGES[1][:5])
    with (tmp_path / "a1" / AUDIO_FILE).open("ab") as file:
        file.write(b"de")

    again = await store.reopen("a1")
    assert (again.safe_bytes, again.kept_count) == (3, 1)
    again.append_audio(b"def")
    again.append_message(MESSAGES[1])
    await again.kept(2)
    assert [line.rstrip() for line in store.messages("a1")] == MESSAGES[:2]
    assert b"".join([piece async for piece in pieces_of(tmp_path / "a1" / AUDIO_FILE, 100)]) == b"abcdef"
    assert b"".join([piece async for piece in pieces_of(tmp_path / "a1" / AUDIO_FILE, 4)]) == b"abcd"
    (tmp_path / "a1" / STATE_FILE).write_bytes(b"\0\0")
    assert store.state("a1") == {}
    await store.close()
    assert repair(tmp_path / "a1").audio_bytes == 6, "what two runs have written is intact as a whole"


async def test_a_message_is_written_at_once_and_audio_of_others_waits(tmp_path: Path) -> None:
    store = FileJournal(tmp_path, interval=3600.0)
    await store.start()
    speaking = await store.open("a1", {})
    listening = await store.open("b2", {})
    listening.append_audio(b"abc")
    speaking.append_audio(b"def")
    speaking.append_message(MESSAGES[0])
    async with asyncio.timeout(30):
        await speaking.kept(1)
    assert (speaking.kept_count, speaking.safe_bytes) == (1, 3), "no message tells of audio that is not there"
    assert listening.safe_bytes == 0
    await store.close()
