"""Everything a client can do wrong, over a real socket, beside a session that must not notice.

Each test ends when the server is as it was before: no session, descriptor or thread more.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest
from talking import TIMEOUT, Caller, Message, call, eventually, finished_record, likeness, plain_words
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from live_asr.storage.database import FILE as DATABASE_FILE
from tests.started import Server, StartServer

START_TIMEOUT = 3
MIB = 1024 * 1024
SECOND_BYTES = 32_000
EXECUTOR_THREADS = 6
"""What asyncio keeps for blocking calls on two cores: it starts them one by one and keeps them."""


# The server, its bystander and its books ------------------------------------------------------------


class Bystander:
    """A talk that goes on beside everything, in a thread with an event loop of its own."""

    def __init__(self, url: str, audio: bytes) -> None:
        self._url = url
        self._audio = audio
        self._enough = threading.Event()
        self._talking = threading.Event()
        self._failure: BaseException | None = None
        self.pings = 0
        self.rounds = 0
        self.caller: Caller | None = None
        self._thread = threading.Thread(target=self._run, name="bystander")

    def begin(self) -> None:
        self._thread.start()
        assert self._talking.wait(TIMEOUT)

    def end(self) -> Caller:
        """End the talk and return what was heard of it."""
        self._enough.set()
        self._thread.join(2 * TIMEOUT)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
        assert self.caller is not None
        return self.caller

    @property
    def is_well(self) -> bool:
        return self._thread.is_alive() and self._failure is None

    def _run(self) -> None:
        try:
            asyncio.run(self._talk())
        except BaseException as error:
            self._failure = error
            self._talking.set()

    async def _talk(self) -> None:
        async with call(self._url) as self.caller:
            await self.caller.start()
            pinging = asyncio.create_task(self._ping(self.caller))
            self._talking.set()
            while not self._enough.is_set():
                await self.caller.speak(self._audio)
                self.rounds += 1
            pinging.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pinging
            await self.caller.finished()

    async def _ping(self, caller: Caller) -> None:
        while True:
            async with asyncio.timeout(10):
                await (await caller.socket.ping())
            self.pings += 1
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def own_server(launch: StartServer) -> Server:
    """A server with little patience for clients that say nothing."""
    return launch(LIVE_ASR_SERVER__START_TIMEOUT=str(START_TIMEOUT))


@pytest.fixture(scope="module")
def bystander(own_server: Server, sample_pcm: bytes) -> Iterator[Bystander]:
    bystander = Bystander(own_server.stream, sample_pcm[14 * SECOND_BYTES : 23 * SECOND_BYTES])
    bystander.begin()
    yield bystander
    if bystander.is_well:
        bystander.end()


class Books:
    """What the server holds: sessions, descriptors, threads, memory."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process = psutil.Process(server.process.pid)
        self.sessions = server.metric("live_asr_sessions")
        self.descriptors = min(self._descriptors() for _ in range(20))
        self.threads = self._process.num_threads()

    @property
    def memory_bytes(self) -> int:
        return int(self._process.memory_info().rss)

    def are_even(self) -> bool:
        """Whether nothing is held that was not held before."""
        return (
            self._server.metric("live_asr_sessions") <= self.sessions
            # The question itself takes one, and so may a file that is being written.
            and self._descriptors() <= self.descriptors + 1
            and self._process.num_threads() <= self.threads + EXECUTOR_THREADS
        )

    def state(self) -> str:
        sessions = self._server.metric("live_asr_sessions")
        return f"{sessions} sessions, {self._descriptors()} fds, {self._process.num_threads()} threads"

    def _descriptors(self) -> int:
        """Count what is open but the database, whose connections are kept for the next who needs one."""
        of_database = [file for file in self._process.open_files() if DATABASE_FILE in file.path]
        return int(self._process.num_fds()) - len(of_database)


@pytest.fixture(scope="module")
def deaf(own_server: Server, bystander: Bystander) -> Iterator[Deaf]:
    """Two clients that read nothing and three that never finish their request, from the first test on.

    The last test sees that they were let go.
    """
    before = Books(own_server)
    before_bytes = before.memory_bytes
    connections = [open_socket(own_server, receive_bytes=4096) for _ in range(2)]
    halves = [open_socket(own_server) for _ in range(3)]
    halves[1].sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n")
    halves[2].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal")
    for connection in connections:
        shake_hands(connection)
        connection.sendall(frame(Opcode.TEXT, b'{"type": "start", "pace": "fast"}'))
        connection.settimeout(1.0)
        # 60 MB of pongs are asked for, beyond what any socket holds.
        pings = frame(Opcode.PING, bytes(125)) * 4000
        with contextlib.suppress(ConnectionError, TimeoutError):
            for _ in range(120):
                connection.sendall(pings)
    assert own_server.metric("live_asr_sessions") == before.sessions + 2
    yield Deaf(before, before.memory_bytes - before_bytes)
    for connection in connections + halves:
        connection.close()


