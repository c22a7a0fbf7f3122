"""Attacks a server from one address, all at once: run as a module with PORT TOKEN SECONDS.

In a process of its own, so that whoever is attacked is not slowed by it. TOKEN is one that may caption and
read: some attackers are strangers, some have it. In the end it prints as JSON what each attack was answered,
and how often.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import random
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import av
import numpy as np
import websockets
from av.audio.stream import AudioStream
from websockets.asyncio.client import ClientConnection

ADDRESS = "127.0.0.2"
"""Where they come from: of this machine, but not what the server takes for it."""
TIMEOUT = 5.0
"""Seconds after which an attacker who is kept waiting gives up, and begins anew."""
PAUSE = 0.05
"""Seconds between two tries of one attacker; with less it is the attackers' own CPU that is measured."""
LONG_SILENCE = 2 * 3600
"""Seconds of silence in one small file."""
GONE = (OSError, EOFError, ValueError, TimeoutError, websockets.WebSocketException)
MASK = b"\0\0\0\0"
"""That frames are masked with: nothing."""
WATCHERS = 300
EXPORTS = 60
TAIL = "\r\n\r\n"
HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

Told = Counter[str]


class Attacker:
    """One who attacks: where, with what, and what came of it."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self._long_file = silent_file()
        self._chance = random.Random(16)
        self._session: str | None = None
        self.told: dict[str, Told] = {}
        """Attack → answer → how often."""

    def attacks(self) -> dict[str, tuple[Callable[[Told], Awaitable[None]], int]]:
        """Return each attack by its name, and how many make it at once."""
        return {
            "flood before the token": (self._flood_stranger, 6),
            "flood of frames in a session": (self._flood_session, 2),
            "another host's name": (self._rebind, 2),
            "exports": (self._export, EXPORTS),
            "places for nothing": (self._take_place, 8),
            "wrong tokens": (self._guess, 8),
            "a long file, faster than it is": (self._send_long, 1),
            "live audio, faster than it is": (self._send_fast, 1),
            "many short sessions": (self._leave_short, 4),
            "webhooks inwards": (self._name_receiver, 1),
            "viewers": (self._watch, WATCHERS),
            "broken containers": (self._send_broken, 2),
            "bodies that never end": (self._drip, 10),
            "connections that say nothing": (self._say_nothing, 50),
        }

    async def attack(self, seconds: float) -> None:
        """Leave a session to be asked for, then attack in all ways at once for so long."""
        with contextlib.suppress(*GONE):
            await self._leave_short(Counter())
        print("attacking", flush=True)
        tasks = []
        for name, (once, count) in self.attacks().items():
            told = self.told.setdefault(name, Counter())
            tasks += [asyncio.create_task(self._again_and_again(once, told)) for _ in range(count)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _again_and_again(self, once: Callable[[Told], Awaitable[None]], told: Told) -> None:
        while True:
            try:
                await once(told)
            except GONE as error:
                told[type(error).__name__] += 1
            await asyncio.sleep(PAUSE)

    # Over plain connections ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[Streams]:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self._port, local_addr=(ADDRESS, 0), limit=2**20
            )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _asked(self, request: str, *, token: str | None = None, host: str = "127.0.0.1") -> str:
        """Send a request; return the status of its answer."""
        async with self._open() as (reader, writer):
            bearer = f"\r\nAuthorization: Bearer {token}" if token else ""
            writer.write(f"{request} HTTP/1.1\r\nHost: {host}{bearer}\r\nConnection: close{TAIL}".encode())
            async with asyncio.timeout(TIMEOUT):
                status = (await reader.readline()).decode().split()[1]
                while await reader.read(2**16):
                    pass
            return status

    async def _flood_stranger(self, told: Told) -> None:
        async with self._open() as (reader, writer):
            writer.write(HANDSHAKE)
            writer.write(b"\x01\x81" + MASK + b"{")
            with contextlib.suppress(OSError):
                for _ in range(100):
                    if writer.transport.is_closing():
                        break
                    writer.write((b"\x00\x81" + MASK + b" ") * 10_000)
                    async with asyncio.timeout(TIMEOUT):
                        await writer.drain()
            told[(await reader.readline()).decode().split()[1]] += 1

    async def _rebind(self, told: Told) -> None:
        told[await self._asked("GET /v1/sessions", host="evil.example")] += 1

    async def _guess(self, told: Told) -> None:
        wrong = f"la_{self._chance.randrange(2**60):x}"
        told[await self._asked("GET /v1/sessions", token=wrong)] += 1

    async def _export(self, told: Told) -> None:
        if self._session is None:
            await asyncio.sleep(1)
            return
        path = f"GET /v1/sessions/{self._session}/transcript.json"
        if self._chance.random() < 0.8:
            told[await self._asked(path, token=self._token)] += 1
            return
        async with self._open() as (_, writer):  # one who never reads
            bearer = f"Authorization: Bearer {self._token}"
            writer.write(f"{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{bearer}{TAIL}".encode())
            await asyncio.sleep(TIMEOUT)
            told["never read"] += 1

    async def _watch(self, told: Told) -> None:
        if self._session is None:
            await asyncio.sleep(1)
            return
        async with self._open() as (reader, writer):
            path, bearer = f"/v1/sessions/{self._session}/events", f"Authorization: Bearer {self._token}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{bearer}{TAIL}".encode())
            async with asyncio.timeout(TIMEOUT):
                told[(await reader.readline()).decode().split()[1]] += 1
            async with asyncio.timeout(6 * TIMEOUT):
                while await reader.read(2**16):
                    pass

    async def _drip(self, told: Told) -> None:
        async with self._open() as (reader, writer):
            bearer = f"Authorization: Bearer {self._token}\r\nContent-Length: 1000000"
            writer.write(f"POST /v1/listen HTTP/1.1\r\nHost: 127.0.0.1\r\n{bearer}{TAIL}".encode())
            for _ in range(600):
                if writer.transport.is_closing():
                    told["cut off"] += 1
                    return
                writer.write(b"x")
                await asyncio.sleep(1)
            told[(await reader.readline()).decode().split()[1]] += 1

    async def _say_nothing(self, told: Told) -> None:
        async with self._open() as (reader, _):
            async with asyncio.timeout(60):
                await reader.read(1)
            told["let go"] += 1

    # In sessions ---------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _session_of(self, told: Told, **start: object) -> AsyncIterator[tuple[ClientConnection, str]]:
        """Open a session; EOFError where it is refused."""
        async with websockets.connect(
            f"ws://127.0.0.1:{self._port}/v1/stream",
            local_addr=(ADDRESS, 0),
            additional_headers={"Authorization": f"Bearer {self._token}"},
            open_timeout=TIMEOUT,
            close_timeout=1,
            max_size=None,
            ping_interval=None,
            compression=None,
            proxy=None,
        ) as socket:
            await socket.send(json.dumps({"type": "start", "language": "en", **start}))
            async with asyncio.timeout(TIMEOUT):
                answer = json.loads(await socket.recv())
            told[answer.get("code") or answer["type"]] += 1
            if answer["type"] != "ready":
                raise EOFError
            yield socket, answer["session"]

    async def _flood_session(self, told: Told) -> None:
        async with self._session_of(told) as (socket, _):
            async with asyncio.timeout(6 * TIMEOUT):
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            await asyncio.gather(*(socket.ping() for _ in range(200)))
                    for _ in range(500):
                        await socket.send(b"")
                    await socket.send([b"\0"] * 5_000)

    async def _take_place(self, told: Told) -> None:
        async with self._session_of(told) as (socket, _):
            if self._chance.random() < 0.5:
                await asyncio.sleep(TIMEOUT)  # says nothing
            socket.transport.abort()

    async def _leave_short(self, told: Told) -> None:
        noise = np.random.default_rng(1).normal(0, 2000, 3 * 16_000).astype("<i2").tobytes()
        async with self._session_of(told, pace="fast") as (socket, session):
            for first in range(0, len(noise), 16_000):
                await socket.send(noise[first : first + 16_000])
            await socket.send('{"type":"stop"}')
            async with asyncio.timeout(6 * TIMEOUT):
                async for text in socket:
                    if json.loads(text)["type"] == "stopped":
                        break
            self._session = session

    async def _send_long(self, told: Told) -> None:
        audio = {"encoding": "container"}
        async with self._session_of(told, pace="fast", audio=audio) as (socket, _):
            await self._pour(socket, self._long_file, told)

    async def _send_fast(self, told: Told) -> None:
        async with self._session_of(told, pace="realtime") as (socket, _):
            await self._pour(socket, bytes(32_000 * 3600), told)

    async def _send_broken(self, told: Told) -> None:
        broken = bytearray(self._long_file)
        for _ in range(self._chance.randrange(1, 200)):
            broken[self._chance.randrange(len(broken))] = self._chance.randrange(256)
        async with self._session_of(told, pace="fast", audio={"encoding": "container"}) as (socket, _):
            await self._pour(socket, bytes(broken[: 2**18]), told)

    async def _pour(self, socket: ClientConnection, data: bytes, told: Told) -> None:
        """Send it all as fast as it is taken, then wait for the end; whatever is said is read."""

        async def read() -> None:
            async for text in socket:
                message = json.loads(text)
                if message["type"] == "error":
                    told[message["code"]] += 1

        reading = asyncio.create_task(read())
        try:
            async with asyncio.timeout(12 * TIMEOUT):
                for first in range(0, len(data), 2**16):
                    await socket.send(data[first : first + 2**16])
                await socket.send('{"type":"stop"}')
                await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _name_receiver(self, told: Told) -> None:
        host = self._chance.choice(["127.0.0.1:22", "169.254.169.254", "10.0.0.1", "[::1]:6379"])
        async with self._session_of(told, webhook={"url": f"http://{host}/hook"}) as (socket, _):
            await socket.send('{"type":"stop"}')


def silent_file() -> bytes:
    """Return hours of silence as FLAC: a small file."""
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        assert isinstance(stream, AudioStream)
        size = 4 * 8000
        for index in range(LONG_SILENCE // 4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, size), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, index * size
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def main(port: int, token: str, seconds: float) -> None:
    """Attack, and print what came of it; behind what others do on this machine."""
    os.nice(10)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each write to who has cut them off
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attacker = Attacker(port, token)
    asyncio.run(attacker.attack(seconds))
    print(json.dumps(attacker.told), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
