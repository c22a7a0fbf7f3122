"""After which errors a client comes back, when, and for how long: not too short, and not for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_peer import READY, Peer, peer

from benchmarks.resilience.cutting import proxy
from live_asr.client import Reconnecting, Resumed, SessionFailed, connect
from live_asr.client.connection import SessionError
from live_asr.client.resuming import FIRST_PAUSE, MAX_FRUITLESS, MAX_PAUSE, STABLE, Patience
from live_asr.core.messages import Ack, Error, Resume, Start
from tests.started import Server

LOST = SessionError("connection_lost", "It was lost.")


def tries(patience: Patience, now: float, error: SessionError, lasting: float = 0.0) -> list[float]:
    """Return when it is tried again, each try failing with the same error after so long."""
    times: list[float] = []
    while (pause := patience.pause(now, error)) is not None:
        now += pause
        times.append(now)
        now += lasting
        assert len(times) < 1000
    return times


# When -------------------------------------------------------------------------------------------------


def test_tries_come_ever_more_slowly_until_the_time_is_up_and_the_last_one_is_made_then() -> None:
    times = tries(Patience(120.0, now=50.0), 50.0, LOST)
    pauses = [later - earlier for earlier, later in zip([50.0, *times], times, strict=False)]
    assert pauses[0] <= FIRST_PAUSE
    assert all(pause <= MAX_PAUSE for pause in pauses)
    assert sum(pauses[-5:-1]) > 4 * MAX_PAUSE / 2 > sum(pauses[:4])
    assert times[-1] == pytest.approx(170.0)


def test_a_server_that_asks_for_time_gets_it_within_the_time_there_is() -> None:
    full = SessionError("storage_full", "The disk is full.", retry_after=60.0)
    assert tries(Patience(120.0, now=0.0), 0.0, full) == pytest.approx([60.0, 120.0])
    assert tries(Patience(100.0, now=0.0), 0.0, full) == pytest.approx([60.0, 100.0])


@pytest.mark.parametrize("code", ["loading", "server_full"])
def test_the_time_begins_when_the_server_has_loaded(code: str) -> None:
    patience, now = Patience(120.0, now=0.0), 0.0
    while now < 600.0:
        pause = patience.pause(now, SessionError(code, "Not yet.", retry_after=3.0))
        assert pause is not None
        assert 3.0 <= pause <= MAX_PAUSE
        now += pause
    assert tries(patience, now, LOST)[-1] == pytest.approx(now + 120.0, abs=MAX_PAUSE)


def test_a_connection_that_lasted_renews_patience_and_one_that_did_not_does_not() -> None:
    patience = Patience(120.0, now=0.0)
    patience.lose(100.0, STABLE / 2, got_on=True)
    assert tries(patience, 100.0, LOST)[-1] == pytest.approx(120.0)
    patience.lose(110.0, STABLE, got_on=True)
    times = tries(patience, 110.0, LOST)
    assert times[0] <= 110.0 + FIRST_PAUSE
    assert times[-1] == pytest.approx(230.0)


def test_connections_that_last_and_lead_to_nothing_are_given_up_in_the_end() -> None:
    patience, now, count = Patience(120.0, now=0.0), 0.0, 0
    while (pause := patience.pause(now, LOST)) is not None:
        now += pause + 2 * STABLE
        patience.lose(now, 2 * STABLE, got_on=False)
        count += 1
        assert count < 100
    assert count > MAX_FRUITLESS
    patience = Patience(120.0, now=0.0)
    for count in range(1000):
        pause = patience.pause(20.0 * count, LOST)
        assert pause is not None
        patience.lose(20.0 * count + 10.0, 2 * STABLE, got_on=count % MAX_FRUITLESS == 0)


# After which errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        *("shutting_down", "loading", "server_full", "internal", "storage_full"),
        *("start_timeout", "slow_client", "overrun"),
    ],
)
async def test_a_session_goes_on_after_an_error_that_may_pass(code: str) -> None:
    starts: list[Start] = []

    async def script(peer: Peer) -> None:
        start = await peer.message()
        assert isinstance(start, Start)
        starts.append(start)
        if len(starts) == 1:
            await peer.say(READY)
        if len(starts) < 3:  # once in the session, once instead of it
            await peer.say(Error(code, "Not now.", "Wait.", 0.0))
            await peer.socket.close(1011)
            return
        await peer.say(READY)
        await peer.message()
        assert peer.audio == b"1234"
        await peer.say(Ack(4))
        await peer.finish()

    async with peer(script) as url, connect(url) as session:
        assert await anext(session) == Reconnecting("Not now.")
        await session.send(b"1234")
        await session.stop()
        assert await anext(session) == Resumed(2)
    assert [start.resume for start in starts] == [None, *2 * [Resume("s-1", "secret", 0)]]


@pytest.mark.parametrize("code", ["internal", "storage_full"])
async def test_what_has_ended_a_session_is_told_where_it_is_not_there_any_more(code: str) -> None:
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.message()
        if connections == 1:
            await peer.say(READY, Error(code, "That was it.", "", 0.0))
        else:
            await peer.say(Error("session_unknown", "There is none.", "Open another."))
        await peer.socket.close(1011)

    async with peer(script) as url, connect(url) as session:
        assert isinstance(await anext(session), Reconnecting)
        with pytest.raises(SessionFailed, match="That was it") as failed:
            await anext(session)
    assert (failed.value.code, connections) == (code, 2)


async def test_a_server_that_refuses_the_same_again_and_again_is_given_up_with_its_own_words() -> None:
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.message()
        await peer.say(replace(READY, max_unacked_bytes=2), Error("overrun", "Too much.", ""))
        await peer.socket.close(1008)

    async with peer(script) as url, connect(url, reconnect_for=1.0) as session:
        with pytest.raises(SessionFailed, match="Too much"):
            while True:
                await anext(session)
    assert connections > 2


async def test_who_is_cut_off_before_any_audio_goes_on_in_another_session(
    server: Server, sample_pcm: bytes
) -> None:
    said = sample_pcm[6 * 32_000 : 14 * 32_000]
    async with (
        proxy(server.url) as between,
        connect(between.url, language="en", pace="fast", final_pass=False) as session,
    ):
        first = session.ready.session
        await between.cut("reset")
        assert isinstance(await anext(session), Reconnecting)
        assert isinstance(await anext(session), Resumed)
        assert session.ready.session != first, "a server does not wait for who had sent nothing"
        await session.send(said)
        final = await session.stop()
    assert final.duration == pytest.approx(8.0, abs=0.01)
    assert "hello" in final.text.lower()
