"""When the audio was recorded, by the wall clock: from the client's word to the result, through a crash."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import httpx
import pytest
from talking import Message, call

from live_asr.client import connect
from live_asr.core.errors import ClientError
from live_asr.core.messages import Notice, Timed
from tests.server.resuming import WAITS, check_record, record, resumed
from tests.started import Server, StartServer

SECOND_BYTES = 32_000
AT = "2026-11-21T14:05:09.120Z"
LATER = "2026-11-21T14:05:13.870Z"


async def transcript(server: Server, session: str) -> Message:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{server.url}/v1/sessions/{session}/transcript.json")
    record: Message = answer.json()
    return record


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_what_the_clock_said_stands_in_the_result_and_outlives_the_server(
    start_server: StartServer, sample_pcm: bytes
) -> None:
    speech = sample_pcm[14 * SECOND_BYTES : 18 * SECOND_BYTES]
    server = start_server(**WAITS)
    began = datetime.now(UTC)
    async with call(server.stream) as first:
        ready = await first.start()
        assert began - timedelta(milliseconds=1) <= when(ready["started_at"]) <= datetime.now(UTC)
        await first.say("time", sample=0, at="2026-11-21T15:05:09.12+01:00")
        assert await first.until("timed") == {"type": "timed", "seq": 1, "audio": 0.0, "at": AT}
        await first.send(speech)
        await first.until("ack")
        live = await transcript(server, ready["session"])
        assert live["clock"] == [{"audio": 0.0, "at": AT}]
        assert when(ready["started_at"]) <= when(live["started_at"]) <= datetime.now(UTC)
        server.process.kill()
        await first.closed()
    server.process.wait()
    heir = start_server("--data", str(server.data), **WAITS)
    async with resumed(heir.stream, ready, first.heard) as (second, again):
        assert again["started_at"] == live["started_at"]
        await second.say("time", audio_seconds=4.75, at=LATER)
        await second.until("timed")
        final = await second.finished()
    check_record(record(first, second))
    clock = [{"audio": 0.0, "at": AT}, {"audio": 4.75, "at": LATER}]
    assert (final["started_at"], final["clock"]) == (live["started_at"], clock)
    written = await transcript(heir, ready["session"])
    assert (written["started_at"], written["clock"]) == (live["started_at"], clock)


async def test_a_time_that_no_clock_shows_is_refused_by_name(server: Server) -> None:
    async with call(server.stream) as caller:
        await caller.start()
        await caller.say("time", sample=0, at="noon")
        assert await caller.closed() == 1007
        assert caller.heard[-1]["code"] == "bad_message" and "`at`" in caller.heard[-1]["message"]


async def test_the_python_client_says_when_its_audio_was_recorded(server: Server, sample_pcm: bytes) -> None:
    hour_east = datetime(2026, 11, 21, 15, 5, 9, 120_000, timezone(timedelta(hours=1)))
    async with connect(server.url, final_pass=False) as session:
        with pytest.raises(ClientError, match="zone"):
            await session.time(hour_east.replace(tzinfo=None))
        await session.time(hour_east)
        await session.send(sample_pcm[: 2 * SECOND_BYTES])
        await session.time(hour_east + timedelta(seconds=2.5))
        await session.time(hour_east, audio_seconds=3.0)
        final = await session.stop()
        answers = [message async for message in session if isinstance(message, Timed | Notice)]
    clock = [(0.0, AT), (2.0, "2026-11-21T14:05:11.620Z")]
    assert [(point.audio, point.at) for point in final.clock] == clock
    assert session.transcript.clock == final.clock
    assert [type(answer) for answer in answers] == [Timed, Timed, Notice]
