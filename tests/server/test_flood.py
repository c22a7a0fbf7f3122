"""Floods of tiny frames: nobody holds the loop, and who was not let in is not read at all."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from websockets.frames import Frame, Opcode

from live_asr.server.http import PatientHttp
from live_asr.server.run import listen
from live_asr.server.websocket import (
    FRAMES_A_TURN,
    MAX_FRAGMENTS,
    MAX_FRAME_BYTES,
    SLICE_BYTES,
    SMALL_AT_ONCE,
    StreamProtocol,
)

SMALLEST_FRAME_BYTES = 6
"""Two of header, four of mask."""
MAX_A_TURN = FRAMES_A_TURN + SLICE_BYTES // SMALLEST_FRAME_BYTES + 1

Scope = dict[str, Any]


class Counted(StreamProtocol):
    """The protocol, with a count of what it handles in a turn of the loop."""

    now = 0
    most = 0
    total = 0
    fragments = 0

    def handle_events(self) -> None:
        count = sum(isinstance(event, Frame) for event in self.conn.events)
        super().handle_events()
        Counted.now += count
        Counted.total += count
        Counted.most = max(Counted.most, Counted.now)
        Counted.fragments = max(Counted.fragments, len(self.frames))


async def count_turns() -> None:
    while True:
        Counted.now = 0
        await asyncio.sleep(0)


async def echo(scope: Scope, receive: Any, send: Any) -> None:
    """Answer each message by its size; `/closed` turns everybody away without a word being read."""
    assert scope["type"] == "websocket"
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    if scope["path"] == "/closed":
        await send({"type": "websocket.close", "code": 1008})
        return
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": str(len(message.get("bytes") or b""))})


@asynccontextmanager
async def flooded(path: str = "/") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve with the protocol, and give a connection whose handshake is done."""
    Counted.now = Counted.most = Counted.total = Counted.fragments = 0
    server = uvicorn.Server(
        uvicorn.Config(
            echo,
            http=PatientHttp,
            ws=Counted,
            ws_max_size=MAX_FRAME_BYTES,
            ws_per_message_deflate=False,
            loop="asyncio",
            log_config=None,
            lifespan="off",
        )
    )
    listener = listen("127.0.0.1", 0)
    listener.listen()  # whoever comes before the server does waits
    running = asyncio.create_task(server.serve(sockets=[listener]))
    counting = asyncio.create_task(count_turns())
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        server.should_exit = True
        await running
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


async def length(reader: asyncio.StreamReader) -> int:
    """Read the answer to one message, past all pongs."""
    while True:
        first, size = await reader.readexactly(2)
        data = await reader.readexactly(size)
        if first == 0x81:
            return int(data)


@pytest.mark.parametrize(
    "tiny",
    [
        pytest.param(frame(Opcode.PING), id="pings"),
        pytest.param(frame(Opcode.PONG), id="pongs"),
        pytest.param(frame(Opcode.CONT, b"x", fin=False), id="fragments"),
        pytest.param(frame(Opcode.CONT, fin=False), id="empty fragments"),
    ],
)
async def test_a_flood_of_tiny_frames_leaves_every_turn_of_the_loop_to_others(tiny: bytes) -> None:
    async with flooded() as (reader, writer):
        begun = frame(Opcode.BINARY, b"x", fin=False)
        count = int(SMALL_AT_ONCE) + 500
        writer.write(begun + tiny * count + frame(Opcode.CONT, b"x"))
        assert await length(reader) == 2 + count * carried_bytes(tiny)
        assert Counted.total >= count
        assert Counted.most <= MAX_A_TURN
        assert Counted.fragments <= MAX_FRAGMENTS


def carried_bytes(tiny: bytes) -> int:
    """Return how many bytes of a message such a frame carries."""
    return tiny[1] & 0x7F if tiny[0] == Opcode.CONT else 0


async def test_what_comes_before_the_end_of_a_connection_is_heard_all_the_same() -> None:
    async with flooded() as (reader, writer):
        writer.write(frame(Opcode.BINARY, b"x" * 100_000) * 8)
        assert [await length(reader) for _ in range(8)] == [100_000] * 8
        assert Counted.total == 8


async def test_of_a_peer_that_was_turned_away_no_frame_is_read() -> None:
    async with flooded("/closed") as (reader, writer):
        with suppress(ConnectionError):
            writer.write(frame(Opcode.BINARY, b"x", fin=False) + frame(Opcode.CONT, fin=False) * 100_000)
            await writer.drain()
        with suppress(ConnectionError):
            assert (await reader.read(4))[:2] == b"\x88\x02"
        assert Counted.total == 0
