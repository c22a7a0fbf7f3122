"""What waits for one client: kept messages in order, of the others the newest, and never too much."""

from __future__ import annotations

import asyncio

import pytest

from live_asr.core.errors import ClientError
from live_asr.core.messages import (
    Ack,
    Commit,
    Error,
    Final,
    Finalized,
    Lag,
    Notice,
    Partial,
    ServerMessage,
    Speech,
    Stopped,
    WireWord,
    decode_server,
)
from live_asr.sessions.connection import Outbox


def commit(seq: int) -> Commit:
    word = WireWord(" word", 0.0, 0.5, 0.9, None)
    return Commit(seq, (word,), " word", 0)


def partial(text: str) -> Partial:
    return Partial(text, (), 0.0, 0.0)


async def taken(outbox: Outbox) -> list[ServerMessage]:
    """Close the box and return all that still waits."""
    outbox.close()
    messages = []
    while (text := await outbox.get()) is not None:
        messages.append(decode_server(text))
    return messages


async def test_messages_come_out_in_the_order_they_were_put_in() -> None:
    outbox = Outbox()
    messages = [Speech("started", 0.1), commit(1), Notice("degraded", "slow"), commit(2), Finalized(1.0)]
    for message in messages:
        outbox.put(message)
    assert await taken(outbox) == messages


async def test_of_what_the_next_one_replaces_only_the_newest_waits() -> None:
    outbox = Outbox()
    for number in range(1000):
        outbox.put(partial(str(number)))
        outbox.put(Ack(number))
        outbox.put(Lag(float(number), 0.0, float(number)))
    assert await taken(outbox) == [partial("999"), Ack(999), Lag(999.0, 0.0, 999.0)]


async def test_a_partial_never_overtakes_the_commit_that_it_follows() -> None:
    outbox = Outbox()
    for message in (partial("a"), commit(1), partial("b"), commit(2), partial("")):
        outbox.put(message)
    assert await taken(outbox) == [commit(1), commit(2), partial("")]


@pytest.mark.parametrize("message", [commit(1), Speech("started", 0.1), Finalized(0.1), Notice("a", "b")])
async def test_a_client_that_does_not_read_is_refused_more(message: ServerMessage) -> None:
    outbox = Outbox(most_bytes=10_000)
    with pytest.raises(ClientError) as refusal:
        for _ in range(10_000):
            outbox.put(message)
    assert (refusal.value.code, refusal.value.close_code) == ("slow_client", 1008)
    assert refusal.value.hint
    outbox.clear()
    outbox.put(Error("slow_client", "Too slow.", "Read."))
    assert await taken(outbox) == [Error("slow_client", "Too slow.", "Read.")]


async def test_a_client_that_reads_is_never_refused() -> None:
    outbox = Outbox(most_bytes=10_000)
    for seq in range(1, 5000):
        outbox.put(commit(seq))
        assert decode_server(await outbox.get() or b"") == commit(seq)


async def test_what_is_replaced_counts_no_more() -> None:
    outbox = Outbox(most_bytes=10_000)
    for _ in range(1000):
        outbox.put(partial("x" * 5000))
    outbox.put(commit(1))
    assert await taken(outbox) == [partial("x" * 5000), commit(1)]


async def test_a_final_larger_than_the_bound_is_sent_all_the_same() -> None:
    outbox = Outbox(most_bytes=10_000)
    outbox.put(commit(1))
    stopped = Stopped(2, 36_000.0, " word" * 50_000)
    final = Final(3, 1, 36_000.0, "en", " word" * 50_000, (), (), {})
    outbox.put(stopped)
    outbox.put(final)
    assert await taken(outbox) == [commit(1), stopped, final]


async def test_who_waits_is_woken_by_a_message_and_by_the_end() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.put(commit(1))
    assert decode_server(await waiting or b"") == commit(1)
    waiting = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.close()
    assert await waiting is None


async def test_a_closed_box_takes_nothing_more() -> None:
    outbox = Outbox()
    outbox.put(commit(1))
    outbox.close()
    outbox.put(commit(2))
    assert await taken(outbox) == [commit(1)]
