"""Sessions whose decoder's process ends, or does not begin: their audio stays, and another one goes on."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from live_asr.audio import recording
from live_asr.audio.isolated_decoder import GuardedDecoder
from live_asr.audio.recording import write_pcm
from live_asr.core.messages import AudioFormat, Start, Stop
from live_asr.sessions import registry
from tests.sessions.registering import Client, Server, eventually, running, text_of
from tests.sessions.scripted_engine import TEXT, pcm

START = Start(audio=AudioFormat("container"), pace="fast", language="en", diarize=False, final_pass=False)


def webm(audio: bytes) -> bytes:
    """Return audio as WebM would stream it, but without loss."""
    out = io.BytesIO()
    with av.open(
        out, "w", format="matroska", options={"live": "1", "cluster_time_limit": "500"}
    ) as container:
        stream = container.add_stream("flac", rate=16_000, layout="mono")
        for first in range(0, len(audio), 8000):
            piece = np.frombuffer(audio[first : first + 8000], "<i2").reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
            frame.sample_rate = 16_000
            frame.pts = first // 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def decoder_of(runner: Any) -> GuardedDecoder:
    decoder = runner._intake._decoder
    assert isinstance(decoder, GuardedDecoder)
    return decoder


def end(decoder: GuardedDecoder, ending: signal.Signals = signal.SIGKILL) -> None:
    assert decoder._process is not None
    os.kill(decoder._process.pid, ending)


async def rest(server: Server, client: Client, audio: bytes) -> Client:
    """Take a session up again, send the rest of its audio, and hear its end."""

    def is_there() -> bool:
        runner = server.registry.runner_of(client.opened.id)
        return runner is not None and not runner.is_over

    await eventually(is_there)
    second = Client(await server.registry.resume(client.resume()))
    second.runner.receive_audio(audio[second.opened.received_bytes :])
    second.runner.receive(Stop())
    await second.until("final")
    return second


async def test_a_session_whose_decoder_is_killed_goes_on_with_another_one(tmp_path: Path) -> None:
    audio = webm(pcm())
    half = len(audio) // 2
    async with running(tmp_path) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(audio[:half])
        await first.until("commit")
        await eventually(lambda: first.runner.spool.safe_bytes == half)
        end(decoder_of(first.runner))
        first.runner.receive_audio(audio[half : half + 5000])
        assert await first.ended() == 1013
        assert first.heard[-1]["code"] == "loading"
        second = await rest(server, first, audio)
    assert second.opened.received_bytes == half + 5000
    assert text_of(first, second) == TEXT


async def test_the_signals_that_end_the_server_leave_its_sessions_their_decoders(tmp_path: Path) -> None:
    audio = webm(pcm())
    half = len(audio) // 2
    async with running(tmp_path) as server:
        client = Client(await server.registry.open(START))
        client.runner.receive_audio(audio[:half])
        await client.until("commit")
        for ending in (signal.SIGTERM, signal.SIGINT):
            end(decoder_of(client.runner), ending)
        client.runner.receive_audio(audio[half:])
        client.runner.receive(Stop())
        await client.until("final")
        assert await client.ended() == 1000
    assert text_of(client) == TEXT


async def test_audio_that_ends_its_decoder_twice_is_bad_and_is_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = GuardedDecoder._ask

    def dying(decoder: GuardedDecoder, letter: bytes, data: bytes) -> Any:
        process = decoder._running()
        process.kill()
        process.wait()
        return ask(decoder, letter, data)

    monkeypatch.setattr(GuardedDecoder, "_ask", dying)
    audio = webm(pcm())
    async with running(tmp_path) as server:
        client = Client(await server.registry.open(START))
        client.runner.receive_audio(audio)
        assert await client.ended() == 1013
        await server.done(client.opened.id)
        stored = await asyncio.to_thread(server.database.session, client.opened.id)
        assert stored is not None and stored.state == "failed"
        assert stored.error is not None and stored.error["code"] == "not_audio"
        kept = tmp_path / "sessions" / client.opened.id / "audio.bin"
        assert kept.read_bytes() == audio


async def test_a_session_waits_until_its_decoder_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "DECODER_AGAIN_AFTER", 0.01)
    audio = webm(pcm())
    half = len(audio) // 2
    async with running(tmp_path) as server:
        first = Client(await server.registry.open(START))
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "/nowhere/python")
            first.runner.receive_audio(audio[:half])
            assert await first.ended() == 1013
            tries: list[Any] = []

            def is_tried_again() -> bool:
                runner = server.registry.runner_of(first.opened.id)
                if runner is not None and runner not in tries:
                    tries.append(runner)
                return len(tries) > 2

            await eventually(is_tried_again)
            await eventually(lambda: all(runner.is_over for runner in tries))
        second = await rest(server, first, audio)
    assert text_of(first, second) == TEXT


@pytest.mark.parametrize("deaths", [1, 2])
async def test_a_recording_whose_decoder_dies_is_decoded_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    said = np.random.default_rng(0).normal(0, 3000, 20 * 16_000).astype("<i2").tobytes()
    (tmp_path / "audio.bin").write_bytes(webm(said))
    decode, left = recording._decode, [deaths]

    async def dying(decoder: Any, data: bytes, pcm: Any) -> None:
        if pcm.count and left[0]:
            left[0] -= 1
            end(decoder)
        await decode(decoder, data, pcm)

    monkeypatch.setattr(recording, "_decode", dying)
    target = tmp_path / "audio.pcm"
    count = await write_pcm(tmp_path / "audio.bin", START.audio, target, 20 * 16_000)
    assert target.stat().st_size == 2 * count
    assert (count == 20 * 16_000) is (deaths == 1)
    if deaths == 1:
        assert target.read_bytes() == said
