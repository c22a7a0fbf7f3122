"""The Python client, against a peer that speaks the protocol by script, and against the real server."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_peer import READY, WINDOW_BYTES, Peer, commit, final, peer, write_tone
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from live_asr.client import (
    LiveSession,
    Reconnecting,
    Resumed,
    SessionError,
    SessionFailed,
    SessionMessage,
    SessionRefused,
    connect,
    fetch_transcript,
    stream_url,
    transcribe_file,
)
from live_asr.client.connection import resume_address
from live_asr.client.resuming import HELD_BYTES
from live_asr.core.errors import ClientError, MediaError
from live_asr.core.messages import (
    Ack,
    Commit,
    Error,
    Final,
    Finalize,
    Finalized,
    FinalSpeaker,
    Lag,
    Partial,
    Progress,
    Ready,
    Resume,
    Start,
    Stop,
    Stopped,
    encode,
)
from live_asr.core.transcript import Transcript


async def everything(session: LiveSession) -> list[SessionMessage]:
    return [message async for message in session]


# Opening ------------------------------------------------------------------------------------------


async def test_start_carries_what_connect_was_given() -> None:
    starts: list[Start] = []

    async def script(peer: Peer) -> None:
        assert peer.socket.request is not None
        assert peer.socket.request.path == "/v1/stream"
        assert peer.socket.request.headers["Authorization"] == "Bearer t0ken"
        starts.append(await peer.open())

    async with peer(script) as url:
        options = {"language": "de", "vocabulary": ["Fugue"], "metadata": {"jobId": 7}}
        async with connect(url, token="t0ken", encoding="mulaw", sample_rate=8000, **options) as session:
            assert session.session == "s-1"
            assert session.ready.token == "secret"
    (start,) = starts
    assert (start.audio.encoding, start.audio.sample_rate) == ("mulaw", 8000)
    assert (start.language, start.vocabulary, start.metadata) == ("de", ("Fugue",), {"jobId": 7})


async def test_a_field_with_a_wrong_value_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ClientError, match=r"`audio\.encoding` must be"):
        async with connect("http://localhost:1", encoding="pcm"):
            pass


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://localhost:8765", "ws://localhost:8765/v1/stream"),
        ("https://asr.example.org/", "wss://asr.example.org/v1/stream"),
        ("wss://asr.example.org/captions", "wss://asr.example.org/captions/v1/stream"),
        ("ws://10.0.0.1:1/v1/stream", "ws://10.0.0.1:1/v1/stream"),
        ("localhost:8765", "ws://localhost:8765/v1/stream"),
        ("http://[::1]:8765", "ws://[::1]:8765/v1/stream"),
    ],
)
def test_any_usual_way_to_write_the_servers_address_is_understood(given: str, address: str) -> None:
    assert stream_url(given) == address


@pytest.mark.parametrize("given", ["ftp://localhost", "http://", "", "http://h:x", "http://[::1"])
def test_what_is_no_address_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(SessionRefused, match="Give one like"):
        stream_url(given)


async def test_no_server_at_the_address_is_said_so(unused_tcp_port: int) -> None:
    with pytest.raises(SessionRefused, match="No server answers at") as refused:
        async with connect(f"http://127.0.0.1:{unused_tcp_port}"):
            pass
    assert refused.value.code == "cannot_connect"
    assert "live-asr serve" in refused.value.hint


async def test_a_server_that_speaks_something_else_is_said_so() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail ready\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SessionRefused, match="no live-asr server"):
            async with connect(f"http://127.0.0.1:{port}"):
                pass


@pytest.mark.parametrize(
    ("status", "code", "retry_after"), [(401, "unauthorized", None), (503, "cannot_connect", 5.0)]
)
async def test_a_handshake_that_is_refused_says_why(
    status: int, code: str, retry_after: float | None
) -> None:
    def refuse(socket: ServerConnection, request: object) -> object:
        response = socket.respond(status, "no\n")
        response.headers["Retry-After"] = "5"
        return response

    async with serve(Peer, "127.0.0.1", 0, process_request=refuse) as server:  # never gets to a Peer
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SessionRefused) as refused:
            async with connect(f"http://127.0.0.1:{port}"):
                pass
    assert (refused.value.code, refused.value.retry_after) == (code, retry_after)


async def test_a_full_server_refuses_with_the_time_to_come_back() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.say(Error("server_full", "All 8 sessions are taken.", "Come back later.", 12.5))
        await peer.socket.close(1013)

    async with peer(script) as url:
        with pytest.raises(SessionRefused) as refused:
            async with connect(url):
                pass
    assert (refused.value.code, refused.value.retry_after) == ("server_full", 12.5)
    assert str(refused.value) == "All 8 sessions are taken. Come back later."


# Sending ------------------------------------------------------------------------------------------


async def test_audio_arrives_as_it_was_sent_whatever_the_chunks() -> None:
    received: list[Peer] = []

    async def script(peer: Peer) -> None:
        await peer.open()
        received.append(peer)
        await peer.message()
        await peer.finish()

    sent = bytes(range(256)) * 300
    async with peer(script) as url, connect(url) as session:
        await session.send(sent[:1])
        await session.send(bytearray(sent[1:3]))
        await session.send(memoryview(sent)[3:])
        await session.send(b"")
        await session.stop()
    assert bytes(received[0].audio) == sent
    assert max(received[0].frame_sizes) <= 65_536


async def test_numbers_in_a_wide_buffer_are_sent_as_their_bytes() -> None:
    received: list[Peer] = []

    async def script(peer: Peer) -> None:
        await peer.open()
        received.append(peer)
        await peer.message()
        await peer.finish()

    samples = array("h", [1, -2, 300])
    async with peer(script) as url, connect(url) as session:
        await session.send(memoryview(samples))
        assert session.sent_bytes == 6
        await session.stop()
    assert bytes(received[0].audio) == samples.tobytes()


async def test_a_fast_client_has_never_more_in_flight_than_the_window() -> None:
    total_bytes = 5 * WINDOW_BYTES + 7
    in_flight: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.open()
        acked = 0
        while len(peer.audio) < total_bytes:
            # Take all that comes until the client pauses, which it must at the window's end.
            await peer.audio_of(min(acked + WINDOW_BYTES - 65_535, total_bytes))
            in_flight.append(len(peer.audio) - acked)
            acked = len(peer.audio)
            await peer.say(Ack(acked))
        await peer.message()
        await peer.finish()

    async with peer(script) as url, connect(url, pace="fast") as session:
        await session.send(bytes(total_bytes))
        await session.stop()
        assert session.acked_bytes == total_bytes
        assert session.in_flight_bytes == 0
    assert max(in_flight) <= WINDOW_BYTES


async def test_a_fast_client_waits_at_the_windows_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.audio_of(WINDOW_BYTES)
        await peer.say(Lag(1.0, 0.0, 1.0))
        await peer.message()

    async with peer(script) as url, connect(url, pace="fast") as session:
        await session.send(bytes(WINDOW_BYTES))
        waiting = asyncio.create_task(session.send(b"more"))
        assert isinstance(await anext(session), Lag)  # the peer has it all, and has acknowledged nothing
        assert not waiting.done()
        assert session.sent_bytes == WINDOW_BYTES
        waiting.cancel()


async def test_a_live_client_that_gets_too_far_ahead_is_told_and_may_go_on() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.audio_of(10)
        await peer.say(Lag(1.0, 0.0, 1.0))
        while len(peer.audio) < HELD_BYTES + 10:
            await peer.audio_of(min(len(peer.audio) + WINDOW_BYTES // 2, HELD_BYTES + 10))
            await peer.say(Ack(len(peer.audio)))
        await peer.message()
        await peer.finish()

    async with peer(script) as url, connect(url) as session:
        await session.send(bytes(10))
        assert isinstance(await anext(session), Lag)
        with pytest.raises(SessionFailed, match=f"bound of {HELD_BYTES}") as overrun:
            await session.send(bytes(HELD_BYTES))
        assert overrun.value.code == "overrun"
        assert session.sent_bytes == 10
        await session.send(bytes(HELD_BYTES), may_wait=True)
        await session.stop()


async def test_finalize_returns_when_the_server_has_finalized() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        assert isinstance(await peer.message(), Finalize)
        await peer.say(commit(1, " So"), Finalized(0.5))

    async with peer(script) as url, connect(url) as session:
        assert await session.finalize() == Finalized(0.5)
        assert session.transcript.text == " So"


async def test_stop_returns_the_final_and_may_be_asked_for_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        assert isinstance(await peer.message(), Stop)
        await peer.finish(text="So.")

    async with peer(script) as url, connect(url) as session:
        assert (await session.stop()).text == "So."
        assert (await session.stop()).text == "So."


async def test_stop_waits_through_the_full_pass_whose_progress_can_be_read_meanwhile() -> None:
    seen = asyncio.Event()
    speakers = (FinalSpeaker("SPEAKER_00", ("S1", "S3"), 12.5, 4),)

    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        await peer.say(Stopped(1, 1.0, ""), Progress("segmentation", 0.25))
        await seen.wait()
        await peer.say(Progress("embeddings", 0.5), final(2, speakers=speakers))
        await peer.socket.close(1000)

    async with peer(script) as url, connect(url) as session:
        stopping = asyncio.create_task(session.stop())
        messages = []
        async for message in session:
            messages.append(message)
            if isinstance(message, Progress) and not seen.is_set():
                assert not stopping.done()
                seen.set()
        assert messages[:2] == [Stopped(1, 1.0, ""), Progress("segmentation", 0.25)]
        assert (await stopping).speakers == speakers
        assert isinstance(messages[-1], Final)


async def test_a_connection_lost_in_the_full_pass_is_an_error_of_stop() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        await peer.say(Stopped(1, 1.0, ""), Progress("segmentation", 0.25))
        peer.socket.transport.abort()

    async with peer(script) as url, connect(url, reconnect_for=0) as session:
        with pytest.raises(SessionFailed) as failed:
            await session.stop()
    assert failed.value.code == "connection_lost"


async def test_nothing_can_be_sent_after_stop() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        await peer.finish()

    async with peer(script) as url, connect(url) as session:
        await session.stop()
        with pytest.raises(SessionFailed) as failed:
            await session.send(b"late")
        assert failed.value.code in ("stopped", "connection_lost")
        with pytest.raises(SessionFailed):
            await session.finalize()


# Receiving ----------------------------------------------------------------------------------------


async def test_messages_come_typed_in_order_and_end_when_the_server_is_done() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.say(commit(1, " So"), commit(2, " it"))
        await peer.message()
        await peer.finish(seq=3, text=" So it")

    async with peer(script) as url, connect(url) as session:
        await session.stop()
        assert await everything(session) == [
            commit(1, " So"),
            commit(2, " it"),
            Stopped(3, 1.0, " So it"),
            final(4, " So it"),
        ]
        assert session.transcript.last_seq == 4
        assert session.transcript.is_stopped


async def test_of_partials_that_nobody_read_only_the_newest_is_left_and_no_commit_is_lost() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        for seq in range(1, 101):
            await peer.say(Partial(f"{seq}", (), 0.0, 0.0), commit(seq, f" {seq}"))
        await peer.message()
        await peer.finish(seq=101)

    async with peer(script) as url, connect(url) as session:
        await session.stop()
        messages = await everything(session)
    assert [m.text for m in messages if isinstance(m, Partial)] == ["100"]
    assert [m.seq for m in messages if isinstance(m, Commit)] == list(range(1, 101))


async def test_a_message_type_of_a_newer_server_is_passed_over() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.socket.send('{"type": "applause", "seconds": 3}')
        await peer.message()
        await peer.finish()

    async with peer(script) as url, connect(url) as session:
        await session.stop()
        assert [m.type for m in await everything(session)] == ["stopped", "final"]


# What the server keeps ----------------------------------------------------------------------------


async def test_a_transcript_is_fetched_from_where_final_links_to() -> None:
    pages = {"/v1/sessions/s-1/transcript.txt": "Schön.\n"}
    asked: list[Request] = []
    async with peer(Peer.finish, pages, asked) as url:
        address = url.replace("http", "ws") + "/v1/stream"
        assert await fetch_transcript(address, *pages, token="t0ken") == "Schön.\n"
        assert await fetch_transcript(url, *pages) == "Schön.\n"
    assert [request.headers.get("Authorization") for request in asked] == ["Bearer t0ken", None]


async def test_a_transcript_that_is_not_there_is_said_so(unused_tcp_port: int) -> None:
    async with peer(Peer.finish) as url:
        with pytest.raises(SessionError) as failed:
            await fetch_transcript(url, "/v1/sessions/s-1/transcript.txt")
    assert failed.value.code == "session_unknown"
    with pytest.raises(SessionError) as failed:
        await fetch_transcript(f"http://127.0.0.1:{unused_tcp_port}", "/v1/sessions/s-1/transcript.txt")
    assert failed.value.code == "cannot_connect"


@pytest.mark.parametrize("link", ["http://elsewhere.example/", "//elsewhere.example/x", "x", "", "@h/x"])
async def test_a_link_that_leads_elsewhere_is_not_followed(link: str) -> None:
    with pytest.raises(SessionError) as failed:
        await fetch_transcript("http://localhost:1", link, token="t0ken")
    assert failed.value.code == "bad_server_message"


# Going wrong --------------------------------------------------------------------------------------


async def test_an_error_of_the_server_reaches_whoever_iterates_sends_or_waits() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.say(commit(1, " So"))
        await peer.message()
        await peer.say(Error("session_erased", "It was erased.", "Open another."))
        await peer.socket.close(1008)

    async with peer(script) as url, connect(url) as session:
        with pytest.raises(SessionFailed, match=r"It was erased\. Open another\."):
            await session.finalize()
        assert await anext(session) == commit(1, " So")
        with pytest.raises(SessionFailed) as failed:
            await anext(session)
        assert failed.value.code == "session_erased"
        with pytest.raises(SessionFailed, match="erased"):
            await session.send(b"1234")
        with pytest.raises(SessionFailed, match="erased"):
            await session.stop()
        assert session.transcript.text == " So"


async def test_a_lost_connection_is_an_error_and_not_an_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        peer.socket.transport.abort()

    async with peer(script) as url, connect(url, reconnect_for=0) as session:
        with pytest.raises(SessionFailed) as failed:
            await everything(session)
    assert failed.value.code == "connection_lost"


async def test_a_lost_session_is_taken_up_where_it_was_and_the_program_is_told() -> None:
    connections: list[Start] = []

    async def script(peer: Peer) -> None:
        start = await peer.message()
        assert isinstance(start, Start)
        connections.append(start)
        if len(connections) == 1:
            await peer.say(READY)
            await peer.audio_of(6)
            await peer.say(Ack(2), commit(1, " So"))
            assert await peer.message() == Finalize()
            peer.socket.transport.abort()
        elif len(connections) == 2:  # still not in order
            await peer.say(Error("shutting_down", "It restarts.", "Wait.", 0.0))
            await peer.socket.close(1012)
        else:
            await peer.say(replace(READY, received_bytes=4, last_seq=2), commit(2, " it"), Ack(4))
            assert await peer.message() == Finalize()
            await peer.say(Finalized(1.0))
            assert await peer.message() == Stop()
            assert peer.audio == b"56" + b"78"
            await peer.finish(3, " So it")

    async with peer(script) as url, connect(url) as session:
        await session.send(b"123456")
        finalizing = asyncio.create_task(session.finalize())
        seen: list[object] = []
        async for message in session:
            seen.append(message)
            if isinstance(message, Resumed):
                await finalizing
                await session.send(b"78")
                stopping = asyncio.create_task(session.stop())
        await stopping
    kinds = [type(message) for message in seen if not isinstance(message, Ack)]
    assert kinds == [Commit, Reconnecting, Resumed, Commit, Finalized, Stopped, Final]
    assert [c.resume for c in connections] == [None, *2 * [Resume("s-1", "secret", 1)]]
    assert session.transcript.text == " So it"


async def test_a_lost_session_goes_on_at_the_server_that_its_own_names() -> None:
    async def lose(one: Peer) -> None:
        assert isinstance(await one.message(), Start)
        await one.say(replace(READY, resume_url=elsewhere))
        await one.audio_of(2)
        await one.say(Ack(2))
        one.socket.transport.abort()

    async def go_on(other: Peer) -> None:
        start = await other.message()
        assert isinstance(start, Start) and start.resume == Resume("s-1", "secret", 0)
        await other.say(replace(READY, received_bytes=2))
        assert await other.message() == Stop()
        await other.finish()

    async with peer(go_on) as elsewhere, peer(lose) as url, connect(url) as session:
        await session.send(b"12")
        async for message in session:
            if isinstance(message, Resumed):
                break
        await session.stop()


@pytest.mark.parametrize(
    ("resume_url", "address"),
    [
        (None, "wss://one/v1/stream"),
        ("https://two:1/captions/", "wss://two:1/captions/v1/stream"),
        ("http://two", "wss://one/v1/stream"),
    ],
)
def test_a_session_goes_on_nowhere_where_others_could_listen(resume_url: str | None, address: str) -> None:
    assert resume_address("wss://one/v1/stream", resume_url) == address


async def test_a_session_that_is_not_there_any_more_fails_and_is_not_tried_again() -> None:
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await peer.open()
            peer.socket.transport.abort()
            return
        await peer.message()
        await peer.say(Error("session_unknown", "There is none.", "Open another."))
        await peer.socket.close(1008)

    async with peer(script) as url, connect(url) as session:
        with pytest.raises(SessionFailed) as failed:
            await everything(session)
    assert (failed.value.code, connections) == ("session_unknown", 2)


async def test_who_stays_away_for_too_long_is_given_up_and_what_is_held_has_a_bound() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        peer.socket.transport.abort()

    async with peer(script) as url, connect(url, reconnect_for=1.0) as session:
        first = await anext(session)
        assert isinstance(first, Reconnecting)
        await session.send(bytes(4 * WINDOW_BYTES))
        with pytest.raises(SessionFailed) as overrun:
            await session.send(bytes(HELD_BYTES))
        assert overrun.value.code == "overrun"
        with pytest.raises(SessionFailed) as failed:
            await everything(session)
    assert failed.value.code in ("connection_lost", "cannot_connect")


@pytest.mark.parametrize(
    "frame",
    ["captions!", '{"type": "commit", "seq": 1}', '{"no": "type"}', encode(commit(5, " So")).decode()],
)
async def test_a_message_that_makes_no_sense_fails_the_session_and_is_named(frame: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.socket.send(frame)
        await peer.message()

    async with peer(script) as url, connect(url) as session:
        with pytest.raises(SessionFailed, match="The server sent") as failed:
            await everything(session)
    assert failed.value.code == "bad_server_message"


async def test_leaving_early_closes_the_socket_without_a_stop() -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.open()
        with pytest.raises(ConnectionClosed):
            await peer.message()
        ended.set()

    async with peer(script) as url:
        async with connect(url) as session:
            await session.send(b"1234")
        await asyncio.wait_for(ended.wait(), 10)


# Files --------------------------------------------------------------------------------------------


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    return write_tone(tmp_path / "tone.wav")


async def test_what_is_asked_about_speakers_goes_into_a_files_start(tone: Path) -> None:
    options = {"diarize": False, "min_speakers": 2, "max_speakers": 3, "final_pass": False}
    start, _, _ = await streamed(tone, pace="fast", **options)
    assert (start.diarize, start.min_speakers, start.max_speakers, start.final_pass) == (False, 2, 3, False)


async def streamed(path: Path, **options: object) -> tuple[Start, bytes, list[SessionMessage]]:
    """Stream the file to a peer that acknowledges at once; return its start, its bytes and the answers."""
    seen: list[tuple[Start, Peer]] = []

    async def script(peer: Peer) -> None:
        start = await peer.open()
        seen.append((start, peer))
        while True:
            frame = await peer.socket.recv()
            if isinstance(frame, str):
                break
            peer.audio += frame
            await peer.say(Ack(len(peer.audio)))
        await peer.finish()

    async with peer(script) as url:
        messages = [message async for message in transcribe_file(path, url, **options)]
    ((start, served),) = seen
    return start, bytes(served.audio), messages


async def test_a_fast_file_is_sent_as_it_is(tone: Path) -> None:
    start, audio, messages = await streamed(tone, pace="fast", language="en")
    assert (start.audio.encoding, start.pace, start.language) == ("container", "fast", "en")
    assert audio == tone.read_bytes()  # noqa: ASYNC240  nothing else runs by now
    assert isinstance(messages[0], Ready)
    assert isinstance(messages[-1], Final)


async def test_a_realtime_file_is_decoded_and_sent_no_faster_than_it_sounds(tone: Path) -> None:
    begun = asyncio.get_running_loop().time()
    start, audio, _ = await streamed(tone, pace="realtime")
    assert (start.audio.encoding, start.audio.sample_rate, start.audio.channels) == ("pcm_s16le", 16_000, 1)
    assert abs(len(audio) - 32_000) < 64
    assert max(array("h", audio)) == pytest.approx(8000, rel=0.1)
    assert asyncio.get_running_loop().time() - begun >= 0.99


def encoded(tone: Path, name: str) -> Path:
    """Write the tone as MP4 or another container that PyAV's FFmpeg can write."""
    import av

    path = tone.with_name(name)
    with av.open(str(tone)) as source, av.open(str(path), "w") as target:
        codec = {"webm": "libopus", "ogg": "libopus", "mp3": "mp3", "flac": "flac"}.get(
            path.suffix[1:], "aac"
        )
        stream = target.add_stream(codec, rate=48_000 if codec == "libopus" else 44_100)
        resampler = av.AudioResampler(stream.format, stream.layout, stream.rate)
        for frame in source.decode(audio=0):
            for resampled in resampler.resample(frame):
                target.mux(stream.encode(resampled))
        target.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["tone.mp4", "tone.m4a", "tone.mov"])
