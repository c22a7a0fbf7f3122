"""By which names a server without a token answers: its own, and no stranger's that leads here."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from standing import standing
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

STRANGE = [
    "evil.example",
    "evil.example:8765",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "",
    "[::1",
]
PATHS = ["/", "/v1/sessions", "/v1/sessions/0123456789abcdef01234567/transcript.txt", "/metrics", "/docs"]


@pytest.mark.parametrize("host", STRANGE)
async def test_a_name_that_only_leads_here_is_answered_nothing(tmp_path: Path, host: str) -> None:
    async with standing(tmp_path) as server:
        for path in PATHS:
            for method in ("GET", "DELETE"):
                answer = await server.http.request(method, path, headers={"Host": host})
                assert answer.status_code == 421, (method, path)
                assert "server.allowed_hosts" in answer.json()["detail"]
        # Nor does what a proxy would say make it another one: scripts can send that, too.
        believed = {"Host": host, "X-Forwarded-Host": "localhost"}
        assert (await server.http.get("/v1/sessions", headers=believed)).status_code == 421


async def test_neither_is_its_socket_opened(tmp_path: Path) -> None:
    async with standing(tmp_path) as server:
        _, _, port = server.url.rpartition(":")
        options = {"host": "127.0.0.1", "port": int(port), "proxy": None}
        with pytest.raises(InvalidStatus) as refused:
            await connect("ws://evil.example/v1/stream", **options)
        assert refused.value.response.status_code == 421
        async with connect("ws://evil.example/v1/stream", origin="http://evil.example", **options) as socket_:
            assert json.loads(await socket_.recv())["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost:80", "localhost.", "captions.localhost", "127.0.0.1:8765", "[::1]:8765"),
        *("192.168.1.7:8765", "[fe80::1]", socket.gethostname(), f"{socket.gethostname()}.local:1"),
        *("captions.example", "CAPTIONS.example:8443", "talks.example"),
    ],
)
async def test_its_own_names_and_addresses_are(tmp_path: Path, host: str) -> None:
    named = {"server__allowed_hosts": "captions.example", "server__public_url": "https://talks.example/c"}
    async with standing(tmp_path, **named) as server:
        assert (await server.http.get("/v1/sessions", headers={"Host": host})).status_code == 200


async def test_a_token_is_asked_for_whatever_the_name_and_a_star_stands_for_all(tmp_path: Path) -> None:
    strange = {"Host": "evil.example"}
    async with standing(tmp_path / "asks", server__token="long-enough-for-this") as server:
        assert (await server.http.get("/v1/sessions", headers=strange)).status_code == 401
    async with standing(tmp_path / "any", server__allowed_hosts="*") as server:
        assert (await server.http.get("/v1/sessions", headers=strange)).status_code == 200


async def test_what_a_trusted_proxy_says_has_to_be_a_name_of_the_server_as_well(tmp_path: Path) -> None:
    async with standing(tmp_path, server__allowed_hosts="captions.example") as server:
        for told, status in (("captions.example", 200), ("evil.example", 421)):
            answer = await server.http.get("/v1/sessions", headers={"X-Forwarded-Host": told})
            assert answer.status_code == status
