"""Every route with every credential, as docs/security.md has it in its table; and what becomes of tokens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.routing import APIWebSocketRoute
from scripted_pass import ScriptedPass, found
from serving import settings_of
from standing import NO_MODELS, Standing, standing
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Mount, Route
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from live_asr.server.access import FREE_TRIES, MAX_DELAYED, Access, Grant
from live_asr.server.app import build_state, create_app
from live_asr.server.keys import ClientSecrets
from live_asr.server.links import Links
from live_asr.server.permission import audio_token, watch_link
from live_asr.storage import tokens
from live_asr.storage.database import sqlite_url
from live_asr.storage.jobs import JobDatabase

ROOT = Path(__file__).parent.parent.parent
SERVER_TOKEN = "the-server-s-own"
OWN, OTHER = "a" * 24, "b" * 24
"""A session of the token that asks, and one of another token."""
CREDENTIALS = (
    *("none", "wrong", "expired", "revoked", "link", "key"),
    *("watch", "caption", "other caption", "read", "admin", "server.token"),
)
"""`link` is that of the session's audience, `key` its own, `caption` the token that opened it."""

EVERYBODY = frozenset(CREDENTIALS)
TOKENS = frozenset({"watch", "caption", "other caption", "read", "admin", "server.token"})
CAPTIONERS = frozenset({"caption", "other caption", "admin", "server.token"})
OPERATORS = frozenset({"read", "admin", "server.token"})
LISTERS = CAPTIONERS | {"read"}
READERS = frozenset({"key", "caption", "read", "admin", "server.token"})
AUDIENCE = READERS | {"watch", "link"}
OWNERS = frozenset({"key", "caption", "admin", "server.token"})
S = f"/v1/sessions/{OWN}"


@dataclass(frozen=True)
class Row:
    """A route, and who is let pass; what a route answers them is other tests' matter."""

    method: str
    path: str
    may: frozenset[str]
    sent: str | None = None
    """What is asked for, where it is not `path`."""


ROWS = [
    *(Row("GET", path, EVERYBODY) for path in ("/", "/past", "/healthz", "/readyz", "/health")),
    *(
        Row("GET", path, OPERATORS)
        for path in ("/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json")
    ),
    Row("GET", "/watch/{session_id}", EVERYBODY),
    Row("GET", "/overlay/{session_id}", EVERYBODY),
    Row("SOCKET", "/v1/stream", CAPTIONERS),
    Row("SOCKET", "/asr", CAPTIONERS),
    Row("SOCKET", "/v1/listen", CAPTIONERS, "/v1/listen?encoding=linear16&sample_rate=16000"),
    Row("SOCKET", "/v1/realtime", CAPTIONERS, "/v1/realtime?intent=transcription"),
    Row("GET", "/v1/sessions", LISTERS),
    Row("GET", "/v1/sessions/{session_id}", READERS),
    Row("GET", "/v1/sessions/{session_id}/qr.svg", READERS),
    Row("GET", "/v1/sessions/{session_id}/transcript.{extension}", AUDIENCE, f"{S}/transcript.txt"),
    Row("GET", "/v1/sessions/{session_id}/events", AUDIENCE, f"{S}/events?last_event_id=1"),
    Row("PATCH", "/v1/sessions/{session_id}", OWNERS),
    Row("PUT", "/v1/sessions/{session_id}/names", OWNERS),
    Row("POST", "/v1/sessions/{session_id}/corrections", OWNERS),
    Row("DELETE", "/v1/sessions/{session_id}/corrections", OWNERS),
    Row("DELETE", "/v1/sessions/{session_id}/links", OWNERS),
    Row("GET", "/v1/sessions/{session_id}/audio", OWNERS),
    Row("DELETE", "/v1/sessions/{session_id}", OWNERS),
    Row("POST", "/v1/jobs", CAPTIONERS),
    Row("GET", "/v1/jobs/{job}", READERS - {"key"}, f"/v1/jobs/{OWN}"),
    Row("POST", "/v1/tokens", TOKENS),
    Row("GET", "/v1/models", TOKENS),
    Row("GET", "/v1/models/{name:path}", TOKENS, "/v1/models/whisper-1"),
    *(
        Row("POST", path, CAPTIONERS)
        for path in (
            *("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/listen"),
            *("/v1/realtime/client_secrets", "/v1/realtime/transcription_sessions"),
            *("/asr/transcribe", "/asr/transcribe/stream"),
        )
    ),
]


