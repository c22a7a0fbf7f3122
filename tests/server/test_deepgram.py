"""Deepgram's own client, and raw sockets, against a real server: the words are those of our own protocol."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.request_options import RequestOptions
from deepgram.environment import DeepgramClientEnvironment
from standardwebhooks import Webhook
from talking import call, eventually, is_written, newest_session
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.delivery.receiver import answer as taken
from tests.delivery.receiver import receiving
from tests.started import Server, StartServer

pytestmark = pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")
"""Deepgram's client still uses what websockets will drop."""

SECOND_BYTES = 32_000
RAW = {"model": "nova-3", "encoding": "linear16", "sample_rate": 16000}
TIMEOUT = 120.0
SECRET = "whsec_" + "Zm9ydHktdHdvIGJ5dGVzIG9mIHNlY3JldA=="
Message = dict[str, Any]


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    """Five seconds of the call."""
    return sample_pcm[14 * SECOND_BYTES : 19 * SECOND_BYTES]


@pytest.fixture(scope="module")
def native(server: Server, speech: bytes) -> list[Message]:
    """The words that our own protocol has for them."""
    return asyncio.run(native_words(server, speech))


async def native_words(server: Server, audio: bytes, **start: Any) -> list[Message]:
    async with call(server.stream) as caller:
        await caller.start(pace="fast", diarize=False, **start)
        await caller.send(audio)
        await caller.finished()
    return [word for message in caller.all("commit") for word in message["words"]]


@asynccontextmanager
async def client_of(server: Server, key: str = "any") -> AsyncIterator[AsyncDeepgramClient]:
    """Give Deepgram's client, which is told another address and nothing else."""
    socket = server.url.replace("http", "ws", 1)
    environment = DeepgramClientEnvironment(
        base=server.url, production=socket, agent=socket, agent_rest=server.url
    )
    async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
        yield AsyncDeepgramClient(api_key=key, environment=environment, httpx_client=http)


async def transcribed(server: Server, recording: bytes, key: str = "any", **query: Any) -> Message:
    """Return what is answered to a recording."""
    async with client_of(server, key) as client:
        once: RequestOptions = {"max_retries": 0}  # it would wait out each 429's Retry-After
        response = await client.listen.v1.media.transcribe_file(
            request=recording, request_options=once, **query
        )
    return dict(response.model_dump())


async def transcribed_from(server: Server, url: str, **query: Any) -> Message:
    """Return what is answered to the URL of one."""
    async with client_of(server) as client:
        response = await client.listen.v1.media.transcribe_url(url=url, **query)
    return dict(response.model_dump())


async def connected(server: Server, key: str = "any", **query: Any) -> None:
    """Open a stream and close it."""
    async with client_of(server, key) as client, client.listen.v1.connect(**{**RAW, **query}):
        pass


async def heard_live(server: Server, pieces: AsyncIterator[bytes | str], **query: Any) -> list[Message]:
    """Send pieces, audio or a control's name, then `CloseStream`; return all that is said."""
    async with client_of(server) as client, client.listen.v1.connect(**{**RAW, **query}) as listening:

        async def send() -> None:
            async for piece in pieces:
                if isinstance(piece, str):
                    await listening._send({"type": piece})
                else:
                    await listening.send_media(piece)
            await listening.send_close_stream()

        sending = asyncio.create_task(send())
        async with asyncio.timeout(TIMEOUT):
            heard = [message.model_dump() async for message in listening]
        await sending
    return heard


async def at_once(audio: bytes) -> AsyncIterator[bytes | str]:
    for first in range(0, len(audio), 8000):
        yield audio[first : first + 8000]


async def spoken(audio: bytes) -> AsyncIterator[bytes | str]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number, first in enumerate(range(0, len(audio), 3200)):
        # A microphone's clock, not a wait for something to happen.
        await asyncio.sleep(max(0.0, began + number * 0.1 - loop.time()))
        yield audio[first : first + 3200]


def finals(heard: list[Message]) -> list[Message]:
    return [message for message in heard if message["type"] == "Results" and message["is_final"]]


