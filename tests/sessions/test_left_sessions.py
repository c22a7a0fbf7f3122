"""Sessions that disk or database get in the way of: they are left as they are, and taken up again."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from live_asr.core.errors import DiskFull, LiveAsrError, StorageError
from live_asr.core.messages import Stop
from live_asr.sessions import disk_space as room
from live_asr.sessions import registry
from live_asr.storage import files
from tests.sessions.registering import START, Client, Server, eventually, gone_on, running, text_of
from tests.sessions.scripted_engine import SECOND_BYTES, SECONDS, TEXT, pcm


class Quota:
    """A disk that takes no message of one kind, and no test of its room, while it is used up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: bytes) -> None:
        self.is_used_up = True
        self.refusals = self._looks = 0
        written = files.append

        def append(path: Path, data: bytes) -> None:
            if self.is_used_up and refused in data:
                self.refusals += 1
                raise OSError(errno.EDQUOT, "Disk quota exceeded")
            written(path, data)

        def check(folder: Path, size_bytes: int) -> None:
            self._looks += 1
            if self.is_used_up:
                raise DiskFull("The server cannot write its files: Disk quota exceeded.")

        monkeypatch.setattr(files, "append", append)
        monkeypatch.setattr(room, "check_write", check)
        monkeypatch.setattr(room, "LOOK_INTERVAL", 0.02)

    async def looked_for_room(self) -> None:
        """Wait until the room has been looked for some times more."""
        before = self._looks
        await eventually(lambda: self._looks >= before + 5)


@asynccontextmanager
async def watching_disk(server: Server) -> AsyncIterator[None]:
    task = asyncio.create_task(server.registry.watch_disk())
    try:
        yield
    finally:
        task.cancel()


@pytest.mark.parametrize("refused", [b'"type":"stopped"', b'"type":"final"'])
async def test_a_session_whose_end_a_full_disk_refuses_waits_and_is_completed_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bytes
) -> None:
    quota = Quota(monkeypatch, refused)
    async with running(tmp_path, window=0.1) as server, watching_disk(server):
        client = Client(await server.registry.open(START))
        client.runner.receive_audio(pcm())
        client.runner.receive(Stop())
        assert await client.ended() == 1011
        assert client.heard[-1]["code"] == "storage_full"
        assert not await server.registry.has_disk()
        await eventually(lambda: server.registry.runner_of(client.opened.id) is None)
        await quota.looked_for_room()
        assert quota.refusals == 1
        assert await asyncio.to_thread(server.state, client.opened.id) in ("open", "finalizing")
        quota.is_used_up = False
        await server.done(client.opened.id)
        assert await server.registry.has_disk()
        again = Client(await server.registry.resume(client.resume(0)))
        assert await again.ended() == 1000
        assert await asyncio.to_thread(server.state, client.opened.id) == "done"
    assert text_of(again) == TEXT
    assert (await again.until("final"))["duration"] == SECONDS


async def test_an_open_session_on_a_used_up_quota_is_not_taken_up_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = Quota(monkeypatch, b'"type":"utterance"')
    async with running(tmp_path) as server, watching_disk(server):
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(pcm()[: 3 * SECOND_BYTES])
        await first.until("commit")
        first.runner.receive_audio(pcm()[3 * SECOND_BYTES :])
        first.runner.session.receive_finalize()
        assert await first.ended() == 1011
        await quota.looked_for_room()
        assert quota.refusals == 1
        quota.is_used_up = False
        second = await gone_on(server, first)
    assert text_of(first, second) == TEXT


async def test_a_session_that_is_erased_while_it_waits_for_room_is_gone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Quota(monkeypatch, b'"type":"stopped"')
    async with running(tmp_path) as server, watching_disk(server):
        client = Client(await server.registry.open(START))
        client.runner.receive_audio(pcm())
        client.runner.receive(Stop())
        assert await client.ended() == 1011
        async with asyncio.timeout(10):
            assert await server.registry.erase(client.opened.id)
        assert not (tmp_path / "sessions" / client.opened.id).exists()


async def test_a_session_that_the_database_keeps_from_being_taken_up_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "TRY_AGAIN_AFTER", 0.01)
    async with running(tmp_path) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(pcm()[: 4 * SECOND_BYTES])
        await first.until("commit")
    refusals = iter([StorageError("The database does not answer."), OSError(errno.EIO, "Input/output error")])
    looked_up = registry.read_transcript

    def refuse(*arguments: object) -> object:
        for refusal in refusals:
            raise refusal
        return looked_up(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(registry, "read_transcript", refuse)
    async with running(tmp_path) as heir:
        second = await gone_on(heir, first)
    assert text_of(first, second) == TEXT


async def test_a_live_session_that_fails_is_as_long_as_its_audio(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = Client(await server.registry.open(START))
        client.runner.receive_audio(pcm() + bytes(3 * SECOND_BYTES))
        await eventually(lambda: client.runner.session.received_sample == (SECONDS + 3) * 16_000)
        client.runner.fail(LiveAsrError("Something went wrong."))
        await server.done(client.opened.id)
        stored = await asyncio.to_thread(server.database.session, client.opened.id)
        assert stored is not None
        assert (stored.state, stored.duration) == ("failed", SECONDS + 3)
