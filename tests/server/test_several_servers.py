"""Two servers on one PostgreSQL: either takes up any session, and who lost one writes nothing more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from talking import TIMEOUT, Caller, Message, call, eventually, finished_record, likeness, plain_words

from benchmarks.resilience.inbox import inbox
from live_asr.client import Resumed, connect
from live_asr.core.messages import Ack
from tests.jobs.conftest import SECRET
from tests.postgres import new_database, postgres
from tests.server.resuming import check_record, record, resumed
from tests.started import MODEL, Server, StartServer

SECOND_BYTES = 32_000
SAID = plain_words(
    "I'm Sheila in Texas, originally from Chicago. Oh, I'm originally from Chicago also. I'm in"
)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of a database of its own in PostgreSQL."""
    with postgres() as url:
        yield new_database(url)


@pytest.fixture
def start_gateway(start_server: StartServer, database: str) -> Callable[..., Server]:
    """Start a server that shares its sessions with others."""

    def start(window: int = 60, **more: str) -> Server:
        kept = {"LIVE_ASR_STORAGE__JOURNAL": database, "LIVE_ASR_SERVER__RESUME_WINDOW": str(window)}
        return start_server(**kept, **more)

    return start


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    return sample_pcm[14 * SECOND_BYTES : 23 * SECOND_BYTES]


async def cut_in_speech(server: Server, caller: Caller, speech: bytes, number: signal.Signals) -> None:
    """Speak until words were committed, and then send the server a signal."""
    speaking = asyncio.create_task(caller.speak(speech))
    await caller.until("commit")
    await caller.when(lambda: bool(caller.acks))
    server.process.send_signal(number)
    if number is signal.SIGKILL:
        assert await caller.closed() == 1006
        server.process.wait()
    with contextlib.suppress(Exception):  # whatever a socket raises whose other end is dead
        await speaking


async def finished_elsewhere(
    heir: Server, ready: Message, first: Caller, speech: bytes, **changes: Any
) -> Message:
    """Take the session up at another server, send what that one has not, and check all that was heard."""
    async with resumed(heir.stream, ready, first.heard, **changes) as (second, again):
        assert again["session"] == ready["session"]
        assert first.acks[-1][0] <= again["received_bytes"] <= first.sent_bytes
        await second.speak(speech[again["received_bytes"] :])
        final = await second.finished()
    kept = record(first, second)
    check_record(kept)
    assert final["duration"] == len(speech) / SECOND_BYTES
    assert likeness(plain_words(final["text"]), SAID) > 0.75
    return final


async def test_a_session_whose_server_is_killed_goes_on_at_the_other_one(
    start_gateway: Callable[..., Server], speech: bytes
) -> None:
    one, other = start_gateway(), start_gateway()
    async with call(one.stream) as first:
        ready = await first.start()
        await cut_in_speech(one, first, speech, signal.SIGKILL)
        final = await finished_elsewhere(other, ready, first, speech)
    done = await finished_record(other.url, ready["session"])
    assert done["text"].split() == final["text"].split()
    assert "Traceback" not in other.log.read_text()


async def test_a_client_whose_server_is_killed_goes_on_by_itself_where_that_one_has_said(
    start_gateway: Callable[..., Server], speech: bytes
) -> None:
    other = start_gateway()
    one = start_gateway(LIVE_ASR_SERVER__RESUME_URL=other.url)
    half = len(speech) // 2
    async with connect(one.url, pace="fast", final_pass=False) as session:
        await session.send(speech[:half])
        async for message in session:
            if isinstance(message, Ack) and message.bytes == half:
                one.process.kill()
            elif isinstance(message, Resumed):
                break
        assert session.acked_bytes == half
        assert session.ready.resume_url is None, "that is what the other one says"
        await session.send(speech[half:])
        final = await session.stop()
    assert final.duration == len(speech) / SECOND_BYTES
    assert likeness(plain_words(final.text), SAID) > 0.75


async def test_a_server_that_was_frozen_writes_nothing_once_its_session_went_elsewhere(
    start_gateway: Callable[..., Server], speech: bytes
) -> None:
    frozen, other = start_gateway(), start_gateway()
    async with call(frozen.stream) as first:
        ready = await first.start()
        await cut_in_speech(frozen, first, speech, signal.SIGSTOP)
        final = await finished_elsewhere(other, ready, first, speech)
        frozen.process.send_signal(signal.SIGCONT)
        said = f"session {ready['session']} was taken over by another server: nothing more of it is written"
        await eventually(lambda: said in frozen.log.read_text(), frozen.log.read_text)
        await eventually(lambda: frozen.metric("live_asr_sessions") == 0)
    for server in (frozen, other):  # either of them answers for it
        done = await finished_record(server.url, ready["session"])
        assert (done["text"].split(), done["duration"]) == (final["text"].split(), final["duration"])
    async with httpx.AsyncClient(base_url=frozen.url) as http:
        events = (await http.get(f"/v1/sessions/{ready['session']}")).json()
        assert events["state"] == "done"


