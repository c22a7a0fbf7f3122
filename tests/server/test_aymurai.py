"""AymurAI's endpoint as its client uses it: a document that grows, kept by the content of the file."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import UUID5, BaseModel
from scripted_pass import ScriptedPass, found
from serving import Served, serving
from talking import TIMEOUT, Caller, eventually, is_written, newest_session, nothing_is_kept, recite, wav

from tests.started import Server

SECOND_BYTES = 32_000
Event = tuple[str, Any]


class Paragraph(BaseModel):
    """A paragraph as AymurAI's models have it."""

    speaker_no: int
    speaker_id: str
    start: timedelta
    end: timedelta
    text: str


class Document(BaseModel):
    """A document as AymurAI's client reads it."""

    document_id: UUID5
    paragraphs: list[Paragraph]
    current_time: float
    total_time: float

    @property
    def text(self) -> str:
        """All paragraphs as one."""
        return " ".join(paragraph.text for paragraph in self.paragraphs)


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    """Nine seconds of the call, as a file."""
    return wav(sample_pcm[14 * SECOND_BYTES : 23 * SECOND_BYTES])


@pytest.fixture(scope="module")
def native(server: Server, speech: bytes) -> Caller:
    """What the native protocol makes of the same file."""
    return asyncio.run(recite(server.stream, speech, audio={"encoding": "container"}))


@asynccontextmanager
async def sending(
    url: str, file: bytes, path: str = "/stream", **options: Any
) -> AsyncIterator[httpx.Response]:
    async with (
        httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http,
        http.stream("POST", f"{url}/asr/transcribe{path}", files={"file": file}, **options) as answer,
    ):
        yield answer


async def events(answer: httpx.Response) -> list[Event]:
    found, name = [], ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            found.append((name, json.loads(line[6:])))
    return found


async def told(url: str, file: bytes, **options: Any) -> list[Event]:
    async with sending(url, file, **options) as answer:
        assert answer.status_code == 200
        return await events(answer)


@pytest.mark.conforms("AymurAI", "connect", "at once", "interim", "final", judge="models as AymurAI has them")
@pytest.mark.conforms("AymurAI", "close", sees="`done`")
@pytest.mark.conforms("AymurAI", "stream in real time", missing="a file is heard once it is here")
@pytest.mark.conforms("AymurAI", "flush", missing="a file ends by itself")
async def test_a_document_grows_to_the_native_words_and_is_kept_by_its_bytes(
    server: Server, native: Caller, speech: bytes
) -> None:
    heard = await told(server.url, speech)
    assert {name for name, _ in heard[:-1]} == {"transcription"} and heard[-1][0] == "done"
    documents = [Document.model_validate(data) for _, data in heard]
    ours = uuid.uuid5(uuid.NAMESPACE_DNS, blake2b(speech, digest_size=16).hexdigest())
    assert {document.document_id for document in documents} == {ours}
    assert {document.total_time for document in documents} == {9.0}
    times = [document.current_time for document in documents]
    assert times == sorted(times) and times[-1] == 9.0
    for earlier, later in pairwise(documents):
        assert later.text.startswith(earlier.text)
    done = documents[-1]
    assert done.text.split() == native.text.split()
    words = [word for commit in native.all("commit") for word in commit["words"]]
    for paragraph in done.paragraphs:
        count = len(paragraph.text.split())
        said, words = words[:count], words[count:]
        assert abs(paragraph.start.total_seconds() - said[0]["start"]) < 0.02
        assert abs(paragraph.end.total_seconds() - said[-1]["end"]) < 0.02
        assert paragraph.speaker_id == f"speaker-{paragraph.speaker_no}"

    opened = server.metric("live_asr_sessions_opened_total")
    assert await told(server.url, speech) == heard[-1:]
    async with sending(server.url, speech, "") as answer:
        whole = json.loads(await answer.aread())
        assert whole == heard[-1][1] and whole["document"] == whole["paragraphs"]
        assert answer.headers["deprecation"] == "true"
    assert server.metric("live_asr_sessions_opened_total") == opened, "nothing was recognised again"

    async with httpx.AsyncClient(trust_env=False, base_url=server.url) as http:
        newest = (await http.get("/v1/sessions?limit=1")).json()["sessions"][0]["session"]
        assert (await http.delete(f"/v1/sessions/{newest}")).status_code == 204
    again = await told(server.url, speech, params={"use_cache": "true"})
    assert again[-1] == heard[-1] and len(again) > 1, "what was erased is not answered any more"
    assert server.metric("live_asr_sessions_opened_total") == opened + 1


@pytest.mark.conforms(
    "AymurAI", "wrong audio", sees="`error` with `UPSTREAM_SERVICE_ERROR`; 400 without a stream"
)
async def test_what_is_no_audio_is_an_error_and_is_not_kept(server: Server) -> None:
    for _ in range(2):
        ((name, data),) = await told(server.url, b"%PDF-1.7 " + bytes(5000))
        assert (name, data["code"]) == ("error", "UPSTREAM_SERVICE_ERROR") and "PDF" in data["detail"]
    async with sending(server.url, b"%PDF-1.7 " + bytes(5000), "") as answer:
        assert answer.status_code == 400 and "PDF" in json.loads(await answer.aread())["detail"]


@pytest.fixture
async def guarded(models_dir: Path, tmp_path: Path) -> AsyncIterator[Served]:
    """A server with a token, one place and a short breath."""
    flags = {"server__token": "top-secret", "server__max_sessions": 1, "server__keepalive": 0.1}
    async with serving(tmp_path, models_dir, ScriptedPass(found()), **flags) as served:
        yield served


@pytest.mark.conforms("AymurAI", "cut socket", sees="the work ends, and nothing of it is kept")
@pytest.mark.conforms("AymurAI", "bad credentials", sees="401")
@pytest.mark.conforms("AymurAI", "overload", sees="429 with `Retry-After`")
async def test_a_client_that_leaves_takes_its_work_along_and_others_wait(
    guarded: Served, speech: bytes
) -> None:
    key = {"Authorization": "Bearer top-secret"}
    async with sending(guarded.url, speech) as answer:
        assert answer.status_code == 401
    async with sending(guarded.url, speech, headers=key) as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == ": keepalive"
        async with sending(guarded.url, speech, headers=key) as other:
            assert other.status_code == 429 and int(other.headers["retry-after"]) > 0
    await eventually(lambda: guarded.state.registry.has_room)
    await nothing_is_kept(guarded.http, key)
    assert list(guarded.data.glob("documents/*")) == []
    heard = await told(guarded.url, speech, headers=key)
    assert [name for name, _ in heard][-1] == "done"


@pytest.mark.conforms("AymurAI", "bad parameters", sees="422 with `detail`")
async def test_a_parameter_that_is_none_is_refused(server: Server, speech: bytes) -> None:
    async with sending(server.url, speech, params={"use_cache": "perhaps"}) as answer:
        assert answer.status_code == 422 and "use_cache" in (await answer.aread()).decode()


@pytest.mark.conforms("AymurAI", "slow reader", sees="all events, when it reads them")
async def test_a_stream_waits_for_its_reader(server: Server, native: Caller, speech: bytes) -> None:
    before = newest_session(server.url)
    async with sending(server.url, speech, params={"use_cache": "false"}) as answer:
        await is_written(server.url, before)
        heard = await events(answer)
    assert heard[-1][0] == "done"
    assert Document.model_validate(heard[-1][1]).text.split() == native.text.split()
