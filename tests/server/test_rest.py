"""The HTTP routes: alive, ready, transcripts, metrics, documentation, the page and what guards it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from talking import Message, call, eventually
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.started import Server, StartServer

SECOND_BYTES = 32_000
FORMATS = {
    "json": "application/json",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "txt": "text/plain",
    "rttm": "text/plain",
}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        yield client


def transcript(session: str, extension: str) -> str:
    return f"/v1/sessions/{session}/transcript.{extension}"


# Transcripts --------------------------------------------------------------------------------------


async def test_a_transcript_can_be_had_during_the_session_and_after(
    server: Server, client: httpx.Client, sample_pcm: bytes
) -> None:
    get = client.get
    async with call(server.stream) as caller:
        session = (await caller.start(pace="fast"))["session"]
        assert get(transcript(session, "json")).json()["text"] == ""
        await caller.send(sample_pcm[14 * SECOND_BYTES : 20 * SECOND_BYTES])
        await caller.say("finalize")
        await caller.until("finalized")
        live = get(transcript(session, "json")).json()
        assert (live["session"], live["revision"], live["text"]) == (session, 0, caller.text.strip())
        assert live["text"]
        assert get(transcript(session, "json"), params={"revision": 1}).status_code == 404
        for extension, media_type in FORMATS.items():
            answer = get(transcript(session, extension))
            assert answer.headers["content-type"].startswith(media_type)
            assert answer.headers["cache-control"] == "no-store"
            assert f"{session}.{extension}" in answer.headers["content-disposition"]
        final = await caller.finished()
    after = get(transcript(session, "json")).json()
    assert (after["revision"], after["text"], after["duration"]) == (1, final["text"].strip(), 6.0)
    await eventually(lambda: server.metric("live_asr_sessions") == 0)
    from_disk = get(transcript(session, "json")).json()
    assert from_disk == after
    first = get(transcript(session, "json"), params={"revision": 0}).json()
    assert (first["revision"], first["text"]) == (0, after["text"])
    assert get(transcript(session, "json"), params={"revision": 1}).json() == after
    refused = get(transcript(session, "json"), params={"revision": 7})
    assert (refused.status_code, "revision 7" in refused.json()["detail"]) == (404, True)
    assert get(transcript(session, "vtt")).text.startswith("WEBVTT")
    assert "-->" in get(transcript(session, "srt")).text
    text = re.sub(r"^Speaker \d: ", "", get(transcript(session, "txt")).text, flags=re.MULTILINE)
    assert text.split() == after["text"].split()
    unknown = get(transcript(session, "odt"))
    assert unknown.status_code == 404
    assert "json, vtt, srt, txt, rttm, docx" in unknown.json()["detail"]


@pytest.mark.parametrize("revision", ["-1", "one", "1.5", ""])
def test_a_revision_that_is_no_number_is_refused(client: httpx.Client, revision: str) -> None:
    answer = client.get(transcript("abc", "json"), params={"revision": revision})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "session",
    [
        "0123456789abcdef01234567",
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%2fetc%2fpasswd%00",
        "a%00b",
        "a" * 300,
        "a" * 5000,
        "%ff%fe",
        "%C3%A9",
        "sessions",
        "%20",
    ],
)
def test_an_id_of_no_session_finds_nothing(client: httpx.Client, session: str) -> None:
    for extension in FORMATS:
        answer = client.get(transcript(session, extension))
        assert answer.status_code == 404, (session, answer.text)
        assert "root:" not in answer.text


# Operation ----------------------------------------------------------------------------------------


def test_a_server_that_runs_is_alive_and_ready(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    told = ready.json()
    assert 1 <= told.pop("places_free") <= 8
    assert (ready.status_code, told) == (
        200,
        {"status": "ready", "model": "tiny.en", "device": "cpu", "places": 8},
    )


def test_metrics_can_be_read_by_prometheus(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert {
        "live_asr_sessions",
        "live_asr_sessions_opened",
        "live_asr_connections_refused",
        "live_asr_audio_seconds",
        "live_asr_decode_seconds",
        "live_asr_queue_seconds",
        "live_asr_engine_restarts",
        "live_asr_event_loop_stall_seconds",
    } <= set(families)
    assert all(family.documentation for family in families.values())


def test_the_openapi_description_names_every_route(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    assert description["openapi"].startswith("3.")
    assert set(description["paths"]) == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/listen",
        "/v1/realtime/client_secrets",
        "/v1/realtime/transcription_sessions",
        "/v1/sessions",
        "/v1/sessions/{session_id}",
        "/v1/sessions/{session_id}/audio",
        "/v1/sessions/{session_id}/links",
        "/v1/tokens",
        "/v1/jobs",
        "/v1/jobs/{job}",
        "/v1/sessions/{session_id}/corrections",
        "/v1/sessions/{session_id}/events",
        "/v1/sessions/{session_id}/names",
        "/v1/sessions/{session_id}/qr.svg",
        "/v1/sessions/{session_id}/transcript.{extension}",
        "/asr/transcribe",
        "/asr/transcribe/stream",
        "/health",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/models",
        "/v1/models/{name}",
    }
    for path in description["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert {"200", "201", "202", "204"} & set(operation["responses"])
    references = json.dumps(description)
    for name in description["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in references


def test_the_viewer_of_the_description_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    viewer = client.get("/docs")
    assert viewer.status_code == 200
    assert "://" not in viewer.text.replace("http://www.w3.org/", "")
    policy = viewer.headers["content-security-policy"]
    assert "script-src 'self' 'unsafe-inline';" in policy
    assert "https:" not in policy
    asked = re.findall(r'(?:src|href)="(/[^"]+)"', viewer.text)
    assert len(asked) >= 3, "a script, a style and an icon"
    assert [client.get(path).status_code for path in asked] == [200] * len(asked)


# The page -----------------------------------------------------------------------------------------


def test_the_page_is_served_with_all_that_it_asks_for(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    links = [part.split('"')[0] for part in page.text.split('href="')[1:] + page.text.split('src="')[1:]]
    own = [link for link in links if link.startswith("web/")]
    assert any(link.endswith(".js") for link in own)
    assert any(link.endswith(".css") for link in own)
    for link in own:
        answer = client.get(link)
        assert answer.status_code == 200, link
        if link.endswith(".js"):
            assert "javascript" in answer.headers["content-type"]
        if link.endswith(".svg"):
            ElementTree.fromstring(answer.text)


def test_everything_is_guarded_by_a_strict_policy(client: httpx.Client) -> None:
    for path in ("/", "/web/index.html", "/healthz", "/web/nothing", "/nowhere", transcript("abc", "json")):
        headers = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["base-uri"] == "'none'"
        assert policy["form-action"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "microphone=(self)" in headers["permissions-policy"]
        assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    ["/web/../pyproject.toml", "/web/%2e%2e/pyproject.toml", "/web/..%2fpyproject.toml", "/web//etc/passwd"],
)
def test_only_the_page_s_own_files_are_served(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed_over_http(client: httpx.Client, method: str) -> None:
    for path in ("/", "/healthz", "/readyz", "/metrics", transcript("abc", "json"), "/web/index.html"):
        assert client.request(method, path).status_code == 405, path


# With a token, and full ------------------------------------------------------------------------------


async def test_a_server_with_a_token_and_one_place(start_server: StartServer, sample_pcm: bytes) -> None:
    server = start_server(
        LIVE_ASR_SERVER__TOKEN="s3cret-word",
        LIVE_ASR_SERVER__MAX_SESSIONS="1",
        LIVE_ASR_SERVER__ALLOWED_ORIGINS="https://talks.example",
    )
    right = {"Authorization": "Bearer s3cret-word"}

    async def refusal(**options: object) -> Message:
        async with call(server.stream, **options) as caller:
            assert await caller.closed() == 1008
            (error,) = caller.heard
            return error

    async def denial(**options: object) -> Message:
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.stream, proxy=None, **options)
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["www-authenticate"] == "Bearer"
        return json.loads(refused.value.response.body)

    nothing = await denial()
    assert (nothing["code"], nothing["message"]) == ("unauthorized", "This server requires a token.")
    for wrong in (
        "Bearer S3cret-word",
        "Bearer ",
        "Basic s3cret-word",
        "s3cret-word",
        "Bearer s3cret-word2",
        "Bearer é",
    ):
        assert (await denial(additional_headers={"Authorization": wrong}))["code"] == "unauthorized"
    assert (await denial(subprotocols=["live-asr.v1", "bearer.wrong"]))["code"] == "unauthorized"
    # A browser, which is shown no status, is let in just so far that it can be told.
    page = {"subprotocols": ["live-asr.v1", "bearer.wrong"], "origin": server.url}
    assert (await refusal(**page))["code"] == "unauthorized"
    elsewhere = {**right, "Origin": "https://evil.example"}
    assert (await refusal(additional_headers=elsewhere))["code"] == "origin_not_allowed"

    with httpx.Client(base_url=server.url) as client:
        get = client.get
        assert get("/readyz").status_code == 200
        browser = {"subprotocols": ["live-asr.v1", "bearer.s3cret-word"], "origin": "https://talks.example"}
        async with call(server.stream, **browser) as caller:
            assert caller.socket.subprotocol == "live-asr.v1"
            session = (await caller.start(pace="fast"))["session"]
            full = get("/readyz")
            assert (full.status_code, full.json()) == (503, {"status": "no room for another session"})
            assert int(full.headers["retry-after"]) > 0
            async with call(server.stream, additional_headers=right) as second:
                error = await second.start()
                assert (error["code"], error["retry_after"] > 0) == ("server_full", True)
                assert error["hint"]
                assert await second.closed() == 1013
            await caller.send(sample_pcm[14 * SECOND_BYTES : 16 * SECOND_BYTES])
            assert (await caller.finished())["text"]
        denied = get(transcript(session, "txt"))
        assert (denied.status_code, denied.headers["www-authenticate"]) == (401, "Bearer")
        assert get(transcript(session, "txt"), headers=right).status_code == 200
        await eventually(lambda: get("/readyz").status_code == 200)
        async with call(server.stream, additional_headers=right) as third:
            assert (await third.start())["type"] == "ready"


async def test_a_socket_is_compressed_by_nobody(server: Server) -> None:
    async with connect(server.stream, proxy=None, compression="deflate") as socket:
        assert socket.response is not None
        assert "sec-websocket-extensions" not in socket.response.headers
