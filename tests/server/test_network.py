"""On an address that others reach: a token is made where none was set, unless the operator says otherwise."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from serving import settings_of
from talking import call

from live_asr.core.urls import is_reached_by_others
from live_asr.server.access import TOKEN_FILE
from live_asr.server.run import with_token
from tests.started import StartServer


def token_of(data: Path, **flags: object) -> str | None:
    token = with_token(settings_of(data, **flags)).server.token
    return None if token is None else token.get_secret_value()


def test_on_a_network_a_token_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    made = token_of(tmp_path, server__host="0.0.0.0")
    assert made is not None and len(made) >= 24
    assert token_of(tmp_path, server__host="192.168.1.7") == made
    assert stat.S_IMODE((tmp_path / TOKEN_FILE).stat().st_mode) == 0o600
    assert token_of(tmp_path / "another", server__host="::") != made


def test_nobody_is_asked_on_this_machine_nor_where_the_operator_says_so(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "127.8.9.10", "::1", "localhost"):
        assert token_of(tmp_path, server__host=host) is None
    assert token_of(tmp_path, server__host="0.0.0.0", server__insecure=True) is None
    assert token_of(tmp_path, server__host="0.0.0.0", server__token="my-own-word") == "my-own-word"
    assert not (tmp_path / TOKEN_FILE).exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "captions.example", ""])
def test_what_may_be_reached_from_elsewhere_counts_as_reached(host: str) -> None:
    assert is_reached_by_others(host)


async def test_the_link_that_is_printed_opens_the_server(start_server: StartServer) -> None:
    server = start_server("--host", "0.0.0.0")
    (link,) = [line for line in server.log.read_text().splitlines() if "#token=" in line]
    token = link.split("#token=")[1]
    right = {"Authorization": f"Bearer {token}"}
    async with call(server.stream, additional_headers=right) as caller:
        assert (await caller.start())["type"] == "ready"
    async with call(server.stream, origin=server.url) as caller:
        assert await caller.closed() == 1008
        assert caller.heard[0]["code"] == "unauthorized"


async def test_insecure_says_what_it_does(start_server: StartServer) -> None:
    server = start_server("--host", "0.0.0.0", "--insecure")
    assert "#token=" not in server.log.read_text()
    async with call(server.stream) as caller:
        assert (await caller.start())["type"] == "ready"
