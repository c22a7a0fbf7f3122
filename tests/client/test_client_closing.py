"""A client's session can be closed in whatever state it is, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from scripted_peer import READY, Peer, peer
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request

from benchmarks.cutting import proxy
from live_asr.client import LiveSession, Reconnecting, SessionFailed, connect

TIMEOUT = 30.0
"""Seconds after which something counts as hanging."""


async def closed(session: LiveSession) -> None:
    """Close it, and see that whoever reads, sends or waits is told."""
    async with asyncio.timeout(TIMEOUT):
        await session.close()
        await session.close()
        with pytest.raises(SessionFailed, match="was closed"):
            await session.send(b"1234")
        assert [m async for m in session if not isinstance(m, Reconnecting)] == []
    left = {task.get_name() for task in asyncio.all_tasks()}
    assert "live-asr session" not in left


@asynccontextmanager
async def peer_whose_door_stays_shut() -> AsyncIterator[tuple[str, asyncio.Event, asyncio.Event]]:
    """Cut the first connection, and let the second handshake wait.

    Yields the address, an event for the second knock, and one that lets it in.
    """
    knocked, let_in = asyncio.Event(), asyncio.Event()
    handshakes = 0

    async def wait(socket: ServerConnection, request: Request) -> None:
        nonlocal handshakes
        handshakes += 1
        if handshakes > 1:
            knocked.set()
            await let_in.wait()

    async def handle(socket: ServerConnection) -> None:
        one = Peer(socket)
        await one.message()
        await one.say(READY)
        if handshakes == 1:
            socket.transport.abort()
        await socket.wait_closed()

    async with serve(handle, "127.0.0.1", 0, process_request=wait, open_timeout=None) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", knocked, let_in
        let_in.set()


async def test_a_session_closed_while_it_comes_back_ends_and_takes_no_place() -> None:
    async with peer_whose_door_stays_shut() as (url, knocked, _), connect(url) as session:
        await asyncio.wait_for(knocked.wait(), TIMEOUT)
        await closed(session)


async def test_a_session_closed_while_it_comes_back_ends_though_the_server_lets_it_in() -> None:
    async with peer_whose_door_stays_shut() as (url, knocked, let_in), connect(url) as session:
        await asyncio.wait_for(knocked.wait(), TIMEOUT)
        closing = asyncio.create_task(closed(session))
        let_in.set()
        await closing


async def test_a_session_closed_before_it_was_taken_up_again_ends() -> None:
    connections = 0
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.message()
        if connections == 1:
            await peer.say(READY)
            peer.socket.transport.abort()
            return
        asked.set()
        await peer.socket.wait_closed()

    async with peer(script) as url, connect(url) as session:
        await asyncio.wait_for(asked.wait(), TIMEOUT)
        await closed(session)


async def test_a_session_closed_while_it_pauses_between_two_tries_ends() -> None:
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.open()
        peer.socket.transport.abort()

    async with peer(script) as url, connect(url) as session:
        assert isinstance(await anext(session), Reconnecting)
        before = connections
        await closed(session)
        assert connections == before


async def test_a_session_whose_network_is_silent_can_be_closed() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.socket.wait_closed()

    async with peer(script) as url, proxy(url) as between, connect(between.url) as session:
        between.silence()
        await closed(session)


@asynccontextmanager
async def stuck() -> AsyncIterator[LiveSession]:
    """A session over which somebody sends, whose network takes no more."""
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.say(replace(READY, max_unacked_bytes=10**9))
        await over.wait()  # without reading anything
        peer.socket.transport.abort()

    async with peer(script) as url, connect(url, pace="fast") as session:
        sending = asyncio.create_task(session.send(bytes(2**26)))
        while session._socket.transport.get_write_buffer_size() == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        try:
            yield session
            with pytest.raises(SessionFailed, match="was closed"):
                await asyncio.wait_for(sending, TIMEOUT)
        finally:
            over.set()


async def test_a_session_that_cannot_send_what_it_has_can_be_closed() -> None:
    async with stuck() as session:
        await closed(session)


async def test_a_session_whose_closing_is_cancelled_is_closed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("live_asr.client.connection.CLOSE_TIMEOUT", 100 * TIMEOUT)
    async with stuck() as session:
        closing = asyncio.create_task(session.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await asyncio.wait_for(session._socket.wait_closed(), TIMEOUT)
        await closed(session)
