"""A session has one writer: who takes it over is the only one that writes from then on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from live_asr.core.errors import Superseded
from live_asr.core.types import Turn, samples
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.files import AUDIO_FILE, EPOCH_FILE


@pytest.fixture
async def journals(tmp_path: Path) -> AsyncIterator[tuple[FileJournal, FileJournal]]:
    """The same sessions as two servers have them."""
    pair = FileJournal(tmp_path, interval=0.01), FileJournal(tmp_path, interval=0.01)
    for journal in pair:
        await journal.start()
    yield pair
    for journal in pair:
        await journal.close()


async def test_an_older_writer_is_refused_and_lets_go(journals: tuple[FileJournal, FileJournal]) -> None:
    old, new = journals
    first = await old.open("a1", {})
    first.append_audio(b"abc")
    first.append_message(b'{"seq":1}')
    await first.settled()
    second = await new.reopen("a1")
    assert (first.epoch, second.epoch, second.safe_bytes, second.kept_count) == (1, 2, 3, 1)
    first.append_audio(b"lost")
    first.append_message(b'{"seq":2,"text":"lost"}')
    with pytest.raises(Superseded):
        await first.kept(2)
    assert isinstance(first.error, Superseded)
    second.append_audio(b"def")
    second.append_message(b'{"seq":2}')
    await second.kept(2)
    assert (new.folder / "a1" / AUDIO_FILE).read_bytes() == b"abcdef"
    assert list(new.messages("a1")) == [b'{"seq":1}', b'{"seq":2}']


async def test_an_older_writer_neither_erases_audio_nor_says_who_spoke(
    journals: tuple[FileJournal, FileJournal],
) -> None:
    old, new = journals
    first = await old.open("a1", {})
    first.append_audio(b"abc")
    await first.settled()
    second = await new.reopen("a1")
    with pytest.raises(Superseded):
        old.write_turns(first, (Turn(0, samples(1.0), "S1"),))
    await old.finish(first, keep_audio=False)
    assert new.turns("a1") == ()
    assert (second.folder / AUDIO_FILE).read_bytes() == b"abc"
    await new.finish(second, keep_audio=False)
    assert not (second.folder / AUDIO_FILE).exists()


async def test_each_taking_over_raises_the_epoch_once_however_many_come_together(
    journals: tuple[FileJournal, FileJournal],
) -> None:
    old, new = journals
    await old.open("a1", {})
    taken = await asyncio.gather(*(journal.reopen("a1") for journal in journals * 5))
    assert sorted(spool.epoch for spool in taken) == list(range(2, 12))
    assert (new.folder / "a1" / EPOCH_FILE).read_text() == "11\n"