def words_of(heard: list[Message], channel: int = 0) -> list[Message]:
    return [
        word
        for result in finals(heard)
        if result["channel_index"][0] == channel
        for word in result["channel"]["alternatives"][0]["words"]
    ]


def assert_same_words(found: list[Message], native: list[Message]) -> None:
    assert [word["punctuated_word"] for word in found] == [word["text"].strip() for word in native]
    for word, expected in zip(found, native, strict=True):
        assert word["start"] == pytest.approx(expected["start"], abs=0.02)
        assert word["end"] == pytest.approx(expected["end"], abs=0.02)
        assert word["confidence"] == pytest.approx(expected["probability"], abs=0.001)


# Streaming ----------------------------------------------------------------------------------------------


@pytest.mark.conforms("Deepgram, streams", "connect", "at once", "final", judge="deepgram-sdk (Python)")
@pytest.mark.conforms(
    "Deepgram, streams", "close", sees="`Metadata`, close 1000", judge="deepgram-sdk (Python)"
)
async def test_a_file_sent_at_once_has_the_words_times_and_confidences_of_our_own_protocol(
    server: Server, speech: bytes, native: list[Message]
) -> None:
    heard = await heard_live(server, at_once(speech), punctuate="true", interim_results="true")
    assert_same_words(words_of(heard), native)
    assert len(native) > 5
    metadata = heard[-1]
    assert (metadata["type"], metadata["duration"], metadata["channels"]) == ("Metadata", 5.0, 1)
    assert {message["metadata"]["request_id"] for message in finals(heard)} == {metadata["request_id"]}
    final_until = 0.0
    for message in heard[:-1]:
        assert message["start"] >= final_until - 0.001, "what is final is not said again"
        if message["is_final"]:
            final_until = message["start"] + message["duration"]


@pytest.mark.conforms("Deepgram, streams", "stream in real time", "interim", judge="deepgram-sdk (Python)")
@pytest.mark.conforms(
    "Deepgram, streams", "flush", sees="`Results` with `from_finalize`", judge="deepgram-sdk (Python)"
)
async def test_speech_is_heard_while_it_is_spoken_and_finalize_flushes_without_an_end(
    server: Server, speech: bytes
) -> None:
    async def talk() -> AsyncIterator[bytes | str]:
        async for piece in spoken(speech[: 3 * SECOND_BYTES]):
            yield piece
        yield "Finalize"
        yield "KeepAlive"
        async for piece in spoken(speech[3 * SECOND_BYTES :]):
            yield piece

    heard = await heard_live(server, talk(), smart_format="true", interim_results="true", vad_events="true")
    assert heard[0]["type"] == "SpeechStarted"
    assert any(not message.get("is_final", True) for message in heard)
    (flushed,) = [number for number, message in enumerate(heard) if message.get("from_finalize")]
    before, after = heard[: flushed + 1], heard[flushed + 1 :]
    assert words_of(before) and words_of(after), "the session goes on"
    assert max(word["end"] for word in words_of(before)) <= 3.1
    assert heard[-1]["type"] == "Metadata"


async def test_each_channel_is_heard_alone(server: Server, speech: bytes, native: list[Message]) -> None:
    left = np.frombuffer(speech, "<i2")
    stereo = np.stack((np.zeros_like(left), left), axis=1).tobytes()
    heard = await heard_live(
        server, at_once(stereo), channels=2, multichannel="true", punctuate="true", diarize="false"
    )
    assert words_of(heard, 0) == []
    assert_same_words(words_of(heard, 1), native)
    assert heard[-1]["channels"] == 2


