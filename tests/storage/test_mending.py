"""Files that a crash has torn, on a real disk: what is believed of them is what was written."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.storage.files import AUDIO_FILE, MESSAGES_FILE, STATE_FILE, mend, pieces_of, sealed, unsealed
from live_asr.storage.spool import SpoolStore

MESSAGES = [json.dumps({"seq": number, "text": "ü" * number}).encode() for number in range(1, 8)]
WRITTEN = b"".join(map(sealed, MESSAGES))


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
        sound = mend(Path(place))
        left = [unsealed(line) or b"" for line in path.read_bytes().splitlines(keepends=True)]
        assert [json.loads(line)["seq"] for line in left] == list(range(1, sound.message_count + 1))
        whole_before = WRITTEN[:at].count(b"\n")
        assert sound.message_count >= whole_before, "what came before the damage is kept"
        assert left == MESSAGES[: len(left)], "and nothing is believed that was not written"
        assert mend(Path(place)) == sound, "mending again changes nothing"


def test_what_is_sound_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / MESSAGES_FILE).write_bytes(WRITTEN)
    (tmp_path / AUDIO_FILE).write_bytes(bytes(7))
    sound = mend(tmp_path)
    assert (sound.audio_bytes, sound.message_count) == (7, len(MESSAGES))
    assert (tmp_path / MESSAGES_FILE).read_bytes() == WRITTEN


def test_a_session_that_has_no_files_yet_has_nothing(tmp_path: Path) -> None:
    sound = mend(tmp_path)
    assert (sound.audio_bytes, sound.message_count) == (0, 0)


async def test_a_session_that_is_opened_again_goes_on_where_its_files_end(tmp_path: Path) -> None:
    store = SpoolStore(tmp_path, interval=0.01)
    await store.start()
    spool = await store.open("a1", {"session": "a1"}, lambda _: None, lambda _: None)
    spool.append_audio(b"abc")
    spool.append_message(MESSAGES[0])
    spool.set_state(b'{"last_seq": 1}')
    await spool.settled()
    assert store.state("a1") == {"last_seq": 1}
    await store.finish(spool, keep_audio=True)
    with (tmp_path / "a1" / MESSAGES_FILE).open("ab") as file:
        file.write(MESSAGES[1][:5])

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


async def test_a_message_is_written_at_once_and_audio_of_others_waits(tmp_path: Path) -> None:
    store = SpoolStore(tmp_path, interval=3600.0)
    await store.start()
    kept: list[int] = []
    speaking = await store.open("a1", {}, lambda _: None, lambda _: None, kept.append)
    listening = await store.open("b2", {}, lambda _: None, lambda _: None)
    listening.append_audio(b"abc")
    speaking.append_audio(b"def")
    speaking.append_message(MESSAGES[0])
    async with asyncio.timeout(30):
        await speaking.kept(1)
    assert (kept, speaking.safe_bytes) == ([1], 3), "no message tells of audio that is not there"
    assert listening.safe_bytes == 0
    await store.close()
