"""What waits for one client: kept messages in order, of the others the newest, and never too much. And who
is there: whatever happens to a connection, its box, its time and its session's end go with its state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product

import pytest

from live_asr.core.connection_states import ConnectionEvent, ConnectionState, Sent, after
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
from live_asr.sessions.connection import ClientConnection, Outbox


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


# Who is there -----------------------------------------------------------------------------------------

S, E = ConnectionState, ConnectionEvent
WINDOW = 1e6


class Connection(ClientConnection):
    """One whose client is waited for long, and that counts how often it said that nothing more comes."""

    def __init__(self, window: float = WINDOW) -> None:
        super().__init__(lambda: window, self._note)
        self.ends = 0

    def _note(self) -> None:
        self.ends += 1


HAPPENINGS: dict[ConnectionEvent, Callable[[ClientConnection], object]] = {
    E.CAME_BACK: lambda connection: connection.attach(0),
    E.LOST: ClientConnection.lose,
    E.STOPPED: ClientConnection.stop,
    E.EXPIRED: ClientConnection.give_up,
    E.SUSPENDED: ClientConnection.leave,
    E.INTERRUPTED: lambda connection: connection.leave(even_stopped=True),
    E.ENDED: ClientConnection.end,
}
WAYS: dict[ConnectionState, tuple[ConnectionEvent, ...]] = {
    S.ATTACHED: (),
    S.AWAITED: (E.LOST,),
    S.STOPPED: (E.STOPPED,),
    S.GONE: (E.STOPPED, E.LOST),
    S.GIVEN_UP: (E.LOST, E.EXPIRED),
    S.LATE: (E.LOST, E.EXPIRED, E.CAME_BACK),
    S.LEFT: (E.INTERRUPTED,),
    S.OVER: (E.ENDED,),
}


def connection_in(state: ConnectionState) -> Connection:
    """Bring a connection into `state` by what may happen to it."""
    connection = Connection()
    for event in WAYS[state]:
        HAPPENINGS[event](connection)
    assert connection.state is state
    return connection


@pytest.mark.parametrize(
    ("state", "event"),
    # Nobody comes back to what is over: that is taken up from what is on disk.
    [pair for pair in product(S, E) if pair not in {(S.LEFT, E.CAME_BACK), (S.OVER, E.CAME_BACK)}],
    ids=lambda value: value.value,
)
async def test_a_connection_is_after_each_event_as_the_table_says_in_all_that_it_holds(
    state: ConnectionState, event: ConnectionEvent
) -> None:
    connection = connection_in(state)
    ends_before = connection.ends
    HAPPENINGS[event](connection)
    now = connection.state
    assert now is after(state, event)
    if now not in (S.LEFT, S.OVER):
        assert (connection.outbox is not None) == (now in (S.ATTACHED, S.STOPPED, S.LATE))
    assert (connection.expires_within() is not None) == (now is S.AWAITED)
    assert connection.is_over == (now in (S.LEFT, S.OVER))
    assert connection.ends - ends_before == (now is not state and now in (S.GONE, S.GIVEN_UP))
    connection.close()


@pytest.mark.parametrize("state", [S.ATTACHED, S.STOPPED, S.LATE], ids=lambda state: state.value)
async def test_who_comes_back_while_another_seems_to_be_there_sends_that_one_away(
    state: ConnectionState,
) -> None:
    connection = connection_in(state)
    older = connection.outbox
    newer = connection.attach(0)
    assert older is not None and older.failure is not None
    assert (older.failure.code, newer.failure) == ("resumed_elsewhere", None)
    assert connection.is_other(older) and not connection.is_other(newer)


async def test_a_client_that_nobody_waits_for_is_given_up_at_once_and_told_of_once() -> None:
    connection = Connection(window=0.0)
    connection.lose()
    connection.give_up()
    assert (connection.state, connection.ends, connection.sent) == (S.GIVEN_UP, 1, Sent.DROPPED)


async def test_what_was_said_before_the_end_can_be_taken_out_after_it() -> None:
    connection = Connection()
    assert connection.outbox is not None
    connection.outbox.put(commit(1))
    connection.end()
    await connection.ended()
    assert await taken(connection.outbox) == [commit(1)]
