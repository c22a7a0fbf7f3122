"""`/asr` as WhisperLiveKit's own test client and others of its clients use it, with real speech."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import httpx
import numpy as np
import pytest
from judging import whisperlivekit_client
from scripted_pass import ScriptedPass, found
from serving import Served, serving
from talking import TIMEOUT, Caller, eventually, finished_record, recite
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from live_asr.server.dialects.whisperlivekit import BYTES_PER_SECOND, MAX_AHEAD
from tests.started import Server

Message = dict[str, Any]
SECOND_BYTES = 32_000
CLOCK = re.compile(r"\d+:\d\d:\d\d\.\d\d")
FLOATS = ("remaining_time_transcription", "remaining_time_diarization")
TEXTS = ("status", "buffer_transcription", "buffer_diarization", "buffer_translation")


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    """Nine seconds of the call in which both speak."""
    return sample_pcm[14 * SECOND_BYTES : 23 * SECOND_BYTES]


@pytest.fixture(scope="module")
def judge() -> Iterator[ModuleType]:
    """WhisperLiveKit's test client; what it has ffmpeg do is done already to the files that it gets here."""
    client = whisperlivekit_client()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "load_audio_pcm", lambda path, *_: Path(path).read_bytes())
        yield client


@pytest.fixture(scope="module")
def native(server: Server, speech: bytes) -> Caller:
    """What the native protocol makes of the nine seconds."""
    return asyncio.run(recite(server.stream, speech))


def asr(url: str, query: str = "") -> str:
    return f"{url.replace('http', 'ws', 1)}/asr{'?' if query else ''}{query}"


