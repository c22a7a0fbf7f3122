"""Two registries that share a PostgreSQL: wherever a client comes it has its session and all of its words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from live_asr.core.errors import ClientError, Unavailable
from live_asr.core.messages import Resume, Stop
from live_asr.sessions import admission
from live_asr.sessions.resume import OpenSession
from tests.postgres import new_database, postgres
from tests.sessions.registering import START, Client, Server, eventually, running, text_of
from tests.sessions.scripted_engine import SECOND_BYTES, TEXT, pcm


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def url(server: str) -> str:
    return new_database(server)


async def test_a_client_that_goes_from_one_to_the_other_and_back_has_all_of_its_words(
    tmp_path: Path, url: str
) -> None:
    async with running(tmp_path / "one", url=url) as one, running(tmp_path / "other", url=url) as other:
        first = Client(await one.registry.open(START))
        first.runner.receive_audio(pcm()[: 2 * SECOND_BYTES])
        await first.until("commit")
        second = Client(await other.registry.resume(first.resume()))
        at = second.opened.received_bytes
        assert at == 2 * SECOND_BYTES
        second.runner.receive_audio(pcm()[at : 4 * SECOND_BYTES])
        await second.until("commit")
        third = Client(await one.registry.resume(second.resume()))
        assert third.opened.received_bytes == 4 * SECOND_BYTES
        assert third.runner is not first.runner
        third.runner.receive_audio(pcm()[4 * SECOND_BYTES :])
        third.runner.receive(Stop())
        assert (await third.until("final"))["text"] == TEXT
        assert (await first.ended(), first.heard[-1]["code"]) == (1013, "loading")
        assert (await second.ended(), second.heard[-1]["code"]) == (1013, "loading")
        await other.done(first.opened.id)
        assert len(other.database.deliveries()) == 1
        heard = {message["seq"]: message for client in (first, second, third) for message in client.kept}
        kept = [heard[seq] for seq in sorted(heard)]
        assert list(heard) == sorted(heard) == list(range(1, len(kept) + 1)), "none is missing or comes twice"
        assert "".join(message["text"] for message in kept if message["type"] == "commit") == TEXT


async def test_a_session_that_has_stopped_is_finished_where_its_client_comes_to(
    tmp_path: Path, url: str
) -> None:
    async with running(tmp_path / "one", url=url) as one:
        first = Client(await one.registry.open(START))
        first.runner.receive_audio(pcm())
        first.runner.receive(Stop())
        await first.until("final")
        await first.ended()
        async with running(tmp_path / "other", url=url) as other:
            second = Client(await other.registry.resume(first.resume(0)))
            await second.ended()
            assert text_of(second) == TEXT


async def test_sessions_of_a_server_that_ends_are_brought_to_their_end_by_the_other(
    tmp_path: Path, url: str
) -> None:
    async with running(tmp_path / "other", window=0.1, url=url) as other:
        async with running(tmp_path / "one", url=url) as one:
            first = Client(await one.registry.open(START))
            first.runner.receive_audio(pcm())
            await eventually(lambda: first.runner.spool.safe_bytes == len(pcm()))
        await other.done(first.opened.id)
        stored = other.database.session(first.opened.id)
        assert stored is not None and (stored.state, stored.duration) == ("done", 6.0)


async def test_a_session_whose_server_dies_as_it_tells_the_end_is_ended_once_by_the_other(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "other", url=url) as other:
        async with running(tmp_path / "one", url=url) as one:
            finish = one.database.finish_session

            def die(*args: Any, check: Callable[[Connection], None], **kwargs: Any) -> None:
                def check_and_die(connection: Connection) -> None:
                    check(connection)
                    raise KeyError("the server dies here")

                finish(*args, check=check_and_die, **kwargs)

            monkeypatch.setattr(one.database, "finish_session", die)
            first = Client(await one.registry.open(START))
            first.runner.receive_audio(pcm())
            first.runner.receive(Stop())
            await first.ended()
            kept = [json.loads(line)["type"] for line in one.store.messages(first.opened.id)]
            assert (kept[-1], first.kept[-1]["type"]) == ("stopped", "stopped")
        await other.done(first.opened.id)
        second = Client(await other.registry.resume(first.resume()))
        await second.ended()
        assert text_of(first, second) == TEXT
        assert [message["type"] for message in second.kept] == ["final"]
        assert len(other.database.deliveries()) == 1


async def test_a_wrong_token_takes_nothing_over(tmp_path: Path, url: str) -> None:
    async with running(tmp_path / "one", url=url) as one, running(tmp_path / "other", url=url) as other:
        first = Client(await one.registry.open(START))
        first.runner.receive_audio(pcm())
        with pytest.raises(ClientError, match="no session that this token"):
            await other.registry.resume(Resume(first.opened.id, "wrong", 0))
        first.runner.receive(Stop())
        assert (await first.until("final"))["text"] == TEXT


async def opened(server: Server, owner: str) -> OpenSession | None:
    """Open a session of a token; None where it has as many as it may have."""
    try:
        return await server.registry.open(START, admission.Client(owner))
    except Unavailable as refused:
        assert (refused.code, refused.retry_after) == ("server_full", 15.0)
        return None


async def test_a_token_has_as_many_places_as_the_operator_says_at_all_servers_together(
    tmp_path: Path, url: str
) -> None:
    flags = {"max_sessions": 8, "max_sessions_per_client": 3}
    async with (
        running(tmp_path / "one", url=url, **flags) as one,
        running(tmp_path / "other", url=url, **flags) as other,
    ):
        first = await opened(one, "ann")
        assert first is not None
        assert await opened(other, "ann.made") is not None, "counted with its maker"
        assert await opened(other, "annabel") is not None, "counted for herself"
        both = await asyncio.gather(opened(one, "ann"), opened(other, "ann"))
        assert sum(session is not None for session in both) == 1, "one place was left"
        for server in (one, other):
            assert await opened(server, "ann") is None
        kept = {stored.id for stored in one.database.unfinished()}
        assert len(kept) == 4 and kept == {*one.registry._live, *other.registry._live}
        first.runner.receive_audio(pcm())
        first.runner.receive(Stop())
        await one.done(first.id)
        assert await opened(other, "ann") is not None
        assert await opened(one, "ann") is None


async def test_what_a_session_has_cost_its_token_counts_at_all_servers_and_once(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_asr.sessions.registry.NOTE_INTERVAL", 0.01)
    flags = {"token_hours_per_day": 1.0}
    ann = admission.Client("ann")
    async with (
        running(tmp_path / "one", url=url, **flags) as one,
        running(tmp_path / "other", url=url, **flags) as other,
    ):

        async def left(server: Server) -> float | None:
            return (await server.registry.limits_of(ann)).seconds

        async def until(server: Server, seconds: float) -> None:
            async with asyncio.timeout(30):
                while await left(server) != seconds:
                    pass

        first = await one.registry.open(START, ann)
        first.runner.receive_audio(pcm())
        await until(one, 3594.0)
        await until(other, 3594.0)
        first.runner.receive(Stop())
        await one.done(first.id)
        assert await left(one) == await left(other) == 3594.0
        second = await one.registry.open(START, ann)
        second.runner.receive_audio(pcm())
        await until(other, 3588.0)
        assert await other.registry.erase(second.id), "while it goes on elsewhere"
        await eventually(lambda: one.registry.runner_of(second.id) is None)
        assert await left(one) == await left(other) == 3588.0
        assert (await one.registry.limits_of(admission.Client("bob"))).seconds == 3600.0
