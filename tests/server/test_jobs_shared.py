"""Jobs over HTTP where several servers share one PostgreSQL: each is done once, wherever it came to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripted_pass import ScriptedPass, found
from serving import Served, serving
from sqlalchemy import text
from talking import eventually, wav

from benchmarks.resilience.inbox import inbox
from live_asr.storage.postgres_journal import PostgresJournal
from tests.jobs.conftest import SECRET
from tests.postgres import new_database, postgres

TIMEOUT = 300.0
FILE = ("talk.wav", wav(bytes(64_000)), "audio/wav")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def settings(server: str) -> dict[str, Any]:
    """What servers share."""
    return {
        "storage__journal": new_database(server),
        "webhook__secret": SECRET,
        "webhook__allow_private": True,
    }


def hanging(text: str) -> ScriptedPass:
    """A pass that finds this once it may end."""
    full_pass = ScriptedPass(found(text))
    full_pass.may_end.clear()
    return full_pass


async def done(http: httpx.AsyncClient, job: str) -> dict[str, Any]:
    """Wait until a job is over; return what is known of it."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            known: dict[str, Any] = (await http.get(f"/v1/jobs/{job}")).json()
            if known["state"] in ("done", "failed"):
                return known
            await asyncio.sleep(0.02)  # between two looks at the server


async def text_of(served: Served, known: dict[str, Any]) -> str:
    return (await served.http.get(known["links"]["txt"])).text


async def die(served: Served) -> None:
    """Have a server count as gone, which goes on all the same, as one that is frozen."""
    store = served.state.store
    assert isinstance(store, PostgresJournal) and store._beating is not None
    store._beating.cancel()
    await asyncio.gather(store._beating, return_exceptions=True)
    with served.state.database.transaction(writes=True) as connection:
        expired = "UPDATE gateways SET alive_until = now() - interval '1 second' WHERE id = :id"
        connection.execute(text(expired), {"id": store.gateway.id})


async def test_a_server_that_ends_leaves_its_job_and_the_recording_to_the_others(
    tmp_path: Path, models_dir: Path, settings: dict[str, Any]
) -> None:
    hangs, does = hanging("first"), ScriptedPass(found("second"))
    with inbox(SECRET) as platform:
        form = {"jobId": "j-1", "webhookUrl": platform.url}
        async with AsyncExitStack() as stack:
            async with serving(tmp_path / "one", models_dir, hangs, **settings) as one:
                job = (await one.http.post("/v1/jobs", files={"file": FILE}, data=form)).json()["job"]
                await hangs.began.wait()
                heir = await stack.enter_async_context(
                    serving(tmp_path / "heir", models_dir, does, **settings)
                )
                running = (await heir.http.get("/v1/jobs/j-1")).json()
                assert (running["job"], running["state"], running["progress"]) == (job, "running", None)
                again = await heir.http.post("/v1/jobs", files={"file": FILE}, data=form)
                assert (again.status_code, again.json()["job"]) == (200, job), "wherever it comes to"
            known = await done(heir.http, job)
            assert known["state"] == "done" and (await text_of(heir, known)).endswith("second\n")
            assert does.heard[0].size == 32_000
            session = (await heir.http.get(f"/v1/sessions/{job}")).json()
            assert (session["state"], session["title"]) == ("done", "talk.wav")
            await asyncio.to_thread(platform.arrived.wait, TIMEOUT)
            with heir.state.database.transaction(writes=False) as connection:
                assert connection.scalar(text("SELECT count(*) FROM job_uploads")) == 0
    assert [told.body["sessionId"] for told in platform.told] == [job]
    assert platform.told[0].body["transcript"] == "second"


async def test_a_server_that_was_frozen_ends_no_job_that_another_has_taken_up(
    tmp_path: Path, models_dir: Path, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    hangs, does = hanging("first"), hanging("second")
    with inbox(SECRET) as platform:
        async with serving(tmp_path / "one", models_dir, hangs, **settings) as one:
            form = {"jobId": "j-1", "webhookUrl": platform.url}
            job = (await one.http.post("/v1/jobs", files={"file": FILE}, data=form)).json()["job"]
            await hangs.began.wait()
            async with serving(tmp_path / "other", models_dir, does, **settings) as other:
                await die(one)
                await does.began.wait()
                assert one.state.jobs._running == other.state.jobs._running == job
                hangs.may_end.set()
                await eventually(lambda: one.state.jobs._running is None)
                assert (
                    "job j-1 is left to who does it: Another server has taken this job over." in caplog.text
                )
                assert (await one.http.get(f"/v1/jobs/{job}")).json()["state"] == "running"
                does.may_end.set()
                for served in (one, other):
                    known = await done(served.http, job)
                    assert known["state"] == "done" and (await text_of(served, known)).endswith("second\n")
                await asyncio.to_thread(platform.arrived.wait, TIMEOUT)
                assert len(other.state.database.deliveries()) == 1
    assert [told.body["sessionId"] for told in platform.told] == [job]


async def test_servers_do_the_jobs_that_came_to_one_of_them_together(
    tmp_path: Path, models_dir: Path, settings: dict[str, Any]
) -> None:
    passes = [hanging("first"), hanging("second")]
    async with (
        serving(tmp_path / "one", models_dir, passes[0], **settings) as one,
        serving(tmp_path / "other", models_dir, passes[1], **settings) as other,
    ):
        jobs = [
            (await one.http.post("/v1/jobs", files={"file": FILE}, data={"jobId": name})).json()["job"]
            for name in ("a", "b", "c")
        ]
        for each in passes:
            await each.began.wait()
        for each in passes:
            each.may_end.set()
        for job in jobs:
            assert (await done(other.http, job))["state"] == "done"
        with one.state.database.transaction(writes=False) as connection:
            assert connection.scalar(text("SELECT count(*) FROM jobs")) == 0
