"""How a server ends: told to, in the middle of everything, or before it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from talking import TIMEOUT, call, finished_record
from websockets.exceptions import ConnectionClosed

from tests.started import MODEL, ROOT, Server, StartServer

SECOND_BYTES = 32_000


async def gone(server: Server) -> int:
    """Wait for the process's end and return its exit code."""
    return await asyncio.to_thread(server.process.wait, TIMEOUT)


async def test_a_server_that_is_told_to_stop_tells_its_clients_and_keeps_what_it_heard(
    start_server: StartServer, sample_pcm: bytes
) -> None:
    server = start_server()
    async with call(server.stream) as speaker, call(server.stream) as file, call(server.stream) as idle:
        sessions = [(await caller.start())["session"] for caller in (speaker, idle)]
        sessions.append((await file.start(pace="fast"))["session"])
        await file.send(sample_pcm[16 * SECOND_BYTES : 22 * SECOND_BYTES])
        speaking = asyncio.create_task(speaker.speak(sample_pcm[14 * SECOND_BYTES :]))
        await speaker.until("commit")
        server.process.send_signal(signal.SIGTERM)
        for caller in (speaker, file, idle):
            assert await caller.closed() == 1012
            error = caller.heard[-1]
            assert (error["type"], error["code"]) == ("error", "shutting_down")
            assert error["hint"]
            assert error["retry_after"] > 0
        with contextlib.suppress(Exception):  # the socket is closed under it
            await speaking
    assert await gone(server) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log.read_text()

    heir = start_server("--data", str(server.data))
    for session, caller in zip(sessions, (speaker, idle, file), strict=True):
        record = await finished_record(heir.url, session)
        assert record["text"].startswith(caller.text.strip())
        # Whatever was acknowledged was written down, also what came after the last commit.
        acknowledged = caller.acks[-1][0] if caller.acks else 0
        assert record["duration"] >= acknowledged / SECOND_BYTES
    assert record["text"], "the file's words"
    assert record["duration"] == 6.0
    assert not list(server.data.rglob("audio.bin")), "audio is not kept unless that is wished for"


async def test_a_client_that_comes_while_the_server_ends_is_sent_away(
    start_server: StartServer, sample_pcm: bytes
) -> None:
    server = start_server(LIVE_ASR_SERVER__START_TIMEOUT="60")
    async with call(server.stream) as caller, call(server.stream) as late, call(server.stream) as silent:
        await caller.start(pace="fast")
        await caller.send(sample_pcm[14 * SECOND_BYTES :])
        server.process.send_signal(signal.SIGTERM)
        assert await caller.closed() == 1012
        # They were connected. One says `start` only now, unless it has been told by then; one never does.
        with contextlib.suppress(ConnectionClosed):
            await late.say("start")
        for client in (late, silent):
            assert await client.closed() == 1013
            (error,) = client.heard
            assert (error["type"], error["code"]) == ("error", "shutting_down")
            assert error["retry_after"] > 0
    assert await gone(server) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log.read_text()


async def test_what_is_not_finished_in_time_is_given_up(start_server: StartServer, sample_pcm: bytes) -> None:
    server = start_server(LIVE_ASR_SERVER__DRAIN_TIMEOUT="0")
    async with call(server.stream) as caller:
        session = (await caller.start(pace="fast"))["session"]
        await caller.send(sample_pcm[14 * SECOND_BYTES :])
        await caller.until("commit")
        server.process.send_signal(signal.SIGTERM)
        assert await caller.closed() == 1012
    assert await gone(server) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log.read_text()
    folder = server.data / "sessions" / session
    assert len((folder / "messages.jsonl").read_text().splitlines()) >= len(caller.all("commit"))
    kept = (folder / "audio.bin").read_bytes()
    assert len(kept) >= caller.acks[-1][0], "its audio is kept, since its transcript is not complete"
    assert kept == sample_pcm[14 * SECOND_BYTES :][: len(kept)]


async def test_a_client_that_reads_nothing_does_not_hold_up_the_end(start_server: StartServer) -> None:
    server = start_server()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")  # and never the rest
        async with call(server.stream) as caller:
            await caller.start()
            server.process.send_signal(signal.SIGTERM)
            assert await caller.closed() == 1012
        assert await gone(server) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_still_loading_ends_when_told_to(
    number: signal.Signals, tmp_path: Path, models_dir: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "live_asr.cli", "serve", "--port", "0"),
                *("--data", str(tmp_path / "data"), "--model", MODEL),
            ],
            cwd=ROOT,
            env={**os.environ, "LIVE_ASR_MODELS__DIR": str(models_dir)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + TIMEOUT
    while "loading" not in log.read_text():
        assert time.monotonic() < deadline
    # From here on it may be anywhere between its first line and its first listening.
    process.send_signal(number)
    assert process.wait(TIMEOUT) in (0, 1, 130, -number)
    assert "Traceback" not in log.read_text(), log.read_text()


async def test_ctrl_c_ends_a_server_as_a_signal_does(start_server: StartServer) -> None:
    server = start_server()
    async with call(server.stream) as caller:
        await caller.start()
        server.process.send_signal(signal.SIGINT)
        assert await caller.closed() == 1012
    assert await gone(server) in (0, 130, -signal.SIGINT)
    assert "Traceback" not in server.log.read_text(), server.log.read_text()
