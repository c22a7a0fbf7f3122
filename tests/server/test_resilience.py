"""What breaks behind the socket: the inference process, the server itself, the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from talking import Caller, call, eventually, finished_record, likeness, plain_words
from websockets.exceptions import ConnectionClosedOK

from tests.server.resuming import check_record, record, resumed
from tests.started import MODEL, ROOT, Server, StartServer

SECOND_BYTES = 32_000
SAID = plain_words(
    "I'm Sheila in Texas, originally from Chicago. Oh, I'm originally from Chicago also. I'm in"
)
"""What is said in seconds 14 to 23 of the call, as a person writes it down."""


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    return sample_pcm[14 * SECOND_BYTES : 23 * SECOND_BYTES]


def inference(server: Server) -> psutil.Process:
    """Return the server's inference process."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    (process,) = [child for child in children if "live_asr.inference.worker" in child.cmdline()]
    return process


async def ping_throughout(caller: Caller) -> None:
    """Ping until the good end; each must be answered, and in reasonable time."""
    with contextlib.suppress(ConnectionClosedOK):
        while True:
            async with asyncio.timeout(10):
                await (await caller.socket.ping())
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def breakable(launch: StartServer) -> Server:
    """A server whose inference process is killed and stopped."""
    return launch()


async def test_a_talk_outlives_the_inference_process(breakable: Server, speech: bytes) -> None:
    restarts = breakable.metric("live_asr_engine_restarts_total")
    victim = inference(breakable)
    async with call(breakable.stream) as caller:
        await caller.start()
        pinging = asyncio.create_task(ping_throughout(caller))
        speaking = asyncio.create_task(caller.speak(speech))
        await caller.until("commit")
        victim.kill()
        await speaking
        final = await caller.finished()
        await pinging
    assert inference(breakable).pid != victim.pid
    assert breakable.metric("live_asr_engine_restarts_total") == restarts + 1
    assert likeness(caller.words, SAID) > 0.8
    assert final["text"] == caller.text
    assert caller.acks[-1][0] == len(speech)
    assert "error" not in {message["type"] for message in caller.heard}


async def test_a_talk_catches_up_after_the_inference_process_stood_still(
    breakable: Server, speech: bytes
) -> None:
    process = inference(breakable)
    async with call(breakable.stream) as caller:
        await caller.start()
        pinging = asyncio.create_task(ping_throughout(caller))
        speaking = asyncio.create_task(caller.speak(speech))
        await caller.until("commit")
        process.suspend()
        try:
            before = len(caller.all("lag"))
            # Meanwhile everything that needs no model goes on: audio is acknowledged, lag is told.
            await caller.when(lambda: len(caller.all("lag")) >= before + 4)
            assert caller.all("lag")[-1]["seconds"] > 2
            assert caller.in_flight_bytes <= 2 * SECOND_BYTES
        finally:
            process.resume()
        await speaking
        await caller.finished()
        await pinging
    assert inference(breakable).pid == process.pid
    assert likeness(caller.words, SAID) > 0.8


async def test_what_was_acknowledged_is_on_disk_when_the_server_is_killed(
    start_server: StartServer, speech: bytes
) -> None:
    server = start_server()
    async with call(server.stream) as caller:
        session = (await caller.start())["session"]
        speaking = asyncio.create_task(caller.speak(speech))
        await caller.until("commit")
        heard = len(caller.all("ack"))
        await caller.when(lambda: len(caller.all("ack")) > heard + 3)
        server.process.kill()
        assert await caller.closed() == 1006
        with contextlib.suppress(Exception):  # whatever a socket raises whose other end is dead
            await speaking
        acknowledged = caller.acks[-1][0]
    server.process.wait()
    kept = (server.data / "sessions" / session / "audio.bin").read_bytes()
    assert acknowledged > SECOND_BYTES
    assert len(kept) >= acknowledged
    assert kept == speech[: len(kept)]

    # A server that comes after it goes on with what there is.
    heir = start_server("--data", str(server.data))
    record = await finished_record(heir.url, session)
    assert record["text"].startswith(caller.text.strip())
    assert record["duration"] >= acknowledged / SECOND_BYTES


async def test_the_inference_process_ends_with_a_server_that_is_killed(start_server: StartServer) -> None:
    server = start_server()
    orphan = inference(server)
    server.process.kill()
    server.process.wait()
    await eventually(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)


# The disk -----------------------------------------------------------------------------------------


