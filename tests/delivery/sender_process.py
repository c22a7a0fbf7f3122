"""A small server that only ends sessions and tells of them; made to be killed.

    python -m tests.delivery.sender_process DATABASE_URL RECEIVER_URL

It ends every session that is not over, one after the other, while the sender delivers what there is.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time

from live_asr.config.settings import WebhookSettings
from live_asr.delivery.webhook import WebhookSender
from live_asr.storage.database import Database, NewDelivery

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


async def main(database_url: str, receiver_url: str) -> None:
    """Run until killed."""
    database = Database(database_url)
    database.prepare()
    # Tries soon after one another: what is tested is that none is lost, not how long they wait.
    sender = WebhookSender(
        database, WebhookSettings(allow_private=True), SECRET, delays=[0.01, 0.02, 0.05, *[0.1] * 1000]
    )
    await sender.start()
    for session in database.unfinished():
        body = json.dumps({"sessionId": session.id}).encode()
        await asyncio.to_thread(
            database.finish_session,
            session.id,
            state="done",
            ended_at=time.time(),
            delivery=NewDelivery(receiver_url, body),
        )
        sender.wake()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