async def test_keyterms_are_replaced_while_it_runs_and_what_is_no_message_ends_nothing(
    server: Server, speech: bytes
) -> None:
    url = server.url.replace("http", "ws", 1) + "/v1/listen?encoding=linear16&sample_rate=16000"
    async with connect(url, proxy=None) as socket, asyncio.timeout(TIMEOUT):
        await socket.send("no json")
        assert json.loads(await socket.recv())["variant"] == "SchemaError"
        await socket.send(json.dumps({"type": "Finalise"}))
        refused = json.loads(await socket.recv())
        assert refused["message"] == '{"type": "Finalise"}' and "Finalize" in refused["description"]
        await socket.send(json.dumps({"type": "Configure", "keyterms": ["Yankee"]}))
        await socket.send(json.dumps({"type": "Configure", "features": {"numerals": True}}))
        await socket.send(speech[:SECOND_BYTES])
        await socket.send(b"")  # an empty frame closes, as it does there
        heard = [json.loads(frame) async for frame in socket]
    told = {message["type"]: message for message in heard}
    assert told["ConfigureSuccess"]["keyterms"] == ["Yankee"]
    assert told["ConfigureFailure"]["code"] == "CONFIGURE_INTERNAL_ERROR"
    assert heard[-1]["type"] == "Metadata"
    assert socket.close_code == 1000


async def test_who_says_nothing_is_let_go_with_the_code_that_clients_know(server: Server) -> None:
    url = server.url.replace("http", "ws", 1) + "/v1/listen"
    async with connect(url, proxy=None) as socket:
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(TIMEOUT):
                while True:
                    assert json.loads(await socket.recv())["variant"] == "idle"
    assert (socket.close_code, str(socket.close_reason)[:8]) == (1011, "NET-0001")


@pytest.mark.conforms("Deepgram, streams", "wrong audio", sees="`Error`, close 1008 `DATA-0000`")
async def test_what_is_no_audio_is_told_as_such(server: Server) -> None:
    async with connect(server.url.replace("http", "ws", 1) + "/v1/listen", proxy=None) as socket:
        await socket.send(b"<html>nothing to hear</html>" * 200)
        async with asyncio.timeout(TIMEOUT):
            error = json.loads(await socket.recv())
            assert (error["type"], error["variant"]) == ("Error", "not_audio")
            assert "HTML" in error["description"]
            await socket.wait_closed()
    assert (socket.close_code, socket.close_reason) == (1008, "DATA-0000")


@pytest.mark.conforms("Deepgram, streams", "cut socket", sees="what was heard is under `/v1/sessions`")
async def test_what_was_heard_before_a_cut_is_brought_to_its_end(server: Server, speech: bytes) -> None:
    before = newest_session(server.url)
    url = server.url.replace("http", "ws", 1) + "/v1/listen?encoding=linear16&sample_rate=16000"
    async with connect(url, proxy=None) as socket:
        await socket.send(speech)
        socket.transport.abort()
    await is_written(server.url, before)
    assert newest_session(server.url)["duration"] == 5.0


# Who may, and what may be asked -------------------------------------------------------------------------


@pytest.mark.conforms(
    "Deepgram, streams",
    "bad parameters",
    sees="the handshake fails with 400 and `dg-error`",
    judge="deepgram-sdk (Python)",
)
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"encoding": "speex"}, "speex"),
        ({"redact": "pci"}, "redact"),
        ({"language": "vi"}, "tiny.en"),
        ({"utterance_end_ms": "1000"}, "interim_results"),
    ],
)
async def test_what_cannot_be_had_is_refused_in_the_handshake(
    server: Server, query: Message, named: str
) -> None:
    with pytest.raises(ApiError) as refused:
        await connected(server, **query)
    assert refused.value.status_code == 400
    url = server.url.replace("http", "ws", 1) + "/v1/listen"
    with pytest.raises(InvalidStatus) as told:
        async with connect(f"{url}?{urlencode({**RAW, **query})}", proxy=None):
            pass
    response = told.value.response
    assert named in json.loads(response.body or b"")["err_msg"]
    assert named in response.headers["dg-error"]


