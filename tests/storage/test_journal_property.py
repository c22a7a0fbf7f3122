"""Two writers of one session, paused, cut off and killed at any time: what was acknowledged can be read.

Whatever they do, on a real disk or a real PostgreSQL: each epoch has one writer, what is kept is what the
epochs wrote, one after the other, each from its first piece on without a gap, and it never changes again.
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live_asr.core.errors import StorageError, Superseded
from live_asr.storage.database import Database
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.postgres_journal import PostgresJournal
from live_asr.storage.spool import Spool
from tests.postgres import new_database

TIMEOUT = 60.0
PIECE = struct.Struct("<II")
"""The epoch of who wrote it, and which of that one's pieces it is."""
Written = tuple[int, int]

writers = st.integers(0, 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), writers),
        st.tuples(st.just("say"), writers),
        st.tuples(st.just("take over"), writers),
        st.tuples(st.just("wait"), writers),
        st.tuples(st.just("freeze"), writers),
        st.tuples(st.just("go on"), writers),
        st.tuples(st.just("cut off"), writers),
        st.tuples(st.just("kill"), writers),
    ),
    min_size=5,
    max_size=25,
)


class Writer:
    """One server that has had the session, or has it still."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.spool: Spool | None = None
        self.is_frozen = False
        self.promised: list[tuple[str, list[Written]]] = []
        """What it was told is kept, from the first piece of the session on: of its audio, or its messages."""
        self._found: dict[str, list[Written]] = {}
        self._said: list[Written] = []

    async def begin(self) -> None:
        self.journal = await self.place.open_journal()

    def have(self, spool: Spool, found: dict[str, list[Written]]) -> None:
        self.spool, self._found, self._said = spool, found, []
        spool.listen(self)

    def say(self) -> None:
        if self.spool is not None:
            piece = self.spool.epoch, len(self._said) + 1
            self._said.append(piece)
            self.spool.append_audio(PIECE.pack(*piece))
            seq = self.spool.appended_count + 1
            self.spool.append_message(orjson.dumps({"type": "commit", "seq": seq, "piece": piece}))

    def acknowledge(self, safe_bytes: int) -> None:
        self._note("audio", safe_bytes // PIECE.size)

    def release(self, count: int) -> None:
        self._note("messages", count)

    def _note(self, kind: str, count: int) -> None:
        self.promised.append((kind, (self._found[kind] + self._said)[:count]))

    def refuse(self, error: StorageError) -> None:
        assert isinstance(error, Superseded), error

    async def freeze(self) -> None:
        if not self.is_frozen:
            await self.journal._writer._writing.acquire()
            self.is_frozen = True

    def go_on(self) -> None:
        if self.is_frozen:
            self.journal._writer._writing.release()
            self.is_frozen = False

    def kill(self) -> None:
        """End its process as far as it can be told from outside: its writer is gone, its connection too."""
        if self.journal._writer._writer is not None:
            self.journal._writer._writer.cancel()
        self.place.cut_off(self.journal)
        self.spool = None


class Place:
    """Where a session is kept."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        self.url = url
        self.session_id = uuid4().hex
        self._opened: list[tuple[Any, Database | None]] = []

    async def open_journal(self) -> Any:
        database = None
        journal: FileJournal | PostgresJournal
        if self.url is None:
            journal = FileJournal(self.folder, interval=0.01)
        else:
            database = Database(self.url)
            database.prepare()
            journal = PostgresJournal(database, self.folder, interval=0.01)
        await journal.start()
        self._opened.append((journal, database))
        return journal

    def cut_off(self, journal: Any) -> None:
        """End a server's connection to the database, whatever is under way on it."""
        connection = getattr(journal, "_connection", None)
        if self.url is None or connection is None or connection._driver.closed:
            return
        admin = sqlalchemy.create_engine(self.url)
        with admin.begin() as asking:
            pid = connection._driver.info.backend_pid
            asking.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
        admin.dispose()

    async def kept(self) -> dict[str, list[Written]]:
        journal, _ = self._opened[0]
        audio = b"".join([piece async for piece in journal.read_audio(self.session_id, 0, 10**9)])
        said = [orjson.loads(line) for line in journal.messages(self.session_id)]
        assert [message["seq"] for message in said] == list(range(1, len(said) + 1))
        return {
            "audio": list(PIECE.iter_unpack(audio)),
            "messages": [tuple(message["piece"]) for message in said],
        }

    async def close(self) -> None:
        for journal, database in self._opened:
            if journal._writer._writer is not None and journal._writer._writer.cancelled():
                journal._writer._writer = None
            await journal.close()
            if database is not None:
                database.close()


