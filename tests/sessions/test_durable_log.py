"""What a session says, on a real disk: nobody hears of anything before it is there, nor in another order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from live_asr.core.errors import StorageError, Superseded
from live_asr.core.messages import Commit, Final, Lag, Partial, ServerMessage, decode_server, encode
from live_asr.sessions.durable_log import DurableLog
from live_asr.storage.file_journal import FileJournal

TIMEOUT = 30.0


def commit(seq: int) -> Commit:
    return Commit(seq, (), f" word {seq}", 0)


def partial(text: str) -> Partial:
    return Partial(text, (), 0.0, 0.0)


class Desk:
    """A log, and who listens to it."""

    def __init__(self, store: FileJournal) -> None:
        self.store = store
        self.heard: list[tuple[int, ServerMessage]] = []

    async def open(self) -> None:
        self.spool = await self.store.open("a1", {})
        self.log = DurableLog(self.spool, self._hear)
        self.spool.listen(self)

    def _hear(self, index: int, message: ServerMessage, encoded: bytes) -> None:
        assert decode_server(encoded) == message
        self.heard.append((index, message))

    @property
    def messages(self) -> list[ServerMessage]:
        return [message for _, message in self.heard]

    def acknowledge(self, safe_bytes: int) -> None:
        """It says nothing of audio."""

    def release(self, count: int) -> None:
        self.log.release(count)

    def refuse(self, error: StorageError) -> None:
        """It is asked for that."""

    def kept(self) -> list[ServerMessage]:
        return [decode_server(line) for line in self.store.messages("a1")]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Desk]:
    store = FileJournal(folder, interval=0.01)
    await store.start()
    desk = Desk(store)
    await desk.open()
    yield desk
    await store.close()


async def test_nothing_is_heard_before_it_is_on_disk_and_nothing_overtakes_it(tmp_path: Path) -> None:
    said = [partial("a"), commit(1), partial("b"), commit(2), Lag(1.0, 0.5, 0.5)]
    async with opened(tmp_path) as desk, asyncio.timeout(TIMEOUT):
        async with desk.store._writer._writing:  # the disk takes its time
            for message in said:
                desk.log.append(message)
            assert desk.messages == said[:1]
        await desk.spool.settled()
        assert desk.heard == list(enumerate(said))
        assert desk.kept() == [commit(1), commit(2)]


async def test_what_is_heard_first_is_on_disk_though_more_was_said_meanwhile(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk, asyncio.timeout(TIMEOUT):
        for seq in range(1, 100):
            desk.log.append(commit(seq))
            desk.log.append(partial(f"after {seq}"))
            heard = [message for message in desk.messages if isinstance(message, Commit)]
            assert heard == desk.kept()[: len(heard)]
            await asyncio.sleep(0)
        await desk.spool.settled()
        assert [index for index, _ in desk.heard] == list(range(198))
        assert desk.messages[-1] == partial("after 99")


async def test_who_begins_to_listen_hears_what_is_said_from_then_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk, asyncio.timeout(TIMEOUT):
        async with desk.store._writer._writing:
            desk.log.append(commit(1))
            desk.log.append(partial("before"))
            begins = desk.log.end
            desk.log.append(partial("after"))
        await desk.spool.settled()
        assert [message for index, message in desk.heard if index >= begins] == [partial("after")]


@pytest.mark.parametrize("is_taken_over", [False, True])
async def test_what_a_disk_has_refused_and_what_follows_it_is_never_heard(
    tmp_path: Path, is_taken_over: bool
) -> None:
    async with opened(tmp_path) as desk, asyncio.timeout(TIMEOUT):
        desk.log.append(commit(1))
        await desk.spool.settled()
        if is_taken_over:
            await desk.store.reopen("a1")
        else:
            messages = desk.spool.folder / "messages.jsonl"
            messages.unlink()
            messages.symlink_to("/dev/full")
        desk.log.append(commit(2))
        await desk.spool.settled()
        assert isinstance(desk.spool.error, Superseded if is_taken_over else StorageError)
        desk.log.append(partial("too late"))
        desk.log.append(commit(3))
        desk.log.append(partial("later yet"))
        assert desk.messages == [commit(1)]


async def test_the_last_thing_is_heard_behind_all_else_and_not_written_again(tmp_path: Path) -> None:
    final = Final(2, 1, 1.0, "en", " word", (), (), {})
    async with opened(tmp_path) as desk, asyncio.timeout(TIMEOUT):
        desk.log.append(commit(1))
        desk.log.append(partial(""))
        await desk.spool.settled()
        desk.log.append_last(final, encode(final))
        assert desk.messages == [commit(1), partial(""), final]
        await desk.spool.settled()
        assert desk.kept() == [commit(1)]
