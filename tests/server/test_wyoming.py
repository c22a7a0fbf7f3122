"""Home Assistant's own client against a real server: the words are those of our own protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from talking import call, eventually, is_written, newest_session
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping

from live_asr.server.dialects.wyoming import MAX_CONNECTIONS
from tests.started import Server, StartServer

SECOND_BYTES = 32_000
TIMEOUT = 120.0
FORMAT = {"rate": 16_000, "width": 2, "channels": 1}


@pytest.fixture(scope="module")
def server(launch: StartServer) -> Server:
    return launch(LIVE_ASR_SERVER__WYOMING_PORT="0", LIVE_ASR_SERVER__MAX_SESSIONS="1")


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    """Five seconds of the call."""
    return sample_pcm[14 * SECOND_BYTES : 19 * SECOND_BYTES]


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient.from_uri(f"tcp://127.0.0.1:{server.wyoming_port}", read_timeout=TIMEOUT) as client:
        yield client


async def send(client: AsyncClient, audio: bytes, **transcribe: Any) -> None:
    await client.write_event(Transcribe(**transcribe).event())
    await client.write_event(AudioStart(**FORMAT).event())
    for first in range(0, len(audio), 3200):
        await client.write_event(AudioChunk(audio=audio[first : first + 3200], **FORMAT).event())
    await client.write_event(AudioStop().event())


async def until(client: AsyncClient, kind: str) -> list[Event]:
    events = []
    while not events or events[-1].type != kind:
        event = await client.read_event()
        assert event is not None, f"closed before {kind}, after {events}"
        events.append(event)
    return events


@pytest.mark.conforms("Wyoming", "connect", sees="`info`", judge="wyoming (AsyncClient)")
async def test_the_server_says_what_it_is(server: Server) -> None:
    async with connected(server) as client:
        await client.write_event(Describe().event())
        (event,) = await until(client, "info")
        (program,) = Info.from_event(event).asr
        assert (program.name, program.supports_transcript_streaming) == ("live-asr", True)
        assert [(model.name, model.languages) for model in program.models] == [("tiny.en", ["en"])]
        await client.write_event(Ping(text="hello").event())
        (pong,) = await until(client, "pong")
        assert pong.data == {"text": "hello"}


@pytest.mark.conforms("Wyoming", "at once", "final", judge="wyoming (AsyncClient)")
@pytest.mark.conforms("Wyoming", "close", sees="`transcript-stop`; the next one may follow")
@pytest.mark.conforms("Wyoming", "interim", missing="chunks are words that stay")
@pytest.mark.conforms("Wyoming", "flush", missing="`audio-stop` ends the transcript")
async def test_a_transcript_streams_and_is_that_of_our_own_protocol_and_the_next_may_follow(
    server: Server, speech: bytes
) -> None:
    async with call(server.stream) as caller:
        await caller.start(pace="fast", diarize=False, language="en")
        await caller.send(speech)
        await caller.finished()
    async with connected(server) as client:
        for language in ("en", "en-US"):
            await send(client, speech, language=language)
            events = await until(client, "transcript-stop")
            assert [events[0].type, events[-2].type] == ["transcript-start", "transcript"]
            chunks = [event.data["text"] for event in events if event.type == "transcript-chunk"]
            assert len(chunks) > 1, "words come as they are sure"
            assert "".join(chunks) == events[-2].data["text"] == caller.text.strip()
            assert events[-2].data["language"] == "en"


@pytest.mark.conforms(
    "Wyoming",
    "bad parameters",
    "wrong audio",
    "overload",
    sees="an `error` event; the connection stays",
    judge="wyoming (AsyncClient)",
)
async def test_what_is_refused_is_told_and_the_connection_stays(server: Server, speech: bytes) -> None:
    async with connected(server) as client:
        await send(client, speech[:SECOND_BYTES], language="vi")
        (error,) = await until(client, "error")
        assert error.data["code"] == "language_unsupported"
        await client.write_event(AudioStart(rate=16_000, width=4, channels=1).event())
        (error,) = await until(client, "error")
        assert "2 bytes" in error.data["text"]
        async with call(server.stream) as caller:
            assert (await caller.start())["type"] == "ready"
            await send(client, speech[:SECOND_BYTES])
            (error,) = await until(client, "error")
            assert error.data["code"] == "server_full"
            await caller.finished()
        await send(client, bytes(SECOND_BYTES))
        events = await until(client, "transcript-stop")
        assert [event.type for event in events] == ["transcript-start", "transcript", "transcript-stop"]
        assert events[1].data["text"] == ""


@pytest.mark.conforms("Wyoming", "cut socket", sees="what was heard is under `/v1/sessions`")
async def test_what_was_heard_before_a_cut_is_brought_to_its_end(server: Server, speech: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
    for first in range(0, len(speech), 3200):
        header = b'{"type":"audio-chunk","data":{"rate":16000},"payload_length":3200}\n'
        writer.write(header + speech[first : first + 3200])
    await writer.drain()

    def newest() -> dict[str, Any]:
        return dict(httpx.get(f"{server.url}/v1/sessions?limit=1").json()["sessions"][0])

    await eventually(lambda: newest()["state"] == "streaming" and newest()["duration"] == 5.0)
    writer.transport.abort()
    await eventually(lambda: newest()["state"] == "done")


@pytest.mark.parametrize(
    "line",
    [
        b"no json\n",
        b"[]\n",
        b'{"type":"audio-chunk","payload_length":-1}\n',
        b'{"type":"ping","data":{"text":"\\ud800"}}\n',
        b"x" * 100_000,
    ],
)
async def test_what_is_no_event_closes_the_connection_and_nothing_else(server: Server, line: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
    writer.write(line)
    async with asyncio.timeout(TIMEOUT):
        with suppress(ConnectionResetError):  # where more was sent than is read before the close
            told = (await reader.read()).partition(b"\n")
            assert json.loads(told[0])["type"] == "error"
            assert json.loads(told[2])["code"] == "bad_message"
    writer.close()
    async with connected(server) as client:
        await client.write_event(Describe().event())
        await until(client, "info")


async def test_who_is_one_too_many_is_told_so_and_has_a_place_once_another_one_leaves(server: Server) -> None:
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(connected(server)) for _ in range(MAX_CONNECTIONS)]
        for client in others:  # each is served by then
            await client.write_event(Ping().event())
            await until(client, "pong")
        async with connected(server) as one_too_many:
            await one_too_many.write_event(Describe().event())
            (error,) = await until(one_too_many, "error")
            assert error.data["code"] == "too_many_connections"
            assert "64 connections" in error.data["text"]
            assert await one_too_many.read_event() is None
        await others[0].disconnect()

        async def is_served() -> bool:
            async with connected(server) as client:
                await client.write_event(Describe().event())
                event = await client.read_event()
                return event is not None and event.type == "info"

        async with asyncio.timeout(TIMEOUT):
            while not await is_served():
                pass


async def test_an_event_that_is_too_large_is_told_and_the_connection_stays(
    server: Server, speech: bytes
) -> None:
    async with connected(server) as client:
        await client.write_event(AudioChunk(audio=bytes(3 * 1024 * 1024), **FORMAT).event())
        (error,) = await until(client, "error")
        assert error.data["code"] == "too_large"
        await client.write_event(Event("ping", {"text": {"not": "text"}}))
        (pong,) = await until(client, "pong")
        assert not pong.data
        await send(client, speech[:SECOND_BYTES])
        await until(client, "transcript-stop")


async def test_audio_that_goes_on_in_another_format_is_told(server: Server, speech: bytes) -> None:
    before = newest_session(server.url)
    async with connected(server) as client:
        await client.write_event(AudioStart(**FORMAT).event())
        await client.write_event(AudioChunk(audio=speech[:3200], rate=48_000, width=2, channels=1).event())
        await client.write_event(AudioStop().event())
        (error,) = await until(client, "error")
        assert "16000 Hz" in error.data["text"]
    await is_written(server.url, before)


async def test_a_chunk_that_comes_in_two_parts_loses_nothing_while_it_is_decided_who_speaks(
    server: Server, speech: bytes
) -> None:
    before = newest_session(server.url)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
    header = b'{"type":"audio-chunk","data":{"rate":16000},"payload_length":%d}\n'
    writer.write(header % SECOND_BYTES + speech[:SECOND_BYTES])
    writer.write(header % SECOND_BYTES + speech[SECOND_BYTES : SECOND_BYTES + 100])
    await eventually(
        lambda: newest_session(server.url).get("session") != before.get("session")
    )  # it is decided
    writer.write(speech[SECOND_BYTES + 100 : 2 * SECOND_BYTES])
    writer.write(b'{"type":"audio-stop"}\n')
    async with asyncio.timeout(TIMEOUT):
        while b"transcript-stop" not in (line := await reader.readline()):
            assert line, "the connection stays"
    writer.close()
    await is_written(server.url, before)
    assert newest_session(server.url)["duration"] == 2.0


@pytest.mark.conforms(
    "Wyoming", "bad credentials", missing="the protocol has no key; it is served only where a port is set"
)
async def test_without_the_setting_it_is_not_served(start_server: StartServer) -> None:
    assert "wyoming" not in start_server().log.read_text()


@pytest.mark.conforms("Wyoming", "stream in real time", judge="wyoming (AsyncClient)")
async def test_speech_is_heard_while_it_is_spoken(server: Server, speech: bytes) -> None:
    loop = asyncio.get_running_loop()
    async with connected(server) as client:
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(**FORMAT).event())
        began = loop.time()
        for number, first in enumerate(range(0, len(speech), 3200)):
            # A microphone's clock, not a wait for something to happen.
            await asyncio.sleep(max(0.0, began + number * 0.1 - loop.time()))
            await client.write_event(AudioChunk(audio=speech[first : first + 3200], **FORMAT).event())
        await client.write_event(AudioStop().event())
        events = await until(client, "transcript-stop")
    chunks = [event.data["text"] for event in events if event.type == "transcript-chunk"]
    assert len(chunks) > 1 and "Chicago" in "".join(chunks)
    assert "".join(chunks) == events[-2].data["text"]


@pytest.mark.conforms("Wyoming", "slow reader", sees="all events, when it reads them")
async def test_who_reads_at_the_end_alone_gets_the_whole(server: Server, speech: bytes) -> None:
    before = newest_session(server.url)
    async with connected(server) as client:
        await send(client, speech, language="en")
        await is_written(server.url, before)
        events = await until(client, "transcript-stop")
    assert "Chicago" in events[-2].data["text"]
