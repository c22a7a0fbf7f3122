"""What is finished goes to an object store, from files and from PostgreSQL, and is erased there: all real."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import av
import numpy as np
import pytest
from sqlalchemy import select

from live_asr.core.errors import StorageError
from live_asr.core.messages import AudioFormat, Start, to_dict
from live_asr.sessions.archive import RETRY_AFTER, Archive
from live_asr.sessions.playback import Playable
from live_asr.storage.database import Database, sqlite_url
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.journal import Journal
from live_asr.storage.object_rows import ObjectRows, doom_audio_before, other_stores
from live_asr.storage.objects import ObjectStore
from live_asr.storage.postgres_journal import PostgresJournal
from live_asr.storage.tables import objects, sessions
from tests.postgres import new_database, postgres

PCM = (np.sin(np.arange(48_000) / 20) * 20_000).astype("<i2").tobytes()
"""Three seconds."""
WEBM = b"\x1aE\xdf\xa3" + PCM[:5000]
SAID = [b'{"type":"commit","seq":%d,"text":"w\xc3\xb6rd"}' % seq for seq in (1, 2, 3)]
NOW = 1e9


class Died(BaseException):
    """The server ends here."""


@dataclass
class Server:
    """What of a server moves sessions; it runs nothing by itself."""

    journal: Journal
    database: Database
    store: ObjectStore
    archive: Archive
    now: float = NOW
    counted: dict[str, int] = field(default_factory=dict)

    async def end(
        self, name: str = "a1", sent: bytes = PCM, audio: AudioFormat | None = None, state: str = "done"
    ) -> None:
        """Have a session that is over, with its audio kept."""
        start = to_dict(Start(audio=audio or AudioFormat()))
        spool = await self.journal.open(name, {"session": name, "start": start})
        await self.database.call(self.database.add_session, name, start, created_at=1.0)
        for at in range(0, len(sent), 7001):
            spool.append_audio(sent[at : at + 7001])
            await spool.settled()
        for message in SAID:
            spool.append_message(message)
        await self.journal.finish(spool, keep_audio=True)
        await self.database.call(self.database.finish_session, name, state=state, ended_at=NOW - 10)

    async def render(self, name: str) -> str:
        """Return the result of a session."""
        stored = await self.database.call(self.database.session, name)
        if stored is None:
            raise KeyError(name)
        return json.dumps({"session": name, "names": dict(stored.names)})

    @property
    def names(self) -> list[str]:
        """What of a session comes there, in that order."""
        messages = ["messages.jsonl"] if self.journal.is_shared else []
        return ["audio.flac", *messages, "result.json"]

    @property
    def rows(self) -> ObjectRows:
        return ObjectRows(self.database, self.store.url)

    def nothing_is_known(self) -> bool:
        """Tell whether the database knows of no object any more."""
        with self.database.transaction(writes=False) as connection:
            return connection.execute(select(objects)).first() is None

    async def audio(self, name: str = "a1") -> Playable | None:
        return await self.archive.audio(name)

    async def object(self, key: str) -> bytes | None:
        """Return what is in the store."""
        size = await self.store.size_of(key)
        return None if size is None else b"".join([piece async for piece in self.store.read(key, 0, size)])

    def said(self, name: str = "a1") -> list[bytes]:
        """Return what was said in a session, wherever that is kept."""
        return [message.rstrip() for message in self.journal.messages(name)]

    def kept(self, name: str = "a1") -> bool:
        """Tell whether the audio of a session is still where it came to."""
        return self.journal.kept_audio(name) is not None


@dataclass
class World:
    """Where servers keep what they have."""

    folder: Path
    database_url: str | None
    objects_url: str

    @asynccontextmanager
    async def server(self, store: type[ObjectStore] = ObjectStore) -> AsyncIterator[Server]:
        database = Database(self.database_url or sqlite_url(self.folder / "live-asr.db"))
        database.prepare()
        database.moves_finished = True
        with closing(database):
            there = store(self.objects_url)
            journal: Journal
            if self.database_url is None:
                journal = FileJournal(self.folder / "sessions", interval=0.01, compresses=False)
            else:
                journal = PostgresJournal(database, self.folder / uuid4().hex, interval=0.01, objects=there)
            await journal.start()
            server = Server(journal, database, there, None)  # type: ignore[arg-type]
            server.archive = Archive(
                *(there, journal, database),
                render=server.render,
                count=server.counted.__setitem__,
                clock=lambda: server.now,
            )
            try:
                yield server
            finally:
                await journal.close()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["files", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path, objects_url: str) -> World:
    """Each journal with each store."""
    if request.param == "files":
        return World(tmp_path, None, objects_url)
    return World(tmp_path, new_database(request.getfixturevalue("postgresql")), objects_url)


@pytest.fixture
def shared(tmp_path: Path, postgresql: str) -> World:
    """What several servers share."""
    return World(tmp_path, new_database(postgresql), f"file://{tmp_path}/objects")


def samples_of(flac: bytes | None) -> bytes:
    assert flac is not None
    with av.open(BytesIO(flac), format="flac") as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(frames, axis=1).astype("<i2").tobytes()


async def test_audio_and_result_of_a_session_that_is_over_are_in_the_store_and_its_audio_nowhere_else(
    world: World,
) -> None:
    async with world.server() as server:
        await server.end()
        assert await server.audio() is None
        await server.archive.move_all()
        audio = await server.audio()
        assert audio is not None
        assert (audio.object_key, audio.media_type) == ("a1/audio.flac", "audio/flac")
        kept = await server.object("a1/audio.flac")
        assert samples_of(kept) == PCM
        assert audio.size_bytes == len(kept or b"")
        assert json.loads(await server.object("a1/result.json") or b"") == {"session": "a1", "names": {}}
        assert not server.kept()
        await server.archive.move_all()
        assert server.rows.count() == {"waiting": 0, "doomed": 0}
        assert list(server.journal.folder.glob(".moving-*")) == []


@pytest.mark.parametrize(
    ("audio", "sent", "name", "kind"),
    [
        (AudioFormat("container"), WEBM, "audio.webm", "video/webm"),
        (AudioFormat("container"), b"what is that", "audio.bin", "application/octet-stream"),
        (AudioFormat("pcm_s16le"), b"a", "audio.wav", "audio/wav"),
        (AudioFormat("pcm_f32le"), PCM, "audio.wav", "audio/wav"),
    ],
)
async def test_what_is_not_to_be_flac_is_there_as_a_player_reads_it(
    shared: World, audio: AudioFormat, sent: bytes, name: str, kind: str
) -> None:
    async with shared.server() as server:
        await server.end(sent=sent, audio=audio, state="failed")
        await server.archive.move_all()
        found = await server.object(f"a1/{name}")
        assert found is not None and found.endswith(sent)
        assert len(found) - len(sent) == (44 if kind == "audio/wav" else 0)
        there = await server.audio()
        assert there is not None and (there.media_type, there.size_bytes) == (kind, len(found))


async def test_a_session_without_audio_has_its_result_there(world: World) -> None:
    async with world.server() as server:
        await server.end(sent=b"")
        await server.archive.move_all()
        assert await server.object("a1/result.json") is not None
        assert await server.audio() is None


async def test_messages_go_there_out_of_the_database_and_are_read_from_there(shared: World) -> None:
    async with shared.server() as one, shared.server() as other:
        await one.end()
        assert one.journal.movable_messages("a1") == SAID
        await one.archive.move_all()
        assert one.journal.movable_messages("a1") == []
        assert (await one.object("a1/messages.jsonl") or b"").splitlines() == SAID
        assert one.said() == other.said() == SAID


async def test_messages_that_files_keep_stay_there(tmp_path: Path) -> None:
    async with World(tmp_path, None, f"file://{tmp_path}/objects").server() as server:
        await server.end()
        await server.archive.move_all()
        assert server.said() == SAID
        assert await server.object("a1/messages.jsonl") is None


@pytest.mark.parametrize("point", ["put audio", "noted", "erased here", "put result"])
async def test_a_server_that_dies_in_between_loses_nothing_and_the_next_one_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    await dies(world, monkeypatch, point)


@pytest.mark.parametrize("point", ["put messages", "noted messages"])
async def test_so_it_is_where_it_dies_while_messages_are_moved(
    shared: World, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    await dies(shared, monkeypatch, point)


async def dies(world: World, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Have a server die at a point, and another one go on; look at what is kept where."""

    class Dying(ObjectStore):
        async def put(self, key: str, source: Path | bytes, media_type: str) -> int:
            size = await super().put(key, source, media_type)
            if point == f"put {key.partition('/')[2].partition('.')[0]}":
                raise Died
            return size

    async with world.server(Dying) as server:
        await server.end()
        if point == "noted":
            monkeypatch.setattr(server.journal, "erase_audio", _die)
        elif point == "noted messages":
            monkeypatch.setattr(server.journal, "erase_messages", _die)
        elif point == "erased here":
            monkeypatch.setattr(server, "render", _die)
            monkeypatch.setattr(server.archive, "_render", _die)
        with pytest.raises(Died):
            await server.archive.move_all()
        assert server.kept() == (point in ("put audio", "noted"))
        assert server.said() == SAID
    async with world.server() as server:
        await server.archive.move_all()
        assert server.said() == SAID
        assert server.journal.movable_messages("a1") == []
        assert samples_of(await server.object("a1/audio.flac")) == PCM
        assert await server.object("a1/result.json") is not None
        assert not server.kept()
        server.database.delete_session("a1")
        assert await server.archive.erase("a1")
        for name in ("audio.flac", "messages.jsonl", "result.json"):
            assert await server.object(f"a1/{name}") is None


