"""Behind a path and behind reverse proxies: nginx and Caddy as docs/proxies.md has them, and by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from talking import call
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from tests.proxies import Proxy, proxied
from tests.started import Server, StartServer

SECOND_BYTES = 32_000


@pytest.fixture(scope="module")
def server(launch: StartServer) -> Server:
    """A server without a token that is also asked for as captions.example."""
    return launch(LIVE_ASR_SERVER__ALLOWED_HOSTS="captions.example")


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, server: Server, tmp_path_factory: Any) -> Iterator[Proxy]:
    with proxied(request.param, server.url, tmp_path_factory.mktemp(request.param)) as proxy:
        yield proxy


def below(address: str, link: str) -> str:
    """Return the address of what a page at `address` links to."""
    return str(httpx.URL(address).join(link))


def linked_from(page: str) -> list[str]:
    return re.findall(r'(?:href|src)="([^"#:]+)"', page)


async def said(stream: str, pcm: bytes, **options: Any) -> str:
    """Speak and return the id of the session, which is over then."""
    async with call(stream, **options) as caller:
        session = (await caller.start(pace="fast"))["session"]
        await caller.send(pcm[14 * SECOND_BYTES : 17 * SECOND_BYTES])
        assert "Sheila" in (await caller.finished())["text"]
        return str(session)


async def test_all_that_the_server_has_is_below_the_path_that_a_proxy_serves(
    proxy: Proxy, sample_pcm: bytes
) -> None:
    stream = proxy.url.replace("https", "wss") + "/v1/stream"
    session = await said(stream, sample_pcm, ssl=proxy.tls, origin=proxy.origin)
    async with httpx.AsyncClient(verify=proxy.tls, trust_env=False) as client:
        info = (await client.get(f"{proxy.url}/v1/sessions/{session}")).json()
        watch = below(proxy.url, info["watch"])
        assert info["watch"] == f"/captions/watch/{session}"
        for page in (f"{proxy.url}/", watch, watch.replace("/watch/", "/overlay/")):
            links = linked_from((await client.get(page)).raise_for_status().text)
            assert len(links) > 5
            for link in links:
                answer = await client.get(below(page, link))
                assert answer.status_code == 200, (page, link)
                assert answer.content, "Caddy says 200, and nothing else, where there is nothing"
        listed = (await client.get(f"{proxy.url}/v1/sessions")).json()["sessions"]
        (links,) = [one["links"] for one in listed if one["session"] == session]
        assert links == info["links"]
        assert "Sheila" in (await client.get(below(proxy.url, links["txt"]))).text

        code = f"{proxy.url}/v1/sessions/{session}/qr.svg"
        picture = (await client.get(code)).raise_for_status().content
        assert (await client.get(code, params={"origin": proxy.origin})).content == picture
        assert (await client.get(code, params={"origin": "https://evil.example"})).status_code == 422

        docs = (await client.get(f"{proxy.url}/docs")).text
        for link in (*linked_from(docs), *re.findall(r"url: '(.+?)'", docs)):
            answer = await client.get(below(proxy.url, link))
            assert (answer.status_code, bool(answer.content)) == (200, True), link
        schema = (await client.get(f"{proxy.url}/openapi.json")).json()
        assert schema["servers"][0]["url"] == "/captions"

        assert below(proxy.url, (await client.get(proxy.url)).headers["location"]) == f"{proxy.url}/"


async def test_viewers_behind_a_proxy_hear_words_while_the_session_goes_on(
    proxy: Proxy, sample_pcm: bytes
) -> None:
    stream = proxy.url.replace("https", "wss") + "/v1/stream"
    async with (
        call(stream, ssl=proxy.tls, origin=proxy.origin) as caller,
        httpx.AsyncClient(verify=proxy.tls, trust_env=False, timeout=60) as client,
    ):
        session = (await caller.start(pace="fast"))["session"]
        async with client.stream("GET", f"{proxy.url}/v1/sessions/{session}/events") as events:
            await caller.send(sample_pcm[14 * SECOND_BYTES : 17 * SECOND_BYTES])
            await caller.say("finalize")
            async for line in events.aiter_lines():
                if "Sheila" in line:
                    break
            else:
                pytest.fail("the events ended")
        await caller.finished()


# Whose page it is ---------------------------------------------------------------------------------------


class Asking(ClientConnection):
    """A connection whose request says `Host` as a proxy may write it, and not as the library does."""

    asked: str

    async def handshake(self, *arguments: Any) -> None:
        """Say who is asked for."""
        connect = self.protocol.connect

        def renamed() -> Request:
            request = connect()
            del request.headers["Host"]
            request.headers["Host"] = self.asked
            return request

        self.protocol.connect = renamed  # type: ignore[method-assign]
        await super().handshake(*arguments)


async def answered(server: Server, asked: str, origin: str, **headers: str) -> dict[str, Any]:
    """Return what answers a `start` of a page of this origin, where the server is asked for by this host."""
    asking = type("Asking", (Asking,), {"asked": asked})
    options = {"create_connection": asking, "origin": origin, "additional_headers": headers}
    async with call(server.stream, **options) as caller:
        with suppress(ConnectionError, ConnectionClosed):  # it may be refused before it says anything
            await caller.start()
        return caller.heard[0]


@pytest.mark.parametrize(
    ("asked", "origin"),
    [
        ("captions.example", "https://captions.example"),
        ("captions.example:443", "https://captions.example"),
        ("captions.example", "https://captions.example:443"),
        ("captions.example:80", "http://captions.example"),
        ("Captions.EXAMPLE:8443", "https://captions.example:8443"),
        ("captions.example.", "https://captions.example"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
async def test_a_page_of_the_same_host_may_connect_however_the_host_is_written(
    server: Server, asked: str, origin: str
) -> None:
    assert (await answered(server, asked, origin))["type"] == "ready"


@pytest.mark.parametrize(
    ("asked", "origin"),
    [
        ("captions.example", "https://evil.example"),
        ("captions.example:8443", "https://captions.example"),
        ("captions.example:80", "https://captions.example"),
        ("captions.example", "null"),
        ("captions.example", "https://captions.example.evil.example"),
        ("captions.example", "https://evil.example@captions.example"),
        ("127.0.0.1:8765", "https://captions.example"),
    ],
)
async def test_a_page_of_another_host_is_told_which_setting_lets_it_connect(
    server: Server, asked: str, origin: str
) -> None:
    error = await answered(server, asked, origin)
    assert error["code"] == "origin_not_allowed"
    assert f'server.allowed_origins = ["{origin}"]' in error["hint"]
    assert "X-Forwarded-Host" in error["hint"]


async def test_a_listed_page_may_connect_however_it_is_written(start_server: StartServer) -> None:
    server = start_server(LIVE_ASR_SERVER__ALLOWED_ORIGINS="https://Talks.example:443/")
    assert (await answered(server, "127.0.0.1:8765", "https://talks.example"))["type"] == "ready"
    error = await answered(server, "127.0.0.1:8765", "http://talks.example")
    assert error["code"] == "origin_not_allowed"


# Whom to believe ----------------------------------------------------------------------------------------

TOLD = {
    "X-Forwarded-Host": "Captions.example:443, inner.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/talks/, /captions",
}


async def test_a_trusted_proxy_says_where_people_find_the_server(server: Server, sample_pcm: bytes) -> None:
    assert (await answered(server, "127.0.0.1:8765", "https://captions.example", **TOLD))["type"] == "ready"
    session = await said(server.stream, sample_pcm)
    async with httpx.AsyncClient(base_url=server.url, headers=TOLD) as client:
        for path in (f"/v1/sessions/{session}", f"/talks/captions/v1/sessions/{session}"):
            info = (await client.get(path)).json()
            assert info["watch"] == f"/talks/captions/watch/{session}"
            assert info["links"]["vtt"] == f"/talks/captions/v1/sessions/{session}/transcript.vtt"
        # What would lead a browser elsewhere is no path.
        for prefix in ("//evil.example", "https://evil.example", "/a/../b", '/"><script>', "/a b", ""):
            info = (
                await client.get(f"/v1/sessions/{session}", headers={"X-Forwarded-Prefix": prefix})
            ).json()
            assert info["watch"] == f"/watch/{session}"


async def test_nobody_else_is_believed_and_the_refusal_says_whom_to_trust(start_server: StartServer) -> None:
    server = start_server(LIVE_ASR_SERVER__TRUSTED_PROXIES="10.0.0.0/8, 192.0.2.7")
    error = await answered(server, "127.0.0.1:8765", "https://captions.example", **TOLD)
    assert error["code"] == "origin_not_allowed"
    assert "server.trusted_proxies" in error["hint"]
    assert (
        "127.0.0.1 sends X-Forwarded headers and is not in server.trusted_proxies" in server.log.read_text()
    )
    assert (await answered(server, server.url.removeprefix("http://"), server.url, **TOLD))["type"] == "ready"
    async with httpx.AsyncClient(headers=TOLD) as client:
        assert "servers" not in (await client.get(f"{server.url}/openapi.json")).json()


async def test_a_path_that_is_set_counts_whether_the_proxy_cuts_it_off_or_not(
    start_server: StartServer, sample_pcm: bytes
) -> None:
    server = start_server(LIVE_ASR_SERVER__ROOT_PATH="/captions/")
    session = await said(server.stream.replace("/v1/", "/captions/v1/"), sample_pcm)
    async with httpx.AsyncClient(base_url=server.url) as client:
        for root in ("", "/captions"):
            assert (await client.get(f"{root}/healthz")).status_code == 200
            assert (await client.get(f"{root}/web/views/main.js")).status_code == 200
            info = (await client.get(f"{root}/v1/sessions/{session}")).json()
            assert info["watch"] == f"/captions/watch/{session}"
        assert (await client.get("/captionsweb/views/main.js")).status_code == 404
        assert (await client.get("/captions")).headers["location"].endswith("/captions/")


def test_a_proxy_or_a_path_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    from live_asr.config.settings import load_settings
    from live_asr.core.errors import ConfigError

    for key, value, said in (
        ("trusted_proxies", "proxy", "'proxy' should be an address or a network"),
        ("root_path", "captions", "a path such as /captions"),
        ("root_path", "//evil.example", "a path such as /captions"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_settings(flags={f"server.{key}": value}, environment={})
