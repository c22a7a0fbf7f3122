"""Places are not held for nothing: by who is gone, who says nothing, or who has many already."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from scripted_pass import ScriptedPass, found
from serving import Served, serving
from standing import standing
from talking import Caller, call, eventually
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from live_asr.client import connect
from live_asr.server.connections import Connections
from live_asr.sessions.admission import Client
from live_asr.storage import tables, tokens

QUIET = 3.0
"""Seconds without a frame that the server allows here."""


@pytest.fixture
async def served(tmp_path: Path, models_dir: Path) -> AsyncIterator[Served]:
    flags = {"server__idle_timeout": QUIET, "server__resume_window": 3600.0, "server__max_sessions": 2}
    async with serving(tmp_path, models_dir, ScriptedPass(found()), **flags) as served:
        yield served


async def test_a_session_without_audio_keeps_no_place_for_who_is_gone(served: Served) -> None:
    for _ in range(5):
        async with call(served.stream) as caller:
            assert (await caller.start())["type"] == "ready"
            caller.socket.transport.abort()
        await eventually(lambda: served.state.registry.has_room)


async def test_one_with_audio_does(served: Served, sample_pcm: bytes) -> None:
    async with call(served.stream) as caller:
        ready = await caller.start()
        await caller.send(sample_pcm[:32_000])
        await caller.until("ack")
        caller.socket.transport.abort()
    async with call(served.stream) as caller:
        resume = {"session": ready["session"], "token": ready["token"], "last_seq": 0}
        assert (await caller.start(resume=resume))["received_bytes"] == 32_000


async def test_a_client_that_says_nothing_is_told_and_then_let_go(served: Served, sample_pcm: bytes) -> None:
    async with call(served.stream) as caller:
        assert (await caller.start())["idle_timeout"] == QUIET
        await caller.send(sample_pcm[:16_000])
        notice = await caller.until(lambda m: m["type"] == "notice" and m["code"] == "idle")
        assert "`keepalive`" in notice["message"]
        assert await caller.closed() == 1008
        assert caller.heard[-1]["code"] == "idle"
    await eventually(lambda: served.state.registry.has_room)
    session = caller.heard[0]["session"]

    async def state() -> str:
        return str((await served.http.get(f"/v1/sessions/{session}")).json()["state"])

    async with asyncio.timeout(60):
        while await state() != "done":
            pass  # it ends as if stopped, with what was heard


@pytest.mark.parametrize("said", [b"", b'{"type":"input_audio_buffer.append","audio":"AAAA"}'])
async def test_a_realtime_client_that_says_nothing_is_told_and_let_go_with_audio_and_without(
    served: Served, said: bytes
) -> None:
    heard = []
    url = served.stream.replace("/v1/stream", "/v1/realtime?intent=transcription")
    async with asyncio.timeout(60), connect_socket(url, proxy=None) as socket:
        with suppress(ConnectionClosed):
            if said:
                await socket.send(said, text=True)
            while True:
                heard.append(json.loads(await socket.recv()))
    assert socket.close_code == 1008
    error = heard[-1]["error"]
    assert (heard[-1]["type"], error["type"], error["code"]) == ("error", "invalid_request_error", "idle")
    assert f"for {QUIET:g} seconds" in error["message"]


async def test_keepalive_holds_a_session_and_so_does_our_own_client(served: Served) -> None:
    async with call(served.stream) as caller, connect(served.url) as session:
        await caller.start()
        for count in range(1, 4):  # each time it is told that its end is near
            await caller.when(lambda count=count: warnings(caller) == count)
            await caller.say("keepalive")
        assert session.ready.idle_timeout == QUIET
        await session.stop()
        await caller.finished()


def warnings(caller: Caller) -> int:
    return sum(m["type"] == "notice" and m["code"] == "idle" for m in caller.heard)


async def test_a_pause_is_longer_than_silence_may_be(served: Served, sample_pcm: bytes) -> None:
    async with call(served.stream) as quiet, call(served.stream) as paused:
        await paused.start()
        await paused.say("pause")
        await paused.until("paused")
        await quiet.start()
        assert await quiet.closed() == 1008
        await paused.send(sample_pcm[:16_000])
        await paused.finished()


async def test_after_a_pause_silence_is_as_short_as_before(served: Served, sample_pcm: bytes) -> None:
    async with call(served.stream) as caller:
        await caller.start()
        await caller.say("pause")
        await caller.until("paused")
        await caller.send(sample_pcm[:16_000])
        assert await caller.closed() == 1008
        assert caller.heard[-1]["code"] == "idle"


async def answered(url: str) -> bytes:
    """Return what a connection of its own is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    with suppress(ConnectionError):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    try:
        return await reader.read()
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_an_address_has_no_more_connections_than_it_may(tmp_path: Path) -> None:
    bound = {"server__max_connections_per_address": 3, "server__trusted_proxies": "192.0.2.1"}
    async with standing(tmp_path, **bound) as server, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(open_socket(server.url))
        async with open_socket(server.url):
            answer = await answered(server.url)
            assert answer.startswith(b"HTTP/1.1 429 ") and b"Retry-After" in answer
        async with asyncio.timeout(60):
            while not (await answered(server.url)).startswith(b"HTTP/1.1 200"):
                pass  # until the server has noticed that one is gone