@pytest.fixture(scope="module")
def books(own_server: Server, deaf: Deaf) -> Books:
    return Books(own_server)


@dataclass(frozen=True)
class Deaf:
    """Clients that sit there and do nothing: what the server held before, and what they cost it."""

    before: Books
    memory_bytes: int


@pytest.fixture
async def crowd(own_server: Server, bystander: Bystander, books: Books) -> AsyncIterator[Server]:
    """The server; afterwards nothing may be left of the test, and the bystander must be well."""
    pings = bystander.pings
    yield own_server
    await eventually(books.are_even, lambda: f"left over: {books.state()}, before: {vars(books)}")
    await eventually(lambda: bystander.pings > pings or not bystander.is_well)
    assert bystander.is_well


async def refused(caller: Caller, code: str, close_code: int) -> Message:
    """Check that the caller is told why, completely, and let go with the right code."""
    assert await caller.closed() == close_code, caller.heard[-3:]
    error = caller.heard[-1]
    assert (error["type"], error["code"]) == ("error", code), error
    assert error["message"]
    assert error["hint"]
    return error


# Before `start` -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code", "close_code"),
    [
        pytest.param("{", "not_json", 1007, id="JSON that breaks off"),
        pytest.param("", "not_json", 1007, id="an empty text frame"),
        pytest.param('{"type": "start", "vocabulary": [NaN]}', "not_json", 1007, id="NaN"),
        pytest.param("[" * 100_000, "not_json", 1007, id="JSON nested too deep"),
        pytest.param("[]", "bad_message", 1007, id="an array"),
        pytest.param('"start"', "bad_message", 1007, id="a string"),
        pytest.param("null", "bad_message", 1007, id="null"),
        pytest.param("{}", "bad_message", 1007, id="no type"),
        pytest.param('{"type": 5}', "bad_message", 1007, id="a type that is a number"),
        pytest.param('{"type": "begin"}', "bad_message", 1007, id="an unknown type"),
        pytest.param('{"type": "ready"}', "bad_message", 1007, id="a type of the server's"),
        pytest.param('{"type": "finalize"}', "start_expected", 1008, id="finalize first"),
        pytest.param('{"type": "stop"}', "start_expected", 1008, id="stop first"),
        pytest.param(b"\0" * 3200, "start_expected", 1008, id="audio first"),
        pytest.param(b"", "start_expected", 1008, id="an empty binary frame first"),
    ],
)
async def test_a_first_frame_that_is_no_start_is_refused(
    crowd: Server, frame: str | bytes, code: str, close_code: int
) -> None:
    async with call(crowd.stream) as caller:
        await caller.socket.send(frame)
        await refused(caller, code, close_code)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"audio": {"encoding": "opus"}}, "audio.encoding"),
        ({"audio": {"encoding": 16}}, "audio.encoding"),
        ({"audio": {"sample_rate": 7999}}, "audio.sample_rate"),
        ({"audio": {"sample_rate": 96000}}, "audio.sample_rate"),
        ({"audio": {"sample_rate": "16000"}}, "audio.sample_rate"),
        ({"audio": {"channels": 0}}, "audio.channels"),
        ({"audio": {"channels": 3}}, "audio.channels"),
        ({"audio": {"channels": True}}, "audio.channels"),
        ({"audio": "pcm_s16le"}, "audio"),
        ({"audio": []}, "audio"),
        ({"audio": {"samplerate": 16000}}, "audio.samplerate"),
        ({"sample_rate": 16000}, "sample_rate"),
        ({"language": 5}, "language"),
        ({"language": ""}, "language"),
        ({"task": "summarize"}, "task"),
        ({"vocabulary": "Fugue"}, "vocabulary"),
        ({"vocabulary": [1]}, "vocabulary[0]"),
        ({"vocabulary": ["a"] * 201}, "vocabulary"),
        ({"diarize": "yes"}, "diarize"),
        ({"interim": 1}, "interim"),
        ({"pace": "slow"}, "pace"),
        ({"min_speakers": 0}, "min_speakers"),
        ({"min_speakers": 3, "max_speakers": 2}, "min_speakers"),
        ({"webhook": {"url": "ftp://example.org"}}, "webhook.url"),
        ({"webhook": {}}, "webhook.url"),
        ({"metadata": {"a": {"b": 1}}}, "metadata.a"),
        ({"metadata": {"a": "x" * 20_000}}, "metadata"),
        ({"resume": {"session": "abc"}}, "resume.token"),
        ({"interrim": True}, "interrim"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value)[:40],
)
async def test_a_start_with_a_wrong_field_is_refused_by_name(
    crowd: Server, fields: Message, named: str
) -> None:
    async with call(crowd.stream) as caller:
        await caller.say("start", **fields)
        error = await refused(caller, "bad_message", 1007)
        assert f"`{named}`" in error["message"]


