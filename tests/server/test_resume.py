"""Sessions whose connection is lost, on the real server: taken up again, by nobody else, or ended."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from talking import Caller, Message, call, eventually, finished_record

from benchmarks.resilience.cutting import CUTS, Cut, Proxy, proxy
from tests.server.resuming import check_record, record, resumed
from tests.started import Server, StartServer

SECOND_BYTES = 32_000
SPEECH = slice(14 * SECOND_BYTES, 24 * SECOND_BYTES)


@pytest.fixture(scope="module")
def uncut(waiting: Server, sample_pcm: bytes) -> Caller:
    """What is said of the speech where nothing is cut."""

    async def run() -> Caller:
        async with call(waiting.stream) as caller:
            await caller.start()
            await caller.speak(sample_pcm[SPEECH])
            await caller.finished()
        return caller

    return asyncio.run(run())


async def cut_and_leave(between: Proxy, how: Cut, caller: Caller, speaking: asyncio.Task[None]) -> None:
    cutting = asyncio.create_task(between.cut(how))
    await caller.closed()
    await cutting
    with contextlib.suppress(Exception):  # whatever a socket raises that is closed under it
        await speaking


@pytest.mark.parametrize("how", CUTS)
async def test_a_session_whose_connection_is_cut_goes_on_over_another_one_as_if_nothing_had_been(
    waiting: Server, sample_pcm: bytes, uncut: Caller, how: Cut
) -> None:
    speech = sample_pcm[SPEECH]
    async with proxy(waiting.url) as between:
        async with call(between.stream) as first:
            ready = await first.start()
            speaking = asyncio.create_task(first.speak(speech))
            await first.until("commit")
            await cut_and_leave(between, how, first, speaking)
        async with resumed(between.stream, ready, first.heard) as (second, again):
            assert (again["session"], again["token"]) == (ready["session"], ready["token"])
            assert first.acks[-1][0] <= again["received_bytes"] <= first.sent_bytes
            assert again["last_seq"] >= first.all("commit")[-1]["seq"]
            await second.speak(speech[again["received_bytes"] :])
            final = await second.finished()
    kept = record(first, second)
    check_record(kept)
    assert final["duration"] == len(speech) / SECOND_BYTES
    assert kept[-2]["text"] == uncut.all("stopped")[0]["text"]


async def test_a_client_that_comes_back_hears_what_it_missed_in_order_before_anything_else(
    waiting: Server, sample_pcm: bytes
) -> None:
    async with proxy(waiting.url) as between:
        async with call(between.stream) as first:
            ready = await first.start(pace="fast")
            await first.send(sample_pcm[SPEECH])
            await first.when(lambda: len(first.all("commit")) > 1)
            await between.cut("half-open")
            await first.closed()
        # What is said now, nobody hears; it is kept. Then somebody comes back who has heard only the first.
        async with resumed(between.stream, ready, [], last_seq=1) as (second, again):
            await second.when(lambda: bool(second.heard and record(second)))
            await second.finished()
        missed = [m.get("seq") for m in second.heard[1 : again["last_seq"]]]
        assert missed == list(range(2, again["last_seq"] + 1))
        assert again["received_bytes"] == len(sample_pcm[SPEECH])
    check_record([record(first)[0], *record(second)])


async def test_the_old_connection_is_closed_in_favour_of_the_new_one(
    waiting: Server, sample_pcm: bytes
) -> None:
    async with call(waiting.stream) as first:
        ready = await first.start()
        await first.send(sample_pcm[:SECOND_BYTES])
        await first.until("ack")
        async with resumed(waiting.stream, ready, first.heard) as (second, again):
            assert again["received_bytes"] == SECOND_BYTES
            assert await first.closed() == 1008
            assert first.heard[-1]["code"] == "resumed_elsewhere"
            await second.send(sample_pcm[SECOND_BYTES : 2 * SECOND_BYTES])
            assert (await second.finished())["duration"] == 2.0


async def test_a_finalize_and_a_stop_that_nobody_answered_may_be_said_again(
    waiting: Server, sample_pcm: bytes
) -> None:
    speech = sample_pcm[SPEECH]
    async with call(waiting.stream) as first:
        ready = await first.start(pace="fast")
        await first.send(speech)
        await first.say("finalize")
        await first.say("stop")
        # Both have arrived when an answer to a ping has.
        await (await first.socket.ping())
        async with resumed(waiting.stream, ready, first.heard) as (second, again):
            assert again["received_bytes"] == len(speech)
            await second.finished()
    check_record(record(first, second))


async def test_a_session_that_is_done_gives_what_was_missed_and_a_good_end(
    waiting: Server, sample_pcm: bytes
) -> None:
    async with call(waiting.stream) as first:
        ready = await first.start(pace="fast")
        await first.send(sample_pcm[SPEECH])
        await first.until("commit")
        await first.say("stop")
        await (await first.socket.ping())
        first.socket.transport.abort()
    await finished_record(waiting.url, ready["session"])
    async with resumed(waiting.stream, ready, first.heard) as (second, again):
        assert await second.closed() == 1000
    assert again["received_bytes"] == len(sample_pcm[SPEECH])
    kept = record(first, second)
    check_record(kept)
    assert (kept[-1]["type"], again["last_seq"]) == ("final", kept[-1]["seq"])


@pytest.mark.parametrize(
    "changes", [{"token": "another"}, {"session": "0123456789abcdef"}, {"session": "../x"}]
)
async def test_who_has_not_the_token_learns_nothing_and_disturbs_nobody(
    waiting: Server, sample_pcm: bytes, changes: Message
) -> None:
    async with call(waiting.stream) as first:
        ready = await first.start()
        async with resumed(waiting.stream, ready, [], **changes) as (stranger, answer):
            assert (answer["type"], answer["code"]) == ("error", "session_unknown")
            assert await stranger.closed() == 1008
        async with resumed(waiting.stream, {"session": "nobody", "token": "x"}, []) as (_, other):
            assert other == answer, "the same words, whether there is such a session or not"
        await first.send(sample_pcm[:SECOND_BYTES])
        assert (await first.finished())["duration"] == 1.0
    folder = waiting.data / "sessions" / ready["session"]
    assert ready["token"] not in (folder / "session.json").read_text()


async def test_a_position_that_the_session_never_reached_is_refused_and_the_connection_stays(
    waiting: Server,
) -> None:
    async with call(waiting.stream) as first:
        ready = await first.start()
        async with resumed(waiting.stream, ready, [], last_seq=99) as (_, answer):
            assert (answer["code"], "99" in answer["message"]) == ("bad_message", True)
        await first.finished()


async def test_a_client_that_overruns_its_window_may_come_back(waiting: Server, sample_pcm: bytes) -> None:
    async with call(waiting.stream) as first:
        ready = await first.start(pace="fast")
        with contextlib.suppress(Exception):  # the socket is closed under it
            for _ in range(8):
                await first.socket.send(bytes(1_000_000))
        assert await first.closed() == 1008
        assert first.heard[-1]["code"] == "overrun"
    async with resumed(waiting.stream, ready, first.heard) as (second, again):
        assert again["received_bytes"] % 1_000_000 == 0
        await second.send(sample_pcm[:SECOND_BYTES])
        final = await second.finished()
    assert final["duration"] == again["received_bytes"] / SECOND_BYTES + 1.0


async def test_a_session_that_nobody_takes_up_keeps_its_place_and_then_ends_by_itself(
    start_server: StartServer, sample_pcm: bytes
) -> None:
    server = start_server(LIVE_ASR_SERVER__RESUME_WINDOW="3", LIVE_ASR_SERVER__MAX_SESSIONS="1")
    async with call(server.stream) as first:
        ready = await first.start(pace="fast")
        await first.send(sample_pcm[SPEECH])
        await first.until("commit")
        first.socket.transport.abort()
    async with call(server.stream) as other:
        assert (await other.start())["code"] == "server_full"
    done = await finished_record(server.url, ready["session"])
    assert done["duration"] == len(sample_pcm[SPEECH]) / SECOND_BYTES
    assert done["text"].startswith(first.text.strip())
    await eventually(lambda: server.metric("live_asr_sessions") == 0)
    async with resumed(server.stream, ready, first.heard) as (second, _):
        assert await second.closed() == 1000
    check_record(record(first, second))


async def test_kept_messages_that_were_heard_are_on_disk(waiting: Server, sample_pcm: bytes) -> None:
    async with call(waiting.stream) as caller:
        session = (await caller.start(pace="fast"))["session"]
        path = waiting.data / "sessions" / session / "messages.jsonl"
        sending = asyncio.create_task(caller.send(sample_pcm[SPEECH]))
        looked = 0
        while looked < 2:
            count = len(record(caller))
            heard = record(caller)[:count]
            kept = [json.loads(line) for line in path.read_text().splitlines()[:count]]
            assert [{key: one[key] for key in one if key != "crc"} for one in kept] == heard
            looked += bool(heard)
            await caller.when(lambda seen=count: len(record(caller)) > seen)  # type: ignore[misc]
        await sending
        await caller.finished()
