"""What clients are not told, what is not waited for, and what is not logged."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest
from scripted_pass import ScriptedPass, found
from serving import serving
from standing import standing
from talking import eventually

from live_asr.core.errors import ClientError, ConfigError, EngineError, StorageError, WeightsError
from live_asr.core.messages import encode, error_message

SESSION = "a" * 24


@pytest.mark.parametrize("kind", [StorageError, ConfigError, WeightsError, EngineError])
def test_paths_and_sockets_are_for_the_operator(kind: type[StorageError]) -> None:
    error = kind("The database /srv/secret at 10.1.2.3 reports an error: locked", "Check /etc/secret.")
    told = encode(error_message(error)).decode()
    assert "secret" not in told and "10.1.2.3" not in told
    assert json.loads(told)["code"] == error.code


def test_what_the_client_did_is_told_as_it_is() -> None:
    error = ClientError("bad_message", "`x` must be a number.", "Send one.")
    assert json.loads(encode(error_message(error)))["message"] == "`x` must be a number."


async def put(url: str, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin to send names, of which a hundred bytes are announced."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    head = f"PUT /v1/sessions/{SESSION}/names HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + sent)
    return reader, writer


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_body_that_never_ends_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_asr.server.changing.BODY_TIMEOUT", 0.3)
    async with standing(tmp_path) as server:
        await server.keep_session(SESSION)
        reader, writer = await put(server.url, b'{"S1": ')
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 408 ")
        await close(writer)
    monkeypatch.setattr("live_asr.server.changing.BODY_TIMEOUT", 3600.0)
    monkeypatch.setattr("live_asr.server.http.BODY_TIMEOUT", 0.3)
    async with standing(tmp_path) as server:
        reader, writer = await put(server.url, b'{"S1": ')
        assert await reader.read() == b""
        await close(writer)


async def test_who_hangs_up_leaves_no_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with standing(tmp_path) as server:
        await server.keep_session(SESSION)
        reader, writer = await put(server.url, b'{"S1": ')
        await server.http.get("/healthz")
        await close(writer)
        assert await reader.read() == b""
        await server.http.get("/healthz")
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_server_whose_database_is_locked_is_not_ready(tmp_path: Path, models_dir: Path) -> None:
    async with serving(tmp_path, models_dir, ScriptedPass(found())) as served:
        assert (await served.http.get("/readyz")).status_code == 200
        other = sqlite3.connect(tmp_path / "live-asr.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = await served.http.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "the database does not answer"})
        other.execute("ROLLBACK")
        other.close()

        async def is_ready() -> bool:
            return (await served.http.get("/readyz")).status_code == 200

        async with asyncio.timeout(60):
            while not await is_ready():
                pass
    await eventually(lambda: served.running.done())
