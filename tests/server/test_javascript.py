"""OpenAI's and Deepgram's clients for JavaScript against a real server: the words are our own protocol's."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from judging import node_modules
from recordings import put_recordings
from secured import secured
from talking import TIMEOUT, Caller, call, plain_words, recite

from tests.started import Server, StartServer

Message = dict[str, Any]
SCRIPTS = Path(__file__).parent / "javascript"


@pytest.fixture(scope="module")
def folder(sample_wav: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five seconds of the call, and what scripts import."""
    folder = tmp_path_factory.mktemp("javascript")
    (folder / "node_modules").symlink_to(node_modules())
    put_recordings(sample_wav, folder)
    for script in SCRIPTS.iterdir():
        shutil.copy(script, folder)
    return folder


@pytest.fixture(scope="module")
def native(server: Server, folder: Path) -> Caller:
    """What the native protocol makes of it."""
    audio = (folder / "talk.wav").read_bytes()
    return asyncio.run(recite(server.stream, audio, audio={"encoding": "container"}, diarize=False))


async def told(folder: Path, script: str, url: str, key: str = "any", **given: Any) -> list[Message]:
    """Run a script and return what it prints."""
    with secured(url, folder) as tls:  # OpenAI's client opens its WebSocket over TLS alone
        asked = {"base": url, "tls": tls.url, "key": key, **given}
        process = await asyncio.create_subprocess_exec(
            *("node", script, json.dumps({**asked, "file": "talk.wav", "file24": "talk-24-khz.wav"})),
            cwd=folder,
            env={**os.environ, "NO_PROXY": "*", "NODE_EXTRA_CA_CERTS": str(tls.authority)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(TIMEOUT):
            out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in out.splitlines()]


def of(heard: list[Message], kind: str) -> list[Message]:
    return [message for message in heard if message["type"] == kind]


async def on_a_full_server(
    start_server: StartServer, folder: Path, script: str, **given: Any
) -> list[Message]:
    server = start_server(LIVE_ASR_SERVER__MAX_SESSIONS="1")
    async with call(server.stream) as caller:
        assert (await caller.start())["type"] == "ready"
        return await told(folder, script, server.url, **given)


# Deepgram -----------------------------------------------------------------------------------------------

QUERY = {"model": "nova-3", "smart_format": True, "interim_results": True}


@pytest.mark.conforms(
    "Deepgram, streams",
    "connect",
    "at once",
    "interim",
    "final",
    "flush",
    "close",
    judge="@deepgram/sdk (JavaScript)",
)
@pytest.mark.conforms(
    "Deepgram, recordings", "connect", "at once", "final", judge="@deepgram/sdk (JavaScript)"
)
async def test_deepgrams_client_hears_the_native_words_in_both_ways(
    server: Server, folder: Path, native: Caller
) -> None:
    heard = await told(folder, "deepgram.mjs", server.url, query=QUERY)
    (answer,) = of(heard, "answer")
    alternative = answer["answer"]["results"]["channels"][0]["alternatives"][0]
    assert alternative["transcript"] == native.text.strip()
    results = of(heard, "Results")
    assert any(not result["is_final"] for result in results)
    assert len([result for result in results if result["from_finalize"]]) == 1
    final = " ".join(r["channel"]["alternatives"][0]["transcript"] for r in results if r["is_final"])
    assert "Chicago" in final and len(plain_words(final)) > 5
    assert [message["type"] for message in heard[-2:]] == ["Metadata", "closed"]
    assert heard[-1]["code"] == 1000


@pytest.mark.conforms("Deepgram, streams", "bad credentials", judge="@deepgram/sdk (JavaScript)")
@pytest.mark.conforms("Deepgram, recordings", "bad credentials", judge="@deepgram/sdk (JavaScript)")
async def test_deepgrams_client_is_told_of_a_wrong_key(start_server: StartServer, folder: Path) -> None:
    server = start_server(LIVE_ASR_SERVER__TOKEN="open-sesame")
    refused, failed, *_ = await told(folder, "deepgram.mjs", server.url, "wrong", query=QUERY)
    assert (refused["status"], refused["body"]["err_code"]) == (401, "INVALID_AUTH")
    assert failed["type"] in ("failed", "closed")


@pytest.mark.conforms("Deepgram, streams", "overload", judge="@deepgram/sdk (JavaScript)")
@pytest.mark.conforms("Deepgram, recordings", "overload", judge="@deepgram/sdk (JavaScript)")
async def test_deepgrams_client_is_told_of_a_full_server(start_server: StartServer, folder: Path) -> None:
    refused, failed, *_ = await on_a_full_server(start_server, folder, "deepgram.mjs", query=QUERY)
    assert (refused["status"], refused["body"]["err_code"]) == (429, "TOO_MANY_REQUESTS")
    assert failed["type"] in ("failed", "closed")


# OpenAI -------------------------------------------------------------------------------------------------


@pytest.mark.conforms(
    "OpenAI, files", "connect", "at once", "final", "close", "bad parameters", judge="openai (JavaScript)"
)
@pytest.mark.conforms(
    "OpenAI Realtime", "connect", "at once", "final", "flush", "wrong audio", judge="openai (JavaScript)"
)
async def test_openais_client_hears_the_native_words_in_all_ways(
    server: Server, folder: Path, native: Caller
) -> None:
    heard = await told(folder, "openai.mjs", server.url)
    assert "whisper-1" in of(heard, "models")[0]["ids"]
    assert of(heard, "json")[0]["text"] == native.text.strip()
    words = [word["word"] for word in of(heard, "verbose")[0]["answer"]["words"]]
    assert "".join(words).replace(" ", "") == native.text.replace(" ", "")
    *deltas, done = [message["event"] for message in of(heard, "event")]
    assert "".join(delta["delta"] for delta in deltas) == done["text"] == native.text.strip()
    (refused,) = of(heard, "refused")
    assert (refused["name"], refused["status"], refused["param"]) == ("BadRequestError", 400, "temperature")
    events = [message["event"] for message in of(heard, "realtime")]
    assert [event["type"] for event in events[:2]] == ["session.created", "session.updated"]
    assert "base64" in of(heard, "failed")[0]["error"]["message"]
    completed = events[-1]
    assert completed["type"] == "conversation.item.input_audio_transcription.completed"
    assert "Chicago" in completed["transcript"]
    said = [e["delta"] for e in events if e["type"] == "conversation.item.input_audio_transcription.delta"]
    assert "".join(said) == completed["transcript"]


@pytest.mark.conforms("OpenAI, files", "bad credentials", judge="openai (JavaScript)")
@pytest.mark.conforms("OpenAI Realtime", "bad credentials", judge="openai (JavaScript)")
async def test_openais_client_is_told_of_a_wrong_key(start_server: StartServer, folder: Path) -> None:
    server = start_server(LIVE_ASR_SERVER__TOKEN="open-sesame")
    heard = await told(folder, "openai.mjs", server.url, "wrong")
    assert [(one["name"], one["status"]) for one in of(heard, "refused")] == [
        ("AuthenticationError", 401)
    ] * 2
    assert of(heard, "refused")[0]["code"] == "invalid_api_key"
    assert "401" in of(heard, "failed")[0]["message"]


@pytest.mark.conforms("OpenAI, files", "overload", judge="openai (JavaScript)")
@pytest.mark.conforms("OpenAI Realtime", "overload", judge="openai (JavaScript)")
async def test_openais_client_is_told_of_a_full_server(start_server: StartServer, folder: Path) -> None:
    heard = await on_a_full_server(start_server, folder, "openai.mjs")
    assert (of(heard, "refused")[0]["name"], of(heard, "refused")[0]["status"]) == ("RateLimitError", 429)
    assert "429" in of(heard, "failed")[0]["message"]
