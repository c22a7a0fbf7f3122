"""Jobs over HTTP: by a URL or as an upload, kept through restarts, one effect for one `jobId`."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from scripted_pass import ScriptedPass, found
from serving import Served, serving
from talking import wav

from benchmarks.inbox import inbox
from live_asr.cli.worker import FOLDER
from live_asr.core.errors import DiskFull, EngineError
from live_asr.full_pass.process import FullPass, FullPassLoad
from live_asr.storage import tokens
from live_asr.storage.database import sqlite_url
from live_asr.storage.jobs import JobDatabase
from live_asr.storage.lock import own_folder
from live_asr.weights.resolver import models_of
from tests.jobs.conftest import SECRET
from tests.started import StartServer

TIMEOUT = 300.0
FILE = ("talk.wav", wav(bytes(64_000)), "audio/wav")


async def settled(
    served: Served,
    job: str,
    states: tuple[str, ...] = ("done", "failed"),
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Wait until a job is in one of these states; return what is known of it."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            known: dict[str, Any] = (await served.http.get(f"/v1/jobs/{job}", headers=headers)).json()
            if known["state"] in states:
                return known
            await asyncio.sleep(0.02)  # between two looks at the server


async def test_an_upload_is_done_by_the_full_pass_and_becomes_a_session(
    tmp_path: Path, models_dir: Path
) -> None:
    full_pass = ScriptedPass(found("won too three"), progress=(("recognition", 0.5),))
    full_pass.may_end.clear()
    with inbox(SECRET) as platform:
        settings = {"webhook__secret": SECRET, "webhook__allow_private": True}
        async with serving(tmp_path, models_dir, full_pass, **settings) as served:
            form = {"jobId": "j-1", "minSpeakers": "2", "vocabulary": "won, too", "webhookUrl": platform.url}
            posted = await served.http.post("/v1/jobs", files={"file": FILE}, data=form)
            assert posted.status_code == 202, posted.text
            job = posted.json()
            assert (job["jobId"], job["state"], job["links"]) == ("j-1", "queued", {})
            await full_pass.began.wait()
            running = await settled(served, job["job"], ("running",))
            assert running["progress"] == {"stage": "recognition", "fraction": 0.5}
            full_pass.may_end.set()
            done = await settled(served, "j-1")
            assert done["job"] == job["job"]

            text = (await served.http.get(done["links"]["txt"])).text
            assert "won too" in text and "three" in text
            session = (await served.http.get(f"/v1/sessions/{job['job']}")).json()
            assert (session["state"], session["title"]) == ("done", "talk.wav")
            asked = full_pass.jobs[0]
            assert (asked.min_speakers, asked.vocabulary, asked.live) == (2, ("won", "too"), ())
            assert full_pass.heard[0].size == 32_000
            await asyncio.to_thread(platform.arrived.wait, TIMEOUT)
            (told,) = platform.told
            assert told.body["jobId"] == "j-1"
            assert told.body["sessionId"] == job["job"]
            assert told.body["metadata"]["audioFormat"] == "wav"

            again = await served.http.post("/v1/jobs", files={"file": FILE}, data=form)
            assert (again.status_code, again.json()["state"]) == (200, "done")
            assert len(full_pass.jobs) == 1
    assert list((tmp_path / "jobs" / "uploads").iterdir()) == []


@pytest.mark.parametrize("name", [FOLDER, "jobs"])
async def test_a_worker_that_starts_on_the_same_folder_leaves_the_server_s_recordings_alone(
    tmp_path: Path, models_dir: Path, name: str
) -> None:
    full_pass = ScriptedPass(found("hello"))
    full_pass.may_end.clear()
    dead = tmp_path / name / "work-dead"
    dead.mkdir(parents=True)
    async with serving(tmp_path, models_dir, full_pass) as served:
        form = [{"jobId": "runs"}, {"jobId": "waits"}]
        for data in form:
            assert (await served.http.post("/v1/jobs", files={"file": FILE}, data=data)).status_code == 202
        await full_pass.began.wait()
        with own_folder(tmp_path / name):
            assert not dead.exists()
            assert list((tmp_path / "jobs").glob(".job-*")), "of the one that runs"
            full_pass.may_end.set()
            for data in form:
                assert (await settled(served, data["jobId"]))["state"] == "done"


async def test_a_job_by_its_url_and_one_that_fails(tmp_path: Path, models_dir: Path) -> None:
    class Gives(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(FILE[1])))
            self.end_headers()
            self.wfile.write(FILE[1])

        def log_message(self, *_: object) -> None:
            pass

    host = ThreadingHTTPServer(("127.0.0.1", 0), Gives)
    Thread(target=host.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{host.server_address[1]}/talk.wav"
    try:
        async with serving(
            tmp_path, models_dir, ScriptedPass(found("hello")), jobs__allow_private=True
        ) as served:
            posted = await served.http.post("/v1/jobs", json={"audioUrl": url, "more": {"a": [1]}})
            assert posted.status_code == 202
            assert (await settled(served, posted.json()["job"]))["state"] == "done"
        async with serving(tmp_path, models_dir, ScriptedPass(found("hello"))) as served:
            for refused, code in (
                (url.replace("http", "https"), "forbidden_target"),
                ("s3://b/k", "forbidden_target"),
            ):
                posted = await served.http.post("/v1/jobs", json={"jobId": 5, "audioUrl": refused})
                failed = await settled(served, posted.json()["job"])
                assert (failed["state"], failed["error"]["code"]) == ("failed", code)
                assert posted.status_code == 202, "one that failed may be asked for again"
    finally:
        host.shutdown()
        host.server_close()


async def test_a_job_that_was_not_done_is_done_by_the_next_run_of_the_server(
    tmp_path: Path, models_dir: Path
) -> None:
    hangs = ScriptedPass(found("first"))
    hangs.may_end.clear()
    async with serving(tmp_path, models_dir, hangs, server__audit_log=str(tmp_path / "audit")) as served:
        job = (await served.http.post("/v1/jobs", files={"file": FILE})).json()["job"]
        await hangs.began.wait()
        for status in (202, 200):
            answer = await served.http.post("/v1/jobs", files={"file": FILE}, data={"jobId": "waits"})
            assert (answer.status_code, answer.json()["state"]) == (status, "queued")
    assert hangs.cancelled == 1
    noted = [json.loads(line)["event"] for line in (tmp_path / "audit").read_text().splitlines()]
    assert noted == ["open", "open"]
    async with serving(tmp_path, models_dir, ScriptedPass(found("second"))) as served:
        done = await settled(served, job)
        assert (await served.http.get(done["links"]["txt"])).text.endswith("second\n")


async def test_what_an_earlier_run_has_left_of_no_job_is_erased(tmp_path: Path, models_dir: Path) -> None:
    hangs = ScriptedPass(found("first"))
    hangs.may_end.clear()
    uploads = tmp_path / "jobs" / "uploads"
    async with serving(tmp_path, models_dir, hangs) as served:
        job = (await served.http.post("/v1/jobs", files={"file": FILE})).json()["job"]
        await hangs.began.wait()
    for name in ("0123", ".0123.unfinished"):
        (uploads / name).write_bytes(b"left")
    (tmp_path / "jobs" / ".job-left").mkdir()
    second = ScriptedPass(found("second"))
    second.may_end.clear()
    async with serving(tmp_path, models_dir, second) as served:
        await second.began.wait()
        assert [path.name for path in uploads.iterdir()] == [job]
        assert not (tmp_path / "jobs" / ".job-left").exists()
        second.may_end.set()
        assert (await settled(served, job))["state"] == "done"


async def test_owners_take_turns(tmp_path: Path, models_dir: Path) -> None:
    database = JobDatabase(sqlite_url(tmp_path / "live-asr.db"))
    database.prepare()
    order = ("ann-1", "ann-2", "ann-3", "bob-1", "bob-2")
    for at, name in enumerate(order):
        given = {"jobId": name, "audioUrl": "s3://b/k"}
        database.add_job(name, given, upload=None, created_at=float(at), owner=name[:3])
    async with serving(tmp_path, models_dir, ScriptedPass(found("hello"))) as served:
        for name in order:
            assert (await settled(served, name))["state"] == "failed"
        ended = [name for name, _ in database.ended(before=time.time())]
    database.close()
    assert ended == ["ann-1", "bob-1", "ann-2", "bob-2", "ann-3"]


async def test_an_upload_for_which_there_is_no_room_is_refused(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, models_dir, ScriptedPass(found("hello"))) as served:
        monkeypatch.setattr("live_asr.storage.files.RESERVE_BYTES", 2**60)
        with pytest.raises(DiskFull):
            await served.state.jobs.submit({}, ("talk.wav", io.BytesIO(FILE[1])))
        assert list((tmp_path / "jobs" / "uploads").iterdir()) == []


async def test_a_job_that_cannot_be_read_any_more_fails_alone(tmp_path: Path, models_dir: Path) -> None:
    database = JobDatabase(sqlite_url(tmp_path / "live-asr.db"))
    database.prepare()
    database.add_job("older", {"jobId": 7, "audioUrl": 7}, upload=None, created_at=1.0)
    database.close()
    async with serving(tmp_path, models_dir, ScriptedPass(found("hello"))) as served:
        failed = await settled(served, "older")
        assert (failed["jobId"], failed["error"]["code"]) == (7, "bad_job")
        job = (await served.http.post("/v1/jobs", files={"file": FILE})).json()["job"]
        assert (await settled(served, job))["state"] == "done"


async def test_what_one_device_s_models_wrote_is_not_the_result_of_another_s(
    tmp_path: Path, models_dir: Path
) -> None:
    loading = FullPass(FullPassLoad("tiny.en", models_dir, models_dir, "cuda", "float16", 5, None))
    full_pass = ScriptedPass(found("hello"))
    async with serving(tmp_path, models_dir, full_pass, models=lambda: models_of(loading.load)) as served:

        async def passes_after(job_id: str) -> int:
            await served.http.post("/v1/jobs", files={"file": FILE}, data={"jobId": job_id})
            assert (await settled(served, job_id))["state"] == "done"
            return len(full_pass.jobs)

        assert [await passes_after("first"), await passes_after("again")] == [1, 1]
        loading.use(replace(loading.load, device="cpu", compute_type="int8"))
        assert await passes_after("on the CPU") == 2


async def test_a_job_whose_models_fail_is_told_why(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_asr.jobs.waiting.RETRY_DELAY", 0.0)
    async with serving(tmp_path, models_dir, ScriptedPass(EngineError("It broke."))) as served:
        job = (await served.http.post("/v1/jobs", files={"file": FILE})).json()["job"]
        failed = await settled(served, job)
        assert (failed["state"], failed["error"]["code"]) == ("failed", "engine")
        assert len(served.full_pass.jobs) == 6, "three runs, each tried twice"


@pytest.mark.parametrize(
    ("request_of", "code"),
    [
        (lambda http: http.post("/v1/jobs", content=b"rubbish"), "not_json"),
        (lambda http: http.post("/v1/jobs", json=[1]), "not_a_job"),
        (lambda http: http.post("/v1/jobs", json={"jobId": 1}), "not_a_job"),
        (lambda http: http.post("/v1/jobs", json={"audioUrl": 7}), "bad_job"),
        (lambda http: http.post("/v1/jobs", content=b"[" * 2_000_000), "too_large"),
        (lambda http: http.post("/v1/jobs", data={"jobId": "1"}, files={"other": FILE}), "no_file"),
        (
            lambda http: http.post("/v1/jobs", data={"minSpeakers": "-1"}, files={"file": FILE}),
            "bad_job",
        ),
    ],
)
async def test_what_asks_for_nothing_is_refused_with_a_code(
    tmp_path: Path, models_dir: Path, request_of: Callable[[httpx.AsyncClient], Any], code: str
) -> None:
    async with serving(tmp_path, models_dir, ScriptedPass(found("hello"))) as served:
        answer = await request_of(served.http)
        status = 413 if code == "too_large" else 400
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert (await served.http.get("/v1/jobs/none")).status_code == 404


async def test_jobs_are_for_those_who_have_the_token(tmp_path: Path, models_dir: Path) -> None:
    async with serving(
        tmp_path, models_dir, ScriptedPass(found("hello")), server__token="top-secret"
    ) as served:
        for answer in (
            await served.http.post("/v1/jobs", files={"file": FILE}),
            await served.http.post("/v1/jobs", json={"audioUrl": "https://example.com/a.mp3"}),
            await served.http.get("/v1/jobs/1"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        allowed = {"Authorization": "Bearer top-secret"}
        posted = await served.http.post("/v1/jobs", files={"file": FILE}, headers=allowed)
        assert posted.status_code == 202


async def test_a_job_and_its_session_are_the_token_s_that_it_came_with(
    tmp_path: Path, models_dir: Path
) -> None:
    full_pass = ScriptedPass(found("hello"))
    async with serving(tmp_path, models_dir, full_pass, server__token="top-secret") as served:
        http, ways = served.http, {}
        for name in ("caption", "other", "read", "webhook"):
            scopes = {"other": ["caption"], "webhook": ["caption", "webhook"]}.get(name, [name])
            token, secret = tokens.new_token(name, scopes, now=time.time())
            await asyncio.to_thread(tokens.add, served.state.database, token)
            ways[name] = {"Authorization": f"Bearer {secret}"}
        await served.state.access.refresh()

        async def post(name: str, **form: str) -> httpx.Response:
            return await http.post("/v1/jobs", files={"file": FILE}, data=form, headers=ways[name])

        jobs = {}
        for name in ("caption", "other"):
            answer = await post(name, jobId="j-1")
            assert answer.status_code == 202, answer.text
            jobs[name] = answer.json()["job"]
        assert jobs["caption"] != jobs["other"], "a name among one token's jobs"
        for name in ("caption", "other"):
            assert (await http.get("/v1/jobs/j-1", headers=ways[name])).json()["job"] == jobs[name]
            theirs = jobs["other" if name == "caption" else "caption"]
            answer = await http.get(f"/v1/jobs/{theirs}", headers=ways[name])
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await post("read")).status_code == 403
        assert (await http.get(f"/v1/jobs/{jobs['caption']}", headers=ways["read"])).status_code == 200

        for job in jobs.values():
            await settled(served, job, headers=ways["read"])
        for name in ("caption", "other"):
            answer = await http.get("/v1/sessions", headers=ways[name])
            assert [session["session"] for session in answer.json()["sessions"]] == [jobs[name]]

        for name, status in (("caption", 400), ("webhook", 202)):
            answer = await post(name, webhookUrl="https://hooks.invalid/captions")
            assert answer.status_code == status, answer.text
            assert status == 202 or answer.json()["code"] == "webhook_refused"


def test_a_real_server_writes_a_real_recording_down(start_server: StartServer, sample_wav: Path) -> None:
    with inbox(SECRET) as platform:
        server = start_server(LIVE_ASR_WEBHOOK__SECRET=SECRET, LIVE_ASR_WEBHOOK__ALLOW_PRIVATE="true")
        with sample_wav.open("rb") as file:
            posted = httpx.post(
                f"{server.url}/v1/jobs",
                files={"file": ("call.wav", file)},
                data={"job": json.dumps({"jobId": 123, "presentationId": 456, "webhookUrl": platform.url})},
            )
        assert posted.status_code == 202, posted.text
        assert platform.arrived.wait(TIMEOUT), server.log.read_text()
        body = platform.told[0].body
        assert (body["jobId"], body["presentationId"], body["status"]) == (123, 456, "success")
        assert "Sheila" in body["transcript"] and len(body["diarization"]) == 2
        known = httpx.get(f"{server.url}/v1/jobs/123").json()
        assert (known["state"], known["jobId"]) == ("done", 123)
        assert "Sheila" in httpx.get(server.url + known["links"]["vtt"]).text
        assert server.metric("live_asr_jobs_done_total") == 1