@pytest.mark.conforms("Deepgram, recordings", "overload", sees="429 with `Retry-After`")
@pytest.mark.conforms(
    "Deepgram, streams", "bad credentials", sees="the handshake fails with 401", judge="deepgram-sdk (Python)"
)
@pytest.mark.conforms("Deepgram, streams", "overload", sees="the handshake fails with 429 and `Retry-After`")
@pytest.mark.conforms(
    "Deepgram, recordings", "bad credentials", sees="401 `INVALID_AUTH`", judge="deepgram-sdk (Python)"
)
async def test_a_key_is_asked_for_in_every_form_that_clients_have(start_server: StartServer) -> None:
    server = start_server(LIVE_ASR_SERVER__TOKEN="open-sesame", LIVE_ASR_SERVER__MAX_SESSIONS="1")
    url = server.url.replace("http", "ws", 1) + "/v1/listen?encoding=linear16&sample_rate=16000"
    with pytest.raises(ApiError) as refused:
        await connected(server, "wrong")
    assert refused.value.status_code == 401
    with pytest.raises(ApiError) as refused:
        await transcribed(server, b"RIFF", "wrong")
    assert (refused.value.status_code, refused.value.body["err_code"]) == (401, "INVALID_AUTH")
    for options in (
        {"additional_headers": {"Authorization": "Token open-sesame"}},
        {"additional_headers": {"Authorization": "Bearer open-sesame"}},
        {"subprotocols": ["token", "open-sesame"]},
    ):
        async with connect(url, proxy=None, **options) as socket:  # type: ignore[arg-type]
            assert socket.subprotocol == ("token" if "subprotocols" in options else None)
            await socket.send(json.dumps({"type": "CloseStream"}))
            async with asyncio.timeout(TIMEOUT):
                assert json.loads(await socket.recv())["type"] == "Metadata"
    await full_servers_say_so(server, url)


async def full_servers_say_so(server: Server, url: str) -> None:
    async with call(server.stream, additional_headers={"Authorization": "Bearer open-sesame"}) as caller:
        assert (await caller.start())["type"] == "ready"
        with pytest.raises(InvalidStatus) as full:
            async with connect(url, proxy=None, subprotocols=["token", "open-sesame"]):  # type: ignore[list-item]
                pass
        response = full.value.response
        assert response.status_code == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 120
        assert json.loads(response.body or b"")["err_code"] == "TOO_MANY_REQUESTS"
        with pytest.raises(ApiError) as busy:
            await transcribed(server, b"RIFF", "open-sesame")
        assert busy.value.status_code == 429
        assert 1 <= int(busy.value.headers["retry-after"]) <= 120  # type: ignore[index]


# Recordings ---------------------------------------------------------------------------------------------


def wav_of(samples: np.ndarray[Any, Any]) -> bytes:
    """Write samples, shape (n, channels), as a file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


@pytest.mark.conforms(
    "Deepgram, recordings", "connect", "at once", "final", "close", judge="deepgram-sdk (Python)"
)
@pytest.mark.conforms(
    "Deepgram, recordings",
    "stream in real time",
    "interim",
    "flush",
    missing="a recording has one answer, when all of it was heard",
)
async def test_a_recording_has_the_words_of_our_own_protocol_and_its_paragraphs(
    server: Server, speech: bytes, native: list[Message]
) -> None:
    samples = np.frombuffer(speech, "<i2")[:, None]
    answer = await transcribed(
        server, wav_of(samples), smart_format=True, paragraphs=True, utterances=True, numerals=True, tag="x"
    )
    (alternative,) = answer["results"]["channels"][0]["alternatives"]
    assert_same_words(alternative["words"], native)
    assert alternative["transcript"] == "".join(word["text"] for word in native).strip()
    sentences = [s for p in alternative["paragraphs"]["paragraphs"] for s in p["sentences"]]
    assert " ".join(sentence["text"] for sentence in sentences) == alternative["transcript"]
    assert answer["results"]["utterances"][0]["start"] == alternative["words"][0]["start"]
    metadata = answer["metadata"]
    assert (metadata["duration"], metadata["channels"], metadata["tags"]) == (5.0, 1, ["x"])
    assert metadata["warnings"] == ["`numerals` is not supported here and has no effect."]


async def test_the_channels_of_a_file_are_heard_alone(
    server: Server, speech: bytes, native: list[Message]
) -> None:
    left = np.frombuffer(speech, "<i2")
    file = wav_of(np.stack((np.zeros_like(left), left), axis=1))
    answer = await transcribed(server, file, punctuate=True, multichannel=True)
    silent, said = answer["results"]["channels"]
    assert "first 2 channels" in answer["metadata"]["warnings"][0]
    assert silent["alternatives"][0]["transcript"] == ""
    assert_same_words(said["alternatives"][0]["words"], native)


@pytest.mark.conforms("Deepgram, recordings", "wrong audio", sees="400", judge="deepgram-sdk (Python)")
async def test_a_body_without_audio_is_refused(server: Server) -> None:
    for body in (b"", b"<html>" * 1000):
        with pytest.raises(ApiError) as refused:
            await transcribed(server, body)
        assert (refused.value.status_code, refused.value.body["err_code"]) == (400, "Bad Request")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[str]:
    """A server of the files in a folder, and nothing else."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_address[1]}"
    serving.shutdown()
    thread.join()
    serving.server_close()