def serve_and_fail(data: Path, models_dir: Path) -> str:
    """Start a server that cannot start, and return what it says."""
    command = [sys.executable, "-m", "live_asr.cli", "serve", "--port", "0", "--model", MODEL]
    done = subprocess.run(
        [*command, "--data", str(data)],
        cwd=ROOT,
        env={**os.environ, "LIVE_ASR_MODELS__DIR": str(models_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr


def test_a_data_folder_that_is_a_file_is_named_at_the_start(tmp_path: Path, models_dir: Path) -> None:
    place = tmp_path / "data"
    place.write_text("no folder")
    said = serve_and_fail(place, models_dir)
    assert str(place) in said
    assert "--data" in said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 70 MiB, where this user may make one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system takes root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=70m", "live-asr-test", place], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_data_folder_on_a_full_disk_is_named_at_the_start(small_disk: Path, models_dir: Path) -> None:
    fill(small_disk)
    said = serve_and_fail(small_disk / "data", models_dir)
    assert str(small_disk) in said
    assert "No space left" in said


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


async def test_sessions_on_a_disk_that_is_full_wait_and_go_on_when_there_is_room(
    small_disk: Path, start_server: StartServer, speech: bytes
) -> None:
    server = start_server("--data", str(small_disk / "data"), LIVE_ASR_SERVER__RESUME_WINDOW="60")
    async with call(server.stream) as quiet, call(server.stream) as caller:
        opened = [await quiet.start(final_pass=False), await caller.start(final_pass=False)]
        speaking = asyncio.create_task(caller.speak(speech))
        await caller.until("commit")
        ballast = fill(small_disk)
        for one in (caller, quiet):
            assert await one.closed() == 1011
            error = one.heard[-1]
            assert (error["type"], error["code"], bool(error["hint"])) == ("error", "storage_full", True)
        with contextlib.suppress(Exception):  # the socket is closed under it
            await speaking
        kept = (small_disk / "data" / "sessions" / opened[1]["session"] / "audio.bin").read_bytes()
        assert caller.acks[-1][0] <= len(kept)
        assert kept == speech[: len(kept)]

        async with call(server.stream) as late:
            refused = await late.start()
            assert (refused["code"], refused["retry_after"] > 0) == ("storage_full", True)
            assert await late.closed() == 1011

        ballast.unlink()
        for one, ready in zip((quiet, caller), opened, strict=True):
            async with resumed(server.stream, ready, one.heard) as (again, found):
                assert found["received_bytes"] >= (one.acks[-1][0] if one.acks else 0)
                await again.send(speech[found["received_bytes"] :])
                assert (await again.finished())["duration"] == len(speech) / SECOND_BYTES
            check_record(record(one, again))
    async with call(server.stream) as later:
        assert (await later.start(final_pass=False))["type"] == "ready"
        await later.finished()
    await eventually(lambda: server.metric("live_asr_sessions") == 0)


async def test_a_data_folder_that_disappears_is_an_error_and_not_a_crash(
    start_server: StartServer, speech: bytes
) -> None:
    server = start_server()
    async with call(server.stream) as caller:
        await caller.start()
        await caller.send(speech[:SECOND_BYTES])
        await caller.until("ack")
        await asyncio.to_thread(shutil.rmtree, server.data)
        with contextlib.suppress(ConnectionError):
            await caller.send(speech[SECOND_BYTES : 2 * SECOND_BYTES])
        assert await caller.closed() == 1011
        assert caller.heard[-1]["code"] == "storage_full"
    async with call(server.stream) as caller:
        assert (await caller.start())["code"] == "storage_full"
        assert await caller.closed() == 1011
    assert "Traceback" not in server.log.read_text()


# While models load --------------------------------------------------------------------------------


async def test_a_client_that_comes_while_models_load_is_told_so_and_may_wait_on_its_socket(
    tmp_path: Path, models_dir: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "live_asr.cli", "serve", "--port", str(port), "--model", MODEL]
    environment = {**os.environ, "LIVE_ASR_MODELS__DIR": str(models_dir)}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = await asyncio.to_thread(
            subprocess.Popen,
            [*command, "--data", str(tmp_path / "data")],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(f"http://127.0.0.1:{port}", process, tmp_path / "data", log)
    try:
        await eventually(lambda: answers(server, "/healthz"), log.read_text)
        async with call(server.stream) as early, call(server.stream) as patient:
            answer = await early.start()
            if answer["type"] == "error":
                assert (answer["code"], answer["retry_after"] > 0) == ("loading", True)
                assert await early.closed() == 1013
            await eventually(lambda: answers(server, "/readyz"), log.read_text)
            ready = await patient.start()
            assert (ready["type"], ready["models"]["recognizer"]["name"]) == ("ready", "tiny.en")
            await patient.finished()
        await eventually(lambda: server.metric("live_asr_sessions") == 0)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


def answers(server: Server, path: str) -> bool:
    """Tell whether a path answers with 200 now."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(server.url + path).status_code == 200
    return False
