"""A peer that speaks the protocol by script, over a real socket: for tests of what clients do."""

from __future__ import annotations

import math
import wave
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from live_asr.core.messages import (
    Commit,
    Final,
    Finalize,
    FinalSegment,
    FinalSpeaker,
    Models,
    Ready,
    RecognizerInfo,
    ServerInfo,
    ServerMessage,
    SpeechDetectorInfo,
    Start,
    Stop,
    Stopped,
    WireWord,
    decode_client,
    encode,
)

WINDOW_BYTES = 100_000
READY = Ready(
    session="s-1",
    token="secret",
    received_bytes=0,
    last_seq=0,
    max_unacked_bytes=WINDOW_BYTES,
    models=Models(RecognizerInfo("tiny.en", ("en",), "cpu", "int8"), SpeechDetectorInfo("silero-vad")),
    server=ServerInfo("live-asr", "0.1.0"),
)


class Peer:
    """The other end of one connection: takes what the client says, says what the test tells it to."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.audio = bytearray()
        self.frame_sizes: list[int] = []

    async def message(self) -> Start | Finalize | Stop:
        """Return the client's next message; audio before it is kept in `audio`."""
        while True:
            frame = await self.socket.recv()
            if isinstance(frame, str):
                return decode_client(frame)
            self.audio += frame
            self.frame_sizes.append(len(frame))

    async def audio_of(self, size_bytes: int) -> None:
        """Receive audio until there are `size_bytes` of it in all."""
        while len(self.audio) < size_bytes:
            frame = await self.socket.recv()
            assert isinstance(frame, bytes)
            self.audio += frame
            self.frame_sizes.append(len(frame))

    async def say(self, *messages: ServerMessage) -> None:
        for message in messages:
            await self.socket.send(encode(message).decode())

    async def open(self) -> Start:
        start = await self.message()
        assert isinstance(start, Start)
        await self.say(READY)
        return start

    async def finish(self, seq: int = 1, text: str = "") -> None:
        """Answer a stop as a server does that has nothing more to say."""
        await self.say(Stopped(seq, 1.0, text), final(seq + 1, text))
        await self.socket.close(1000)


def final(
    seq: int,
    text: str = "",
    segments: tuple[FinalSegment, ...] = (),
    speakers: tuple[FinalSpeaker, ...] = (),
    links: Mapping[str, str] | None = None,
) -> Final:
    labels = "full" if speakers else None
    return Final(seq, 1, 1.0, "en", text, segments, speakers, links or {}, labels)


def commit(seq: int, text: str, speaker: str | None = None, utterance: int = 0) -> Commit:
    """One second's word: the first commit has the first second."""
    return Commit(seq, (WireWord(text, seq - 1.0, float(seq), 0.9, speaker),), text, utterance)


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def peer(
    script: Script, pages: Mapping[str, str] | None = None, asked: list[Request] | None = None
) -> AsyncIterator[str]:
    """Serve `script` at the address that is yielded; what fails in it fails the test.

    `pages` are what a GET of their path is answered with; `asked` collects such requests.
    """
    failures: list[Exception] = []

    def answer(socket: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        if asked is not None:
            asked.append(request)
        page = (pages or {}).get(request.path)
        return socket.respond(404, "no") if page is None else socket.respond(200, page)

    async def handle(socket: ServerConnection) -> None:
        try:
            await script(Peer(socket))
        except ConnectionClosed:
            pass
        except Exception as error:
            failures.append(error)
            raise

    async with serve(handle, "127.0.0.1", 0, process_request=answer) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    if failures:
        raise failures[0]


def write_tone(path: Path, duration: float = 1.0, rate_hz: int = 44_100, channels: int = 2) -> Path:
    samples = array("h")
    for index in range(round(duration * rate_hz)):
        samples.extend([round(8000 * math.sin(index * 2 * math.pi * 440 / rate_hz))] * channels)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate_hz, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path
