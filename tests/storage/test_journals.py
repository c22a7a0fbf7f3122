"""The same promises of both journals, on a real disk and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from live_asr.core.errors import ConfigError, StorageError, Superseded
from live_asr.core.types import Turn, samples
from live_asr.storage.database import Database, sqlite_url
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.files import LIVE_TURNS_FILE
from live_asr.storage.journal import Ending, Journal
from live_asr.storage.postgres_journal import PostgresJournal
from live_asr.storage.spool import Spool
from tests.postgres import new_database


class Keeping:
    """Where sessions are kept, and servers that keep them there."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        self.url = url

    @asynccontextmanager
    async def server(self, interval: float = 0.01) -> AsyncIterator[Journal]:
        """The journal of one server."""
        if self.url is None:
            files = FileJournal(self.folder, interval=interval)
            await files.start()
            yield files
            await files.close()
            return
        database = Database(self.url)
        database.prepare()
        journal = PostgresJournal(database, self.folder / uuid4().hex, interval=interval)
        await journal.start()
        yield journal
        await journal.close()
        database.close()

    @contextmanager
    def database(self) -> Iterator[Database]:
        """Where it is told how sessions end."""
        database = Database(self.url or sqlite_url(self.folder / "live-asr.db"))
        database.prepare()
        yield database
        database.close()


@pytest.fixture(params=["files", "postgresql"])
def keeping(request: pytest.FixtureRequest, tmp_path: Path) -> Keeping:
    if request.param == "files":
        return Keeping(tmp_path, None)
    return Keeping(tmp_path, new_database(request.getfixturevalue("server")))


def message(seq: int, text: str = "") -> bytes:
    return b'{"type":"commit","seq":%d,"text":"%b"}' % (seq, text.encode())


async def audio_of(journal: Journal, start: int = 0, end: int = 10**9, session: str = "a1") -> bytes:
    return b"".join([piece async for piece in journal.read_audio(session, start, end)])


async def said(journal: Journal) -> Spool:
    """Open a session in which something was said."""
    spool = await journal.open("a1", {})
    spool.append_audio(b"abc")
    spool.append_message(message(1))
    await spool.settled()
    return spool


class Told:
    """What a session is told of what it wrote, and what there is to be read at that instant."""

    def __init__(self) -> None:
        self.safe: list[int] = []
        self.kept: list[int] = []
        self.failures: list[StorageError] = []

    def acknowledge(self, safe_bytes: int) -> None:
        self.safe.append(safe_bytes)

    def release(self, count: int) -> None:
        self.kept.append(count)

    def refuse(self, error: StorageError) -> None:
        self.failures.append(error)


async def test_what_is_acknowledged_is_read_back_in_order_by_another_server(keeping: Keeping) -> None:
    told = Told()
    async with keeping.server() as one, keeping.server() as other:
        spool = await one.open("a1", {"token": "abc"})
        spool.listen(told)
        said = bytes(range(256)) * 40
        for number in range(1, 41):
            spool.append_audio(said[256 * (number - 1) : 256 * number])
            spool.append_message(message(number, "ü"))
            if number % 7 == 0:
                await spool.settled()
                assert await audio_of(other) == said[: 256 * number]
        spool.set_state(b'{"last_seq": 40}')
        spool.append_audio(b"end")
        await spool.settled()
        assert (told.safe[-1], told.kept[-1]) == (len(said) + 3, 40) and not told.failures
        assert told.safe == sorted(told.safe)
        assert list(other.messages("a1")) == [message(number, "ü") for number in range(1, 41)]
        assert await audio_of(other) == said + b"end"
        assert await audio_of(other, 300, 1000) == said[300:1000]
        assert await audio_of(other, len(said)) == b"end"
        assert (other.about("a1"), other.state("a1")) == ({"token": "abc"}, {"last_seq": 40})
        async with one.recording(spool) as path:
            assert path.read_bytes() == said + b"end"


async def test_a_writer_that_its_own_server_has_taken_over_from_writes_nothing_beside_the_new_one(
    keeping: Keeping,
) -> None:
    old_told, new_told = Told(), Told()
    async with keeping.server(interval=3600.0) as server:
        first = await said(server)
        first.listen(old_told)
        second = await server.reopen("a1")
        second.listen(new_told)
        first.append_audio(b"lost")
        second.append_audio(b"d")
        for spool in (first, second):  # in one go
            spool.append_message(message(2, "old" if spool is first else "new"))
        await second.settled()
        await first.settled()
        assert (old_told.safe, old_told.kept) == ([], [])
        assert isinstance(old_told.failures[0], Superseded)
        assert (new_told.safe, new_told.kept, new_told.failures) == ([4], [2], [])
        assert await audio_of(server) == b"abcd"
        assert list(server.messages("a1")) == [message(1), message(2, "new")]