async def test_a_fast_file_with_its_index_at_the_end_is_decoded_here(tone: Path, name: str) -> None:
    start, audio, _ = await streamed(encoded(tone, name), pace="fast")
    assert start.audio.encoding == "pcm_s16le"
    assert len(audio) / 32_000 == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("name", ["tone.webm", "tone.ogg", "tone.mp3", "tone.flac"])
async def test_other_fast_files_are_sent_as_they_are(tone: Path, name: str) -> None:
    path = encoded(tone, name)
    start, audio, _ = await streamed(path, pace="fast")
    assert start.audio.encoding == "container"
    assert audio == path.read_bytes()


async def test_enough_ends_a_file_early_and_the_session_is_still_finished(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "long.wav", duration=60.0, rate_hz=8000, channels=1)
    enough = asyncio.Event()
    messages = []

    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.audio_of(3200)
        await peer.say(Ack(3200))
        assert isinstance(await peer.message(), Stop)
        assert len(peer.audio) < 60 * 32_000
        await peer.finish()

    async with peer(script) as url:
        async for message in transcribe_file(path, url, enough=enough):
            messages.append(message)
            if isinstance(message, Ack):
                enough.set()
    assert isinstance(messages[-1], Final)


async def test_leaving_a_file_in_the_middle_leaves_nothing_running(tone: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()

    async with peer(script) as url, aclosing(transcribe_file(tone, url)) as messages:
        assert isinstance(await anext(messages), Ready)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_servers_error_in_the_middle_of_a_file_is_the_iterators(tone: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.audio_of(1000)
        await peer.say(Error("not_audio", "These bytes are not audio.", "Send audio."))
        await peer.socket.close(1003)

    async with peer(script) as url:
        with pytest.raises(SessionFailed, match="not audio"):
            async for _ in transcribe_file(tone, url, pace="fast"):
                pass


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.wav": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "empty.wav": (lambda path: path.touch(), "is not audio or video"),
    "letter.txt": (lambda path: path.write_text("Dear Sir or Madam,\n" * 100), "is not audio|holds no audio"),
    "noise.mp4": (lambda path: path.write_bytes(bytes(range(256)) * 64), "is not audio|holds no audio"),
}


@pytest.mark.parametrize("name", list(BAD_FILES))
async def test_a_file_without_readable_audio_is_refused_before_a_session_is_opened(
    tmp_path: Path, name: str
) -> None:
    make, complaint = BAD_FILES[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(MediaError, match=complaint) as refused:
        async for _ in transcribe_file(path, "http://localhost:1"):
            pass
    assert str(path) in refused.value.message


def test_errors_of_sessions_can_be_caught_together() -> None:
    assert issubclass(SessionRefused, SessionError)
    assert issubclass(SessionFailed, SessionError)


# The real server ----------------------------------------------------------------------------------


async def test_a_call_streamed_in_odd_chunks_comes_back_as_words(server, sample_pcm: bytes) -> None:
    async with connect(server.url, language="en", pace="fast") as session:
        for first in range(0, len(sample_pcm), 9_999):
            await session.send(sample_pcm[first : first + 9_999])
        final = await session.stop()
        messages = await everything(session)
    commits = [message for message in messages if isinstance(message, Commit)]
    assert final.duration == pytest.approx(30.0, abs=0.1)
    assert len(session.transcript.words) > 50
    assert "".join(message.text for message in commits) == session.transcript.text
    assert session.acked_bytes == len(sample_pcm)
    assert messages[-1] == final


async def test_a_wav_file_sent_fast_comes_back_as_the_same_words(server, sample_wav: Path) -> None:
    transcript = Transcript()
    said = transcribe_file(sample_wav, server.url, pace="fast", language="en", final_pass=False)
    async for message in said:
        transcript.apply(message)
    assert transcript.is_stopped
    assert len(transcript.words) > 50
    assert transcript.duration_samples == pytest.approx(480_000, abs=1600)


async def test_finalize_commits_what_was_said_and_the_session_goes_on(server, sample_pcm: bytes) -> None:
    sample_pcm, half = sample_pcm[6 * 32_000 : 18 * 32_000], 6 * 32_000  # the first words come at 6.7 s
    async with connect(server.url, language="en", pace="fast", final_pass=False) as session:
        await session.send(sample_pcm[:half])
        finalized = await session.finalize()
        heard = session.transcript.text
        await session.send(sample_pcm[half:])
        await session.stop()
    assert finalized.time == pytest.approx(half / 32_000, abs=0.1)
    assert heard
    assert session.transcript.text.startswith(heard)
    assert len(session.transcript.text) > len(heard)


async def test_settings_are_changed_in_order_with_the_audio(server, sample_pcm: bytes) -> None:
    said = sample_pcm[14 * 32_000 : 20 * 32_000]
    async with connect(
        server.url, language="english", languages=["en-GB"], pace="fast", final_pass=False
    ) as session:
        await session.send(said[:64_000])
        updated = await session.update(vocabulary=["Shyla"], interim=False)
        assert (updated.time, updated.language, updated.languages) == (2.0, "en", ("en",))
        assert (updated.vocabulary, updated.interim) == (("Shyla",), False)
        with pytest.raises(ClientError) as refused:
            await session.update(language="de-AT")
        assert refused.value.code == "language_unsupported"
        with pytest.raises(ClientError) as refused:
            await session.update(vocabulary=["x"] * 201)
        assert refused.value.code == "bad_message"
        await session.send(said[64_000:])
        await session.stop()
    assert session.transcript.updates == (updated,)
    assert "Chicago" in session.transcript.text


async def test_a_talk_is_paused_and_goes_on(server, sample_pcm: bytes) -> None:
    said = sample_pcm[14 * 32_000 : 20 * 32_000]
    async with connect(server.url, language="en", pace="fast", final_pass=False) as session:
        await session.send(said[:96_000])
        await session.pause()
        heard = session.transcript.text
        assert session.transcript.is_paused
        await session.pause(False)
        assert not session.transcript.is_paused
        await session.send(said[96_000:])
        await session.stop()
    assert heard
    assert session.transcript.text.startswith(heard)
    assert len(session.transcript.text) > len(heard)


async def test_a_language_that_the_model_does_not_know_is_refused_by_the_server(server) -> None:
    with pytest.raises(SessionRefused) as refused:
        async with connect(server.url, language="xx"):
            pass
    assert refused.value.code == "language_unsupported"
    assert refused.value.hint
