"""OpenAI's audio API as its own client and curl use it, with real speech."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import srt
import webvtt
from scripted_pass import ScriptedPass, found
from serving import Served, serving
from talking import TIMEOUT, Caller, eventually, is_written, newest_session, nothing_is_kept, recite, wav

from tests.started import Server

Message = dict[str, Any]
SECOND_BYTES = 32_000


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    """Five seconds of the call, as a file."""
    return wav(sample_pcm[14 * SECOND_BYTES : 19 * SECOND_BYTES])


@pytest.fixture(scope="module")
def native(server: Server, speech: bytes) -> Caller:
    """What the native protocol makes of the same file."""
    return asyncio.run(recite(server.stream, speech, audio={"encoding": "container"}, diarize=False))


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    """OpenAI's client, pointed at our server."""
    with pointed_at(server.url) as client:
        yield client


def pointed_at(url: str, key: str = "any", **options: Any) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(
        base_url=f"{url}/v1", api_key=key, http_client=http, timeout=TIMEOUT, max_retries=0, **options
    )


async def ask(url: str, key: str, question: Callable[[openai.OpenAI], Any]) -> Any:
    """Ask by OpenAI's client, which blocks."""

    def answer() -> Any:
        with pointed_at(url, key) as client:
            return question(client)

    return await asyncio.to_thread(answer)


def words_of(caller: Caller) -> list[Message]:
    return [word for commit in caller.all("commit") for word in commit["words"]]