@asynccontextmanager
async def calling(url: str, query: str = "", **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(asr(url, query), proxy=None, max_size=None, **options) as socket:
        yield socket


async def hear(socket: ClientConnection) -> list[Message]:
    """Return all that comes up to `ready_to_stop` or to the close."""
    heard: list[Message] = []
    async with asyncio.timeout(TIMEOUT):
        try:
            while not heard or heard[-1].get("type") != "ready_to_stop":
                heard.append(json.loads(await socket.recv()))
        except ConnectionClosed:
            pass
    return heard


async def send_all(socket: ClientConnection, audio: bytes, frame: int = SECOND_BYTES) -> None:
    """Send audio as AymurAI's client does: a second at a time, as fast as it is taken."""
    for first in range(0, len(audio), frame):
        await socket.send(audio[first : first + frame])
    await socket.send(b"")


async def give(url: str, audio: bytes, query: str = "") -> list[Message]:
    """Send audio, and return all that comes meanwhile: a client that reads beside its sending."""
    async with calling(url, query) as socket:
        hearing = asyncio.create_task(hear(socket))
        await send_all(socket, audio)
        return await hearing


def states(heard: list[Message]) -> list[Message]:
    return [message for message in heard if "lines" in message]


def texts(lines: list[Message]) -> str:
    return " ".join(line["text"] for line in lines)


def seconds(clock: str) -> float:
    hours, minutes, rest = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def ogg(audio: bytes) -> bytes:
    """Return audio as a browser records it."""
    out = io.BytesIO()
    with av.open(out, "w", format="webm") as container:
        stream = container.add_stream("libopus", rate=48_000)
        frame = av.AudioFrame.from_ndarray(
            np.frombuffer(audio, "<i2").reshape(1, -1), format="s16", layout="mono"
        )
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return out.getvalue()


# WhisperLiveKit's own client --------------------------------------------------------------------------


@pytest.mark.conforms(
    "WhisperLiveKit", "connect", "at once", "final", "close", judge="whisperlivekit.test_client"
)
@pytest.mark.parametrize("mode", ["full", "diff"])
async def test_a_file_sent_at_once_gives_the_native_words_and_times(
    server: Server, judge: ModuleType, native: Caller, speech: bytes, tmp_path: Path, mode: str
) -> None:
    file = tmp_path / "call.pcm"
    file.write_bytes(speech)
    result = await judge.transcribe_audio(str(file), asr(server.url), speed=0, timeout=TIMEOUT, mode=mode)
    assert result.committed_text == result.text, "nothing is left that may change"
    assert result.text.split() == native.text.split()
    words = [word for commit in native.all("commit") for word in commit["words"]]
    for line in result.lines:
        count = len(line["text"].split())
        said, words = words[:count], words[count:]
        assert "".join(word["text"] for word in said).strip() == line["text"]
        assert abs(seconds(line["start"]) - said[0]["start"]) < 0.02
        assert abs(seconds(line["end"]) - said[-1]["end"]) < 0.02
        assert {word["speaker"] for word in said} <= {None, f"S{line['speaker']}"}


@pytest.mark.conforms("WhisperLiveKit", "stream in real time", "interim", judge="whisperlivekit.test_client")
@pytest.mark.parametrize("mode", ["full", "diff"])
async def test_in_real_time_lines_are_added_and_never_changed(
    server: Server, judge: ModuleType, speech: bytes, tmp_path: Path, mode: str
) -> None:
    file = tmp_path / "speech.pcm"
    file.write_bytes(speech)
    result = await judge.transcribe_audio(str(file), asr(server.url), timeout=TIMEOUT, mode=mode)
    shown = [response for response in result.responses if "lines" in response]
    for earlier, later in pairwise(shown):
        assert later["lines"][: len(earlier["lines"])] == earlier["lines"]
    assert any(response["buffer_transcription"] for response in shown), "words that may still change"
    assert result.lines


# What other clients rely on -----------------------------------------------------------------------------


async def test_every_message_holds_what_typed_clients_ask_for(server: Server, speech: bytes) -> None:
    heard = await give(server.url, speech, "language=en")
    assert heard[0] == {"type": "config", "useAudioWorklet": True, "mode": "full"}
    assert heard[-1] == {"type": "ready_to_stop"}
    assert heard[1:-1] == states(heard)
    for state in states(heard):
        assert "type" not in state
        assert all(type(state[name]) is float for name in FLOATS)
        assert all(type(state[name]) is str for name in TEXTS)
        for line in state["lines"]:
            assert type(line["speaker"]) is int and type(line["text"]) is str and line["text"]
            assert CLOCK.fullmatch(line["start"]) and CLOCK.fullmatch(line["end"])
            assert line["detected_language"] == "en"
    last = states(heard)[-1]
    assert last["status"] == "active_transcription"
    assert (last["remaining_time_transcription"], last["buffer_transcription"]) == (0.0, "")
    ends = [seconds(line["end"]) for line in last["lines"]]
    assert ends == sorted(ends) and 7 < ends[-1] < 9


async def test_diffs_add_up_to_the_whole_for_a_client_that_only_appends(
    server: Server, speech: bytes
) -> None:
    full, diffs = await asyncio.gather(
        give(server.url, speech, "pace=fast"), give(server.url, speech, "mode=diff&pace=fast")
    )
    assert diffs[0]["mode"] == "diff"
    told = [message for message in diffs if message["type"] in ("snapshot", "diff")]
    assert [message["seq"] for message in told] == list(range(1, len(told) + 1))
    assert [message["type"] for message in told] == ["snapshot"] + ["diff"] * (len(told) - 1)
    lines = list(told[0]["lines"])
    for message in told[1:]:
        lines += message.get("new_lines", [])
        assert len(lines) == message["n_lines"]
    assert lines == states(full)[-1]["lines"]


@pytest.mark.parametrize("query", ["", "audio=container"])
async def test_a_container_is_known_by_its_first_bytes(server: Server, speech: bytes, query: str) -> None:
    recorded = ogg(speech)
    native = await recite(server.stream, recorded, audio={"encoding": "container"})
    heard = await give(server.url, recorded, query)
    assert heard[0]["useAudioWorklet"] is not bool(query), "asked for it, a browser records into a container"
    assert texts(states(heard)[-1]["lines"]).split() == native.text.split()


async def test_without_speakers_all_lines_are_the_first_one_s(server: Server, speech: bytes) -> None:
    native = await recite(server.stream, speech, diarize=False)
    last = states(await give(server.url, speech, "diarize=false"))[-1]
    assert {line["speaker"] for line in last["lines"]} == {1}
    assert texts(last["lines"]).split() == native.text.split()


@pytest.mark.conforms("WhisperLiveKit", "flush", missing="no message says so; an empty frame ends the stream")
async def test_silence_is_no_audio_and_an_empty_stream_is_none(server: Server) -> None:
    heard = await give(server.url, bytes(2 * SECOND_BYTES))
    assert states(heard)[-1]["status"] == "no_audio_detected"
    assert states(heard)[-1]["lines"] == []
    assert [message["type"] for message in await give(server.url, b"")] == ["config", "ready_to_stop"]


async def test_parameters_that_mean_nothing_here_are_named(server: Server) -> None:
    heard = await give(server.url, b"", "colour=red&language=en")
    assert heard[0]["warning"] == "Not known here and ignored: colour."


async def test_health_is_answered_as_there(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        assert (await http.get("/health")).json() == {"status": "ok", "backend": "live-asr", "ready": True}


# Faster, slower, and gone -------------------------------------------------------------------------------


async def test_files_sent_at_once_complete_and_pings_are_answered_meanwhile(
    server: Server, speech: bytes
) -> None:
    """Each sends more than the native window holds: most is on disk before its beginning is recognised."""
    recording = speech + bytes(40 * SECOND_BYTES) + speech

    async def one() -> tuple[list[Message], bool]:
        async with calling(server.url, "diarize=false") as socket:
            hearing = asyncio.create_task(hear(socket))
            await send_all(socket, recording)
            async with asyncio.timeout(TIMEOUT):
                await (await socket.ping())
            answered_before_the_end = not hearing.done()
            return await hearing, answered_before_the_end

    assert 2**20 < len(recording) < MAX_AHEAD * BYTES_PER_SECOND
    (first, first_early), (second, second_early) = await asyncio.gather(one(), one())
    assert first_early and second_early
    assert first[-1] == second[-1] == {"type": "ready_to_stop"}
    assert states(first)[-1]["lines"] == states(second)[-1]["lines"]
    assert seconds(states(first)[-1]["lines"][-1]["end"]) > 56


@pytest.mark.conforms("WhisperLiveKit", "slow reader", sees="fewer updates, and all lines in the last one")
async def test_a_client_that_reads_at_the_end_alone_gets_the_whole(
    server: Server, native: Caller, speech: bytes
) -> None:
    async with calling(server.url, max_queue=1) as socket:
        await send_all(socket, speech)
        heard = await hear(socket)
    assert texts(states(heard)[-1]["lines"]).split() == native.text.split()


@pytest.mark.conforms("WhisperLiveKit", "cut socket", sees="what was heard is under `/v1/sessions`")
async def test_a_client_that_is_cut_off_is_taken_to_have_stopped(server: Server, speech: bytes) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=TIMEOUT) as http:
        async with calling(server.url, "pace=realtime") as socket:
            await socket.send(speech)
            while not states([json.loads(await socket.recv())]):
                pass
            socket.transport.abort()
        newest = (await http.get("/v1/sessions?limit=1")).json()["sessions"][0]["session"]

    record = await finished_record(server.url, newest)
    assert record["duration"] == 9.0 and record["text"]
    await eventually(lambda: server.metric("live_asr_sessions") == 0)


# What is refused ----------------------------------------------------------------------------------------


async def refused(url: str, query: str = "", *frames: bytes | str) -> tuple[Message, int | None]:
    """Return the last message before the close, and its code."""
    async with calling(url, query) as socket:
        for frame in frames:
            await socket.send(frame)
        heard = await hear(socket)
        await socket.wait_closed()
        return heard[-1], socket.close_code


@pytest.mark.conforms("WhisperLiveKit", "bad parameters", sees="`error`, close 4400")
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("language=klingon", "klingon"),
        ("language=de", "tiny.en"),
        ("mode=half", "mode"),
        ("target_language=fr", "target_language"),
        ("pace=slow", "pace"),
    ],
)
async def test_what_cannot_be_had_is_told_as_there(server: Server, query: str, named: str) -> None:
    told, code = await refused(server.url, query)
    assert told["type"] == "error" and named in told["error"]
    assert code == 4400


