"""OpenAI's own client against a real server's `/v1/realtime`: the words are those of our own protocol."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import soxr
from openai import AsyncOpenAI
from talking import Caller, call, eventually, is_written, newest_session, plain_words
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.started import Server, StartServer

SECOND_BYTES = 48_000
TIMEOUT = 120.0
TRANSCRIPTION = "conversation.item.input_audio_transcription"
Message = dict[str, Any]


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    """Five seconds of the call and one of silence, at 24 kHz."""
    samples = np.frombuffer(sample_pcm[14 * 32_000 : 19 * 32_000], "<i2")
    return bytes(soxr.resample(samples, 16_000, 24_000).tobytes()) + bytes(SECOND_BYTES)


@pytest.fixture(scope="module")
def native(server: Server, speech: bytes) -> Caller:
    """What our own protocol hears in them."""

    async def run() -> Caller:
        async with call(server.stream) as caller:
            audio = {"encoding": "pcm_s16le", "sample_rate": 24_000}
            await caller.start(pace="fast", diarize=False, audio=audio)
            await caller.send(speech)
            await caller.finished()
        return caller

    return asyncio.run(run())


class Talk:
    """OpenAI's client, connected."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.heard: list[Message] = []

    async def say(self, kind: str, **fields: Any) -> None:
        await self._connection.send({"type": kind, **fields})

    async def append(self, audio: bytes) -> None:
        for first in range(0, len(audio), SECOND_BYTES // 5):
            piece = audio[first : first + SECOND_BYTES // 5]
            await self._connection.input_audio_buffer.append(audio=base64.b64encode(piece).decode())

    async def until(self, wanted: str | Callable[[Message], bool]) -> Message:
        """Read to the first event of this type, or for which this holds; return it."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                event = (await self._connection.recv()).model_dump()
                self.heard.append(event)
                if event["type"] == wanted if isinstance(wanted, str) else wanted(event):
                    return event

    def all(self, kind: str) -> list[Message]:
        return [event for event in self.heard if event["type"] == kind]


@asynccontextmanager
async def talking(server: Server, key: str = "any") -> AsyncIterator[Talk]:
    async with (
        AsyncOpenAI(api_key=key, base_url=f"{server.url}/v1", max_retries=0) as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        talk = Talk(connection)
        created = await talk.until("session.created")
        assert created["session"]["type"] == "transcription"
        yield talk


def manual(**given: Any) -> Message:
    return {"type": "transcription", "audio": {"input": {"turn_detection": None, **given}}}


@pytest.mark.conforms("OpenAI Realtime", "connect", "at once", "final", judge="openai (Python)")
@pytest.mark.conforms(
    "OpenAI Realtime", "interim", missing="deltas are words that stay", judge="openai (Python)"
)
async def test_turns_have_the_words_and_times_of_our_own_protocol_and_deltas_only_grow(
    server: Server, speech: bytes, native: Caller
) -> None:
    ended = [message["time"] for message in native.all("speech") if message["state"] == "ended"]
    async with talking(server) as talk:
        await talk.append(speech)
        while len(talk.all(f"{TRANSCRIPTION}.completed")) < len(ended):
            await talk.until(f"{TRANSCRIPTION}.completed")
    completed = talk.all(f"{TRANSCRIPTION}.completed")
    assert [event["transcript"] for event in completed] == [
        message["text"] for message in native.all("utterance")
    ]
    for event in completed:
        deltas = [d["delta"] for d in talk.all(f"{TRANSCRIPTION}.delta") if d["item_id"] == event["item_id"]]
        assert "".join(deltas) == event["transcript"]
    stopped = [event["audio_end_ms"] for event in talk.all("input_audio_buffer.speech_stopped")]
    assert stopped == pytest.approx([1000 * time for time in ended], abs=20)
    started = [event["audio_start_ms"] for event in talk.all("input_audio_buffer.speech_started")]
    expected = [1000 * m["time"] for m in native.all("speech") if m["state"] == "started"]
    assert started == pytest.approx(expected, abs=20)
    ids = [event["item_id"] for event in talk.all("input_audio_buffer.committed")]
    assert [event["item_id"] for event in completed] == ids
    assert [event["previous_item_id"] for event in talk.all("input_audio_buffer.committed")] == [None, *ids][
        :-1
    ]


@pytest.mark.conforms("OpenAI Realtime", "flush", sees="`input_audio_buffer.commit`", judge="openai (Python)")
async def test_what_the_client_commits_is_one_item_and_what_it_clears_is_none(
    server: Server, speech: bytes, native: Caller
) -> None:
    async with talking(server) as talk:
        await talk.say("session.update", session=manual(format={"type": "audio/pcm", "rate": 24000}))
        updated = await talk.until("session.updated")
        assert updated["session"]["audio"]["input"]["turn_detection"] is None
        await talk.append(speech[: 4 * SECOND_BYTES])
        await talk.say("input_audio_buffer.clear")
        await talk.until("input_audio_buffer.cleared")
        await talk.append(speech)
        await talk.say("input_audio_buffer.commit")
        await talk.until("input_audio_buffer.committed")
        completed = await talk.until(f"{TRANSCRIPTION}.completed")
        assert completed["usage"]["seconds"] == pytest.approx(6.0, abs=0.01)
        assert len(completed["transcript"].split()) >= 0.7 * len(native.text.split())
        assert len(talk.all("input_audio_buffer.committed")) == 1
        assert not talk.all("input_audio_buffer.speech_started")
        deltas = talk.all(f"{TRANSCRIPTION}.delta")
        assert "".join(delta["delta"] for delta in deltas) == completed["transcript"]
        await talk.say("session.update", session=manual(format={"type": "audio/pcmu"}))
        refused = await talk.until("error")
        assert refused["error"]["code"] == "session_has_audio"


@pytest.mark.conforms(
    "OpenAI Realtime",
    "bad parameters",
    sees="an `error` event; the connection stays",
    judge="openai (Python)",
)
@pytest.mark.conforms(
    "OpenAI Realtime", "wrong audio", sees="an `error` event; the connection stays", judge="openai (Python)"
)
async def test_what_is_said_wrongly_is_answered_by_an_error_and_ends_nothing(server: Server) -> None:
    async with talking(server) as talk:
        for kind, fields, param, code in (
            ("response.create", {}, "type", "invalid_value"),
            ("input_audio_buffer.append", {"audio": "§"}, "audio", "invalid_value"),
            ("input_audio_buffer.commit", {}, None, "input_audio_buffer_commit_empty"),
            ("session.update", {"session": {"type": "realtime"}}, "session.type", "invalid_value"),
            (
                "session.update",
                {"session": {"audio": {"input": {"transcription": {"language": "vi"}}}}},
                "session.audio.input.transcription.language",
                "language_unsupported",
            ),
        ):
            await talk.say(kind, event_id=f"mine of {kind}", **fields)
            error = (await talk.until("error"))["error"]
            assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
            assert error["event_id"] in (f"mine of {kind}", None)
        await talk.say("session.update", session=manual(noise_reduction={"type": "near_field"}))
        updated = await talk.until("session.updated")
        assert updated["session"]["audio"]["input"]["noise_reduction"] is None
        assert "`noise_reduction`" in updated["session"]["warnings"][0]


async def test_what_no_answer_could_repeat_and_audio_of_no_length_end_nothing(server: Server) -> None:
    url = server.url.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
    async with connect(url, proxy=None) as socket:
        assert await said(socket) == "session.created"
        for frame in (
            '{"type": "nothing", "event_id": "\\ud800"}',
            '{"type": "session.update", "session": {"input_audio_transcription": {"model": "\\ud800"}}}',
            '{"type": "input_audio_buffer.commit", "bytes": 5}',
        ):
            await socket.send('{"type": "input_audio_buffer.append", "audio": ""}')
            await socket.send(frame)
            assert await said(socket) == "error"
        await socket.send('{"type": "session.update", "session": {"type": "transcription"}}')
        assert await said(socket) == "session.updated"
    async with httpx.AsyncClient(base_url=server.url) as http:
        for body, said_of_it in (
            ('{"session": {"audio": "\\ud800"}}', "surrogate"),
            ("[]", "object"),
            ("{", "JSON"),
        ):
            answer = await http.post("/v1/realtime/client_secrets", content=body)
            assert answer.status_code == 400 and said_of_it in answer.json()["error"]["message"]
        page = {"Origin": "https://elsewhere.example"}
        assert (await http.post("/v1/realtime/client_secrets", headers=page)).status_code == 403
        wrong = {"expires_after": {"anchor": "never", "seconds": 60}}
        answer = await http.post("/v1/realtime/client_secrets", json=wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "expires_after.anchor")


async def test_telephone_audio_is_taken_in_the_words_of_the_beta(server: Server, speech: bytes) -> None:
    samples = np.frombuffer(speech, "<i2").astype(np.float32)
    telephone = soxr.resample(samples, 24_000, 8000)
    magnitude = np.log1p(255 * np.clip(np.abs(telephone) / 32768, 0, 1)) / np.log(256)
    code = ~((np.where(telephone < 0, 0x80, 0) + np.round(magnitude * 127)).astype(np.uint8))
    url = server.url.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
    async with connect(url, proxy=None, additional_headers={"OpenAI-Beta": "realtime=v1"}) as socket:
        assert await said(socket) == "transcription_session.created"
        session = {"input_audio_format": "g711_ulaw", "turn_detection": None}
        await socket.send(json.dumps({"type": "transcription_session.update", "session": session}))
        assert await said(socket) == "transcription_session.updated"
        audio = base64.b64encode(code.tobytes()).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        kinds = [await said(socket)]
        while not kinds[-1].endswith((".completed", ".failed")):
            kinds.append(await said(socket))
    assert kinds[:2] == ["input_audio_buffer.committed", "conversation.item.created"]
    assert kinds[-1] == f"{TRANSCRIPTION}.completed"
    assert f"{TRANSCRIPTION}.delta" in kinds


async def said(socket: ClientConnection) -> str:
    async with asyncio.timeout(TIMEOUT):
        return str(json.loads(await socket.recv())["type"])


async def test_an_event_may_hold_as_much_audio_as_the_api_takes(server: Server) -> None:
    url = server.url.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
    async with connect(url, proxy=None) as socket:
        assert await said(socket) == "session.created"
        audio = base64.b64encode(bytes(2 * 1024 * 1024)).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        assert await said(socket) == "input_audio_buffer.committed"
        await socket.send("x" * (22 * 1024 * 1024))
        async with asyncio.timeout(TIMEOUT):
            while (event := json.loads(await socket.recv()))["type"] != "error":
                pass
            assert event["error"]["code"] == "frame_too_large" and event["error"]["message"]
            await socket.wait_closed()
        assert socket.close_code == 1009


@pytest.mark.conforms("OpenAI Realtime", "cut socket", sees="what was heard is under `/v1/sessions`")
async def test_what_was_heard_before_a_cut_is_brought_to_its_end(server: Server, speech: bytes) -> None:
    def newest() -> Message:
        return dict(httpx.get(f"{server.url}/v1/sessions?limit=1").json()["sessions"][0])

    async with talking(server) as talk:
        before = newest()["session"]
        await talk.append(speech)
        talk._connection._connection.transport.abort()
    await eventually(lambda: newest()["session"] != before and newest()["state"] == "done")
    assert newest()["duration"] == pytest.approx(6.0, abs=0.01)


@pytest.mark.conforms(
    "OpenAI Realtime", "bad credentials", sees="the handshake fails with 401", judge="openai (Python)"
)
@pytest.mark.conforms(
    "OpenAI Realtime",
    "overload",
    sees="the handshake fails with 429 and `Retry-After`",
    judge="openai (Python)",
)
async def test_keys_and_places(start_server: StartServer) -> None:
    server = start_server(LIVE_ASR_SERVER__TOKEN="open-sesame", LIVE_ASR_SERVER__MAX_SESSIONS="1")
    url = server.url.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
    with pytest.raises(InvalidStatus) as refused:
        async with talking(server, "wrong"):
            pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == "invalid_api_key"
    async with AsyncOpenAI(api_key="open-sesame", base_url=f"{server.url}/v1") as client:
        made = await client.realtime.client_secrets.create(
            session=manual(transcription={"model": "whisper-1", "language": "en"}),  # type: ignore[arg-type]
            expires_after={"anchor": "created_at", "seconds": 60},
        )
    assert made.session.audio.input.transcription.language == "en"  # type: ignore[union-attr]
    for key in ("open-sesame", made.value):
        protocols = ["realtime", f"openai-insecure-api-key.{key}"]
        async with connect(url, proxy=None, subprotocols=protocols) as socket:  # type: ignore[arg-type]
            assert socket.subprotocol == "realtime"
            async with asyncio.timeout(TIMEOUT):
                session = json.loads(await socket.recv())["session"]
            turns = session["audio"]["input"]["turn_detection"]
            assert (turns is None) == (key == made.value), "the key's own settings are in force"
    async with httpx.AsyncClient(
        base_url=server.url, headers={"Authorization": "Bearer open-sesame"}
    ) as http:
        beta = (
            await http.post("/v1/realtime/transcription_sessions", json={"input_audio_format": "pcm16"})
        ).json()
        assert beta["client_secret"]["value"].startswith("ek_")
        wrong = await http.post("/v1/realtime/client_secrets", json={"session": {"type": "realtime"}})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "session.type")
        assert (
            await http.post("/v1/realtime/client_secrets", headers={"Authorization": "x"})
        ).status_code == 401
    async with call(server.stream, additional_headers={"Authorization": "Bearer open-sesame"}) as caller:
        assert (await caller.start())["type"] == "ready"
        with pytest.raises(InvalidStatus) as full:
            async with talking(server, "open-sesame"):
                pass
    assert full.value.response.status_code == 429
    assert 1 <= int(full.value.response.headers["Retry-After"]) <= 120


@pytest.mark.conforms("OpenAI Realtime", "stream in real time", judge="openai (Python)")
@pytest.mark.conforms(
    "OpenAI Realtime", "close", sees="the client closes; what was heard is under `/v1/sessions`"
)
async def test_speech_is_heard_while_it_is_spoken_and_kept_when_its_client_closes(
    server: Server, speech: bytes, native: Caller
) -> None:
    before = newest_session(server.url)
    loop = asyncio.get_running_loop()
    async with talking(server) as talk:
        began = loop.time()
        for number, first in enumerate(range(0, len(speech), SECOND_BYTES // 5)):
            # A microphone's clock, not a wait for something to happen.
            await asyncio.sleep(max(0.0, began + number * 0.2 - loop.time()))
            await talk.append(speech[first : first + SECOND_BYTES // 5])
        await talk.until(f"{TRANSCRIPTION}.completed")
        assert talk.all("input_audio_buffer.speech_started") and talk.all(f"{TRANSCRIPTION}.delta")
    await is_written(server.url, before)
    assert newest_session(server.url)["duration"] == pytest.approx(6.0, abs=0.01)


@pytest.mark.conforms("OpenAI Realtime", "slow reader", sees="all events, when it reads them")
async def test_who_reads_late_gets_all_that_was_said(server: Server, speech: bytes, native: Caller) -> None:
    url = server.url.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
    before = newest_session(server.url)
    async with connect(url, proxy=None, max_queue=1) as socket:
        audio = base64.b64encode(speech).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))

        def said() -> str:
            newest = newest_session(server.url)
            if newest.get("session") == before.get("session"):
                return ""
            return httpx.get(f"{server.url}/v1/sessions/{newest['session']}/transcript.txt").text

        await eventually(lambda: native.words[-1] in plain_words(said()))
        heard: list[str] = []
        async with asyncio.timeout(TIMEOUT):
            while native.words[-1] not in plain_words(" ".join(heard)):
                event = json.loads(await socket.recv())
                heard += [event["transcript"]] if event["type"] == f"{TRANSCRIPTION}.completed" else []
    assert plain_words(" ".join(heard)) == native.words
