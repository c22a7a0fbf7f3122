"""Live clients that send nothing any more in mid-speech, on the real server: what is there gets committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from talking import Caller, Message, call, likeness, plain_words

from tests.server.resuming import WAITS, check_record, record, resumed
from tests.started import Server, StartServer

SECOND_BYTES = 32_000
CUT_BYTES = 3 * SECOND_BYTES
"""Behind "originally", in the midst of a sentence and of speech."""


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    """ "And I'm Sheila in Texas, originally from Chicago. Oh, I'm originally from Chicago also" and so on."""
    return sample_pcm[14 * SECOND_BYTES : 24 * SECOND_BYTES]


@pytest.fixture(scope="module")
def uncut(waiting: Server, speech: bytes) -> list[str]:
    """The words of the speech as they are heard without a pause."""

    async def heard() -> list[str]:
        async with call(waiting.stream) as caller:
            await caller.start()
            await caller.send(speech)
            await caller.finished()
            return caller.words

    return asyncio.run(heard())


@asynccontextmanager
async def silent(server: Server, speech: bytes) -> AsyncIterator[tuple[Caller, Message]]:
    """A client that has said the beginning of the speech and nothing since."""
    async with call(server.stream) as caller:
        ready = await caller.start()
        await caller.send(speech[:CUT_BYTES])
        yield caller, ready


def check_words(kept: list[Message], uncut: list[str]) -> None:
    """No word comes twice, and none is lost."""
    check_record(kept)
    words = plain_words("".join(m["text"] for m in kept if m["type"] == "commit"))
    assert likeness(words, uncut) > 0.95, words
    assert len(words) <= len(uncut) + 1, words


async def test_what_was_said_is_committed_and_speech_goes_on_later(
    waiting: Server, speech: bytes, uncut: list[str]
) -> None:
    async with silent(waiting, speech) as (caller, _):
        said = await caller.until("utterance")
        await caller.when(lambda: caller.all("partial")[-1]["words"] == [])
        assert caller.text.strip() == said["text"]
        assert caller.words[-2:] == ["texas", "originally"]
        assert not caller.text.endswith("."), "the sentence had not ended"
        assert caller.all("finalized") == []
        await caller.send(speech[CUT_BYTES:])
        await caller.finished()
    check_words(record(caller), uncut)


async def test_speech_goes_on_as_if_nothing_had_been_where_the_connection_was_lost(
    waiting: Server, speech: bytes, uncut: list[str]
) -> None:
    async with silent(waiting, speech) as (first, ready):
        await first.until("partial")
        first.socket.transport.abort()
    async with silent(waiting, speech) as (other, _):  # its silence is the clock
        await other.until("utterance")
    async with resumed(waiting.stream, ready, first.heard) as (second, again):
        assert again["received_bytes"] == CUT_BYTES
        await second.send(speech[CUT_BYTES:])
        await second.finished()
    kept = record(first, second)
    check_record(kept)
    assert plain_words("".join(m["text"] for m in kept if m["type"] == "commit")) == uncut
    assert not any(m["text"].endswith("originally") for m in kept if m["type"] == "utterance")


async def test_so_it_does_where_the_server_was_killed(
    start_server: StartServer, speech: bytes, uncut: list[str]
) -> None:
    server = start_server(**WAITS)
    later = 2 * CUT_BYTES
    async with call(server.stream) as first:
        ready = await first.start()
        await first.send(speech[:later])
        await first.until("commit")
        await first.when(lambda: first.in_flight_bytes == 0)
        server.process.kill()
        await first.closed()
    server.process.wait()
    heir = start_server("--data", str(server.data), **WAITS)
    async with silent(heir, speech) as (other, _):  # its silence is the clock
        await other.until("utterance")
    async with resumed(heir.stream, ready, first.heard) as (second, again):
        assert again["received_bytes"] == later
        await second.send(speech[later:])
        await second.finished()
    kept = record(first, second)
    check_record(kept)
    assert plain_words("".join(m["text"] for m in kept if m["type"] == "commit")) == uncut


async def test_what_was_committed_in_a_silence_is_said_once_though_the_server_is_killed(
    start_server: StartServer, speech: bytes, uncut: list[str]
) -> None:
    server = start_server(**WAITS)
    async with silent(server, speech) as (first, ready):
        await first.when(lambda: first.in_flight_bytes == 0)
        said = await first.until("utterance")
        assert said["text"].endswith("originally")
        server.process.kill()
        await first.closed()
    server.process.wait()
    heir = start_server("--data", str(server.data), **WAITS)
    async with resumed(heir.stream, ready, first.heard) as (second, again):
        assert again["received_bytes"] == CUT_BYTES
        await second.send(speech[CUT_BYTES:])
        await second.finished()
    check_words(record(first, second), uncut)


async def test_a_file_whose_client_takes_its_time_is_heard_as_if_it_had_not(
    waiting: Server, speech: bytes
) -> None:
    async with call(waiting.stream) as file:
        await file.start(pace="fast")
        await file.send(speech[:CUT_BYTES])
        await file.until("ack")
        async with silent(waiting, speech) as (later, _):  # its silence is the clock
            await later.until("utterance")
        assert file.all("utterance") == []
        await file.send(speech[CUT_BYTES:])
        await file.finished()