def _die(*_: Any) -> Any:
    raise Died


async def test_nothing_is_erased_while_the_store_does_not_take_it_and_it_is_tried_again(
    world: World,
) -> None:
    class Away(ObjectStore):
        is_away = True

        async def put(self, key: str, source: Path | bytes, media_type: str) -> int:
            if self.is_away:
                raise StorageError("The object store is away.", code="objects")
            return await super().put(key, source, media_type)

    async with world.server(Away) as server:
        await server.end()
        with pytest.raises(StorageError, match="away"):
            await server.archive.move_all()
        assert server.kept()
        server.store.is_away = False  # type: ignore[attr-defined]
        await server.archive.move_all()
        assert server.kept(), "it is not due yet"
        server.now += RETRY_AFTER
        await server.archive.move_all()
        assert not server.kept()
        assert samples_of(await server.object("a1/audio.flac")) == PCM


async def test_sessions_that_were_over_before_there_was_a_store_are_moved_from_the_next_start_on(
    world: World,
) -> None:
    async with world.server() as server:
        server.database.moves_finished = False
        await server.end("a1")
        await server.end("b2")
        server.database.moves_finished = True
        await server.end("c3")
        server.rows.catch_up()
        await server.archive.move_all()
        for name in ("a1", "b2", "c3"):
            assert not server.kept(name)
            assert await server.object(f"{name}/result.json") is not None


