"""examples/webhook_receiver.py, told by the real sender."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from live_asr.config.settings import WebhookSettings
from live_asr.core.messages import Final, FinalSegment, Start
from live_asr.delivery.webhook import WebhookSender, webhook_body
from live_asr.storage.database import Database, Delivery, NewDelivery, sqlite_url
from tests.conftest import ROOT
from tests.delivery.sender_process import SECRET

EXAMPLE = ROOT / "examples" / "webhook_receiver.py"
FINAL = Final(1, 1, 2.0, "en", " Hello.", (FinalSegment(0.5, 1, "SPEAKER_00", "Hello.", ()),), (), {})


@asynccontextmanager
async def example(file: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run it; yield its process and its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE), "0", str(file)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LIVE_ASR_WEBHOOK__SECRET": SECRET},
    )
    assert process.stdout is not None
    try:
        first = await asyncio.wait_for(process.stdout.readline(), 60)
        yield process, first.decode().removeprefix("Receiving at ").strip()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """An outbox with news of one session that went well and one that failed."""
    database = Database(sqlite_url(tmp_path / "live-asr.db"))
    database.prepare()
    return database


def news(session_id: str, error: tuple[str, str] | None) -> bytes:
    return webhook_body(
        session_id=session_id, start=Start(), final=FINAL, turns=(), error=error, processing_time=1.0
    )


async def deliver(database: Database, secret: str, count: int) -> list[Delivery]:
    """Deliver what is due until there have been so many tries."""
    tried: asyncio.Queue[Delivery] = asyncio.Queue()
    sender = WebhookSender(database, WebhookSettings(allow_private=True), secret, on_tried=tried.put_nowait)
    await sender.start()
    try:
        return [await asyncio.wait_for(tried.get(), 60) for _ in range(count)]
    finally:
        await sender.close()


async def test_the_example_shows_each_session_once_and_says_so_when_one_failed(
    database: Database, tmp_path: Path
) -> None:
    async with example(tmp_path / "ids.txt") as (process, url):
        for session_id, error in (("a1", None), ("b2", ("internal", "It broke."))):
            database.add_session(session_id, {}, created_at=1.0)
            body = news(session_id, error)
            database.finish_session(session_id, state="done", ended_at=2.0, delivery=NewDelivery(url, body))
        tried = await deliver(database, SECRET, 2)
        assert {delivery.last_status for delivery in tried} == {204}
        # Once more, as after an answer that was lost.
        for delivery in tried:
            database.record_try(delivery.id, state="pending", next_at=3.0, last_status=None, last_error=None)
        assert {delivery.state for delivery in await deliver(database, SECRET, 2)} == {"delivered"}
        process.terminate()
        output, errors = await process.communicate()
    shown = output.decode().splitlines()
    assert sorted(shown) == ["    0.50  SPEAKER_00: Hello."] * 2 + ["b2 failed: It broke."]
    assert errors == b""
    assert len((tmp_path / "ids.txt").read_text().split()) == 2
    database.close()


async def test_the_example_refuses_what_is_not_signed_with_its_key(
    database: Database, tmp_path: Path
) -> None:
    async with example(tmp_path / "ids.txt") as (process, url):
        database.add_session("a1", {}, created_at=1.0)
        database.finish_session("a1", state="done", ended_at=2.0, delivery=NewDelivery(url, news("a1", None)))
        (delivery,) = await deliver(database, SECRET.replace("A", "B"), 1)
        assert (delivery.state, delivery.last_status) == ("pending", 400)
        async with httpx.AsyncClient() as client:
            assert (await client.post(url, content=news("a1", None))).status_code == 400
            headers = {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "nonsense"}
            assert (await client.post(url, content=b"\xff", headers=headers)).status_code == 400
        process.terminate()
        output, errors = await process.communicate()
    assert output == b""
    assert errors.count(b"refused: ") == 3
    assert b"Traceback" not in errors
    database.close()


async def test_the_example_without_a_key_says_where_it_is() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LIVE_ASR_WEBHOOK__SECRET"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE)), stderr=asyncio.subprocess.PIPE, env=environment
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.startswith(b"Error: LIVE_ASR_WEBHOOK__SECRET is not set.")
