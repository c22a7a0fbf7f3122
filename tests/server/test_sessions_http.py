"""What is known of sessions over HTTP, on the real server: live, gone over once more, over, left behind."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import webvtt
from scripted_pass import ScriptedPass, found, turn
from serving import Served, serving
from talking import TIMEOUT, Caller, Message, call, plain_words

from live_asr.core.errors import EngineError
from tests.started import ROOT

SECOND_BYTES = 32_000
SPEECH = slice(14 * SECOND_BYTES, 18 * SECOND_BYTES)
"""Four seconds of the call in which somebody speaks."""
STATES = ["open", "streaming", "draining", "finalizing", "done"]


class Hook:
    """A receiver of webhooks that takes everything."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.arrived = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        self.told.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        self.arrived.set()


@asynccontextmanager
async def hook() -> AsyncIterator[Hook]:
    receiver = Hook()
    listening = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/hook"
    async with listening:
        yield receiver


async def speak(caller: Caller, audio: bytes, **start: Any) -> str:
    """Open a session and send all of the audio; return its id."""
    session: str = (await caller.start(pace="fast", final_pass=True, **start))["session"]
    await caller.send(audio)
    return session


async def info(served: Served, session: str) -> Message:
    answer = await served.http.get(f"/v1/sessions/{session}")
    assert answer.status_code == 200, answer.text
    told: Message = answer.json()
    return told