async def test_what_a_server_without_a_store_has_erased_is_erased_there(world: World) -> None:
    async with world.server() as server:
        await server.end()
        await server.archive.move_all()
        with server.database.transaction(writes=True) as connection:  # as a version does that knows of none
            connection.execute(sessions.delete().where(sessions.c.id == "a1"))
        server.rows.catch_up()
        await server.archive.erase_all()
        assert await server.object("a1/audio.flac") is None
        assert server.nothing_is_known()


async def test_names_and_corrections_are_in_the_result_there(world: World) -> None:
    async with world.server() as server:
        await server.end()
        await server.archive.move_all()
        await server.database.call(server.database.set_names, "a1", {"S1": "Anna"})
        server.now = 4e9
        await server.archive.move_all()
        result = json.loads(await server.object("a1/result.json") or b"")
        assert result["names"] == {"S1": "Anna"}
        assert await server.audio() is not None


# Erasing ----------------------------------------------------------------------------------------------


async def test_what_is_erased_is_erased_there_also_when_the_store_is_away_at_first(world: World) -> None:
    class Stubborn(ObjectStore):
        is_stubborn = True

        async def erase(self, key: str) -> None:
            if self.is_stubborn:
                raise StorageError("The object store is away.", code="objects")
            await super().erase(key)

    async with world.server(Stubborn) as server:
        await server.end("a1")
        await server.end("b2")
        await server.archive.move_all()
        server.database.delete_session("a1")
        assert not await server.archive.erase("a1")
        doomed = len(server.names)
        assert server.rows.count()["doomed"] == doomed
        with pytest.raises(StorageError):
            await server.archive.erase_all()
        assert server.counted == {"waiting": 0, "doomed": doomed}, "which an alert looks at"
    async with world.server() as server:
        server.now += RETRY_AFTER
        await server.archive.erase_all()
        for name in server.names:
            assert await server.object(f"a1/{name}") is None
            assert await server.object(f"b2/{name}") is not None
        assert server.rows.count()["doomed"] == 0
        assert await server.archive.erase("a1"), "there is nothing left of it"