async def test_a_client_that_says_nothing_is_let_go(crowd: Server) -> None:
    async with call(crowd.stream) as caller:
        error = await refused(caller, "start_timeout", 1008)
        assert f"{START_TIMEOUT} seconds" in error["message"]


async def test_a_page_of_another_host_is_refused(crowd: Server) -> None:
    for origin in ("https://evil.example", "null", "http://[", "http://127.0.0.1:1"):
        async with call(crowd.stream, additional_headers={"Origin": origin}) as caller:
            await refused(caller, "origin_not_allowed", 1008)
    async with call(crowd.stream, additional_headers={"Origin": crowd.url}) as caller:
        assert (await caller.start())["type"] == "ready"


# In a session -------------------------------------------------------------------------------------


async def test_a_second_start_is_refused(crowd: Server) -> None:
    async with call(crowd.stream) as caller:
        await caller.start()
        await caller.say("start")
        await refused(caller, "already_started", 1008)


@pytest.mark.parametrize("frame", ["no JSON", '{"type": "rest"}', "[]"])
async def test_a_text_frame_that_means_nothing_ends_a_session_that_runs(crowd: Server, frame: str) -> None:
    async with call(crowd.stream) as caller:
        await caller.start()
        await caller.send(b"\0" * SECOND_BYTES)
        await caller.socket.send(frame)
        await refused(caller, "bad_message" if frame != "no JSON" else "not_json", 1007)


@pytest.mark.parametrize("after", ["audio", "finalize", "stop"])
async def test_nothing_may_follow_stop(crowd: Server, sample_pcm: bytes, after: str) -> None:
    async with call(crowd.stream) as caller:
        await caller.start()
        # Speech without its end: stopping takes a decode, and the next frame is there long before.
        await caller.send(sample_pcm[20 * SECOND_BYTES : 23 * SECOND_BYTES])
        await caller.say("stop")
        if after == "audio":
            await caller.socket.send(b"\0" * 3200)
        else:
            await caller.say(after)
        error = await refused(caller, "unexpected_message", 1008)
        assert after in error["message"]
    record = await finished_record(crowd.url, caller.heard[0]["session"])
    assert record["text"], "what was said before `stop` is kept"
    assert record["duration"] == 3.0


async def test_more_than_the_window_is_an_overrun(crowd: Server) -> None:
    async with call(crowd.stream) as caller:
        ready = await caller.start(pace="fast")
        for _ in range(ready["max_unacked_bytes"] // 65_536 + 8):
            await caller.socket.send(bytes(65_536))
            caller.sent_bytes += 65_536
            if caller.acks:
                break
        else:
            await refused(caller, "overrun", 1008)
            return
    pytest.fail("the server acknowledged within one burst; the test shows nothing")


async def test_a_flood_of_finalize_is_an_overrun(crowd: Server, sample_pcm: bytes) -> None:
    async with call(crowd.stream) as caller:
        await caller.start(pace="fast")
        await caller.send(sample_pcm[14 * SECOND_BYTES : 16 * SECOND_BYTES])
        with contextlib.suppress(ConnectionClosed):
            for _ in range(5000):
                await caller.say("finalize")
        await refused(caller, "overrun", 1008)


@pytest.mark.parametrize("size", [MIB + 1, 5 * MIB])
@pytest.mark.parametrize("kind", ["binary", "text"])
@pytest.mark.parametrize("when", ["first", "in a session"])
async def test_a_frame_over_one_mebibyte_is_refused(crowd: Server, size: int, kind: str, when: str) -> None:
    async with call(crowd.stream) as caller:
        if when == "in a session":
            await caller.start()
        with contextlib.suppress(ConnectionClosed):
            await caller.socket.send(bytes(size) if kind == "binary" else "x" * size)
        await refused(caller, "frame_too_large", 1009)


async def test_a_message_in_fragments_over_one_mebibyte_is_refused(crowd: Server) -> None:
    async with call(crowd.stream) as caller:
        await caller.start()
        await caller.socket.send([bytes(256 * 1024)] * 5)
        await refused(caller, "frame_too_large", 1009)


async def test_a_frame_of_one_mebibyte_is_taken(crowd: Server) -> None:
    async with call(crowd.stream) as caller:
        await caller.start(pace="fast")
        await caller.send(bytes(MIB), frame_bytes=MIB)
        final = await caller.finished()
        assert (final["duration"], final["text"]) == (32.768, "")


# What is no audio -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("noise", os.urandom(600_000)),
        ("PNG", b"\x89PNG\r\n\x1a\n" + bytes(50_000)),
        ("HTML", b"<!DOCTYPE html><html><body>" + b"<p>no sound here</p>" * 2000),
        ("text", b"Dear Sir or Madam, " * 20_000),
        ("playlist", b"#EXTM3U\nfile:///etc/passwd\n"),
    ],
)
async def test_bytes_that_are_no_media_are_refused(crowd: Server, name: str, data: bytes) -> None:
    async with call(crowd.stream) as caller:
        await caller.start(audio={"encoding": "container"}, pace="fast")
        with contextlib.suppress(ConnectionError, ConnectionClosed):
            await caller.send(data)
            await caller.say("stop")
        await refused(caller, "not_audio", 1003)