@asynccontextmanager
async def open_socket(url: str) -> AsyncIterator[None]:
    """Hold a connection that asks for nothing; the server has taken it when this begins."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        yield
    finally:
        writer.close()
        await writer.wait_closed()


class Line(asyncio.Transport):
    """A connection from an address that this machine cannot connect from."""

    def __init__(self, host: str) -> None:
        super().__init__({"peername": (host, 1, 0, 0)})
        self.answer = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.answer += data

    def close(self) -> None:
        pass


def test_a_line_s_network_counts_as_one_address() -> None:
    connections = Connections(2)
    assert connections.enter(Line("2001:db8:1:2::3")) == connections.enter(Line("2001:db8:1:2:f:e:d:c"))
    third = Line("2001:db8:1:2::4")
    assert connections.enter(third) is None
    assert third.answer.startswith(b"HTTP/1.1 429 ")
    assert connections.enter(Line("2001:db8:1:3::3"))
    assert connections.enter(Line("192.0.2.1")) == connections.enter(Line("::ffff:192.0.2.1"))
    assert connections.enter(Line("192.0.2.1")) is None


async def test_a_socket_counts_as_well_and_is_given_back(tmp_path: Path) -> None:
    bound = {"server__max_connections_per_address": 1, "server__trusted_proxies": "192.0.2.1"}
    async with standing(tmp_path, **bound) as server:
        for _ in range(3):
            async with asyncio.timeout(60), await accepted(server.stream):
                with pytest.raises(InvalidStatus, match="429"):
                    await connect_socket(server.stream, proxy=None)


async def accepted(url: str) -> ClientConnection:
    """Return a connection, once the server has noticed that those before it are gone."""
    while True:
        with suppress(InvalidStatus):
            return await connect_socket(url, proxy=None)


async def test_a_session_in_another_dialect_ends_when_its_token_is_revoked(
    served: Served, sample_pcm: bytes
) -> None:
    token, secret = tokens.new_token("Anna", ["caption"], now=time.time())
    await asyncio.to_thread(tokens.add, served.state.database, token)
    await served.state.access.refresh()
    headers = {"Authorization": f"Bearer {secret}"}
    url = served.stream.replace("/v1/stream", "/v1/listen?encoding=linear16&sample_rate=16000")
    async with asyncio.timeout(60), connect_socket(url, proxy=None, additional_headers=headers) as socket:
        await socket.send(sample_pcm[: 2 * 32_000])
        metrics = served.state.metrics.registry
        await eventually(lambda: metrics.get_sample_value("live_asr_sessions") == 1)
        await asyncio.to_thread(tokens.revoke, served.state.database, "Anna", now=time.time())
        await served.state.access.refresh()
        with suppress(ConnectionClosed):
            while True:
                await socket.recv()
    assert "revoked" in str(socket.close_reason)


async def test_a_session_and_who_watches_it_are_let_go_when_their_token_expires(
    served: Served, sample_pcm: bytes
) -> None:
    token, secret = tokens.new_token("Anna", ["caption"], now=time.time(), seconds=3600)
    await asyncio.to_thread(tokens.add, served.state.database, token)
    await served.state.access.refresh()
    headers = {"Authorization": f"Bearer {secret}"}
    async with call(served.stream, additional_headers=headers) as caller:
        session = (await caller.start())["session"]
        await caller.send(sample_pcm[:32_000])
        await caller.until("ack")
        events = f"/v1/sessions/{session}/events"
        async with served.http.stream("GET", events, headers=headers) as watched:
            assert watched.status_code == 200
            await asyncio.to_thread(expire, served, token.id)
            assert await caller.closed() == 1008
            assert caller.heard[-1]["code"] == "unauthorized"
            assert "expired" in caller.heard[-1]["message"]
            with suppress(httpx.HTTPError):
                async for _ in watched.aiter_bytes():
                    pass  # until it is cut
    assert (await served.http.get(events, headers=headers)).status_code == 401


def expire(served: Served, token_id: str) -> None:
    """Have a token have expired a second ago."""
    with served.state.database.transaction(writes=True) as connection:
        this = tables.tokens.c.id == token_id
        connection.execute(tables.tokens.update().where(this).values(expires_at=time.time() - 1))


async def test_a_token_has_so_much_audio_a_day(tmp_path: Path, models_dir: Path, sample_pcm: bytes) -> None:
    flags = {"server__token_hours_per_day": 2 / 3600}
    async with serving(tmp_path, models_dir, ScriptedPass(found()), **flags) as served:
        token, secret = tokens.new_token("Anna", ["caption"], now=time.time())
        await asyncio.to_thread(tokens.add, served.state.database, token)
        await served.state.access.refresh()
        headers = {"Authorization": f"Bearer {secret}"}
        async with call(served.stream, additional_headers=headers) as caller:
            await caller.start()
            await caller.send(sample_pcm[: 3 * 32_000])
            assert await caller.closed() == 1008
            assert caller.heard[-1]["code"] == "too_long"
        session = caller.heard[0]["session"]

        async def state() -> str:
            answer = await served.http.get(f"/v1/sessions/{session}", headers=headers)
            return str(answer.json()["state"])

        async with asyncio.timeout(60):
            while await state() != "done":
                pass
        for _ in range(2):
            async with call(served.stream, additional_headers=headers) as caller:
                refused = await caller.start()
                assert (refused["code"], refused["retry_after"]) == ("quota_reached", 3600)
            await served.http.delete(f"/v1/sessions/{session}", headers=headers)  # which gives nothing back


async def test_a_session_that_is_erased_while_it_goes_on_has_cost_its_token(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    flags = {"server__token_hours_per_day": 1.0}
    async with serving(tmp_path, models_dir, ScriptedPass(found()), **flags) as served:
        token, secret = tokens.new_token("Anna", ["caption"], now=time.time())
        await asyncio.to_thread(tokens.add, served.state.database, token)
        await served.state.access.refresh()
        headers = {"Authorization": f"Bearer {secret}"}
        async with call(served.stream, additional_headers=headers) as caller:
            session = (await caller.start())["session"]
            await caller.send(sample_pcm[: 2 * 32_000])
            await caller.until("ack")
            runner = served.state.registry.runner_of(session)
            assert runner is not None
            await eventually(lambda: runner.session.heard_sample == 2 * 16_000)
            assert (await served.http.delete(f"/v1/sessions/{session}", headers=headers)).status_code == 204
        limits = await served.state.registry.limits_of(Client(token.id))
        assert limits.seconds == 3600.0 - 2.0