async def test_who_takes_a_session_over_goes_on_where_it_ended_and_nobody_else_does(
    keeping: Keeping,
) -> None:
    told = Told()
    async with keeping.server() as old, keeping.server() as new:
        first = await old.open("a1", {})
        first.listen(told)
        first.append_audio(b"abc")
        first.append_message(message(1))
        await first.settled()
        second = await new.reopen("a1")
        assert (second.epoch, second.safe_bytes, second.kept_count) == (first.epoch + 1, 3, 1)
        first.append_audio(b"lost")
        first.append_message(message(2, "lost"))
        with pytest.raises(Superseded):
            await first.kept(2)
        with pytest.raises(Superseded):
            old.write_turns(first, (Turn(0, samples(1.0), "S1"),))
        await old.finish(first, keep_audio=False)
        second.append_audio(b"def")
        second.append_message(message(2))
        await second.kept(2)
        assert (told.safe, told.kept, [type(error) for error in told.failures]) == ([3], [1], [Superseded])
        assert await audio_of(new) == b"abcdef"
        assert list(old.messages("a1")) == [message(1), message(2)]
        assert new.turns("a1") == ()


async def test_each_of_many_that_take_a_session_over_together_has_an_epoch_of_its_own(
    keeping: Keeping,
) -> None:
    async with keeping.server() as one, keeping.server() as other:
        await one.open("a1", {})
        taken = await asyncio.gather(*(journal.reopen("a1") for journal in (one, other) * 4))
        assert sorted(spool.epoch for spool in taken) == list(range(2, 10))
        for spool in taken:
            spool.append_message(message(1, str(spool.epoch)))
            await spool.settled()
        assert [spool.epoch for spool in taken if spool.error is None] == [9]
        assert list(one.messages("a1")) == [message(1, "9")]


async def test_turns_are_kept_and_replaced(keeping: Keeping) -> None:
    turns = (Turn(samples(0.5), samples(1.25), "S1"), Turn(samples(1.0), samples(2.001), "S2"))
    async with keeping.server() as journal:
        spool = await journal.open("a1", {})
        assert journal.turns("a1") == ()
        journal.write_turns(spool, turns[:1])
        journal.write_turns(spool, turns)
        journal.write_turns(spool, turns[:1], LIVE_TURNS_FILE)
        assert (journal.turns("a1"), journal.turns("a1", LIVE_TURNS_FILE)) == (turns, turns[:1])


@pytest.mark.parametrize("keep", [True, False])
async def test_audio_of_a_session_that_is_over_is_there_where_it_is_wished_for(
    keeping: Keeping, keep: bool
) -> None:
    async with keeping.server() as journal:
        spool = await journal.open("a1", {})
        assert journal.kept_audio("a1") is None
        spool.append_audio(b"OggS, so it seems")
        spool.append_message(message(1))
        await journal.finish(spool, keep_audio=keep)
        kept = journal.kept_audio("a1")
        assert (kept is not None) == keep
        if kept is not None:
            assert (kept.size_bytes, kept.beginning, kept.is_compressed) == (17, b"OggS, so it seem", False)
            assert await audio_of(journal) == b"OggS, so it seems"
            assert journal.erase_audio("a1")
        assert not journal.erase_audio("a1")
        assert list(journal.messages("a1")) == [message(1)]


async def test_a_session_s_result_is_kept_once_however_often_its_end_is_told(keeping: Keeping) -> None:
    turns = (Turn(0, samples(1.0), "S1"),)
    async with keeping.server() as journal:
        spool = await said(journal)
        last = await journal.conclude(spool, Ending(message(2), turns, keep_audio=False))
        with keeping.database() as database:
            with pytest.raises(StorageError), database.transaction(writes=True) as connection:
                last(connection)
                raise StorageError("It is not told.")
            both = [message(1), message(2)]
            found = list(journal.messages("a1")), journal.turns("a1"), journal.kept_audio("a1") is None
            is_written = keeping.url is None  # files are; who comes next finds the result, and tells it
            assert found == ((both, turns, True) if is_written else (both[:1], (), False))
            for _ in range(2):  # as where the answer was lost
                with database.transaction(writes=True) as connection:
                    last(connection)
                assert list(journal.messages("a1")) == both
        await journal.finish(spool, keep_audio=True)
        assert (journal.kept_audio("a1"), journal.turns("a1")) == (None, turns)


