"""SIGKILL at any instant: nobody is told twice who remembers ids, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from pathlib import Path

from standardwebhooks import Webhook

from live_asr.storage.database import Database, sqlite_url
from tests.conftest import ROOT
from tests.delivery.receiver import Behaviour, Received, answer, receiving, reset
from tests.delivery.sender_process import SECRET

SESSIONS = 250
KILLS = 10
ANSWERS: tuple[Behaviour, ...] = (answer(200), answer(200), answer(500), reset)


async def start(url: str, receiver: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.delivery.sender_process", url, receiver),
        cwd=ROOT,
    )


async def test_a_sender_killed_again_and_again_tells_of_every_session_under_one_id(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "live-asr.db")
    database = Database(url)
    database.prepare()
    for number in range(SESSIONS):
        database.add_session(f"s{number}", {}, created_at=float(number))
    chance = random.Random(7)
    effects: dict[str, str] = {}

    async def take(request: Received, writer: asyncio.StreamWriter) -> None:
        session_id = Webhook(SECRET).verify(request.body, request.headers)["sessionId"]
        behave = chance.choice(ANSWERS)
        if behave is not ANSWERS[2]:  # it has the body; that the sender may not hear of it changes nothing
            effects.setdefault(request.id, session_id)
        await behave(request, writer)

    async with receiving(take) as receiver:
        for _ in range(KILLS):
            process = await start(url, receiver.url)
            # Some requests further on, and then any instant of the work on the next ones.
            await receiver.received(len(receiver.requests) + chance.randrange(1, 30))
            await asyncio.sleep(chance.uniform(0, 0.02))
            assert process.returncode is None
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert database.count_deliveries()["dead"] == 0
        process = await start(url, receiver.url)
        try:
            async with asyncio.timeout(120):
                while database.count_deliveries()["delivered"] < SESSIONS:  # noqa: ASYNC110  in its process
                    await asyncio.sleep(0.05)  # between two looks at what another process does
        finally:
            process.kill()
            await process.wait()

    assert database.unfinished() == []
    assert database.count_deliveries() == {"pending": 0, "delivered": SESSIONS, "dead": 0}
    assert sorted(effects.values()) == sorted(f"s{number}" for number in range(SESSIONS))
    assert {delivery.id: delivery.session_id for delivery in database.deliveries(limit=SESSIONS)} == effects
    assert len(receiver.requests) > SESSIONS  # there were second tries, or this has tested nothing
    assert all(json.loads(request.body)["sessionId"] == effects[request.id] for request in receiver.requests)
    database.close()