async def test_audio_that_is_old_goes_and_the_result_stays(world: World) -> None:
    async with world.server() as server:
        await server.end()
        await server.archive.move_all()
        assert doom_audio_before(server.database, NOW - 11) == 0
        assert doom_audio_before(server.database, NOW) == 1
        assert await server.audio() is None
        await server.archive.erase_all()
        assert await server.object("a1/audio.flac") is None
        assert await server.object("a1/result.json") is not None
        server.rows.catch_up()
        await server.archive.move_all()
        assert doom_audio_before(server.database, NOW) == 0


class Slow(ObjectStore):
    """A store that takes its time with audio, and tells."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.began, self.may_end = asyncio.Event(), asyncio.Event()

    async def put(self, key: str, source: Path | bytes, media_type: str) -> int:
        if key.endswith(".flac"):
            self.began.set()
            await self.may_end.wait()
        return await super().put(key, source, media_type)


async def test_a_session_that_is_erased_while_it_is_moved_leaves_nothing(world: World) -> None:
    async with world.server(Slow) as server:
        store: Any = server.store
        await server.end()
        moving = asyncio.create_task(server.archive.move_all())
        await store.began.wait()
        server.journal.mark_deleted("a1")
        server.database.delete_session("a1")
        server.journal.erase("a1")
        assert not await server.archive.erase("a1"), "it is still being put there"
        store.may_end.set()
        await moving
        await server.archive.erase_all()
        for name in ("audio.flac", "result.json"):
            assert await server.object(f"a1/{name}") is None
        assert server.nothing_is_known()


async def test_audio_that_expires_while_it_is_moved_leaves_nothing(world: World) -> None:
    async with world.server(Slow) as server:
        store: Any = server.store
        await server.end()
        moving = asyncio.create_task(server.archive.move_all())
        await store.began.wait()
        assert server.journal.erase_audio("a1")
        assert doom_audio_before(server.database, NOW) == 1
        store.may_end.set()
        await moving
        await server.archive.erase_all()
        assert await server.object("a1/audio.flac") is None
        assert await server.object("a1/result.json") is not None


async def test_what_is_in_another_store_is_left_alone_and_said(tmp_path: Path) -> None:
    world = World(tmp_path, None, f"file://{tmp_path}/first")
    async with world.server() as server:
        await server.end()
        await server.archive.move_all()
    world.objects_url = f"file://{tmp_path}/second"
    async with world.server() as server:
        assert await server.audio() is None
        assert other_stores(server.database, world.objects_url) == {f"file://{tmp_path}/first": 2}
        await server.end("b2")
        await server.archive.move_all()
        server.database.delete_session("a1")
        assert not await server.archive.erase("a1")
        assert server.rows.count()["doomed"] == 2
    world.objects_url = f"file://{tmp_path}/first"
    async with world.server() as server:
        assert other_stores(server.database, world.objects_url) == {f"file://{tmp_path}/second": 2}
        await server.archive.erase_all()
        assert await server.object("a1/audio.flac") is None
        assert server.rows.count()["doomed"] == 0


async def test_what_was_said_that_is_in_another_store_is_not_taken_for_nothing(shared: World) -> None:
    async with shared.server() as server:
        await server.end()
        await server.archive.move_all()
    first, shared.objects_url = shared.objects_url, f"file://{shared.folder}/second"
    async with shared.server() as server:
        with pytest.raises(StorageError, match=f"is in {first}, which storage.objects does not name"):
            server.said()


async def test_what_was_said_that_is_nowhere_is_not_taken_for_nothing(shared: World) -> None:
    async with shared.server() as server:
        await server.end()
        server.journal.erase_messages("a1", len(SAID))
        with pytest.raises(StorageError, match="is not in the database"):
            server.said()


# Several servers --------------------------------------------------------------------------------------


async def test_two_servers_share_the_work_and_each_session_is_moved_once(shared: World) -> None:
    puts: list[str] = []

    class Counting(ObjectStore):
        async def put(self, key: str, source: Path | bytes, media_type: str) -> int:
            puts.append(key)
            return await super().put(key, source, media_type)

    async with shared.server(Counting) as one, shared.server(Counting) as other:
        names = [f"s{number}" for number in range(8)]
        for name in names:
            await one.end(name)
        await asyncio.gather(one.archive.move_all(), other.archive.move_all())
        wanted = [f"{name}/{kind}" for name in names for kind in one.names]
        assert sorted(puts) == sorted(wanted)
        for name in names:
            assert samples_of(await other.object(f"{name}/audio.flac")) == PCM
            assert not other.kept(name)


async def test_what_a_server_was_at_that_is_gone_is_moved_by_another_and_the_first_does_no_harm(
    shared: World,
) -> None:
    async with shared.server(Slow) as frozen, shared.server() as other:
        store: Any = frozen.store
        await frozen.end()
        moving = asyncio.create_task(frozen.archive.move_all())
        await store.began.wait()
        await other.archive.move_all()
        assert other.kept(), "it is another server's, which is there"
        assert frozen.database.gateway is not None
        with frozen.database.transaction(writes=True) as connection:
            frozen.database.gateway.leave(connection)
        await other.archive.move_all()
        assert not other.kept()
        store.may_end.set()
        await moving
        assert samples_of(await other.object("a1/audio.flac")) == PCM
        assert await other.object("a1/result.json") is not None
        audio = await frozen.audio()
        assert audio is not None and audio.size_bytes == await other.store.size_of("a1/audio.flac")


@pytest.mark.parametrize("look", [1, 2])
async def test_audio_that_another_has_moved_meanwhile_does_not_look_erased(
    shared: World, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    async with shared.server() as frozen, shared.server() as other:
        await frozen.end()
        kept_audio, looks = frozen.journal.kept_audio, 0
        began, may_go_on = threading.Event(), threading.Event()

        def slowly(name: str) -> Any:
            nonlocal looks
            looks += 1
            if looks == look:
                began.set()
                assert may_go_on.wait(30)
            return kept_audio(name)

        monkeypatch.setattr(frozen.journal, "kept_audio", slowly)
        moving = asyncio.create_task(frozen.archive.move_all())
        assert await asyncio.to_thread(began.wait, 30)
        assert frozen.database.gateway is not None
        with frozen.database.transaction(writes=True) as connection:
            frozen.database.gateway.leave(connection)
        await other.archive.move_all()
        may_go_on.set()
        await moving
        await other.archive.erase_all()
        assert samples_of(await other.object("a1/audio.flac")) == PCM
        assert await other.audio() is not None
        assert other.rows.count() == {"waiting": 0, "doomed": 0}


async def test_a_server_that_comes_back_after_its_session_was_erased_leaves_nothing(shared: World) -> None:
    async with shared.server(Slow) as frozen, shared.server() as other:
        store: Any = frozen.store
        await frozen.end()
        moving = asyncio.create_task(frozen.archive.move_all())
        await store.began.wait()
        assert frozen.database.gateway is not None
        with frozen.database.transaction(writes=True) as connection:
            frozen.database.gateway.leave(connection)
        other.database.delete_session("a1")
        assert await other.archive.erase("a1")
        store.may_end.set()
        await moving
        assert await other.object("a1/audio.flac") is None
        assert other.nothing_is_known()
