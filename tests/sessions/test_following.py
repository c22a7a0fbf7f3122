"""Who watches at another server than their session's: what is kept comes as it is kept, and once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from live_asr.core.messages import Stop
from live_asr.sessions.archive import Archive
from live_asr.sessions.audience import Viewers
from live_asr.sessions.following import Following
from live_asr.storage.objects import ObjectStore
from tests.postgres import new_database, postgres
from tests.sessions.registering import START, TIMEOUT, Client, Server, eventually, running
from tests.sessions.scripted_engine import SECOND_BYTES, TEXT, pcm


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
async def pair(tmp_path: Path, server: str) -> AsyncIterator[tuple[Server, Server]]:
    url = new_database(server)
    async with running(tmp_path / "one", url=url) as one, running(tmp_path / "other", url=url) as other:
        yield one, other


class Watching:
    """One who watches, with all that has come."""

    def __init__(self, desk: Viewers, session_id: str) -> None:
        self._desk = desk
        self._session_id = session_id
        self.got = b""

    async def until(self, text: bytes | None) -> None:
        """Read on until this has come; None: until the stream ends."""
        viewer = await self._desk.watch(self._session_id, max(self.ids, default=0))
        assert viewer is not None
        try:
            async with asyncio.timeout(TIMEOUT):
                while text is None or text not in self.got:
                    chunk = await viewer.get()
                    if chunk is None:
                        assert text is None, self.got
                        return
                    self.got += chunk
        finally:
            viewer.leave()

    @property
    def ids(self) -> list[int]:
        return [int(found) for found in re.findall(rb"^id: (\d+)$", self.got, re.MULTILINE)]

    @property
    def text(self) -> str:
        events = [json.loads(found) for found in re.findall(rb"^data: (.*)$", self.got, re.MULTILINE)]
        return "".join(event["text"] for event in events if event["type"] == "commit")


@asynccontextmanager
async def desk_at(server: Server) -> AsyncIterator[tuple[Viewers, Following]]:
    following = Following(server.registry.audience_of, server.store, server.database)
    ended = asyncio.Event()

    async def read() -> None:
        while not ended.is_set():
            await following.read_on()
            await asyncio.sleep(0.01)

    seen = server.registry.audience_of, server.store, server.database
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        yield Viewers(*seen, most=10, following=following), following
        ended.set()


async def test_commits_come_to_another_server_s_viewers_as_they_are_kept_up_to_the_end(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    client = Client(await one.registry.open(START))
    session_id = client.opened.id
    async with desk_at(other) as (desk, following):
        watching = Watching(desk, session_id)
        client.runner.receive_audio(pcm()[: 3 * SECOND_BYTES])
        await client.until("commit")
        ending = asyncio.create_task(watching.until(None))
        await watching_has(watching, b'"type":"commit"')
        assert following.audience_of(session_id) is not None and not ending.done()
        await one.database.call(one.database.set_names, session_id, {"S1": "Ada"})
        await watching_has(watching, b'"names":{"S1":"Ada"}')
        client.runner.receive_audio(pcm()[3 * SECOND_BYTES :])
        client.runner.receive(Stop())
        await client.until("final")
        await ending
        assert watching.got.rstrip().rpartition(b"\n")[2].startswith(b'data: {"type":"final"')
        assert watching.ids == [message["seq"] for message in client.kept]
        assert watching.text == TEXT
        assert following.audience_of(session_id) is None, "it is over"
        assert await desk.watch(session_id, watching.ids[-1]) is None


async def test_what_went_to_the_object_store_before_another_server_looked_comes_from_there(
    tmp_path: Path, server: str
) -> None:
    url, store = new_database(server), ObjectStore(f"file://{tmp_path}/objects")
    async with running(tmp_path / "one", url=url) as one, running(tmp_path / "other", url=url) as other:
        for place in (one, other):
            place.database.moves_finished = True
            place.store._objects = store
        client = Client(await one.registry.open(START))
        session_id = client.opened.id
        following = Following(other.registry.audience_of, other.store, other.database)
        desk = Viewers(
            *(other.registry.audience_of, other.store, other.database), most=10, following=following
        )
        watching = Watching(desk, session_id)
        client.runner.receive_audio(pcm()[: 3 * SECOND_BYTES])
        await client.until("commit")
        ending = asyncio.create_task(watching.until(None))
        await watching_has(watching, b'"type":"commit"')
        client.runner.receive_audio(pcm()[3 * SECOND_BYTES :])
        client.runner.receive(Stop())
        await client.until("final")

        async def render(_: str) -> str:
            return "{}"

        await Archive(store, one.store, one.database, render=render).move_all()
        assert one.store.movable_messages(session_id) == []
        await following.read_on()
        await ending
        assert watching.ids == [message["seq"] for message in client.kept]
        assert watching.text == TEXT


async def test_a_store_that_is_away_ends_the_streams_of_what_is_in_it_and_no_others(
    tmp_path: Path, server: str
) -> None:
    url, store = new_database(server), ObjectStore(f"file://{tmp_path}/objects")
    async with running(tmp_path / "one", url=url) as one, running(tmp_path / "other", url=url) as other:
        one.database.moves_finished = True
        one.store._objects = store
        over, live = Client(await one.registry.open(START)), Client(await one.registry.open(START))
        following = Following(other.registry.audience_of, other.store, other.database)
        desk = Viewers(
            *(other.registry.audience_of, other.store, other.database), most=10, following=following
        )
        ending, going_on = Watching(desk, over.opened.id), Watching(desk, live.opened.id)
        streams = [asyncio.create_task(ending.until(None)), asyncio.create_task(going_on.until(b"commit"))]
        await eventually(lambda: bool(following.audience_of(live.opened.id)))
        await eventually(lambda: bool(following.audience_of(over.opened.id)))
        over.runner.receive_audio(pcm())
        over.runner.receive(Stop())
        await over.until("final")

        async def render(_: str) -> str:
            return "{}"

        await Archive(store, one.store, one.database, render=render).move_all()
        live.runner.receive_audio(pcm()[: 3 * SECOND_BYTES])
        await live.until("commit")
        await following.read_on()  # of a server for which there is no store
        await asyncio.gather(*streams)
        assert b'"type":"commit"' in going_on.got


async def test_who_watches_a_session_that_comes_to_their_server_sees_it_live_from_where_they_were(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    first = Client(await one.registry.open(START))
    session_id = first.opened.id
    async with desk_at(other) as (desk, following):
        watching = Watching(desk, session_id)
        first.runner.receive_audio(pcm()[: 3 * SECOND_BYTES])
        await first.until("commit")
        followed = asyncio.create_task(watching.until(None))
        await watching_has(watching, b'"type":"commit"')
        second = Client(await other.registry.resume(first.resume()))
        await followed
        assert following.audience_of(session_id) is None
        live = asyncio.create_task(watching.until(b'"type":"final"'))
        second.runner.receive_audio(pcm()[second.opened.received_bytes :])
        second.runner.receive(Stop())
        await live
        assert watching.ids == list(range(1, watching.ids[-1] + 1)), "none is missing or comes twice"
        assert watching.text == TEXT


async def test_a_session_that_is_erased_or_that_nobody_watches_is_followed_no_more(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    client = Client(await one.registry.open(START))
    session_id = client.opened.id
    async with desk_at(other) as (desk, following):
        client.runner.receive_audio(pcm())
        await client.until("commit")
        watching = Watching(desk, session_id)
        await watching.until(b'"type":"commit"')
        async with asyncio.timeout(TIMEOUT):
            while following.audience_of(session_id) is not None:  # noqa: ASYNC110 — nobody is told
                await asyncio.sleep(0.01)
        ending = asyncio.create_task(watching.until(None))
        async with asyncio.timeout(TIMEOUT):
            while following.audience_of(session_id) is None:  # noqa: ASYNC110 — likewise
                await asyncio.sleep(0.01)
        assert await one.registry.erase(session_id)
        await ending
        with pytest.raises(KeyError):
            await desk.watch(session_id, 0)


async def watching_has(watching: Watching, text: bytes) -> None:
    async with asyncio.timeout(TIMEOUT):
        while text not in watching.got:  # noqa: ASYNC110 — what is looked at tells nobody that it has changed
            await asyncio.sleep(0.01)