@dataclass
class Guarded:
    """A server with every kind of token."""

    server: Standing
    given: dict[str, str]

    async def restore(self) -> None:
        """Have the session again that a row has erased, and its key."""
        await self.server.state.registry.erase(OWN)
        owner = self.ids["caption"]
        self.given["key"] = await self.server.keep_session(OWN, owner)
        self.given["link"] = (await watch_link(OWN, "", self.server.state)).partition("#token=")[2]

    ids: dict[str, str]


async def made(server: Standing, name: str, scopes: Sequence[str], **values: float) -> tuple[str, str]:
    """Make a token as the command line does; return its id and its secret."""
    token, secret = tokens.new_token(name, scopes, now=time.time(), **values)
    await asyncio.to_thread(tokens.add, server.state.database, token)
    await server.state.access.refresh()
    return token.id, secret


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    async with standing(tmp_path, server__token=SERVER_TOKEN, storage__keep_audio=True) as server:
        given = {"server.token": SERVER_TOKEN, "wrong": "no-such-token"}
        ids = {}
        for name in ("watch", "caption", "other caption", "read", "admin", "revoked"):
            scope = "admin" if name == "revoked" else name.removeprefix("other ")
            ids[name], given[name] = await made(server, name, [scope])
        ids["expired"], given["expired"] = await made(server, "expired", ["admin"], seconds=-1.0)
        await asyncio.to_thread(tokens.revoke, server.state.database, "revoked", now=time.time())
        await server.state.access.refresh()
        await server.keep_session(OTHER, ids["other caption"])
        guarded = Guarded(server, given, ids)
        await guarded.restore()
        yield guarded


async def status_of(guarded: Guarded, row: Row, credential: str) -> int:
    """Return what a request with a credential is answered; 101 for a socket that is opened."""
    server, token = guarded.server, guarded.given.get(credential)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    path = row.sent or row.path.replace("{session_id}", OWN)
    if row.method != "SOCKET":
        answer = await server.http.request(row.method, path, headers=headers, content=b"{}")
        return answer.status_code
    try:
        async with connect(server.url.replace("http", "ws") + path, proxy=None, additional_headers=headers):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
async def test_each_route_lets_pass_whom_the_table_says(guarded: Guarded, row: Row) -> None:
    passed = set()
    for credential in CREDENTIALS:
        await guarded.restore()
        guarded.server.state.access.forgive()
        status = await status_of(guarded, row, credential)
        if status not in (401, 403):
            passed.add(credential)
            continue
        is_known = credential in TOKENS or (credential == "link" and row.may is OWNERS)
        if row.path != "/asr":  # whose clients know 403 alone
            assert status == (403 if is_known else 401), credential
    assert passed == row.may


def test_the_table_has_every_route_that_there_is(tmp_path: Path) -> None:
    database = JobDatabase(sqlite_url(tmp_path / "unused.db"))
    state = build_state(settings_of(tmp_path), NO_MODELS, database=database, full_pass=ScriptedPass(found()))
    there = set()
    for route in each_route(create_app(state).routes):
        if isinstance(route, APIWebSocketRoute):
            there.add(("SOCKET", route.path))
        elif isinstance(route, Route):
            there |= {(method, route.path) for method in route.methods or () if method != "HEAD"}
    assert {(row.method, row.path) for row in ROWS} == there
    database.close()