async def test_a_url_leads_to_the_recording_unless_it_leads_into_the_servers_own_network(
    server: Server,
    start_server: StartServer,
    files: str,
    tmp_path: Path,
    speech: bytes,
    native: list[Message],
) -> None:
    (tmp_path / "talk.wav").write_bytes(wav_of(np.frombuffer(speech, "<i2")[:, None]))
    with pytest.raises(ApiError) as refused:
        await transcribed_from(server, f"{files}/talk.wav")
    assert (refused.value.status_code, refused.value.body["err_code"]) == (400, "REMOTE_CONTENT_ERROR")
    assert "loopback" in refused.value.body["err_msg"]
    open_server = start_server(LIVE_ASR_WEBHOOK__ALLOW_PRIVATE="true")
    answer = await transcribed_from(open_server, f"{files}/talk.wav", punctuate=True)
    assert_same_words(answer["results"]["channels"][0]["alternatives"][0]["words"], native)
    with pytest.raises(ApiError) as refused:
        await transcribed_from(open_server, f"{files}/nothing.wav")
    assert "404" in refused.value.body["err_msg"]


# Callbacks ----------------------------------------------------------------------------------------------


async def test_a_recordings_result_goes_to_its_callback_signed_and_in_deepgrams_form(
    start_server: StartServer, speech: bytes, native: list[Message]
) -> None:
    server = start_server(LIVE_ASR_WEBHOOK__ALLOW_PRIVATE="true", LIVE_ASR_WEBHOOK__SECRET=SECRET)
    file = wav_of(np.frombuffer(speech, "<i2")[:, None])
    async with receiving(taken(500), taken(200)) as receiver:
        answer = await transcribed(server, file, punctuate=True, callback=receiver.url, tag="monday")
        await receiver.received(2)  # the first try fails
    assert set(answer) == {"request_id"}
    first, second = receiver.requests
    assert first.id == second.id and first.body == second.body
    Webhook(SECRET).verify(second.body, second.headers)
    told = json.loads(second.body)
    assert (told["metadata"]["request_id"], told["metadata"]["tags"]) == (answer["request_id"], ["monday"])
    assert "sha256" not in told["metadata"]
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        session = (await http.get(f"/v1/sessions/{told['metadata']['sessions'][0]}")).text
    assert "punctuate" in session and receiver.url not in session, "where it goes is nobody else's business"
    (channel,) = told["results"]["channels"]
    assert_same_words(channel["alternatives"][0]["words"], native)


async def test_a_streams_result_goes_to_its_callback_when_it_is_over(
    start_server: StartServer, speech: bytes, native: list[Message]
) -> None:
    server = start_server(LIVE_ASR_WEBHOOK__ALLOW_PRIVATE="true")
    async with receiving(taken(200)) as receiver:
        heard = await heard_live(server, at_once(speech), punctuate="true", callback=receiver.url)
        await receiver.received(1)
    told = json.loads(receiver.requests[0].body)
    assert_same_words(words_of(heard), native)
    assert_same_words(told["results"]["channels"][0]["alternatives"][0]["words"], native)
    assert told["metadata"]["request_id"] == heard[-1]["request_id"]


# Readers, and what else may happen ----------------------------------------------------------------------


