"""A network that says nothing: audio is held, the connection is given up in time and made again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from scripted_peer import READY, WINDOW_BYTES, Peer, final, peer

from benchmarks.cutting import proxy
from live_asr.client import LiveSession, Reconnecting, Resumed, SessionMessage, connect
from live_asr.client.resuming import HELD_BYTES
from live_asr.core.messages import Ack, Final, Start, Stopped

SOON = 0.8
"""Seconds after which a connection over which nothing comes is lost here."""


class Server:
    """What a server has on disk, over all connections: audio that it acknowledges as it comes."""

    def __init__(self) -> None:
        self.audio = bytearray()
        self.connections = 0

    async def serve(self, peer: Peer) -> None:
        self.connections += 1
        assert isinstance(await peer.message(), Start)
        await peer.say(replace(READY, received_bytes=len(self.audio)))
        while isinstance(frame := await peer.socket.recv(), bytes):
            self.audio += frame
            await peer.say(Ack(len(self.audio)))
        await peer.finish()


def sound(size_bytes: int) -> bytes:
    return bytes(index % 251 for index in range(size_bytes))


async def heard(session: LiveSession) -> list[SessionMessage]:
    return [message async for message in session if not isinstance(message, Ack)]


async def test_live_audio_is_held_when_the_window_is_full_and_nobody_who_speaks_waits() -> None:
    sent = sound(3 * WINDOW_BYTES)
    received: list[bytes] = []
    full = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.open()
        # Frames that do not fit in whole wait, so the last one before the window's end may be left out.
        await peer.audio_of(WINDOW_BYTES - 9_999)
        await full.wait()
        assert len(peer.audio) <= WINDOW_BYTES
        acked = 0
        while len(peer.audio) < len(sent):
            acked = len(peer.audio)
            await peer.say(Ack(acked))
            await peer.audio_of(min(acked + 10_000, len(sent)))
            assert len(peer.audio) - acked <= WINDOW_BYTES
        received.append(bytes(peer.audio))
        await peer.message()
        await peer.finish()

    async with peer(script) as url, connect(url) as session:
        for first in range(0, len(sent), 10_000):
            await session.send(sent[first : first + 10_000])
        full.set()
        await session.stop()
    assert received == [sent]


async def test_a_live_session_in_a_silent_network_is_taken_up_again_and_nothing_is_lost() -> None:
    server, sent = Server(), sound(WINDOW_BYTES * 3)
    step = len(sent) // 60
    async with (
        peer(server.serve) as url,
        proxy(url) as between,
        connect(between.url, lost_after=SOON) as session,
    ):
        reading = asyncio.create_task(heard(session))
        for first in range(0, len(sent), step):
            if first == 10 * step:
                between.silence()
            await session.send(sent[first : first + step])
            await asyncio.sleep(2 * SOON / 60)  # a microphone's clock
        await session.stop()
        messages = await reading
    lost, resumed, *_, final = messages
    assert isinstance(lost, Reconnecting)
    assert "has said nothing" in lost.reason
    assert isinstance(resumed, Resumed)
    assert isinstance(final, Final)
    assert server.connections == 2
    assert server.audio == sent


async def test_a_server_that_does_not_answer_who_comes_back_is_given_up_and_tried_again() -> None:
    server = Server()

    async def script(peer: Peer) -> None:
        if server.connections == 1:
            server.connections += 1
            await peer.socket.wait_closed()  # `ready` never comes
            return
        if server.connections == 0:
            server.connections += 1
            await peer.open()
            peer.socket.transport.abort()
            return
        await server.serve(peer)

    async with peer(script) as url, connect(url, lost_after=SOON / 4) as session:
        await session.send(sound(100))
        await session.stop()
        assert [type(message) for message in await heard(session)][:2] == [Reconnecting, Resumed]
    assert server.connections == 3
    assert server.audio == sound(100)


async def test_a_server_that_does_not_answer_who_waits_for_the_result_is_tried_again() -> None:
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.message()
        if connections == 1:
            await peer.say(READY)
            await peer.message()
            await peer.say(Stopped(1, 1.0, ""))
            await peer.socket.close(1012)
        elif connections == 2:
            await peer.socket.wait_closed()
        else:
            await peer.say(replace(READY, last_seq=1), final(2))
            await peer.socket.close(1000)

    async with peer(script) as url, connect(url, lost_after=SOON / 4) as session:
        assert await session.stop() == final(2)
    assert connections == 3


async def test_a_file_whose_network_takes_no_more_is_sent_over_another_connection() -> None:
    server, sent = Server(), bytes(2**25)
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        if server.connections > 0:
            await server.serve(peer)
            return
        server.connections += 1
        await peer.message()
        await peer.say(replace(READY, max_unacked_bytes=2 * len(sent)))
        await over.wait()  # without reading anything
        peer.socket.transport.abort()

    async with peer(script) as url, connect(url, pace="fast", lost_after=SOON) as session:
        try:
            await session.send(sent)
            await session.stop()
        finally:
            over.set()
    assert server.connections == 2
    assert server.audio == sent


async def answers_late(session: LiveSession) -> None:
    """The program, or the machine, stands still; what the server says meanwhile waits to be read."""
    await session.send(sound(100))
    time.sleep(3 * SOON)  # noqa: ASYNC251  that is the point


async def says_nothing(session: LiveSession) -> None:
    """Nobody speaks for a while, so the server has nothing to say either."""
    await session.send(sound(100))
    while session.in_flight_bytes:
        assert isinstance(await anext(session), Ack)
    await asyncio.sleep(3 * SOON)


@pytest.mark.parametrize("behaves", [answers_late, says_nothing])
async def test_a_connection_that_is_only_quiet_is_kept(
    behaves: Callable[[LiveSession], Awaitable[None]],
) -> None:
    server = Server()
    async with peer(server.serve) as url, connect(url, lost_after=SOON) as session:
        await behaves(session)
        await session.stop()
    assert server.connections == 1


async def test_a_file_at_the_pace_of_speech_waits_where_a_microphone_would_be_refused() -> None:
    server = Server()
    absent = True

    async def script(peer: Peer) -> None:
        if absent:
            await peer.open()
            peer.socket.transport.abort()
            return
        await server.serve(peer)

    async with peer(script) as url, connect(url) as session:
        assert isinstance(await anext(session), Reconnecting)
        await session.send(bytes(HELD_BYTES))
        waiting = asyncio.create_task(session.send(sound(10), may_wait=True))
        await asyncio.sleep(0)
        assert not waiting.done()
        absent = False
        await waiting
        await session.stop()
    assert server.audio == bytes(HELD_BYTES) + sound(10)