@asynccontextmanager
async def opened(url: str | None) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), url)
        await place.open_journal()  # who reads
        try:
            yield place
        finally:
            await place.close()


async def check(place: Place, all_writers: list[Writer]) -> dict[str, list[Written]]:
    told = [promise for writer in all_writers for promise in writer.promised]
    kept = await place.kept()
    for pieces in kept.values():
        by_epoch: dict[int, list[int]] = {}
        for epoch, number in pieces:
            by_epoch.setdefault(epoch, []).append(number)
        assert list(by_epoch) == sorted(by_epoch), "no epoch writes after a later one"
        assert [epoch for epoch, _ in pieces] == sorted(epoch for epoch, _ in pieces)
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in by_epoch.values())
    for kind, promised in told:
        assert kept[kind][: len(promised)] == promised, "what was acknowledged is there and stays"
    return kept


async def play(url: str | None, plan: list[tuple[str, int]]) -> None:
    async with opened(url) as place, asyncio.timeout(TIMEOUT):
        pair = [Writer(place), Writer(place)]
        everybody = list(pair)
        for writer in pair:
            await writer.begin()
        pair[0].have(await pair[0].journal.open(place.session_id, {}), {"audio": [], "messages": []})
        epochs = [1]

        async def take_over(which: int) -> None:
            writer = pair[which]
            writer.go_on()
            spool = await writer.journal.reopen(place.session_id)
            assert spool.epoch > max(epochs), "one writer an epoch"
            epochs.append(spool.epoch)
            found = await place.kept()
            lengths = spool.safe_bytes // PIECE.size, spool.kept_count
            assert lengths == (len(found["audio"]), len(found["messages"]))
            writer.have(spool, found)

        for action, which in plan:
            writer = pair[which]
            if action == "say":
                writer.say()
            elif action == "take over":
                await take_over(which)
            elif action == "wait" and writer.spool is not None and not writer.is_frozen:
                await writer.spool.settled()
            elif action == "freeze":
                await writer.freeze()
            elif action == "go on":
                writer.go_on()
            elif action == "cut off":
                place.cut_off(writer.journal)
            elif action == "kill":
                writer.kill()
                writer.go_on()
                pair[which] = Writer(place)
                everybody.append(pair[which])
                await pair[which].begin()
            await asyncio.sleep(0)
            await check(place, everybody)

        for writer in pair:
            writer.go_on()
        await take_over(0)
        for writer in pair:
            writer.say()
            if writer.spool is not None:
                await writer.spool.settled()
        kept = await check(place, everybody)
        newest = pair[0].spool
        assert newest is not None and newest.error is None
        assert kept["audio"][-1] == kept["messages"][-1] == (newest.epoch, 1)
        assert pair[1].spool is None or isinstance(pair[1].spool.error, Superseded)


@pytest.fixture(scope="module")
def one_database(server: str) -> str:
    return new_database(server)


@given(plan=steps)
@settings(max_examples=25, deadline=None)
def test_two_writers_in_files(plan: list[tuple[str, int]]) -> None:
    asyncio.run(play(None, plan))


@given(plan=steps)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_two_writers_in_postgresql(one_database: str, plan: list[tuple[str, int]]) -> None:
    asyncio.run(play(one_database, plan))