@pytest.mark.conforms("WhisperLiveKit", "wrong audio", sees="`status` is `error`, close 1003")
async def test_frames_may_be_as_large_as_there_and_a_larger_one_is_told(server: Server) -> None:
    async with calling(server.url, "diarize=false") as socket:
        await socket.send(bytes(2 * 1024 * 1024))
        await socket.send(b"")
        assert (await hear(socket))[-1] == {"type": "ready_to_stop"}
    async with calling(server.url) as socket:
        await socket.send(bytes(17 * 1024 * 1024))
        error = (await hear(socket))[-1]
    assert error["type"] == "error" and "larger" in error["error"] and socket.close_code == 1009


async def test_a_text_frame_and_what_is_no_audio_are_told(server: Server) -> None:
    told, code = await refused(server.url, "", '{"type": "start"}')
    assert (told["type"], code) == ("error", 1003) and "binary" in told["error"]
    told, code = await refused(server.url, "pace=fast", b"\x89PNG\r\n\x1a\n" + bytes(4000), b"")
    assert (told["status"], code) == ("error", 1003) and "PNG" in told["error"]


@pytest.fixture
async def guarded(models_dir: Path, tmp_path: Path) -> AsyncIterator[Served]:
    """A server with a token and one place."""
    flags = {"server__token": "top-secret", "server__max_sessions": 1}
    async with serving(tmp_path, models_dir, ScriptedPass(found()), **flags) as served:
        yield served


@pytest.mark.conforms("WhisperLiveKit", "bad credentials", sees="the handshake fails with 403")
@pytest.mark.conforms("WhisperLiveKit", "overload", sees="`error`, close 1013")
async def test_the_token_is_asked_for_and_places_are_counted(guarded: Served, speech: bytes) -> None:
    for query in ("", "token=wrong"):
        with pytest.raises(InvalidStatus) as failed:
            async with calling(guarded.url, query):
                pass
        assert failed.value.response.status_code == 403
    for scheme in ("Bearer", "Token"):
        async with calling(
            guarded.url, additional_headers={"Authorization": f"{scheme} top-secret"}
        ) as socket:
            assert json.loads(await socket.recv())["type"] == "config"
    async with calling(guarded.url, "token=top-secret&pace=realtime") as socket:
        await socket.send(speech)
        while not states([json.loads(await socket.recv())]):
            pass
        told, code = await refused(guarded.url, "token=top-secret&pace=realtime", speech)
        assert told["type"] == "error" and "place is taken" in told["error"]
        assert code == 1013
        await socket.send(b"")
        assert (await hear(socket))[-1] == {"type": "ready_to_stop"}
