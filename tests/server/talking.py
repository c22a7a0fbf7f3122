"""A client that records everything it hears, for tests of the real server over real sockets."""

from __future__ import annotations

import asyncio
import io
import json
import time
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

TIMEOUT = 240.0
"""Seconds to wait for something that must come; nothing is asserted about how fast it does."""

Message = dict[str, Any]


class Caller:
    """One connection: what it sent, what it heard, how it was closed."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[Message] = []
        self.times: list[float] = []
        self.sent_bytes = 0
        self.acks: list[tuple[int, int]] = []
        """Each acknowledged position, with what had been sent by then."""
        self._window_bytes = 0
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    # Saying -----------------------------------------------------------------------------------------

    async def start(self, **fields: Any) -> Message:
        """Send `start` and return what answers it.

        Without a full pass, which takes seconds, unless it is asked for.
        """
        await self.say("start", **{"final_pass": False, **fields})
        answer = await self.until(lambda m: m["type"] in ("ready", "error"))
        self._window_bytes = answer.get("max_unacked_bytes", 0)
        return answer

    async def say(self, kind: str, **fields: Any) -> None:
        """Send a text frame with a message of this type."""
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def send(self, audio: bytes, frame_bytes: int = 16_000) -> None:
        """Send audio within the window of the protocol."""
        for first in range(0, len(audio), frame_bytes):
            frame = audio[first : first + frame_bytes]
            await self._room(len(frame))
            self.sent_bytes += len(frame)
            await self.socket.send(frame)

    async def _room(self, frame_bytes: int) -> None:
        await self.when(lambda: self.in_flight_bytes + frame_bytes <= self._window_bytes)

    async def speak(self, audio: bytes, bytes_per_second: int = 32_000, frame: float = 0.1) -> None:
        """Send audio as it would be spoken."""
        loop = asyncio.get_running_loop()
        began, size = loop.time(), int(bytes_per_second * frame) // 2 * 2
        for number, first in enumerate(range(0, len(audio), size)):
            # A microphone's clock, not a wait for something to happen.
            await asyncio.sleep(max(0.0, began + number * frame - loop.time()))
            self.sent_bytes += len(audio[first : first + size])
            await self.socket.send(audio[first : first + size])

    # Hearing --------------------------------------------------------------------------------------------

    async def until(self, wanted: str | Callable[[Message], bool]) -> Message:
        """Return the first message of this type, or for which this holds; also if it came before."""
        test = (lambda m: m["type"] == wanted) if isinstance(wanted, str) else wanted
        await self.when(lambda: any(map(test, self.heard)))
        return next(filter(test, self.heard))

    async def when(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds; raise when the connection ends, or patience does, before."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                if self._reading.done():
                    raise ConnectionError(f"closed with {self.close_code} after {self.heard[-3:]}")
                self._changed.clear()
                await self._changed.wait()

    async def closed(self) -> int | None:
        """Wait for the close and return its code."""
        async with asyncio.timeout(TIMEOUT):
            await self._reading
        return self.close_code

    async def finished(self) -> Message:
        """Stop, wait for the good end, and return `final`."""
        await self.say("stop")
        final = await self.until("final")
        assert await self.closed() == 1000
        return final

    @property
    def key(self) -> dict[str, str]:
        """The header that lets its sender change the session."""
        token = next(message["token"] for message in self.heard if message["type"] == "ready")
        return {"Authorization": f"Bearer {token}"}

    @property
    def close_code(self) -> int | None:
        """The code that the connection was closed with."""
        return self.socket.close_code

    @property
    def in_flight_bytes(self) -> int:
        """Audio sent and not acknowledged."""
        return self.sent_bytes - (self.acks[-1][0] if self.acks else 0)

    def all(self, kind: str) -> list[Message]:
        """Return all messages of a type so far."""
        return [message for message in self.heard if message["type"] == kind]

    @property
    def text(self) -> str:
        """All commits, concatenated."""
        return "".join(message["text"] for message in self.all("commit"))

    @property
    def words(self) -> list[str]:
        """The committed words without space, case and punctuation."""
        return plain_words(self.text)

    async def _read(self) -> None:
        try:
            async for frame in self.socket:
                message = json.loads(frame)
                self.heard.append(message)
                self.times.append(time.monotonic())
                if message["type"] == "ack":
                    self.acks.append((message["bytes"], self.sent_bytes))
                self._changed.set()
        except ConnectionClosed:
            pass
        finally:
            self._changed.set()

    async def leave(self) -> None:
        """Close the connection."""
        await self.socket.close()
        await self._reading


@asynccontextmanager
async def call(url: str, **options: Any) -> AsyncIterator[Caller]:
    """Connect to a server's `/v1/stream`; `options` are those of websockets' `connect`."""
    options.setdefault("proxy", None)
    async with connect(url, max_size=None, ping_interval=None, **options) as socket:
        caller = Caller(socket)
        try:
            yield caller
        finally:
            await caller.leave()


async def recite(url: str, recording: bytes, /, **start: Any) -> Caller:
    """Send a recording as fast as it is taken, and return what was heard."""
    async with call(url) as caller:
        ready = await caller.start(**{"pace": "fast", **start})
        assert ready["type"] == "ready", ready
        await caller.send(recording)
        await caller.finished()
    return caller


def wav(pcm: bytes) -> bytes:
    """Return `pcm_s16le` at 16 kHz as a file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(pcm)
    return out.getvalue()


async def eventually(holds: Callable[[], bool], otherwise: Callable[[], str] = lambda: "") -> None:
    """Look until this holds; where it never does, fail and say what `otherwise` says."""
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        await asyncio.sleep(0.05)


def newest_session(url: str, **headers: str) -> Message:
    """Return the summary of the newest session of a server; an empty one where there is none."""
    listed = httpx.get(f"{url}/v1/sessions?limit=1", headers=headers, trust_env=False).json()["sessions"]
    return dict(listed[0]) if listed else {}


async def is_written(url: str, before: Message) -> None:
    """Wait until a session newer than this one is done: nobody has read anything of it meanwhile."""

    def holds() -> bool:
        newest = newest_session(url)
        return newest.get("session") != before.get("session") and newest["state"] == "done"

    await eventually(holds)


async def nothing_is_kept(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Wait until a server lists no session: one that is erased gives its place back before it is gone."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            if not (await http.get("/v1/sessions", headers=headers)).json()["sessions"]:
                return
            await asyncio.sleep(0.05)


async def finished_record(url: str, session: str) -> Message:
    """Return the transcript of a session once it is complete, as a viewer gets it."""
    async with httpx.AsyncClient() as client, asyncio.timeout(TIMEOUT):
        while True:
            answer = await client.get(f"{url}/v1/sessions/{session}/transcript.json")
            if answer.status_code == 200 and answer.json()["revision"] == 1:
                record: Message = answer.json()
                return record
            await asyncio.sleep(0.05)


def plain_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    return ["".join(c for c in word.lower() if c.isalnum()) for word in text.split()]


def likeness(words: list[str], reference: list[str]) -> float:
    """Return how much of the reference is found in order, from 0 to 1."""
    previous = [0] * (len(words) + 1)
    for wanted in reference:
        row = [0]
        for index, word in enumerate(words):
            row.append(previous[index] + 1 if word == wanted else max(previous[index + 1], row[-1]))
        previous = row
    return previous[-1] / len(reference)
