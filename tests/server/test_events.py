"""What viewers of a session get, from the real server over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from scripted_pass import ScriptedPass, found
from serving import Served, serving
from talking import Caller, call, eventually
from watching import watch

from live_asr.core.messages import Lag
from tests.started import Server, StartServer

SECOND_BYTES = 32_000
SPEECH = slice(14 * SECOND_BYTES, 22 * SECOND_BYTES)
"""Eight seconds of the call in which somebody speaks."""


@asynccontextmanager
async def speaking(url: str, audio: bytes, **start: object) -> AsyncIterator[tuple[Caller, str]]:
    """A client that has sent its audio and not stopped."""
    async with call(url.replace("http", "ws", 1) + "/v1/stream") as caller:
        session = (await caller.start(pace="fast", **start))["session"]
        await caller.send(audio)
        yield caller, session


async def finished(url: str, audio: bytes) -> tuple[Caller, str]:
    async with speaking(url, audio) as (caller, session):
        await caller.finished()
    return caller, session


def kept(caller: Caller) -> list[dict[str, object]]:
    return [message for message in caller.heard if "seq" in message]


async def test_a_viewer_sees_the_kept_messages_that_the_client_hears_until_the_final_one(
    server: Server, sample_pcm: bytes
) -> None:
    async with (
        speaking(server.url, sample_pcm[SPEECH]) as (caller, session),
        watch(server.url, session) as viewer,
    ):
        await viewer.until_type("commit")
        await caller.finished()
        await viewer.ended()
    assert viewer.kept == kept(caller)
    assert viewer.ids == list(range(1, len(viewer.ids) + 1))
    assert viewer.kept[-1]["type"] == "final"
    assert viewer.answer.headers["content-type"].startswith("text/event-stream")


async def test_a_viewer_sees_the_tail_while_it_changes_and_neither_token_nor_acknowledgements(
    server: Server, sample_pcm: bytes
) -> None:
    async with call(server.stream) as caller:
        session = (await caller.start())["session"]
        async with watch(server.url, session) as viewer:
            speaking = asyncio.create_task(caller.speak(sample_pcm[SPEECH]))
            partial = await viewer.until(lambda m: m["type"] == "partial" and m["text"].strip() != "")
            await viewer.until_type("speech")
            await viewer.until_type("lag")
            await speaking
            await caller.finished()
            await viewer.ended()
    assert set(partial) == {"type", "text", "words", "start", "end"}
    assert partial["words"] == []
    allowed = {"commit", "label", "utterance", "stopped", "final", "partial", "speech", "lag", "progress"}
    assert {event.message["type"] for event in viewer.seen} <= allowed


async def test_who_comes_in_the_middle_sees_what_was_said_before(server: Server, sample_pcm: bytes) -> None:
    async with speaking(server.url, sample_pcm[SPEECH]) as (caller, session):
        await caller.say("finalize")
        await caller.until("finalized")
        async with watch(server.url, session) as viewer:
            await viewer.until(lambda message: message.get("seq") == kept(caller)[-1]["seq"])
            await caller.finished()
            await viewer.ended()
    assert viewer.kept == kept(caller)


@pytest.mark.parametrize("how", ["header", "query"])
async def test_who_comes_back_gets_what_they_missed_and_nothing_twice(
    server: Server, sample_pcm: bytes, how: str
) -> None:
    caller, session = await finished(server.url, sample_pcm[SPEECH])
    options = {"headers": {"Last-Event-ID": "2"}} if how == "header" else {"params": {"last_event_id": "2"}}
    async with watch(server.url, session, **options) as viewer:
        await viewer.ended()
    assert viewer.kept == kept(caller)[2:]


async def test_who_comes_back_to_a_session_of_which_they_have_all_is_told_to_come_no_more(
    server: Server, sample_pcm: bytes
) -> None:
    caller, session = await finished(server.url, sample_pcm[SPEECH])
    last = str(kept(caller)[-1]["seq"])
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get(f"/v1/sessions/{session}/events", headers={"Last-Event-ID": last})
    assert answer.status_code == 204


async def test_an_id_that_is_none_of_ours_counts_as_none(server: Server, sample_pcm: bytes) -> None:
    caller, session = await finished(server.url, sample_pcm[SPEECH])
    async with watch(server.url, session, headers={"Last-Event-ID": "-1; drop"}) as viewer:
        await viewer.ended()
    assert viewer.kept == kept(caller)


async def test_a_session_that_there_is_not_has_no_viewers(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        for session in ("0" * 24, "no-such.session"):
            assert (await client.get(f"/v1/sessions/{session}/events")).status_code == 404


async def test_viewers_of_a_session_that_is_erased_are_told_so(server: Server, sample_pcm: bytes) -> None:
    async with (
        speaking(server.url, sample_pcm[SPEECH]) as (caller, session),
        watch(server.url, session) as viewer,
    ):
        await viewer.until_type("commit")
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.delete(f"/v1/sessions/{session}", headers=caller.key)).status_code == 204
            await viewer.ended()
            assert (await client.get(f"/v1/sessions/{session}/events")).status_code == 404
    assert viewer.seen[-1].message["code"] == "session_erased"


@asynccontextmanager
async def small_server(data: Path, models_dir: Path, **flags: object) -> AsyncIterator[Served]:
    async with serving(data, models_dir, ScriptedPass(found()), **flags) as served:
        yield served


async def test_all_of_many_viewers_see_the_same(models_dir: Path, sample_pcm: bytes, tmp_path: Path) -> None:
    async with (
        small_server(tmp_path, models_dir) as served,
        speaking(served.url, sample_pcm[SPEECH]) as (caller, session),
        contextlib.AsyncExitStack() as stack,
    ):
        viewers = [await stack.enter_async_context(watch(served.url, session)) for _ in range(50)]
        await caller.finished()
        for viewer in viewers:
            await viewer.ended()
            assert viewer.kept == kept(caller)


async def test_a_viewer_beyond_the_limit_is_asked_to_come_back(
    models_dir: Path, sample_pcm: bytes, tmp_path: Path
) -> None:
    async with (
        small_server(tmp_path, models_dir, server__max_viewers=1) as served,
        speaking(served.url, sample_pcm[SPEECH]) as (_, session),
    ):
        path = f"/v1/sessions/{session}/events"
        async with watch(served.url, session) as viewer:
            await viewer.until_type("commit")
            answer = await served.http.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        count = served.state.metrics.viewers
        await eventually(lambda: count.collect()[0].samples[0].value == 0)
        async with watch(served.url, session) as viewer:
            await viewer.until_type("commit")


async def test_a_viewer_who_reads_nothing_is_let_go_and_holds_nobody_up(
    models_dir: Path, sample_pcm: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_asr.server.sse.SEND_TIMEOUT", 0.5)
    async with (
        small_server(tmp_path, models_dir) as served,
        speaking(served.url, sample_pcm[SPEECH]) as (caller, session),
    ):
        address = urlsplit(served.url)
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.to_thread(stuck.connect, (address.hostname, address.port))
            stuck.sendall(f"GET /v1/sessions/{session}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            viewers = served.state.registry.audience_of(session)
            assert viewers is not None
            await eventually(lambda: len(viewers) == 1)
            flood = json.dumps({"type": "lag", "filling": "x" * 500_000}).encode()
            async with asyncio.timeout(60):
                while len(viewers):
                    viewers.publish(Lag(1.0, 1.0, 0.0), flood)
                    await asyncio.sleep(0.1)
        async with watch(served.url, session) as viewer:
            await caller.finished()
            await viewer.ended()
        assert viewer.kept == kept(caller)


async def test_a_token_is_asked_for_and_a_link_for_viewers_opens_one_session_alone(
    start_server: StartServer, sample_pcm: bytes
) -> None:
    server = start_server("--log-level", "debug", LIVE_ASR_SERVER__TOKEN="geheim-123")
    header = {"Authorization": "Bearer geheim-123"}
    async with call(server.stream, additional_headers=header) as caller:
        session = (await caller.start(pace="fast"))["session"]
        await caller.send(sample_pcm[SPEECH])
        await caller.finished()
    async with call(server.stream, additional_headers=header) as caller:
        another = (await caller.start())["session"]
    async with httpx.AsyncClient(base_url=server.url) as client:

        async def link_of(one: str) -> str:
            about = (await client.get(f"/v1/sessions/{one}", headers=header)).json()
            return str(about["watch"].partition("#token=")[2])

        own, other = await link_of(session), await link_of(another)
        path = f"/v1/sessions/{session}/events"
        given = [{}, {"token": "wrong"}, {"token": "geheim-123"}, {"token": own}]
        codes = [(await client.get(path, params=one)).status_code for one in given]
        assert codes == [401, 401, 200, 200]
        assert (await client.get(path, params={"token": other})).status_code == 401
        assert (await client.get(path, headers=header)).status_code == 200
        about, transcript = f"/v1/sessions/{session}", f"/v1/sessions/{session}/transcript.json"
        for refused in (about, transcript):  # in an address it would be in logs
            assert (await client.get(refused, params={"token": "geheim-123"})).status_code == 401
        for token, codes in ((own, [401, 200]), (other, [401, 401])):
            given_header = {"Authorization": f"Bearer {token}"}
            assert [
                (await client.get(asked, headers=given_header)).status_code for asked in (about, transcript)
            ] == codes
    log = server.log.read_text()
    assert "/events?token=********" in log
    assert "geheim-123" not in log
    assert own not in log


async def test_viewers_are_told_how_the_speakers_are_called(server: Server, sample_pcm: bytes) -> None:
    def naming(names: dict[str, str]) -> dict[str, object]:
        return {"type": "names", "names": names}

    async with speaking(server.url, sample_pcm[SPEECH]) as (caller, session), httpx.AsyncClient() as http:
        address = f"{server.url}/v1/sessions/{session}/names"
        async with watch(server.url, session) as early:
            await early.until_type("commit")
            assert not any(event.message["type"] == "names" for event in early.seen)
            await http.put(address, json={"S1": "Ada"}, headers=caller.key)
            assert await early.until_type("names") == naming({"S1": "Ada"})
            await http.put(address, json={}, headers=caller.key)
            await early.until(lambda message: message == naming({}))
        await http.put(address, json={"S1": "Bea"}, headers=caller.key)
        async with watch(server.url, session) as late:
            await late.until_type("commit")
            assert late.seen[0].message == naming({"S1": "Bea"})
        await caller.finished()
    async with watch(server.url, session) as last:
        await last.ended()
    assert [last.seen[0].message, last.seen[-1].message["type"]] == [naming({"S1": "Bea"}), "final"]


# Who leaves room, and who has to leave ----------------------------------------------------------------


async def test_one_address_and_one_session_leave_places_for_viewers_to_others(
    models_dir: Path, sample_pcm: bytes, tmp_path: Path
) -> None:
    audio = sample_pcm[:SECOND_BYTES]
    async with (
        small_server(tmp_path, models_dir, server__max_viewers=8) as served,
        speaking(served.url, audio) as (_, one),
        speaking(served.url, audio) as (_, other),
        contextlib.AsyncExitStack() as stack,
    ):

        async def watching(session: str, address: str) -> int:
            told = {"X-Forwarded-For": address}
            events = served.http.stream("GET", f"/v1/sessions/{session}/events", headers=told)
            return (await stack.enter_async_context(events)).status_code

        assert [await watching(one, "203.0.113.9") for _ in range(5)] == [200] * 4 + [503]
        assert [await watching(one, "203.0.113.10") for _ in range(3)] == [200] * 2 + [503], "six of eight"
        assert [await watching(other, "203.0.113.10") for _ in range(3)] == [200] * 2 + [503]
        assert await watching(other, "203.0.113.11") == 503


async def test_who_watches_by_a_link_that_is_revoked_is_let_go(
    models_dir: Path, sample_pcm: bytes, tmp_path: Path
) -> None:
    token = "long-enough-for-this"
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        small_server(tmp_path, models_dir, server__token=token) as served,
        call(served.stream, additional_headers=headers) as caller,
    ):
        session = (await caller.start(pace="fast"))["session"]
        path = f"/v1/sessions/{session}"
        link = (await served.http.get(path, headers=headers)).json()["watch"].partition("#token=")[2]
        async with (
            served.http.stream("GET", f"{path}/events?token={link}") as by_link,
            served.http.stream("GET", f"{path}/events", headers=headers) as by_token,
        ):
            assert (by_link.status_code, by_token.status_code) == (200, 200)
            assert (await served.http.delete(f"{path}/links", headers=headers)).status_code == 204
            with pytest.raises(httpx.HTTPError):
                async for _ in by_link.aiter_bytes():
                    pass  # until it is cut
            await caller.send(sample_pcm[SPEECH])
            await caller.finished()
            assert "final" in "".join([text async for text in by_token.aiter_text()])
        assert (await served.http.get(f"{path}/events?token={link}")).status_code == 401