async def test_a_session_whose_client_stays_away_is_brought_to_its_end_by_the_other_server(
    start_gateway: Callable[..., Server], speech: bytes
) -> None:
    one, other = start_gateway(window=1), start_gateway(window=1)
    async with call(one.stream) as first:
        ready = await first.start(pace="fast")
        await first.send(speech)
        await first.when(lambda: bool(first.acks) and first.acks[-1][0] == len(speech))
        one.process.kill()
        await first.closed()
    one.process.wait()
    done = await finished_record(other.url, ready["session"])
    assert done["duration"] == len(speech) / SECOND_BYTES
    assert likeness(plain_words(str(done["text"])), SAID) > 0.75
    log = other.log.read_text()
    assert f"session {ready['session']} is taken up: its server is gone" in log


async def test_a_session_is_taken_from_a_server_that_still_has_it_and_comes_back_to_it(
    start_gateway: Callable[..., Server], speech: bytes
) -> None:
    one, other = start_gateway(), start_gateway()
    async with call(one.stream) as first:
        ready = await first.start()
        await first.speak(speech[: 4 * SECOND_BYTES])
        await first.until("commit")
        await first.when(lambda: bool(first.acks) and first.acks[-1][0] == 4 * SECOND_BYTES)
        async with resumed(other.stream, ready, first.heard) as (second, again):
            assert again["received_bytes"] == 4 * SECOND_BYTES
            await second.speak(speech[4 * SECOND_BYTES : 6 * SECOND_BYTES])
            await second.when(lambda: bool(second.acks) and second.acks[-1][0] == 6 * SECOND_BYTES)
        async with resumed(one.stream, ready, [*first.heard, *second.heard]) as (third, again):
            assert again["received_bytes"] == 6 * SECOND_BYTES
            assert await first.closed() == 1013
            assert first.heard[-1]["code"] == "loading"
            await third.speak(speech[6 * SECOND_BYTES :])
            final = await third.finished()
    heard = record(first, second, third)
    kept = {message["seq"]: message for message in heard}
    # What the first server had kept it may still have said while the other one took over: the same, twice.
    assert all(kept[message["seq"]] == message for message in heard)
    check_record([kept[seq] for seq in sorted(kept)])
    assert final["duration"] == len(speech) / SECOND_BYTES
    assert likeness(plain_words(final["text"]), SAID) > 0.7


def test_a_job_whose_server_is_killed_is_done_by_the_other_one_and_told_once(
    start_gateway: Callable[..., Server], sample_wav: Path
) -> None:
    with inbox(SECRET) as platform:
        flags = {"LIVE_ASR_WEBHOOK__SECRET": SECRET, "LIVE_ASR_WEBHOOK__ALLOW_PRIVATE": "true"}
        servers = [start_gateway(**flags) for _ in range(2)]
        form = {"jobId": "call", "webhookUrl": platform.url}
        with sample_wav.open("rb") as file:
            posted = httpx.post(f"{servers[0].url}/v1/jobs", files={"file": file}, data=form)
        assert posted.status_code == 202, posted.text

        def known_by(server: Server) -> dict[str, Any]:
            known: dict[str, Any] = httpx.get(f"{server.url}/v1/jobs/call").json()
            return known

        doers: list[Server] = []
        while not doers:  # who does it says how far it is
            doers = [server for server in servers if known_by(server)["progress"] is not None]
            assert known_by(servers[0])["state"] in ("queued", "running")
        doers[0].process.kill()
        doers[0].process.wait()
        (heir,) = (server for server in servers if server is not doers[0])
        assert platform.arrived.wait(2 * TIMEOUT), heir.log.read_text()
        known = known_by(heir)
        assert (known["state"], known["job"]) == ("done", posted.json()["job"])
        assert "Sheila" in httpx.get(heir.url + known["links"]["vtt"]).text
    assert [(told.body["jobId"], told.body["sessionId"]) for told in platform.told] == [
        ("call", known["job"])
    ]
    assert "Sheila" in platform.told[0].body["transcript"]


async def test_a_server_that_keeps_files_is_refused_on_their_database(
    start_gateway: Callable[..., Server], database: str, models_dir: Path, tmp_path: Path
) -> None:
    start_gateway()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "live_asr.cli", "serve", "--port", "0", "--model", MODEL),
        *("--data", str(tmp_path)),
        env={
            **os.environ,
            "LIVE_ASR_MODELS__DIR": str(models_dir),
            "LIVE_ASR_STORAGE__DATABASE": database,
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert "Another live-asr uses the database" in errors.decode()