async def test_noise_as_samples_gives_no_words_and_no_error(crowd: Server) -> None:
    async with call(crowd.stream) as caller:
        await caller.start(pace="fast", audio={"encoding": "pcm_f32le"})
        await caller.send(os.urandom(4 * SECOND_BYTES + 3))
        final = await caller.finished()
        assert final["text"] == ""


async def test_a_container_that_breaks_off_gives_what_it_holds(
    crowd: Server, sample_wav: Any, sample_pcm: bytes
) -> None:
    async with call(crowd.stream) as caller:
        await caller.start(audio={"encoding": "container"}, pace="fast")
        await caller.send(sample_wav.read_bytes()[: 18 * SECOND_BYTES + 17])
        final = await caller.finished()
        assert final["duration"] == pytest.approx(18.0, abs=0.01)
        assert "diane" in plain_words(final["text"])


@pytest.mark.parametrize("encoding", ["pcm_s16le", "mulaw", "container"])
async def test_nothing_and_then_stop_is_an_empty_transcript(crowd: Server, encoding: str) -> None:
    async with call(crowd.stream) as caller:
        await caller.start(audio={"encoding": encoding})
        for _ in range(100):
            await caller.socket.send(b"")
        final = await caller.finished()
        assert (final["duration"], final["text"], final["segments"], final["seq"]) == (0.0, "", [], 2)


async def test_an_hour_of_silence_gives_no_words(crowd: Server, books: Books) -> None:
    before_bytes = books.memory_bytes
    async with call(crowd.stream) as caller:
        await caller.start(audio={"encoding": "mulaw", "sample_rate": 8000}, pace="fast")
        await caller.send(b"\xff" * (3600 * 8000), frame_bytes=64_000)
        final = await caller.finished()
        assert (final["duration"], final["text"]) == (3600.0, "")
        assert {message["type"] for message in caller.heard} == {"ready", "ack", "lag", "stopped", "final"}
    assert books.memory_bytes - before_bytes < 30_000_000


# Broken connections -------------------------------------------------------------------------------


def open_socket(server: Server, receive_bytes: int | None = None) -> socket.socket:
    """Return a plain TCP connection."""
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(TIMEOUT)
    host, port = server.url.removeprefix("http://").split(":")
    connection.connect((host, int(port)))
    return connection