async def until(look: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """Look again and again until what is seen is as wanted; return it."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            seen = await look()
            if holds(seen):
                return seen
            await asyncio.sleep(0.05)


async def text_of(served: Served, session: str, extension: str, **params: Any) -> str:
    answer = await served.http.get(f"/v1/sessions/{session}/transcript.{extension}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_a_result_above_the_bound_is_told_as_a_notice_whose_links_lead_to_it(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    text = " ".join(f"word{number}" for number in range(300))
    settings = {"webhook__allow_private": True, "webhook__max_bytes": 1024}
    full_pass = ScriptedPass(found(text, (turn(0.0, 4.0, "SPEAKER_00"),)))
    public = {"server__public_url": "https://captions.example/talks/"}
    async with hook() as receiver, serving(tmp_path, models_dir, full_pass, **settings, **public) as served:
        async with call(served.stream) as caller:
            asked = {"metadata": {"tooLarge": "mine"}, "webhook": {"url": receiver.url}}
            session = await speak(caller, sample_pcm[SPEECH], **asked)
            await caller.finished()
        await receiver.arrived.wait()
        (told,) = receiver.told
        assert (told["sessionId"], told["status"], told["revision"]) == (session, "success", 1)
        assert (told["transcript"], told["segments"]) == ("", [])
        assert [speaker["aiSpeakerLabel"] for speaker in told["diarization"]] == ["SPEAKER_00"]
        assert told["clientMetadata"] == {"tooLarge": "mine"}
        assert told["tooLarge"]["bytes"] > 1024
        link = told["tooLarge"]["links"]["json"]
        assert link.startswith("https://captions.example/talks/v1/sessions/")
        fetched = await served.http.get(link.removeprefix("https://captions.example/talks"))
        assert fetched.json()["text"] == text


# The whole way ------------------------------------------------------------------------------------


async def test_a_session_from_its_start_to_its_webhook_its_names_and_its_erasure(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    turns = (turn(0.0, 2.0, "SPEAKER_00"), turn(1.5, 4.0, "SPEAKER_01"))
    full_pass = ScriptedPass(found("what was said in the end", turns), progress=(("embeddings", 0.5),))
    async with (
        hook() as receiver,
        serving(tmp_path, models_dir, full_pass, webhook__allow_private=True) as served,
        call(served.stream) as caller,
    ):
        asked = {"metadata": {"jobId": 7}, "webhook": {"url": receiver.url}, "vocabulary": ["Nguyễn"]}
        session = await speak(caller, sample_pcm[SPEECH], **asked)
        live = await info(served, session)
        assert (live["state"], live["revision"], live["labels"]) == ("streaming", 0, None)
        assert live["duration"] > 0

        final = await caller.finished()
        order = [m["type"] for m in caller.heard if m["type"] in ("stopped", "progress", "final")]
        assert (order[0], order[-1]) == ("stopped", "final")
        assert set(order[1:-1]) == {"progress"}
        assert final["text"] == " what was said in the end"
        assert [s["label"] for s in final["speakers"]] == ["SPEAKER_00", "SPEAKER_01"]

        done = await info(served, session)
        assert (done["state"], done["duration"], done["language"]) == ("done", 4.0, "en")
        assert (done["revision"], done["labels"]) == (1, "full")
        assert datetime.fromisoformat(done["created"]).tzinfo is not None
        assert done["created"].endswith("Z")
        assert done["speakers"] == final["speakers"]
        assert (done["metadata"], done["start"]["vocabulary"]) == ({"jobId": 7}, ["Nguyễn"])
        assert receiver.url not in json.dumps(done)
        assert (done["names"], done["progress"], done["error"]) == ({}, None, None)
        assert set(done["links"]) == {"json", "vtt", "srt", "txt", "rttm", "docx"}

        await receiver.arrived.wait()
        (told,) = receiver.told
        assert (told["sessionId"], told["status"], told["jobId"]) == (session, "success", 7)
        assert told["transcript"] == "what was said in the end"
        seen = await until(lambda: info(served, session), lambda i: i["webhook"]["state"] == "delivered")
        assert seen["webhook"] == {
            "state": "delivered",
            "attempts": 1,
            "last_status": 204,
            "last_error": None,
        }

        # Transcripts, both revisions
        for link in done["links"].values():
            assert (await served.http.get(link)).status_code == 200
        rttm = await text_of(served, session, "rttm")
        assert [line.split()[3:5] + line.split()[7:8] for line in rttm.splitlines()] == [
            ["0.000", "2.000", "SPEAKER_00"],
            ["1.500", "2.500", "SPEAKER_01"],
        ]
        assert all(line.startswith(f"SPEAKER {session} 1 ") for line in rttm.splitlines())
        first = json.loads(await text_of(served, session, "json", revision=0))
        assert (first["revision"], plain_words(first["text"])) == (0, caller.words)

        # Names
        names = f"/v1/sessions/{session}/names"
        given = {"SPEAKER_00": " Anna ", "SPEAKER_01": "", "S2": "Ben"}
        answer = await served.http.put(names, json=given, headers=caller.key)
        assert (answer.status_code, answer.json()) == (200, {"names": {"SPEAKER_00": "Anna", "S2": "Ben"}})
        assert (await info(served, session))["names"] == {"SPEAKER_00": "Anna", "S2": "Ben"}
        vtt = webvtt.from_buffer(io.BytesIO((await text_of(served, session, "vtt")).encode()), "vtt")
        assert {caption.voice for caption in vtt.captions} == {"Anna", "Speaker 2"}
        assert "Anna" not in await text_of(served, session, "rttm")
        await served.http.put(names, json={}, headers=caller.key)
        assert "Anna" not in await text_of(served, session, "txt")

        # Erasure
        assert served.folder(session).is_dir()
        answer = await served.http.delete(f"/v1/sessions/{session}", headers=caller.key)
        assert (answer.status_code, answer.content) == (204, b"")
        assert not served.folder(session).exists()
        for path in ("", "/transcript.json", "/transcript.json?revision=0"):
            assert (await served.http.get(f"/v1/sessions/{session}{path}")).status_code == 404
        assert (await served.http.delete(f"/v1/sessions/{session}")).status_code == 404
        assert (await served.http.put(names, json={})).status_code == 404
        assert (await served.http.get("/v1/sessions")).json() == {"sessions": [], "next": None}


async def test_a_session_that_is_gone_over_takes_no_place_and_tells_how_far_it_is(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    full_pass = ScriptedPass(found(), progress=(("segmentation", 0.25),))
    full_pass.may_end.clear()
    async with serving(tmp_path, models_dir, full_pass, server__max_sessions=1) as served:
        async with call(served.stream) as caller:
            session = await speak(caller, sample_pcm[SPEECH])
            assert (await served.http.get("/readyz")).status_code == 503
            await caller.say("stop")
            await caller.until(lambda m: m["type"] == "progress" and m["stage"] == "segmentation")
            assert (await served.http.get("/readyz")).status_code == 200
            seen = await info(served, session)
            assert (seen["state"], seen["duration"]) == ("finalizing", 4.0)
            assert seen["progress"] == {"stage": "segmentation", "fraction": 0.25}
            assert plain_words(json.loads(await text_of(served, session, "json"))["text"]) == caller.words
            async with call(served.stream) as second:
                assert (await second.start())["type"] == "ready"
        # Its client is gone; that changes nothing.
        full_pass.may_end.set()
        done = await until(lambda: info(served, session), lambda i: i["state"] == "done")
        assert (done["labels"], full_pass.cancelled) == ("full", 0)


async def test_erasing_a_session_ends_it_wherever_it_is(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    full_pass = ScriptedPass(found())
    full_pass.may_end.clear()
    async with (
        serving(tmp_path, models_dir, full_pass, webhook__url="http://127.0.0.1:9/") as served,
        call(served.stream) as live,
        call(served.stream) as stopped,
    ):
        sessions = [await speak(live, sample_pcm[SPEECH]), await speak(stopped, sample_pcm[SPEECH])]
        await live.until("commit")
        await stopped.say("stop")
        await full_pass.began.wait()
        for caller, session in zip((live, stopped), sessions, strict=True):
            assert (
                await served.http.delete(f"/v1/sessions/{session}", headers=caller.key)
            ).status_code == 204
            assert await caller.closed() == 1008
            assert (caller.heard[-1]["type"], caller.heard[-1]["code"]) == ("error", "session_erased")
            assert not served.folder(session).exists()
            assert (await served.http.get(f"/v1/sessions/{session}")).status_code == 404
        assert full_pass.cancelled == 1
        assert (await served.http.get("/v1/sessions")).json()["sessions"] == []
        async with call(served.stream) as another:
            assert (await another.start())["type"] == "ready"


async def test_a_pass_that_fails_leaves_the_captions_and_says_so(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with (
        serving(tmp_path, models_dir, ScriptedPass(EngineError("killed"))) as served,
        call(served.stream) as caller,
    ):
        session = await speak(caller, sample_pcm[SPEECH])
        final = await caller.finished()
        assert plain_words(final["text"]) == caller.words
        assert [m["code"] for m in caller.all("notice")] == ["final_pass_failed"]
        assert (await info(served, session))["state"] == "done"


async def test_a_session_without_speech_is_done_at_once(tmp_path: Path, models_dir: Path) -> None:
    async with serving(tmp_path, models_dir, ScriptedPass(found())) as served:
        async with call(served.stream) as caller:
            await speak(caller, bytes(10 * SECOND_BYTES))
            final = await caller.finished()
            assert (final["text"], final["duration"], caller.all("progress")) == ("", 10.0, [])
        assert served.full_pass.jobs == []


async def test_sessions_are_listed_newest_first_and_page_by_page(tmp_path: Path, models_dir: Path) -> None:
    async with serving(tmp_path, models_dir, ScriptedPass(found())) as served:
        opened = []
        for _ in range(5):
            async with call(served.stream) as caller:
                opened.append((await caller.start())["session"])
                await caller.finished()
        pages: list[list[str]] = []
        before: str | None = None
        while len(pages) < 5:
            params = {"limit": 2} | ({"before": before} if before else {})
            page = (await served.http.get("/v1/sessions", params=params)).json()
            pages.append([one["session"] for one in page["sessions"]])
            before = page["next"]
            if before is None:
                break
        newest = opened[::-1]
        assert pages == [newest[:2], newest[2:4], newest[4:]]
        assert (await served.http.get("/v1/sessions", params={"limit": 5})).json()["next"] is None
        nothing = {"sessions": [], "next": None}
        for unknown in ("nobody", "../x", "%00"):
            assert (await served.http.get("/v1/sessions", params={"before": unknown})).json() == nothing
        states = {one["state"] for one in (await served.http.get("/v1/sessions")).json()["sessions"]}
        assert states == {"done"}


# What is refused ----------------------------------------------------------------------------------


REFUSED_NAMES = [
    (b"", 422, "JSON object"),
    (b"[]", 422, "JSON object"),
    (b'{"S1": "A", "S1": "B"}', 422, "JSON object"),
    (b'{"S 1": "Anna"}', 422, "label"),
    (b'{"' + b"S" * 33 + b'": "Anna"}', 422, "label"),
    (b'{"S1": 7}', 422, "S1"),
    (json.dumps({"S1": "a" * 81}).encode(), 422, "80"),
    (b'{"S1": "a\\nb"}', 422, "S1"),
    (b'{"S1": "a\\ud800"}', 422, "S1"),
    (json.dumps({f"S{n}": "A" for n in range(65)}).encode(), 422, "64"),
    (b" " * 100_000, 413, "names"),
]


async def test_what_cannot_be_is_refused_in_a_sentence(tmp_path: Path, models_dir: Path) -> None:
    async with serving(tmp_path, models_dir, ScriptedPass(found())) as served:
        async with call(served.stream) as caller:
            session = (await caller.start())["session"]
            await caller.finished()
        for body, status, word in REFUSED_NAMES:
            answer = await served.http.put(f"/v1/sessions/{session}/names", content=body, headers=caller.key)
            assert answer.status_code == status, body[:60]
            detail = answer.json()["detail"]
            assert word in detail and detail.endswith("."), detail
        joined = {"SPEAKER_00": "آنا\u200cماری"}  # a joiner that its script needs
        answer = await served.http.put(f"/v1/sessions/{session}/names", json=joined, headers=caller.key)
        assert answer.status_code == 200
        assert (await info(served, session))["names"] == joined

        for query in ("limit=0", "limit=201", "limit=x", f"before={'a' * 65}"):
            answer = await served.http.get(f"/v1/sessions?{query}")
            assert answer.status_code == 422
            assert query.split("=")[0] in answer.json()["detail"]
        for unknown in ("0123456789abcdef01234567", "..%2f..", "a%00b", "a" * 300, "%C3%A9", "%ff"):
            for method, path in (("GET", ""), ("DELETE", ""), ("PUT", "/names"), ("GET", "/transcript.rttm")):
                content = b"{}" if method == "PUT" else None
                answer = await served.http.request(method, f"/v1/sessions/{unknown}{path}", content=content)
                assert answer.status_code == 404, (method, unknown, answer.text)


async def test_everything_below_v1_asks_for_the_token(tmp_path: Path, models_dir: Path) -> None:
    async with serving(tmp_path, models_dir, ScriptedPass(found()), server__token="s3cret-word") as served:
        right = {"Authorization": "Bearer s3cret-word"}
        async with call(served.stream, additional_headers=right) as caller:
            session = (await caller.start())["session"]
            await caller.finished()
        base = "/v1/sessions"
        asked = [
            *(("GET", base), ("GET", f"{base}/{session}"), ("GET", f"{base}/{session}/transcript.json")),
            *(("PUT", f"{base}/{session}/names"), ("DELETE", f"{base}/{session}"), ("GET", f"{base}/nobody")),
        ]
        for method, path in asked:
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                answer = await served.http.request(method, path, headers=headers, content=b"{}")
                assert answer.status_code == 401, (method, path)
        for method, path in asked:
            answer = await served.http.request(method, path, headers=right, content=b"{}")
            assert answer.status_code == (404 if "nobody" in path else answer.status_code)
            assert answer.status_code != 401


# Ends and beginnings ------------------------------------------------------------------------------


@asynccontextmanager
async def process(data: Path, models_dir: Path, does: str) -> AsyncIterator[tuple[str, Any]]:
    """Start a server in a process of its own; yield its address and the process."""
    tests = str(ROOT / "tests")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(tests) / "server" / "serving.py"), str(data), str(models_dir), does),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tests}"},
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT):
            yield (await child.stdout.readline()).decode().strip(), child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_what_a_server_leaves_unfinished_its_next_run_brings_to_its_end(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes, number: signal.Signals
) -> None:
    async with process(tmp_path, models_dir, "hang") as (url, child):
        stream = url.replace("http", "ws") + "/v1/stream"
        async with call(stream) as stopped, call(stream) as waiting, call(stream) as live:
            sessions = [await speak(caller, sample_pcm[SPEECH]) for caller in (stopped, waiting, live)]
            for caller in (stopped, waiting):
                await caller.say("stop")
                await caller.until("progress")
            await live.until("commit")
            child.send_signal(number)
            codes = [await caller.closed() for caller in (stopped, waiting, live)]
            if number == signal.SIGTERM:
                assert codes == [1012] * 3
                assert [c.heard[-1]["code"] for c in (stopped, waiting, live)] == ["shutting_down"] * 3
            await child.wait()
    for session in sessions:
        kept = (tmp_path / "sessions" / session / "messages.jsonl").read_text()
        assert '"type":"final"' not in kept
        assert (tmp_path / "sessions" / session / "audio.bin").exists()

    async with process(tmp_path, models_dir, "find") as (url, _), httpx.AsyncClient(base_url=url) as http:

        async def states() -> dict[str, Message]:
            listed = (await http.get("/v1/sessions")).json()["sessions"]
            return {one["session"]: one for one in listed}

        seen = await until(states, lambda s: {one["state"] for one in s.values()} <= {"done", "failed"})
        assert set(seen) == set(sessions)
        assert [seen[session]["state"] for session in sessions] == ["done"] * 3
        for session in sessions:
            told = (await http.get(f"/v1/sessions/{session}")).json()
            assert told["webhook"]["state"] in ("pending", "dead")
            assert told["error"] is None
            text = (await http.get(f"/v1/sessions/{session}/transcript.txt")).text
            assert "won too" in text
            assert not (tmp_path / "sessions" / session / "audio.bin").exists()
            json_text = await http.get(f"/v1/sessions/{session}/transcript.json", params={"revision": 0})
            assert plain_words(json_text.json()["text"])