@pytest.mark.conforms("Deepgram, streams", "slow reader", sees="all results, when it reads them")
async def test_who_reads_at_the_end_alone_gets_the_whole(
    server: Server, speech: bytes, native: list[Message]
) -> None:
    before = newest_session(server.url)
    query = urlencode({**RAW, "punctuate": "true"})
    url = f"{server.url.replace('http', 'ws', 1)}/v1/listen?{query}"
    async with connect(url, proxy=None, max_queue=1) as socket:
        async for piece in at_once(speech):
            await socket.send(piece)
        await socket.send(json.dumps({"type": "CloseStream"}))
        await is_written(server.url, before)
        heard = [json.loads(frame) async for frame in socket]
    assert_same_words(words_of(heard), native)
    assert (heard[-1]["type"], socket.close_code) == ("Metadata", 1000)


@pytest.mark.conforms("Deepgram, recordings", "slow reader", sees="the whole, when it reads it")
async def test_a_recordings_answer_waits_for_its_reader(
    server: Server, speech: bytes, native: list[Message]
) -> None:
    before = newest_session(server.url)
    body = wav_of(np.frombuffer(speech, "<i2")[:, None])
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(server.url).port)
    head = "POST /v1/listen?punctuate=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    await is_written(server.url, before)
    async with asyncio.timeout(TIMEOUT):
        answer = await reader.read()
    writer.close()
    told = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert_same_words(told["results"]["channels"][0]["alternatives"][0]["words"], native)


@pytest.mark.conforms("Deepgram, recordings", "cut socket", sees="what was heard is under `/v1/sessions`")
async def test_of_an_upload_that_breaks_off_what_came_is_written_down(server: Server, speech: bytes) -> None:
    before = newest_session(server.url)
    _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(server.url).port)
    query = urlencode(RAW)
    writer.write(
        f"POST /v1/listen?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n".encode()
    )
    writer.write(b"\r\n" + speech)
    await writer.drain()
    await eventually(lambda: newest_session(server.url).get("duration") == 5.0)
    writer.transport.abort()
    await is_written(server.url, before)


@pytest.mark.conforms("Deepgram, recordings", "bad parameters", sees="400", judge="deepgram-sdk (Python)")
async def test_a_url_that_cannot_be_one_is_refused_as_such(server: Server) -> None:
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=server.url) as http:
        for body in ('{"url": "https://example.com/\\ud800"}', "[]", '{"url": 7}', "{"):
            answer = await http.post("/v1/listen", content=body, headers=headers)
            assert (answer.status_code, answer.json()["err_code"]) == (400, "Bad Request"), body


async def test_a_page_from_elsewhere_has_nothing_written_down(server: Server) -> None:
    page = {"Origin": "https://elsewhere.example"}
    async with httpx.AsyncClient(base_url=server.url, headers=page) as http:
        answer = await http.post("/v1/listen", content=b"RIFF")
    assert (answer.status_code, answer.json()["err_code"]) == (403, "FORBIDDEN")


async def test_a_recording_has_the_bound_of_every_upload(start_server: StartServer) -> None:
    server = start_server(LIVE_ASR_SERVER__MAX_UPLOAD_BYTES="65536")
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT) as http:
        answer = await http.post("/v1/listen", params=RAW, content=bytes(70_000))
    assert (answer.status_code, answer.json()["err_code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_frame_that_is_too_large_is_told_as_there(server: Server) -> None:
    async with connect(server.url.replace("http", "ws", 1) + "/v1/listen", proxy=None) as socket:
        await socket.send(bytes(2 * 1024 * 1024))
        async with asyncio.timeout(TIMEOUT):
            error = json.loads(await socket.recv())
            await socket.wait_closed()
    assert (error["type"], error["variant"], socket.close_code) == ("Error", "frame_too_large", 1009)


async def test_what_a_recording_cannot_have_is_refused(server: Server) -> None:
    with pytest.raises(ApiError) as refused:
        await transcribed(server, b"RIFF", redact="pci")
    assert refused.value.status_code == 400 and "redact" in refused.value.body["err_msg"]