def shake_hands(connection: socket.socket) -> None:
    """Open a WebSocket by hand."""
    connection.sendall(
        b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n"
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert b" 101 " in head


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


def heard_until_close(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65_536):
            data += more
    return data


async def test_a_client_that_vanishes_in_mid_word_leaves_its_transcript(
    crowd: Server, sample_pcm: bytes
) -> None:
    async with call(crowd.stream) as caller:
        ready = await caller.start()
        await caller.send(sample_pcm[14 * SECOND_BYTES : 18 * SECOND_BYTES])
        await caller.until("commit")
        plain = caller.socket.transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.socket.transport.abort()  # a reset, without a close frame
        assert await caller.closed() == 1006
    record = await finished_record(crowd.url, ready["session"])
    assert record["text"].startswith(caller.text.strip())
    assert record["duration"] == 4.0


async def test_a_client_that_closes_in_mid_word_leaves_its_transcript(
    crowd: Server, sample_pcm: bytes
) -> None:
    async with call(crowd.stream) as caller:
        ready = await caller.start()
        await caller.send(sample_pcm[14 * SECOND_BYTES : 16 * SECOND_BYTES])
    record = await finished_record(crowd.url, ready["session"])
    assert (record["duration"], bool(record["text"])) == (2.0, True)


def test_a_text_frame_that_is_no_utf8_is_refused(crowd: Server) -> None:
    with open_socket(crowd) as connection:
        shake_hands(connection)
        connection.sendall(frame(Opcode.TEXT, b'{"type": "st\xff\xfe"}'))
        heard = heard_until_close(connection)
    assert b'"not_json"' in heard
    assert heard.endswith(struct.pack("!H", 1007)) or struct.pack("!H", 1007) in heard


def test_a_frame_of_any_size_is_read_to_its_end_so_that_the_reason_arrives(crowd: Server) -> None:
    with open_socket(crowd) as connection:
        shake_hands(connection)
        connection.sendall(frame(Opcode.BINARY, bytes(30 * MIB)))
        assert b'"frame_too_large"' in heard_until_close(connection)


def test_a_frame_that_breaks_the_protocol_is_refused(crowd: Server) -> None:
    unmasked = Frame(Opcode.BINARY, b"abc").serialize(mask=False)
    reserved = bytes([0xF2]) + frame(Opcode.BINARY, b"abc")[1:]
    for data in (unmasked, reserved, frame(Opcode.CONT, b"abc"), os.urandom(64) + b"\xff" * 64):
        with open_socket(crowd) as connection:
            shake_hands(connection)
            connection.sendall(frame(Opcode.TEXT, b'{"type": "start"}') + data)
            heard = heard_until_close(connection)
        assert b'"error"' in heard


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n", id="half"),
        pytest.param(os.urandom(4096), id="noise"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500), id="TLS"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="another HTTP"),
        pytest.param(b"GET /" + b"x" * 300_000 + b" HTTP/1.1\r\n\r\n", id="a path without end"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", id="a negative length"),
        pytest.param(
            b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            id="a handshake without its key",
        ),
        pytest.param(
            b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + b"\xff" * 4,
            id="garbage with the handshake",
        ),
    ],
)
def test_what_is_no_request_costs_nobody_anything(crowd: Server, data: bytes) -> None:
    with open_socket(crowd) as connection:
        with contextlib.suppress(OSError):  # the server may have hung up before
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        heard_until_close(connection)
    assert httpx.get(f"{crowd.url}/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/v1/streams", "/", "/web/app.js", "/metrics", "/v1/stream/"])
async def test_a_websocket_to_anywhere_else_is_refused(crowd: Server, path: str) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(crowd.url.replace("http", "ws") + path, proxy=None):
            pass
    assert refusal.value.response.status_code in (403, 404)


def test_a_thousand_empty_fragments_are_one_empty_frame(crowd: Server) -> None:
    with open_socket(crowd) as connection:
        shake_hands(connection)
        connection.sendall(frame(Opcode.TEXT, b'{"type": "start"}'))
        connection.sendall(frame(Opcode.BINARY, fin=False) + frame(Opcode.CONT, fin=False) * 1000)
        connection.sendall(frame(Opcode.CONT) + frame(Opcode.TEXT, b'{"type": "stop"}'))
        heard = b""
        while b'"final"' not in heard:
            more = connection.recv(65_536)
            assert more, heard
            heard += more


# And the bystander ----------------------------------------------------------------------------------


async def test_clients_that_only_sit_there_are_let_go_and_take_no_memory(deaf: Deaf) -> None:
    assert deaf.memory_bytes < 30_000_000
    await eventually(deaf.before.are_even, deaf.before.state)


def test_the_bystander_lost_no_word_and_the_log_tells_no_traceback(
    bystander: Bystander, own_server: Server
) -> None:
    caller = bystander.end()
    kept = [message["seq"] for message in caller.heard if "seq" in message]
    assert kept == list(range(1, len(kept) + 1))
    assert caller.acks[-1][0] == caller.sent_bytes
    once = plain_words(
        "I'm Sheila in Texas originally from Chicago. Oh, I'm originally from Chicago also. I'm in New Jersey"
    )
    assert likeness(caller.words, once * bystander.rounds) > 0.7
    log = own_server.log.read_text()
    assert "Traceback" not in log, log
