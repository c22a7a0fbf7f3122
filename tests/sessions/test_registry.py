"""All sessions of a server with scripted models, a real disk and database: resumed, left behind, taken up."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from live_asr.core.errors import ClientError, Unavailable
from live_asr.core.messages import Resume, Stop
from live_asr.sessions import admission
from tests.sessions.registering import START, TIMEOUT, Client, eventually, gone_on, running, text_of
from tests.sessions.scripted_engine import SECOND_BYTES, SECONDS, TEXT, pcm


async def test_a_session_that_is_taken_up_has_its_client_s_place_and_the_bounds_of_any(
    tmp_path: Path,
) -> None:
    ours = admission.Client("a1")
    async with running(tmp_path) as server:
        first = Client(await server.registry.open(START, ours))
        first.runner.receive_audio(pcm()[:SECOND_BYTES])
        await first.until("ack")
    async with running(tmp_path) as server:
        await server.has(first.opened.id)
        with pytest.raises(Unavailable, match="token"):
            server.registry.admit(START, ours)  # of two places one token has one
        server.registry.admit(START, admission.Client("b2"))
        second = Client(await server.registry.resume(first.resume()))
        assert second.runner._limits == await server.registry.limits_of(ours)
        second.runner.receive(Stop())
        await second.until("final")
        await server.done(first.opened.id)
        server.registry.admit(START, ours)


async def test_a_lost_client_takes_its_session_up_and_hears_all_of_it_once(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(pcm()[: 3 * SECOND_BYTES])
        await first.until("commit")
        first.runner.lose_client(first.opened.outbox)
        await first.ended()
        second = Client(await server.registry.resume(first.resume()))
        assert second.opened.received_bytes == 3 * SECOND_BYTES
        second.runner.receive_audio(pcm()[3 * SECOND_BYTES :])
        second.runner.receive(Stop())
        final = await second.until("final")
        assert await second.ended() == 1000
    assert text_of(first, second) == TEXT
    assert final["duration"] == SECONDS


def copy_as_left_by_a_kill(now: Path, later: Path) -> None:
    # Files that are about to replace others come and go while this copies.
    shutil.copytree(now, later, ignore=shutil.ignore_patterns("*.new"))


@pytest.mark.parametrize("seconds", [0.0, 0.4, 1.9, 2.6, 4.1, SECONDS])
async def test_whatever_instant_a_server_dies_at_the_next_one_goes_on_there(
    tmp_path: Path, seconds: float
) -> None:
    now, later = tmp_path / "now", tmp_path / "later"
    sent = pcm()[: int(seconds * 16_000) * 2]
    async with running(now) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(sent)
        await eventually(lambda: first.runner.session.lag().received >= seconds - 0.1)
        heard = first.resume()
        acknowledged = max((m["bytes"] for m in first.heard if m["type"] == "ack"), default=0)
        count = len(first.kept)
        await asyncio.to_thread(copy_as_left_by_a_kill, now, later)
    del first.heard[first.heard.index(first.kept[count - 1]) + 1 if count else 0 :]
    async with running(later) as heir:
        await heir.has(first.opened.id)
        second = Client(await heir.registry.resume(heard))
        received = second.opened.received_bytes
        assert acknowledged <= received <= len(sent)
        second.runner.receive_audio(pcm()[received:])
        second.runner.receive(Stop())
        final = await second.until("final")
        await heir.done(first.opened.id)
        assert len(await asyncio.to_thread(heir.database.deliveries)) == 1
    assert text_of(first, second) == TEXT
    assert final["duration"] == SECONDS


async def test_a_session_whose_client_never_comes_back_ends_by_itself_and_is_told_of_once(
    tmp_path: Path,
) -> None:
    now, later = tmp_path / "now", tmp_path / "later"
    async with running(now) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(pcm())
        await first.until("commit")
        await eventually(lambda: first.runner.spool.safe_bytes == len(pcm()))
        await asyncio.to_thread(copy_as_left_by_a_kill, now, later)
    for _ in range(2):  # the second run finds nothing to do
        async with running(later, window=0.1) as heir:
            await heir.done(first.opened.id)
            assert await asyncio.to_thread(heir.state, first.opened.id) == "done"
            assert len(await asyncio.to_thread(heir.database.deliveries)) == 1
            record = Client(await heir.registry.resume(first.resume(0)))
            assert await record.ended() == 1000
            assert text_of(record) == TEXT
            assert record.opened.received_bytes == len(pcm())


async def test_a_server_that_is_told_to_end_leaves_its_sessions_to_the_next_one(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(pcm()[: 4 * SECOND_BYTES])
        await first.until("commit")
        await server.registry.drain(TIMEOUT)
        assert await first.ended() == 1012
        with pytest.raises(Unavailable, match="shutting down"):
            await server.registry.resume(first.resume())
        assert await asyncio.to_thread(server.state, first.opened.id) == "open"
    async with running(tmp_path) as heir:
        second = await gone_on(heir, first)
    assert text_of(first, second) == TEXT


async def test_a_session_that_waits_keeps_its_place(tmp_path: Path) -> None:
    async with running(tmp_path, window=1.0) as server:
        clients = [Client(await server.registry.open(START)) for _ in range(2)]
        for client in clients:
            client.runner.lose_client()
        with pytest.raises(Unavailable) as refusal:
            await server.registry.open(START)
        assert refusal.value.code == "server_full"
        for client in clients:
            await server.done(client.opened.id)
        assert server.registry.has_room


async def test_strangers_and_those_who_claim_too_much_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = Client(await server.registry.open(START))
        mine = client.resume()
        for wanted in (Resume(mine.session, "another"), Resume("nobody", mine.token), Resume("../a", "b")):
            with pytest.raises(ClientError) as refusal:
                await server.registry.resume(wanted)
            assert refusal.value.code == "session_unknown"
        with pytest.raises(ClientError, match="last_seq") as claimed:
            await server.registry.resume(client.resume(7))
        assert claimed.value.close_code == 1007
        assert client.runner.outbox is client.opened.outbox, "nobody was disturbed"
        assert mine.token not in (tmp_path / "sessions" / mine.session / "session.json").read_text()