def each_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Give all routes but folders of files, those of routers within routers, too."""
    for route in routes:
        if isinstance(route, Mount):
            assert route.path in ("/web", "/static-offline-docs"), "files that anybody may have"
        elif hasattr(route, "original_router"):
            yield from each_route(route.original_router.routes)
        else:
            yield route


def table() -> str:
    """Return the table as docs/security.md has it."""
    lines = [f"| | {' | '.join(CREDENTIALS)} |", f"| --- | {' | '.join('---' for _ in CREDENTIALS)} |"]
    for row in ROWS:
        marks = ["✓" if credential in row.may else "·" for credential in CREDENTIALS]
        lines.append(f"| `{row.method} {row.path}` | {' | '.join(marks)} |")
    return "\n".join(lines)


def test_the_docs_have_the_table_that_is_tested() -> None:
    assert table() in (ROOT / "docs" / "security.md").read_text(), f"put this there:\n{table()}"


async def test_a_browser_sends_its_token_as_a_password_to_the_docs(guarded: Guarded) -> None:
    for path in ("/docs", "/openapi.json", "/metrics"):
        asked = await guarded.server.http.get(path)
        assert asked.headers["www-authenticate"].startswith("Basic ")
        assert (await guarded.server.http.get(path, auth=("", SERVER_TOKEN))).status_code == 200
        assert (await guarded.server.http.get(path, auth=("me", "wrong"))).status_code == 401


# Whose sessions --------------------------------------------------------------------------------------


async def test_a_token_lists_what_was_opened_with_it_and_reads_nothing_else(guarded: Guarded) -> None:
    http = guarded.server.http

    async def listed(credential: str) -> set[str]:
        headers = {"Authorization": f"Bearer {guarded.given[credential]}"}
        answer = (await http.get("/v1/sessions", headers=headers)).json()
        return {session["session"] for session in answer["sessions"]}

    assert await listed("caption") == {OWN}
    assert await listed("other caption") == {OTHER}
    for credential in ("read", "admin", "server.token"):
        assert await listed(credential) == {OWN, OTHER}
    headers = {"Authorization": f"Bearer {guarded.given['caption']}"}
    for method, path in (
        *(("GET", ""), ("GET", "/transcript.txt"), ("GET", "/events"), ("GET", "/audio")),
        *(("PATCH", ""), ("PUT", "/names"), ("DELETE", "")),
    ):
        answer = await http.request(method, f"/v1/sessions/{OTHER}{path}", headers=headers, content=b"{}")
        assert answer.status_code == 403, (method, path)
    assert await listed("server.token") == {OWN, OTHER}


async def test_a_token_that_is_made_for_a_page_may_no_more_and_ends_with_its_maker(guarded: Guarded) -> None:
    http, access = guarded.server.http, guarded.server.state.access
    maker = {"Authorization": f"Bearer {guarded.given['caption']}"}
    answer = await http.post("/v1/tokens", headers=maker, json={"name": "rehearsal", "expires_in": 60})
    assert answer.status_code == 201
    page = answer.json()
    assert page["scopes"] == ["caption"] and page["id"].startswith(f"{guarded.ids['caption']}.")
    its = {"Authorization": f"Bearer {page['token']}"}
    await guarded.server.keep_session("c" * 24, page["id"])

    assert [one["session"] for one in (await http.get("/v1/sessions", headers=its)).json()["sessions"]] == [
        "c" * 24
    ]
    both = (await http.get("/v1/sessions", headers=maker)).json()["sessions"]
    assert {one["session"] for one in both} == {OWN, "c" * 24}
    assert (await http.get(f"/v1/sessions/{OWN}", headers=its)).status_code == 403

    for asked in ({"scopes": ["read"]}, {"scopes": ["admin"]}, {"scopes": ["caption", "watch"]}):
        refused = await http.post("/v1/tokens", headers=maker, json=asked)
        assert refused.status_code == 403
        assert "can only pass on its own scopes: caption." in refused.json()["detail"]
    refused = await http.get("/metrics", headers=maker)
    assert "This needs the scope read; this token has caption." in refused.json()["detail"]
    assert (await http.post("/v1/tokens", headers=its, json={})).status_code == 403
    for asked in (
        {"scopes": []},
        {"scopes": ["all"]},
        {"expires_in": 0},
        {"expires_in": 1e6},
        {"scope": "read"},
    ):
        assert (await http.post("/v1/tokens", headers=maker, json=asked)).status_code == 422, asked

    await asyncio.to_thread(tokens.revoke, guarded.server.state.database, "caption", now=time.time())
    await access.refresh()
    for headers in (maker, its):
        assert (await http.get("/v1/sessions", headers=headers)).status_code == 401


async def test_the_server_s_own_token_makes_tokens_too(guarded: Guarded) -> None:
    own = {"Authorization": f"Bearer {SERVER_TOKEN}"}
    answer = await guarded.server.http.post("/v1/tokens", headers=own, json={"scopes": ["watch", "read"]})
    assert answer.status_code == 201
    its = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert (await guarded.server.http.get(f"/v1/sessions/{OWN}", headers=its)).status_code == 200
    assert (await guarded.server.http.delete(f"/v1/sessions/{OWN}", headers=its)).status_code == 403


async def test_what_the_server_s_own_token_made_ends_with_it(tmp_path: Path) -> None:
    its, statuses = {}, []
    for token in (SERVER_TOKEN, "another-token", SERVER_TOKEN):
        async with standing(tmp_path, server__token=token) as server:
            if not its:
                own = {"Authorization": f"Bearer {token}"}
                made = (await server.http.post("/v1/tokens", headers=own, json={})).json()
                its = {"Authorization": f"Bearer {made['token']}"}
            statuses.append((await server.http.get("/v1/sessions", headers=its)).status_code)
    assert statuses == [200, 401, 200]


async def test_a_token_makes_no_more_than_so_many_others(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_asr.server.access.MAX_MINTED", 3)
    http = guarded.server.http
    maker, other = ({"Authorization": f"Bearer {guarded.given[name]}"} for name in ("caption", "admin"))
    asked = {"expires_in": 60}
    answers = await asyncio.gather(*(http.post("/v1/tokens", headers=maker, json=asked) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 3
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "3 client tokens" in refused.json()["detail"]
    assert (await http.post("/v1/tokens", headers=other, json=asked)).status_code == 201
    for answer in answers:
        if answer.status_code == 201:
            its = {"Authorization": f"Bearer {answer.json()['token']}"}
            assert (await http.get("/v1/sessions", headers=its)).status_code == 200


def test_one_token_s_keys_for_browsers_push_out_no_other_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("live_asr.server.keys.MAX_KEYS", 2)
    keys = ClientSecrets()
    other, _ = keys.make("ek_", {}, 60.0, "b")
    theirs = [keys.make("ek_", {}, 60.0, owner)[0] for owner in ("a", "a.1", "a")]
    assert [keys.made(key) is not None for key in (other, *theirs)] == [True, False, True, True]


async def test_what_a_revoked_token_began_is_cut(guarded: Guarded) -> None:
    access = guarded.server.state.access
    grant = access.granted(guarded.given["caption"])
    assert grant is not None
    waiting = asyncio.create_task(access.until_revoked(grant.token))
    await asyncio.to_thread(tokens.revoke, guarded.server.state.database, "caption", now=time.time())
    async with asyncio.timeout(60):
        await waiting  # it is noticed by itself


async def test_once_a_token_was_made_the_server_asks_even_when_that_is_revoked(tmp_path: Path) -> None:
    async with standing(tmp_path) as server:
        assert (await server.http.get("/v1/sessions")).status_code == 200
        assert (await server.http.post("/v1/tokens", json={})).status_code == 403
        _, secret = await made(server, "somebody", ["read"])
        assert (await server.http.get("/v1/sessions")).status_code == 401
        headers = {"Authorization": f"Bearer {secret}"}
        assert (await server.http.get("/v1/sessions", headers=headers)).status_code == 200
        await asyncio.to_thread(tokens.revoke, server.state.database, "somebody", now=time.time())
        await server.state.access.refresh()
        for sent in ({}, headers):
            assert (await server.http.get("/v1/sessions", headers=sent)).status_code == 401
        assert secret not in (tmp_path / "live-asr.db").read_bytes().decode("latin-1")


# Links for an audience -------------------------------------------------------------------------------


async def test_a_link_opens_one_session_until_it_expires_or_is_revoked(guarded: Guarded) -> None:
    http, state = guarded.server.http, guarded.server.state
    link = {"Authorization": f"Bearer {guarded.given['link']}"}
    owner = {"Authorization": f"Bearer {guarded.given['caption']}"}
    path = f"/v1/sessions/{OWN}/transcript.txt"
    assert (await http.get(path, headers=link)).status_code == 200
    assert (await http.get(path.replace(OWN, OTHER), headers=link)).status_code == 401
    until = int(guarded.given["link"].partition(".")[0], 36)
    assert 30 * 86_400 <= until - time.time() <= 31 * 86_400
    longer = guarded.given["link"].replace(guarded.given["link"].partition(".")[0], "zzzzzz")
    assert (await http.get(path, headers={"Authorization": f"Bearer {longer}"})).status_code == 401
    later = Links(state.access, state.database, days=30, clock=lambda: until + 1.0)
    assert not await later.check(OWN, guarded.given["link"])
    assert await Links(state.access, state.database, days=30, clock=lambda: until - 1.0).check(
        OWN, guarded.given["link"]
    )

    assert (await http.delete(f"/v1/sessions/{OWN}/links", headers=link)).status_code == 403
    assert (await http.delete(f"/v1/sessions/{OWN}/links", headers=owner)).status_code == 204
    state.access.forgive()
    assert (await http.get(path, headers=link)).status_code == 401
    watch = (await http.get(f"/v1/sessions/{OWN}", headers=owner)).json()["watch"]
    again = {"Authorization": f"Bearer {watch.partition('#token=')[2]}"}
    assert (await http.get(path, headers=again)).status_code == 200


async def test_links_tell_nothing_of_the_server_s_token_and_end_with_it(tmp_path: Path) -> None:
    made = []
    servers = (("a", SERVER_TOKEN), ("b", SERVER_TOKEN), ("a", "another-token"), ("a", SERVER_TOKEN))
    for folder, token in servers:
        async with standing(tmp_path / folder, server__token=token) as server:
            made.append((await server.state.links.token(OWN), await audio_token(OWN, server.state)))
    first, elsewhere, rotated, again = made
    assert again == first
    for watch, audio in (elsewhere, rotated):
        assert watch != first[0] and audio != first[1]


@pytest.mark.parametrize("given", ["-1", "-x.y", "z" * 3000, f"-1.{'a' * 24}", f"{'z' * 10}.{'a' * 24}"])
async def test_what_no_link_ever_held_is_refused_like_any_wrong_token(guarded: Guarded, given: str) -> None:
    http = guarded.server.http
    guarded.server.state.access.forgive()
    async with asyncio.timeout(60):
        for path in ("events", "transcript.txt"):
            answer = await http.get(f"/v1/sessions/{OWN}/{path}", params={"token": given})
            assert answer.status_code in (401, 422)  # the latter for one that is longer than a query's may be
            headers = {"Authorization": f"Bearer {given}"}
            answer = await http.get(f"/v1/sessions/{OWN}/{path}", headers=headers)
            assert answer.status_code == 401


async def test_a_server_token_may_begin_with_a_dash(tmp_path: Path) -> None:
    async with standing(tmp_path, server__token="-7zK_own") as server, asyncio.timeout(60):
        await server.keep_session(OWN, None)
        headers = {"Authorization": "Bearer -7zK_own"}
        path = f"/v1/sessions/{OWN}/transcript.txt"
        assert (await server.http.get(path, headers=headers)).status_code == 200


async def test_what_opens_the_audio_expires_and_is_revoked_with_the_links(guarded: Guarded) -> None:
    state = guarded.server.state
    given = await audio_token(OWN, state)
    until = int(given.partition(".")[0], 36)
    assert 86_400 <= until - time.time() <= 2 * 86_400
    path = f"/v1/sessions/{OWN}/audio"

    async def status(token: str) -> int:
        return (await guarded.server.http.get(path, params={"token": token})).status_code

    assert await status(given) == 404, "let in; there is none"
    assert await status(guarded.given["link"]) == 401
    assert await status(await audio_token(OTHER, state)) == 401
    later = Links(state.access, state.database, days=30, clock=lambda: until + 1.0)
    assert not await later.check_audio(OWN, given)
    await state.links.revoke(OWN)
    assert await status(given) == 401
    assert await status(await audio_token(OWN, state)) == 404


# Wrong ones ------------------------------------------------------------------------------------------


async def test_wrong_tokens_are_logged_counted_and_slowed_down_an_address(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    server = guarded.server
    guarded.server.state.access.forgive()
    headers = {"Authorization": "Bearer guess"}

    async def guess() -> int:
        return (await server.http.get("/v1/sessions", headers=headers)).status_code

    assert [await guess() for _ in range(FREE_TRIES)] == [401] * FREE_TRIES
    answers = await asyncio.gather(*(guess() for _ in range(MAX_DELAYED + 8)))
    assert answers.count(401) == MAX_DELAYED
    assert answers.count(429) == 8
    assert "a wrong token from 127.0.0.1" in caplog.text
    assert "guess" not in caplog.text
    metrics = server.state.metrics.registry
    assert metrics.get_sample_value("live_asr_wrong_tokens_total") == FREE_TRIES + MAX_DELAYED


async def test_a_refused_try_says_when_to_come_back_and_other_addresses_are_not_held_up(
    guarded: Guarded,
) -> None:
    access = guarded.server.state.access
    right = {"Authorization": f"Bearer {SERVER_TOKEN}"}
    http = guarded.server.http
    held = await hold_up(access)
    answer = await http.get("/v1/sessions", headers=right)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    with pytest.raises(InvalidStatus) as refused:
        await connect(guarded.server.stream, proxy=None, additional_headers=right)
    assert json.loads(refused.value.response.body)["code"] == "too_many_tries"
    own = {"Authorization": f"Bearer {guarded.given['caption']}"}
    assert (await http.get("/v1/sessions", headers=own)).status_code == 200, "nobody guesses such a one"
    assert (await http.get("/v1/sessions")).status_code == 401, "nor without any"
    await access.admit(coming_from("192.0.2.7"), SERVER_TOKEN)
    for one in held:
        one.cancel()


async def test_guesses_do_not_hold_up_who_has_presented_the_server_s_token_before(guarded: Guarded) -> None:
    access, http = guarded.server.state.access, guarded.server.http
    right = {"Authorization": f"Bearer {SERVER_TOKEN}"}
    assert (await http.get("/v1/sessions", headers=right)).status_code == 200
    held = await hold_up(access)
    assert (await http.get("/v1/sessions", headers=right)).status_code == 200
    another = {"Authorization": "Bearer another-guess"}
    assert (await http.get("/v1/sessions", headers=another)).status_code == 429
    for one in held:
        one.cancel()


def coming_from(host: str) -> HTTPConnection:
    return HTTPConnection({"type": "http", "headers": [], "client": (host, 1)})


async def hold_up(access: Access) -> list[asyncio.Task[Grant]]:
    """Have as many wrong tokens of this machine wait for their answer as may, for seconds."""
    access.forgive()

    def guess() -> asyncio.Task[Grant]:
        return asyncio.create_task(access.admit(coming_from("127.0.0.1"), "guess"))

    for count in (FREE_TRIES, MAX_DELAYED):
        await asyncio.gather(*(guess() for _ in range(count)), return_exceptions=True)
    held = [guess() for _ in range(MAX_DELAYED)]
    await asyncio.sleep(0)
    return held


async def test_what_has_expired_or_was_revoked_is_no_guess(guarded: Guarded) -> None:
    http, state = guarded.server.http, guarded.server.state
    state.access.forgive()
    await state.links.revoke(OWN)
    for credential in ("link", "expired", "revoked"):
        headers = {"Authorization": f"Bearer {guarded.given[credential]}"}
        for _ in range(3 * FREE_TRIES):
            answer = await http.get(f"/v1/sessions/{OWN}/transcript.txt", headers=headers)
            assert answer.status_code == 401
    assert state.metrics.registry.get_sample_value("live_asr_wrong_tokens_total") == 0
