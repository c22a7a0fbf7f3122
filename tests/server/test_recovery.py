"""Servers that die, by a signal or by kill -9, and those that come after them: nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import httpx
import pytest
from talking import TIMEOUT, Caller, Message, call, eventually, finished_record, likeness, plain_words
from watching import watch

from benchmarks.cutting import proxy
from tests.server.resuming import check_record, record, resumed
from tests.started import MODEL, Server, StartServer

SECOND_BYTES = 32_000
SAID = plain_words(
    "I'm Sheila in Texas, originally from Chicago. Oh, I'm originally from Chicago also. I'm in"
)
WAITS = {"LIVE_ASR_SERVER__RESUME_WINDOW": "60"}
SHORT = {"LIVE_ASR_SERVER__RESUME_WINDOW": "1"}


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    return sample_pcm[14 * SECOND_BYTES : 23 * SECOND_BYTES]


async def killed_in_speech(server: Server, caller: Caller, speech: bytes) -> None:
    """Speak until words were committed, and kill the server at once."""
    speaking = asyncio.create_task(caller.speak(speech))
    await caller.until("commit")
    server.process.kill()
    assert await caller.closed() == 1006
    with contextlib.suppress(Exception):  # whatever a socket raises whose other end is dead
        await speaking
    server.process.wait()


async def test_a_session_whose_server_is_killed_goes_on_with_the_next_one(
    start_server: StartServer, speech: bytes
) -> None:
    server = start_server(**WAITS)
    async with call(server.stream) as first:
        ready = await first.start()
        await killed_in_speech(server, first, speech)
    heir = start_server("--data", str(server.data), **WAITS)
    async with resumed(heir.stream, ready, first.heard) as (second, again):
        assert again["session"] == ready["session"]
        assert first.acks[-1][0] <= again["received_bytes"] <= first.sent_bytes
        await second.speak(speech[again["received_bytes"] :])
        final = await second.finished()
    kept = record(first, second)
    check_record(kept)
    assert final["duration"] == len(speech) / SECOND_BYTES
    assert likeness(plain_words(final["text"]), SAID) > 0.75
    assert "Traceback" not in heir.log.read_text()


async def test_settings_that_were_changed_hold_after_a_crash(
    start_server: StartServer, speech: bytes
) -> None:
    server = start_server(**WAITS)
    async with call(server.stream) as first:
        ready = await first.start()
        await first.say("update", interim=False, vocabulary=["Shyla"])
        updated = await first.until("updated")
        assert (updated["seq"], updated["interim"], updated["vocabulary"]) == (1, False, ["Shyla"])
        await killed_in_speech(server, first, speech)
        assert first.all("partial") == []
    heir = start_server("--data", str(server.data), **WAITS)
    async with resumed(heir.stream, ready, first.heard) as (second, again):
        await second.speak(speech[again["received_bytes"] :])
        await second.finished()
        assert second.all("partial") == []
    check_record(record(first, second))


async def test_a_talk_that_is_paused_stays_so_after_a_crash_and_waits_for_longer_than_any_other(
    start_server: StartServer, speech: bytes
) -> None:
    waits = {"LIVE_ASR_SERVER__RESUME_WINDOW": "0"}
    server = start_server(**waits)
    async with call(server.stream) as first:
        ready = await first.start()
        await first.speak(speech[: 4 * SECOND_BYTES])
        await first.say("pause", paused=True)
        paused = await first.until("paused")
        assert (paused["time"], paused["paused"]) == (4.0, True)
        server.process.kill()
        await first.closed()
    server.process.wait()
    heir = start_server("--data", str(server.data), **waits)
    async with resumed(heir.stream, ready, first.heard) as (second, again):
        assert again["received_bytes"] == 4 * SECOND_BYTES
        async with watch(heir.url, ready["session"]) as viewer:
            await viewer.until(lambda m: m["type"] == "paused" and m["paused"])
            await second.say("pause", paused=False)
            await viewer.until(lambda m: m["type"] == "paused" and not m["paused"])
        await second.speak(speech[4 * SECOND_BYTES :])
        final = await second.finished()
    check_record(record(first, second))
    assert final["duration"] == len(speech) / SECOND_BYTES


async def test_a_session_that_nobody_takes_up_after_a_crash_ends_by_itself(
    start_server: StartServer, speech: bytes
) -> None:
    server = start_server(**WAITS)
    async with call(server.stream) as first:
        ready = await first.start(pace="fast")
        await first.send(speech)
        await first.until("commit")
        await first.when(lambda: bool(first.acks) and first.acks[-1][0] == len(speech))
        server.process.kill()
        await first.closed()
    server.process.wait()
    heir = start_server("--data", str(server.data), **SHORT)
    done = await finished_record(heir.url, ready["session"])
    assert done["duration"] == len(speech) / SECOND_BYTES
    assert likeness(plain_words(str(done["text"])), SAID) > 0.75
    await eventually(lambda: heir.metric("live_asr_sessions") == 0)
    async with httpx.AsyncClient(base_url=heir.url) as http:
        assert (await http.get(f"/v1/sessions/{ready['session']}")).json()["state"] == "done"


async def test_a_client_is_told_that_the_server_restarts_and_goes_on_with_the_next_one(
    start_server: StartServer, speech: bytes
) -> None:
    server = start_server(**WAITS)
    async with call(server.stream) as first:
        ready = await first.start()
        speaking = asyncio.create_task(first.speak(speech))
        await first.until("commit")
        server.process.send_signal(signal.SIGTERM)
        assert await first.closed() == 1012
        assert first.heard[-1]["code"] == "shutting_down"
        with contextlib.suppress(Exception):  # the socket is closed under it
            await speaking
    assert server.process.wait(60) in (0, -signal.SIGTERM)
    kept = server.data / "sessions" / ready["session"] / "messages.jsonl"
    assert "stopped" not in {json.loads(line)["type"] for line in kept.read_text().splitlines()}
    heir = start_server("--data", str(server.data), **WAITS)
    async with resumed(heir.stream, ready, first.heard) as (second, again):
        await second.speak(speech[again["received_bytes"] :])
        assert (await second.finished())["duration"] == len(speech) / SECOND_BYTES
    check_record(record(first, second))


async def test_a_second_server_on_the_folder_of_one_that_runs_is_refused_and_disturbs_nobody(
    start_server: StartServer, models_dir: Path, speech: bytes
) -> None:
    server = start_server(**WAITS)
    async with call(server.stream) as caller:
        await caller.start(pace="fast")
        await caller.send(speech)
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "live_asr.cli", "serve", "--port", "0", "--model", MODEL),
            *("--data", str(server.data)),
            env={**os.environ, "LIVE_ASR_MODELS__DIR": str(models_dir)},
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await second.communicate()
        assert second.returncode == 1
        assert f"Another live-asr serves from {server.data}" in errors.decode()
        assert (await caller.finished())["duration"] == len(speech) / SECOND_BYTES


def torn(folder: Path) -> None:
    """Leave what a power cut leaves: half a message, and half a sample."""
    with (folder / "messages.jsonl").open("ab") as file:
        file.write(b'{"type":"commit","seq":99')
    with (folder / "audio.bin").open("ab") as file:
        file.write(b"\1")


def flipped(folder: Path) -> None:
    """Break the last message but leave its line."""
    path = folder / "messages.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b'"seq"', b'"seq\x02')
    path.write_bytes(b"".join(lines))


def without_state(folder: Path) -> None:
    """Lose what was not synced."""
    (folder / "state.json").write_bytes(b"")


@pytest.mark.parametrize("damage", [torn, flipped, without_state])
async def test_files_that_a_crash_has_damaged_are_mended_and_the_session_goes_on(
    start_server: StartServer, speech: bytes, damage: object
) -> None:
    server = start_server(**WAITS)
    async with call(server.stream) as first:
        ready = await first.start()
        await killed_in_speech(server, first, speech)
    assert callable(damage)
    damage(server.data / "sessions" / ready["session"])
    heir = start_server("--data", str(server.data), **WAITS)
    async with resumed(heir.stream, ready, [], last_seq=0) as (second, again):
        await second.speak(speech[again["received_bytes"] :])
        final = await second.finished()
    check_record(record(second))
    assert final["duration"] == len(speech) / SECOND_BYTES
    assert likeness(plain_words(final["text"]), SAID) > 0.75


async def test_the_python_client_comes_back_by_itself_through_cuts_and_a_restart(
    start_server: StartServer, speech: bytes
) -> None:
    from live_asr.client import Reconnecting, Resumed, connect
    from live_asr.core.messages import Commit, Final

    server = start_server(**WAITS)
    async with proxy(server.url) as between, connect(between.url, final_pass=False) as session:
        commits: list[Commit] = []
        others: list[object] = []
        enough = asyncio.Event()

        async def read() -> None:
            async for message in session:
                if isinstance(message, Commit):
                    commits.append(message)
                    enough.set()
                if isinstance(message, Reconnecting | Resumed | Final):
                    others.append(message)

        async def speak() -> None:
            for first in range(0, len(speech), 3200):
                await session.send(speech[first : first + 3200])
                await asyncio.sleep(0.1)  # a microphone's clock

        reading, speaking = asyncio.create_task(read()), asyncio.create_task(speak())
        await enough.wait()
        await between.cut("reset")
        await eventually(lambda: any(isinstance(m, Resumed) for m in others))
        server.process.kill()
        server.process.wait()
        heir = await asyncio.to_thread(start_server, "--data", str(server.data), **WAITS)
        between.retarget(heir.url)
        await speaking
        final: Message | object = await session.stop()
        await reading
    assert isinstance(final, Final)
    assert final.duration == len(speech) / SECOND_BYTES
    assert session.acked_bytes == len(speech)
    assert [type(m) for m in others].count(Resumed) == 2
    assert "".join(commit.text for commit in commits) == session.transcript.text


async def test_the_python_client_that_comes_back_too_late_reads_on_to_the_end(
    start_server: StartServer, speech: bytes
) -> None:
    from live_asr.client import Resumed, SessionFailed, connect
    from live_asr.core.messages import Final

    server = start_server(**SHORT)
    async with proxy(server.url) as between, connect(between.url, final_pass=False) as session:
        await session.send(speech)
        async with asyncio.timeout(TIMEOUT):
            while session.acked_bytes < len(speech):
                await anext(session)
        between.accepts = False
        await between.cut("reset")
        done = await finished_record(server.url, session.session)
        await session.send(speech)
        between.accepts = True
        final = await session.stop()
        messages = [message async for message in session]
        with pytest.raises(SessionFailed, match="stopped"):
            await session.send(speech)
    assert any(isinstance(message, Resumed) for message in messages)
    assert isinstance(messages[-1], Final)
    assert final.text.strip() == done["text"]
    assert final.duration == len(speech) / SECOND_BYTES
    assert "Traceback" not in server.log.read_text()