async def post(url: str, path: str = "transcriptions", **parts: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http:
        return await http.post(f"{url}/v1/audio/{path}", **parts)


# The formats --------------------------------------------------------------------------------------------


@pytest.mark.conforms("OpenAI, files", "at once", "final", judge="openai (Python)")
@pytest.mark.conforms("OpenAI, files", "stream in real time", missing="a file is heard once it is here")
@pytest.mark.conforms("OpenAI, files", "flush", missing="a file ends by itself")
def test_json_and_text_are_the_native_words(client: openai.OpenAI, native: Caller, speech: bytes) -> None:
    answer = client.audio.transcriptions.create(
        file=("talk.wav", speech), model="gpt-4o-transcribe", include=["logprobs"], language="en"
    )
    assert answer.text == native.text.strip()
    assert answer.usage is not None and answer.usage.type == "duration" and answer.usage.seconds == 5
    logprobs = answer.logprobs or []
    assert [token.token for token in logprobs] == [word["text"] for word in words_of(native)]
    for token, word in zip(logprobs, words_of(native), strict=True):
        assert token.logprob == pytest.approx(math.log(max(word["probability"], 0.001)), abs=0.02)
        assert bytes(map(int, token.bytes or [])).decode() == token.token
    text = client.audio.transcriptions.create(
        file=("talk.wav", speech), model="whisper-1", response_format="text"
    )
    assert text == native.text.strip() + "\n"


def test_verbose_json_has_segments_and_words_with_the_native_times(
    client: openai.OpenAI, native: Caller, speech: bytes
) -> None:
    answer = client.audio.transcriptions.create(
        file=("talk.wav", speech),
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert (answer.language, answer.duration) == ("english", 5.0)
    said = words_of(native)
    assert [word.word for word in answer.words or []] == [word["text"].strip() for word in said]
    for word, heard in zip(answer.words or [], said, strict=True):
        assert abs(word.start - heard["start"]) < 0.02 and abs(word.end - heard["end"]) < 0.02
    segments = answer.segments or []
    assert "".join(segment.text for segment in segments).strip() == answer.text == native.text.strip()
    assert [segment.id for segment in segments] == list(range(len(segments)))
    for segment in segments:
        assert segment.start < segment.end and segment.avg_logprob < 0 < segment.compression_ratio


async def test_granularities_are_those_that_were_asked_for(server: Server, speech: bytes) -> None:
    form = {"model": "whisper-1", "response_format": "verbose_json", "timestamp_granularities[]": "word"}
    answer = (await post(server.url, data=form, files={"file": speech})).json()
    assert "words" in answer and "segments" not in answer


def test_subtitles_can_be_read_by_others(client: openai.OpenAI, native: Caller, speech: bytes) -> None:
    file = ("talk.wav", speech)
    subrip = client.audio.transcriptions.create(file=file, model="whisper-1", response_format="srt")
    cues = list(srt.parse(subrip))
    assert " ".join(cue.content for cue in cues).split() == native.text.split()
    text = client.audio.transcriptions.create(file=file, model="whisper-1", response_format="vtt")
    captions = webvtt.from_buffer(io.StringIO(text))
    assert " ".join(caption.text for caption in captions).split() == native.text.split()


@pytest.mark.conforms(
    "OpenAI, files", "interim", missing="deltas are words that stay", judge="openai (Python)"
)
def test_a_stream_only_adds_and_comes_to_the_same(
    client: openai.OpenAI, native: Caller, speech: bytes
) -> None:
    stream = client.audio.transcriptions.create(
        file=("talk.wav", speech), model="gpt-4o-mini-transcribe", stream=True, include=["logprobs"]
    )
    events = list(stream)
    *deltas, done = events
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert done.type == "transcript.text.done"
    assert "".join(delta.delta for delta in deltas) == done.text == native.text.strip()
    assert sum(len(delta.logprobs) for delta in deltas) == len(done.logprobs) == len(words_of(native))


@pytest.mark.conforms("OpenAI, files", "close", sees="`data: [DONE]`")
async def test_a_stream_is_server_sent_events_with_an_end(server: Server, speech: bytes) -> None:
    answer = await post(server.url, data={"model": "tiny.en", "stream": "true"}, files={"file": speech})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert all(block.startswith("data: ") for block in answer.text.strip().split("\n\n"))


# Who said it --------------------------------------------------------------------------------------------


def test_speakers_are_letters_or_the_names_whose_voices_were_given(
    client: openai.OpenAI, sample_pcm: bytes, server: Server
) -> None:
    file = ("call.wav", wav(sample_pcm))
    caller = asyncio.run(recite(server.stream, sample_pcm))
    labelled = [word for word in words_of(caller) if word["speaker"]]
    first = labelled[0]["speaker"]
    alone = [word for word in labelled if word["speaker"] == first and word["end"] - word["start"] > 0.1]
    begin = alone[0]["start"]
    reference = wav(sample_pcm[int(begin * 16_000) * 2 :][: 3 * SECOND_BYTES])
    url = "data:audio/wav;base64," + base64.b64encode(reference).decode()
    stream = client.audio.transcriptions.create(
        file=file,
        model="gpt-4o-transcribe-diarize",
        response_format="diarized_json",
        chunking_strategy="auto",
        stream=True,
        extra_body={"known_speaker_names": ["Diane"], "known_speaker_references": [url]},
    )
    events = list(stream)
    segments = [event for event in events if event.type == "transcript.text.segment"]
    deltas = [event for event in events if event.type == "transcript.text.delta"]
    assert [delta.segment_id for delta in deltas] == [segment.id for segment in segments]
    assert "".join(delta.delta for delta in deltas) == events[-1].text == caller.text.strip()
    assert {segment.speaker for segment in segments} >= {"Diane", "A"}
    spoken = {segment.speaker for segment in segments if segment.start <= begin <= segment.end}
    assert spoken == {"Diane"}


async def test_without_a_stream_the_full_pass_says_who(server: Server, speech: bytes) -> None:
    form = {"model": "gpt-4o-transcribe-diarize", "response_format": "diarized_json"}
    answer = (await post(server.url, data=form, files={"file": speech})).json()
    final = (await recite(server.stream, speech, audio={"encoding": "container"}, final_pass=True)).all(
        "final"
    )[0]
    assert answer["text"] == final["text"].strip()
    assert [segment["text"] for segment in answer["segments"]] == [s["text"] for s in final["segments"]]
    assert [segment["speaker"] for segment in answer["segments"]] == [
        "AB"[int(s["speaker"][-1])] for s in final["segments"]
    ]
    assert (answer["task"], answer["duration"]) == ("transcribe", 5.0)


# Models, languages, what is unknown -----------------------------------------------------------------------


@pytest.mark.conforms("OpenAI, files", "connect", judge="openai (Python)")
def test_models_are_ours_and_the_names_that_clients_are_set_to(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == "tiny.en" and {"whisper-1", "gpt-4o-transcribe-diarize"} <= set(names)
    assert client.models.retrieve("whisper-1").id == "whisper-1"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("large/unknown")


async def test_what_has_no_effect_is_named_in_a_header(server: Server, speech: bytes) -> None:
    form = {
        "model": "whisper-1",
        "prompt": "Diane, Sheila and New Jersey.",
        "temperature": "0.4",
        "chunking_strategy": '{"type": "server_vad", "silence_duration_ms": 200}',
        "colour": "red",
    }
    answer = await post(server.url, data=form, files={"file": speech})
    assert answer.status_code == 200
    warning = answer.headers["x-live-asr-warning"]
    assert all(name in warning for name in ("temperature", "chunking_strategy", "colour"))
    assert "prompt" not in warning
    async with httpx.AsyncClient(trust_env=False, base_url=server.url) as http:
        session = (await http.get(f"/v1/sessions/{answer.headers['x-request-id']}")).json()
    assert session["start"]["vocabulary"] == ["Diane", "Sheila and New Jersey"]


@pytest.mark.conforms("OpenAI, files", "bad parameters", sees="400; `param` names it")
@pytest.mark.parametrize(
    ("form", "param", "status"),
    [
        ({}, "model", 400),
        ({"model": "gpt-9"}, "model", 404),
        ({"model": "whisper-1", "response_format": "xml"}, "response_format", 400),
        ({"model": "whisper-1", "temperature": "2"}, "temperature", 400),
        ({"model": "whisper-1", "temperature": "warm"}, "temperature", 400),
        ({"model": "whisper-1", "timestamp_granularities[]": "word"}, "timestamp_granularities", 400),
        ({"model": "whisper-1", "include[]": "tokens"}, "include", 400),
        ({"model": "whisper-1", "include[]": "logprobs", "response_format": "text"}, "include", 400),
        ({"model": "whisper-1", "stream": "true", "response_format": "srt"}, "stream", 400),
        ({"model": "whisper-1", "stream": "perhaps"}, "stream", 400),
        ({"model": "whisper-1", "chunking_strategy": "semantic"}, "chunking_strategy", 400),
        ({"model": "whisper-1", "language": "x" * 99}, "language", 400),
        ({"model": "whisper-1", "language": "de"}, None, 422),
        (
            {
                "model": "gpt-4o-transcribe-diarize",
                "known_speaker_names[]": "Ann",
                "known_speaker_references[]": "https://example.com/ann.wav",
            },
            "known_speaker_references",
            400,
        ),
        (
            {"model": "gpt-4o-transcribe-diarize", "known_speaker_names[]": "Ann"},
            "known_speaker_references",
            400,
        ),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(
    server: Server, speech: bytes, form: dict[str, str], param: str | None, status: int
) -> None:
    answer = await post(server.url, data=form, files={"file": speech})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert error["type"] == "invalid_request_error" and error["message"] and error["code"]


async def test_a_voice_that_is_too_short_is_refused(server: Server, speech: bytes, sample_pcm: bytes) -> None:
    short = base64.b64encode(wav(sample_pcm[:SECOND_BYTES])).decode()
    form = {
        "model": "gpt-4o-transcribe-diarize",
        "known_speaker_names[]": "Ann",
        "known_speaker_references[]": f"data:audio/wav;base64,{short}",
    }
    before = newest_session(server.url)
    answer = await post(server.url, data=form, files={"file": speech})
    assert answer.status_code == 400 and "2 to 10 seconds" in answer.json()["error"]["message"]
    assert newest_session(server.url).get("session") == before.get("session"), "nothing is kept"


@pytest.mark.conforms("OpenAI, files", "wrong audio", sees="400, or an `error` event of a stream")
@pytest.mark.parametrize("stream", ["false", "true"])
async def test_what_is_no_audio_is_refused_and_nothing_is_kept(server: Server, stream: str) -> None:
    form = {"model": "whisper-1", "stream": stream}
    async with httpx.AsyncClient(trust_env=False, base_url=server.url) as http:
        before = (await http.get("/v1/sessions")).json()
        answer = await post(server.url, data=form, files={"file": b"%PDF-1.7 " + bytes(5000)})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "not_audio" and "PDF" in answer.json()["error"]["message"]
        assert (await http.get("/v1/sessions")).json() == before


async def test_what_is_no_form_or_has_no_file_is_refused(server: Server) -> None:
    no_form = await post(server.url, json={"model": "whisper-1"})
    assert (no_form.status_code, no_form.json()["error"]["code"]) == (415, "not_a_form")
    no_file = await post(server.url, files={"model": (None, "whisper-1")})
    assert (no_file.status_code, no_file.json()["error"]["code"]) == (400, "no_file")
    assert no_file.json()["error"]["param"] == "file"
    broken = await post(server.url, content=b"--x", headers={"content-type": "multipart/form-data"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "bad_form")


async def test_fields_are_text_and_bounded_in_all(server: Server) -> None:
    part = "--x\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n"
    form = part % ("model", "whisper-1") + part % ("response_format", "\\ud800") + "--x--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=x; charset=unicode_escape"}
    spelt = await post(server.url, content=form, headers=kind)
    assert (spelt.status_code, spelt.json()["error"]["code"]) == (400, "bad_form")
    fields = {f"known_speaker_references[{number}]": "A" * 3_000_000 for number in range(3)}
    large = await post(server.url, data={"model": "whisper-1", **fields}, files={"file": b"RIFF"})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")


async def test_an_english_model_translates_nothing_and_says_so(server: Server, speech: bytes) -> None:
    answer = await post(server.url, "translations", data={"model": "whisper-1"}, files={"file": speech})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "task_unsupported")


@pytest.mark.conforms("OpenAI, files", "final", judge="curl")
def test_curl_gets_what_the_documents_promise(
    server: Server, native: Caller, speech: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "talk.wav"
    file.write_bytes(speech)
    command = ["curl", "-sS", "--noproxy", "*", "-F", f"file=@{file}", "-F", "model=whisper-1"]
    done = subprocess.run(
        [*command, f"{server.url}/v1/audio/transcriptions"], capture_output=True, check=True, timeout=TIMEOUT
    )
    assert json.loads(done.stdout)["text"] == native.text.strip()


# Tokens, room and leaving ---------------------------------------------------------------------------------


@pytest.fixture
async def guarded(models_dir: Path, tmp_path: Path) -> AsyncIterator[Served]:
    """A server with a token, one place, no voices, small uploads and a short breath."""
    flags = {"server__token": "top-secret", "server__max_sessions": 1, "server__keepalive": 0.1}
    flags["server__max_upload_bytes"] = 4_000_000
    async with serving(tmp_path, models_dir, ScriptedPass(found()), **flags) as served:
        yield served


@pytest.mark.conforms(
    "OpenAI, files", "bad credentials", sees="401 `invalid_api_key`", judge="openai (Python)"
)
@pytest.mark.conforms(
    "OpenAI, files", "overload", sees="429 `rate_limit_exceeded` with `Retry-After`", judge="openai (Python)"
)
async def test_tokens_room_and_sizes_are_minded(guarded: Served, speech: bytes) -> None:
    url = guarded.url
    with pytest.raises(openai.AuthenticationError) as wrong:
        await ask(url, "wrong", lambda client: client.models.list())
    assert wrong.value.code == "invalid_api_key"
    key = {"Authorization": "Bearer top-secret"}
    form = {"model": "whisper-1"}
    assert (await post(url, data=form, files={"file": speech})).status_code == 401
    large = await post(url, data=form, files={"file": bytes(13_000_000)}, headers=key)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "upload_too_large")
    diarized = {**form, "response_format": "diarized_json"}
    voiceless = await post(url, data=diarized, files={"file": speech}, headers=key)
    assert (voiceless.status_code, voiceless.json()["error"]["code"]) == (400, "diarization_unavailable")
    page = {**key, "Origin": "https://elsewhere.example"}
    assert (await post(url, data=form, files={"file": speech}, headers=page)).status_code == 403

    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http:
        request = http.stream(
            "POST",
            f"{url}/v1/audio/transcriptions",
            data={**form, "stream": "true"},
            files={"file": speech},
            headers=key,
        )
        async with request as running:
            lines = running.aiter_lines()
            first = await anext(lines)
            with pytest.raises(openai.RateLimitError) as full:
                await ask(
                    url,
                    "top-secret",
                    lambda client: client.audio.transcriptions.create(
                        file=("talk.wav", speech), model="whisper-1"
                    ),
                )
            assert full.value.code == "rate_limit_exceeded"
            assert int(full.value.response.headers["retry-after"]) > 0
            session = running.headers["x-request-id"]
            rest = [line async for line in lines]
        assert ": keepalive" in [first, *rest]
        assert rest[-2:] == ["data: [DONE]", ""]
        assert (await http.get(f"{url}/v1/sessions/{session}", headers=key)).json()["state"] == "done"


@pytest.mark.conforms("OpenAI, files", "cut socket", sees="the work ends, and nothing of it is kept")
async def test_a_client_that_leaves_takes_its_work_along(guarded: Served, speech: bytes) -> None:
    key = {"Authorization": "Bearer top-secret"}
    for stream in ("true", "false"):
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http:
            sending = asyncio.create_task(
                http.post(
                    f"{guarded.url}/v1/audio/transcriptions",
                    data={"model": "whisper-1", "stream": stream},
                    files={"file": speech},
                    headers=key,
                )
            )
            await eventually(lambda: not guarded.state.registry.has_room)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await eventually(lambda: guarded.state.registry.has_room)
        await nothing_is_kept(guarded.http, key)


@pytest.mark.conforms("OpenAI, files", "slow reader", sees="all events, when it reads them")
async def test_a_stream_waits_for_its_reader(server: Server, native: Caller, speech: bytes) -> None:
    before = newest_session(server.url)
    async with (
        httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http,
        http.stream(
            "POST",
            f"{server.url}/v1/audio/transcriptions",
            data={"model": "whisper-1", "stream": "true"},
            files={"file": speech},
        ) as answer,
    ):
        await is_written(server.url, before)
        lines = [line async for line in answer.aiter_lines() if line.startswith("data: ")]
    assert lines.pop() == "data: [DONE]"
    assert json.loads(lines[-1][6:])["text"] == native.text.strip()
