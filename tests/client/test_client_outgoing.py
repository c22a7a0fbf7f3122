"""What a client holds until it is confirmed: whatever is lost on the way, all arrives once and in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.client.connection import SessionFailed
from live_asr.client.outgoing import Outgoing
from live_asr.core.messages import Finalize, Stop

WINDOW_BYTES = 100
HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40)),
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("ack"), st.integers(0, 300)),
        st.tuples(st.just("lose"), st.integers(0, 60)),
        st.tuples(st.just("die"), st.integers(0, 300)),
        st.tuples(st.just("finalize"), st.just(0)),
    ),
    max_size=80,
)


@given(HAPPENINGS)
def test_all_audio_arrives_once_and_in_order_whatever_is_lost(happenings: list[tuple[str, int]]) -> None:
    outgoing = Outgoing()
    said = bytearray()
    received = bytearray()
    on_disk = 0

    def send(most: int) -> None:
        for _ in range(most):
            item = outgoing.next(WINDOW_BYTES)
            if item is None:
                return
            if isinstance(item, bytes):
                received.extend(item)
                assert len(received) - outgoing.acked_bytes <= WINDOW_BYTES

    for what, number in happenings:
        if what == "add":
            audio = bytes((len(said) + index) % 251 for index in range(number))
            said += audio
            outgoing.add(audio)
        elif what == "finalize":
            outgoing.ask(Finalize())
        elif what == "send":
            send(number)
        elif what == "ack":
            on_disk = max(on_disk, min(number, len(received)))
            outgoing.acknowledge(on_disk)
        elif what == "lose":  # the last bytes that were sent never arrived
            del received[max(on_disk, len(received) - number) :]
            outgoing.go_on_from(len(received))
        else:  # so did the server's memory go
            del received[max(on_disk, min(number, len(received))) :]
            outgoing.go_on_from(len(received))
    while len(received) < len(said):
        send(1000)
        outgoing.acknowledge(len(received))
    outgoing.acknowledge(len(received))
    assert received == said
    assert outgoing.unacked_bytes == 0


def test_controls_are_said_after_the_audio_before_them_and_again_until_they_are_answered() -> None:
    outgoing = Outgoing()
    outgoing.add(b"abcd")
    outgoing.ask(Finalize())
    outgoing.add(b"ef")
    outgoing.ask(Stop())
    assert [outgoing.next(100) for _ in range(5)] == [b"abcd", Finalize(), b"ef", Stop(), None]
    outgoing.go_on_from(2)
    assert [outgoing.next(100) for _ in range(5)] == [b"cd", Finalize(), b"ef", Stop(), None]
    outgoing.answered(Finalize)
    outgoing.go_on_from(6)
    assert [outgoing.next(100) for _ in range(2)] == [Stop(), None]
    outgoing.answered(Stop)
    outgoing.go_on_from(6)
    assert outgoing.next(100) is None


def test_the_window_is_kept_and_what_waits_is_held() -> None:
    outgoing = Outgoing()
    outgoing.add(bytes(60))
    outgoing.add(bytes(60))
    assert outgoing.next(100) == bytes(60)
    assert outgoing.next(100) is None
    assert outgoing.unacked_bytes == 120
    outgoing.acknowledge(60)
    assert outgoing.next(100) == bytes(60)


def test_a_window_that_has_shrunk_since_the_audio_was_put_in_is_kept_too() -> None:
    outgoing = Outgoing()
    outgoing.add(b"abcdefg")
    outgoing.add(b"hi")
    received = b""
    while len(received) < 9:
        item = outgoing.next(3)
        assert isinstance(item, bytes)
        received += item
        assert outgoing.sent_bytes - outgoing.acked_bytes <= 3
        outgoing.acknowledge(len(received))
    assert received == b"abcdefghi"
    assert outgoing.unacked_bytes == 0


def test_a_server_that_has_less_than_it_acknowledged_is_an_error_and_no_gap() -> None:
    outgoing = Outgoing()
    outgoing.add(bytes(10))
    outgoing.next(100)
    outgoing.acknowledge(10)
    with pytest.raises(SessionFailed) as failed:
        outgoing.go_on_from(5)
    assert failed.value.code == "audio_lost"
