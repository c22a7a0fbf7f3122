"""A client that comes back later than its server waits: it reads on to the end, and says what cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_peer import READY, WINDOW_BYTES, Peer, commit, final, peer, write_tone
from websockets.exceptions import ConnectionClosed

from live_asr.client import LiveSession, Resumed, SessionFailed, connect, transcribe_file
from live_asr.client.session import Pace
from live_asr.core.messages import Ack, Commit, Final, Notice, Resume, Start, Stopped

HEARD = (commit(2, " it"), Stopped(3, 2.0, " So it"))


async def has_ended(peer: Peer) -> None:
    """The session was done when its client came back: what it has received is not even known any more."""
    await peer.say(replace(READY, last_seq=4), *HEARD, final(4, " So it"))
    await peer.socket.close(1000)
    with pytest.raises(ConnectionClosed):  # and nothing came before that
        await peer.socket.recv()


async def is_ending(peer: Peer) -> None:
    """The session has not said `stopped` yet when audio comes that it cannot take any more."""
    await peer.say(replace(READY, last_seq=1, received_bytes=4))
    await peer.audio_of(1)
    await peer.say(Notice("audio_dropped", "The session ended while you were away."), *HEARD)
    await peer.say(final(4, " So it"))
    await peer.socket.close(1000)


Later = Callable[[Peer], Awaitable[None]]


def losing(later: Later, starts: list[Start]) -> Later:
    """Take four bytes, say one word, be gone; the second time, do what comes later."""

    async def script(peer: Peer) -> None:
        start = await peer.message()
        assert isinstance(start, Start)
        starts.append(start)
        if len(starts) > 1:
            await later(peer)
            return
        await peer.say(READY)
        await peer.audio_of(4)
        await peer.say(Ack(4), commit(1, " So"))
        await asyncio.sleep(0)
        await peer.socket.close(1011)

    return script


@pytest.mark.parametrize("later", [has_ended, is_ending])
@pytest.mark.parametrize("pace", ["realtime", "fast"])
async def test_a_session_that_ended_while_its_client_was_away_is_read_to_its_end(
    later: Later, pace: Pace
) -> None:
    starts: list[Start] = []
    async with peer(losing(later, starts)) as url, connect(url, pace=pace) as session:
        await session.send(b"1234")
        seen: list[object] = []
        sending = asyncio.create_task(sent_on(session))
        async for message in session:
            seen.append(message)
        with pytest.raises(SessionFailed, match="ended while its client was away") as refused:
            await sending
        assert refused.value.code == "unexpected_message"
        with pytest.raises(SessionFailed, match="ended while its client was away"):
            await session.finalize()
        assert await session.stop() == final(4, " So it")
        assert session.transcript.text == " So it"
    assert [start.resume for start in starts] == [None, Resume("s-1", "secret", 1)]
    kinds = [type(message) for message in seen if not isinstance(message, Ack | Notice)]
    assert kinds[0] is Commit
    assert kinds[-4:] == [Resumed, Commit, Stopped, Final]
    assert any(isinstance(message, Notice) for message in seen) == (later is is_ending)


async def sent_on(session: LiveSession) -> None:
    """Send until it is refused; a fast client soon waits for room."""
    while True:
        await session.send(bytes(WINDOW_BYTES // 4))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("pace", ["realtime", "fast"])
async def test_a_file_whose_session_ended_too_early_is_an_error_behind_its_result(
    tmp_path: Path, pace: Pace
) -> None:
    tone = write_tone(tmp_path / "tone.wav", duration=5.0)
    seen: list[object] = []

    async def read(url: str) -> None:
        async for message in transcribe_file(tone, url, pace=pace):
            seen.append(message)

    async with peer(losing(has_ended, [])) as url:
        with pytest.raises(SessionFailed, match="ended before the file did"):
            await read(url)
    assert seen[-1] == final(4, " So it")