async def test_a_result_that_is_there_already_is_not_kept_again(keeping: Keeping) -> None:
    async with keeping.server() as journal:
        spool = await said(journal)
        with keeping.database() as database, database.transaction(writes=True) as connection:
            (await journal.conclude(spool, Ending(message(2), (), keep_audio=True)))(connection)
        spool = await journal.reopen("a1")
        assert (spool.kept_count, await audio_of(journal)) == (2, b"abc")
        with keeping.database() as database, database.transaction(writes=True) as connection:
            (await journal.conclude(spool, Ending(None, (), keep_audio=False)))(connection)
        assert (list(journal.messages("a1")), journal.kept_audio("a1")) == ([message(1), message(2)], None)


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_session_that_another_has_taken_over_is_not_ended(keeping: Keeping, is_known: bool) -> None:
    async with keeping.server() as old, keeping.server() as new:
        spool = await said(old)
        await new.reopen("a1")
        if is_known:
            spool.append_message(message(2, "lost"))
            await spool.settled()
        with keeping.database() as database, pytest.raises(Superseded):
            last = await old.conclude(spool, Ending(message(2), (), keep_audio=False))
            with database.transaction(writes=True) as connection:
                last(connection)
        assert (list(new.messages("a1")), await audio_of(new)) == ([message(1)], b"abc")


async def test_a_session_that_is_to_be_erased_is_unknown_at_once_and_its_writer_lets_go(
    keeping: Keeping,
) -> None:
    async with keeping.server() as journal:
        spool = await journal.open("a1", {})
        spool.append_audio(b"abc")
        spool.append_message(message(1))
        await spool.settled()
        assert journal.mark_deleted("a1")
        assert not journal.mark_deleted("a1")
        with pytest.raises(KeyError):
            list(journal.messages("a1"))
        with pytest.raises(KeyError):
            await journal.reopen("a1")
        spool.append_message(message(2))
        with pytest.raises(StorageError):
            await spool.kept(2)
        assert journal.condemned() == ["a1"]
        journal.erase("a1")
        assert journal.condemned() == []
        assert await audio_of(journal) == b"" if keeping.url else True


@pytest.mark.parametrize("name", ["", "..", "a/1", "a1\0", "nobody", "a" * 300, "é" * 60])
async def test_an_id_of_no_session_is_unknown(keeping: Keeping, name: str) -> None:
    async with keeping.server() as journal:
        await journal.open("a1", {})
        for read in (journal.about, journal.state, journal.turns):
            with pytest.raises(KeyError):
                read(name)
        with pytest.raises(KeyError):
            await journal.reopen(name)
        assert not journal.mark_deleted(name)


async def test_an_id_that_is_taken_is_refused_and_what_is_there_stays(keeping: Keeping) -> None:
    async with keeping.server() as journal:
        spool = await journal.open("a1", {"first": True})
        spool.append_audio(b"abc")
        await spool.settled()
        with pytest.raises(StorageError):
            await journal.open("a1", {"first": False})
        assert (journal.about("a1"), await audio_of(journal)) == ({"first": True}, b"abc")


async def test_a_message_is_written_at_once_and_audio_of_others_waits(keeping: Keeping) -> None:
    async with keeping.server(interval=3600.0) as journal:
        speaking, listening = await journal.open("a1", {}), await journal.open("b2", {})
        listening.append_audio(b"abc")
        speaking.append_audio(b"def")
        speaking.append_message(message(1))
        async with asyncio.timeout(30):
            await speaking.kept(1)
        assert (speaking.safe_bytes, listening.safe_bytes) == (3, 0)


async def test_closing_writes_what_waits(keeping: Keeping) -> None:
    async with keeping.server(interval=3600.0) as journal:
        spool = await journal.open("a1", {})
        spool.append_audio(b"abc")
    async with keeping.server() as journal:
        assert await audio_of(journal) == b"abc"


async def test_many_sessions_are_written_together_and_each_has_its_own(keeping: Keeping) -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(keeping.server()) for _ in range(2)]
        spools: dict[str, Spool] = {}
        for number in range(20):
            spools[f"s{number}"] = await servers[number % 2].open(f"s{number}", {})
        for count in range(1, 6):
            for name, spool in spools.items():
                spool.append_audio(f"{name} {count};".encode())
                spool.append_message(message(count, name))
        await asyncio.gather(*(spool.settled() for spool in spools.values()))
        for name in spools:
            said = "".join(f"{name} {count};" for count in range(1, 6))
            assert (await audio_of(servers[0], session=name)).decode() == said
            assert list(servers[1].messages(name)) == [message(count, name) for count in range(1, 6)]


async def test_a_journal_in_a_database_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "live-asr.db"))
    with pytest.raises(ConfigError, match="PostgreSQL") as refusal:
        PostgresJournal(database, tmp_path)
    assert "storage.journal" in refusal.value.hint
    database.close()
