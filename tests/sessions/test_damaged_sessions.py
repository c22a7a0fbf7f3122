"""Sessions whose files a disk has damaged, with scripted models: they go on with what is sound."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from live_asr.core.messages import Stop
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.files import AUDIO_FILE, CHECKS_FILE
from tests.sessions.registering import START, Client, eventually, running, text_of
from tests.sessions.scripted_engine import SECOND_BYTES, SECONDS, TEXT, pcm

CUT_BYTES = 2 * SECOND_BYTES


async def left_behind(now: Path, later: Path) -> Client:
    """Speak all of the script, and copy what a kill would leave once the session's own files have it."""
    async with running(now) as server:
        first = Client(await server.registry.open(START))
        for second in range(int(SECONDS)):
            first.runner.receive_audio(pcm()[second * SECOND_BYTES : (second + 1) * SECOND_BYTES])
            await first.runner.spool.settled()
        await eventually(lambda: len(first.kept) >= 2)
        await eventually(lambda: first.runner.session.lag().seconds < 1.5)
        assert isinstance(server.store, FileJournal)
        await server.store._settle()
        await asyncio.to_thread(shutil.copytree, now, later)
    return first


def cut(folder: Path) -> None:
    os.truncate(folder / AUDIO_FILE, CUT_BYTES)


def emptied(folder: Path) -> None:
    os.truncate(folder / AUDIO_FILE, 0)


@pytest.mark.parametrize(("damage", "left_bytes"), [(cut, CUT_BYTES), (emptied, 0)])
async def test_a_session_with_less_audio_than_its_messages_tell_of_gets_it_again_and_says_nothing_twice(
    tmp_path: Path, damage: object, left_bytes: int
) -> None:
    first = await left_behind(tmp_path / "now", tmp_path / "later")
    assert callable(damage)
    damage(tmp_path / "later" / "sessions" / first.opened.id)
    async with running(tmp_path / "later") as heir:
        await heir.has(first.opened.id)
        second = Client(await heir.registry.resume(first.resume(0)))
        assert second.opened.received_bytes == left_bytes
        assert second.kept, "what was said stands"
        second.runner.receive_audio(pcm()[left_bytes:])
        second.runner.receive(Stop())
        assert (await second.until("final"))["duration"] == SECONDS
    assert text_of(second) == TEXT


@pytest.mark.parametrize("damage", [cut, emptied])
async def test_a_session_that_lost_audio_and_its_client_ends_by_itself_with_what_was_said(
    tmp_path: Path, damage: object
) -> None:
    first = await left_behind(tmp_path / "now", tmp_path / "later")
    assert callable(damage)
    damage(tmp_path / "later" / "sessions" / first.opened.id)
    async with running(tmp_path / "later", window=0.1) as heir:
        await heir.done(first.opened.id)
        assert await asyncio.to_thread(heir.state, first.opened.id) == "done"
        record = Client(await heir.registry.resume(first.resume(0)))
        assert await record.ended() == 1000
    said = "".join(message["text"] for message in first.kept if message["type"] == "commit")
    assert said
    assert text_of(record) == said
    assert record.kept[-1]["text"] == said


async def test_a_session_whose_checks_are_lost_keeps_all_of_its_audio(tmp_path: Path) -> None:
    first = await left_behind(tmp_path / "now", tmp_path / "later")
    os.truncate(tmp_path / "later" / "sessions" / first.opened.id / CHECKS_FILE, 0)
    async with running(tmp_path / "later") as heir:
        await heir.has(first.opened.id)
        second = Client(await heir.registry.resume(first.resume()))
        assert second.opened.received_bytes == len(pcm())
        second.runner.receive(Stop())
        assert (await second.until("final"))["duration"] == SECONDS
    assert text_of(first, second) == TEXT


async def test_a_click_in_the_middle_loses_nothing_that_was_acknowledged_behind_it(tmp_path: Path) -> None:
    first = await left_behind(tmp_path / "now", tmp_path / "later")
    audio = tmp_path / "later" / "sessions" / first.opened.id / AUDIO_FILE
    changed = bytearray(audio.read_bytes())
    changed[CUT_BYTES] ^= 64
    audio.write_bytes(changed)
    async with running(tmp_path / "later") as heir:
        await heir.has(first.opened.id)
        second = Client(await heir.registry.resume(first.resume()))
        assert second.opened.received_bytes == len(pcm())
        second.runner.receive(Stop())
        await second.until("final")
    assert text_of(first, second) == TEXT
