"""The operator's own address: it may be private where a worker delivers, and alone is told the token."""

from __future__ import annotations

import asyncio
import base64
import time

from pydantic import SecretStr

from live_asr.config.settings import WebhookSettings
from live_asr.delivery.webhook import WebhookSender
from live_asr.storage.database import Database, NewDelivery
from live_asr.storage.jobs import delivery_id_of
from tests.delivery.receiver import answer, receiving

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


async def test_the_own_address_may_be_private_and_alone_carries_the_token(database: Database) -> None:
    async with receiving(answer(200)) as own, receiving(answer(200)) as other:
        settings = WebhookSettings(url=own.url, bearer=SecretStr("s3cret"))
        sender = WebhookSender(database, settings, SECRET, trusts_own=True)
        for number, url in enumerate((own.url, other.url)):
            database.add_session(f"s{number}", {}, created_at=1.0)
            database.finish_session(
                f"s{number}", state="done", ended_at=time.time(), delivery=NewDelivery(url, b"{}")
            )
        await sender.start()
        try:
            await own.received(1)
            async with asyncio.timeout(60):
                while database.count_deliveries()["pending"]:  # noqa: ASYNC110  the sender tells nobody
                    await asyncio.sleep(0.02)
        finally:
            await sender.close()
        assert own.requests[0].headers["authorization"] == "Bearer s3cret"
        assert other.requests == []
        assert {row.session_id: row.state for row in database.deliveries()} == {
            "s0": "delivered",
            "s1": "dead",
        }

        settings = WebhookSettings(url=own.url, bearer=SecretStr("s3cret"), allow_private=True)
        sender = WebhookSender(database, settings, SECRET)
        (dead,) = database.deliveries(state="dead")
        database.retry(dead.id, now=time.time())
        await sender.start()
        try:
            await other.received(1)
        finally:
            await sender.close()
        assert "authorization" not in other.requests[0].headers


async def test_without_a_worker_s_trust_the_own_address_is_guarded_as_all_are(database: Database) -> None:
    async with receiving(answer(200)) as own:
        sender = WebhookSender(database, WebhookSettings(url=own.url), SECRET)
        database.add_session("s", {}, created_at=1.0)
        database.finish_session("s", state="done", ended_at=time.time(), delivery=NewDelivery(own.url, b"{}"))
        await sender.start()
        try:
            async with asyncio.timeout(60):
                while database.count_deliveries()["pending"]:  # noqa: ASYNC110  the sender tells nobody
                    await asyncio.sleep(0.02)
        finally:
            await sender.close()
        assert own.requests == []


async def test_a_worker_s_delivery_waits_where_a_server_may_not_make_it(database: Database) -> None:
    async with receiving(answer(200)) as own:
        settings = WebhookSettings(url=own.url)
        database.add_session("s", {}, created_at=1.0)
        news = NewDelivery(own.url, b"{}", delivery_id_of("s"))
        database.finish_session("s", state="done", ended_at=time.time(), delivery=news)
        server = WebhookSender(database, settings, SECRET, delays=[0.01] * 1000)
        await server.start()
        try:
            async with asyncio.timeout(60):
                while database.deliveries()[0].attempts < 2:  # noqa: ASYNC110  the sender tells nobody
                    await asyncio.sleep(0.02)
        finally:
            await server.close()
        assert own.requests == []
        (waiting,) = database.deliveries()
        assert (waiting.state, "loopback" in (waiting.last_error or "")) == ("pending", True)

        worker = WebhookSender(database, settings, SECRET, trusts_own=True)
        await worker.start()
        try:
            await own.received(1)
        finally:
            await worker.close()
