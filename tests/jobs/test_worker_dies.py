"""A worker that is killed or told to stop, jobs that last, and jobs that fail: one effect each."""

from __future__ import annotations

import io
import json
import re
import shutil
import wave
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from benchmarks.jobs.aws import BUCKET, Aws
from benchmarks.resilience.inbox import Inbox
from live_asr.storage.database import Database, sqlite_url
from live_asr.storage.tables import kept_results
from tests.jobs.conftest import StartWorker, Working
from tests.started import ROOT

SOON = {
    "LIVE_ASR_JOBS__VISIBILITY": "2",
    "LIVE_ASR_JOBS__MAX_RECEIVES": "100",
    "DIARIZATION_ENABLED": "false",
}
"""Another worker takes over after two seconds."""


def job(job_id: object = 7, key: str = "calls/call.wav") -> dict[str, Any]:
    return {"jobId": job_id, "audioUrl": f"s3://{BUCKET}/{key}"}


@pytest.fixture
def call(cloud: Aws, recording: bytes) -> str:
    """The key of a call in the store."""
    cloud.put("calls/call.wav", recording)
    return "calls/call.wav"


@pytest.fixture
def long_call(cloud: Aws, sample_pcm: bytes) -> str:
    """The key of four minutes in the store."""
    long = io.BytesIO()
    with wave.open(long, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        for _ in range(8):
            file.writeframes(sample_pcm)
    cloud.put("calls/long.wav", long.getvalue())
    return "calls/long.wav"


@pytest.mark.parametrize("instant", ["job 7 begins", "has 30.0 s", "job 7: recognition", "told"])
def test_a_worker_that_is_killed_leaves_its_job_to_the_next_one_and_there_is_one_effect(
    cloud: Aws,
    queue: str,
    platform: Inbox,
    start_worker: StartWorker,
    call: str,
    tmp_path: Path,
    instant: str,
) -> None:
    data = tmp_path / "data"
    cloud.send(queue, job())
    # The receiver's answer is lost: it is asked again, under the same id.
    platform.answer = lambda before: 500 if before == 0 else 200
    first = start_worker(queue, platform, data, **SOON)
    if instant == "told":
        first.until(lambda: platform.told)
    else:
        first.says(instant)
    first.kill()
    second = start_worker(queue, platform, data, **SOON)
    second.until(lambda: len(platform.told) >= 2 and cloud.counts(queue) == (0, 0))
    assert second.stop() == 0

    assert len(platform.effects) == 1
    assert {told.body["status"] for told in platform.told} == {"success"}
    assert list((data / "work").iterdir()) == [], "what the killed one worked on is erased"


def test_a_job_three_times_as_long_as_the_visibility_is_done_once(
    cloud: Aws, queue: str, platform: Inbox, start_worker: StartWorker, long_call: str
) -> None:
    # A second lane looks for messages all the time.
    worker = start_worker(queue, platform, MAX_WORKERS="2", LIVE_ASR_JOBS__VISIBILITY="2")
    cloud.send(queue, job(key=long_call))
    worker.until(lambda: platform.told and cloud.counts(queue) == (0, 0))
    assert worker.stop() == 0
    took = platform.told[0].body["metadata"]["processingTime"]
    assert took > 3 * 2, "or this has tested nothing"
    assert worker.said.count("job 7 begins") == 1
    assert len(platform.told) == 1


def test_a_worker_that_is_told_to_stop_gives_its_job_back_at_once(
    cloud: Aws, queue: str, platform: Inbox, start_worker: StartWorker, long_call: str
) -> None:
    worker = start_worker(queue, platform, LIVE_ASR_JOBS__VISIBILITY="3600")
    cloud.send(queue, job(key=long_call))
    worker.says("job 7: recognition")
    assert cloud.counts(queue) == (0, 1)
    assert worker.stop() == 0
    assert cloud.counts(queue) == (1, 0)
    assert platform.told == []


def test_a_worker_that_may_finish_its_job_does_so_and_takes_no_other(
    cloud: Aws, queue: str, platform: Inbox, start_worker: StartWorker, call: str
) -> None:
    worker = start_worker(
        queue,
        platform,
        LIVE_ASR_JOBS__ON_STOP="finish",
        LIVE_ASR_SERVER__DRAIN_TIMEOUT="400",
        LIVE_ASR_JOBS__VISIBILITY="3600",
        DIARIZATION_ENABLED="false",
    )
    cloud.send(queue, job(7))
    worker.says("job 7 begins")
    cloud.send(queue, job(8))
    assert worker.stop() == 0
    # Told of or not yet: it is in the outbox.
    assert [row.state for row in deliveries(worker)] in (["pending"], ["delivered"])
    assert cloud.counts(queue) == (1, 0)


def deliveries(worker: Working) -> list[Any]:
    database = Database(sqlite_url(worker.data / "live-asr.db"))
    try:
        return database.deliveries()
    finally:
        database.close()


def test_a_disk_that_refuses_makes_the_job_wait_and_costs_it_no_receive(
    cloud: Aws, queue: str, dlq: str, platform: Inbox, start_worker: StartWorker, call: str
) -> None:
    more = {**SOON, "LIVE_ASR_JOBS__MAX_RECEIVES": "1", "LIVE_ASR_JOBS__DLQ_URL": dlq}
    worker = start_worker(queue, platform, **more)
    worker.says("taking jobs")
    (folder,) = (worker.data / "work").iterdir()
    shutil.rmtree(folder)
    folder.write_text("in the way")
    cloud.send(queue, job())
    worker.until(lambda: worker.said.count("waits for the disk") >= 3)
    assert cloud.counts(queue) == (0, 1), "hidden for longer than its visibility"
    assert platform.told == []
    folder.unlink()
    worker.until(lambda: platform.told and cloud.counts(queue) == (0, 0))
    assert worker.stop() == 0
    assert [told.body["status"] for told in platform.told] == ["success"]
    assert cloud.counts(dlq) == (0, 0)


@pytest.mark.parametrize("by_hand", [True, False])
def test_after_three_receives_a_job_fails_for_good(
    cloud: Aws, queue: str, dlq: str, platform: Inbox, start_worker: StartWorker, by_hand: bool
) -> None:
    asked: list[str] = []

    class Forbids(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    more = {"LIVE_ASR_JOBS__ALLOW_PRIVATE": "true", "LIVE_ASR_JOBS__VISIBILITY": "2"}
    if by_hand:
        more["LIVE_ASR_JOBS__DLQ_URL"] = dlq
    else:
        policy = json.dumps({"deadLetterTargetArn": cloud.arn(dlq), "maxReceiveCount": "3"})
        cloud.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": policy})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forbids)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        worker = start_worker(queue, platform, **more)
        url = f"http://127.0.0.1:{server.server_address[1]}/talk.mp3"
        cloud.send(queue, {"jobId": "j-1", "audioUrl": url})
        worker.until(lambda: platform.told and cloud.counts(dlq)[0])
    finally:
        server.shutdown()
        server.server_close()
    (told,) = platform.told
    assert (told.body["status"], told.body["error"]["code"]) == ("failed", "denied")
    assert len(asked) == 3
    assert cloud.counts(queue) == (0, 0)
    (dead,) = cloud.take(dlq)
    if by_hand:
        assert dead["MessageAttributes"]["ErrorCode"]["StringValue"] == "denied"


def test_of_a_job_that_fails_for_good_nothing_is_left(
    cloud: Aws, queue: str, platform: Inbox, start_worker: StartWorker, call: str
) -> None:
    more = {"LIVE_ASR_JOBS__MAX_RECEIVES": "1", "LIVE_ASR_JOBS__RESULT_PREFIX": "s3://no-such-bucket/"}
    worker = start_worker(queue, platform, **{**SOON, **more})
    cloud.send(queue, job())
    worker.until(lambda: platform.told and cloud.counts(queue) == (0, 0))
    assert worker.stop() == 0
    assert platform.told[0].body["error"]["code"] == "upload", "after its session was written"
    assert list((worker.data / "sessions").iterdir()) == []
    database = Database(sqlite_url(worker.data / "live-asr.db"))
    with database.transaction(writes=False) as connection:
        assert connection.execute(kept_results.select()).all() == []
    database.close()


def test_a_job_that_kills_its_worker_each_time_is_told_of_with_the_policy_shipped(
    cloud: Aws, queue: str, dlq: str, platform: Inbox, start_worker: StartWorker, call: str
) -> None:
    shipped = re.search(r"maxReceiveCount\s*= (\d+)", (ROOT / "examples" / "worker" / "main.tf").read_text())
    assert shipped is not None
    policy = json.dumps({"deadLetterTargetArn": cloud.arn(dlq), "maxReceiveCount": shipped[1]})
    cloud.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": policy})
    cloud.send(queue, job())
    for _ in range(3):
        worker = start_worker(queue, platform, LIVE_ASR_JOBS__VISIBILITY="2")
        worker.says("job 7 begins")
        worker.kill()
    worker = start_worker(queue, platform, LIVE_ASR_JOBS__VISIBILITY="2")
    worker.until(lambda: platform.told and cloud.counts(dlq)[0])
    assert worker.stop() == 0
    (told,) = platform.told
    assert told.body["error"]["code"] == "too_many_receives"


def test_workers_that_share_a_data_folder_share_a_queue_and_tell_of_each_job_once(
    cloud: Aws, queue: str, platform: Inbox, start_worker: StartWorker, call: str, tmp_path: Path
) -> None:
    data = tmp_path / "shared"
    both = [start_worker(queue, platform, data, DIARIZATION_ENABLED="false") for _ in range(2)]
    for number in range(6):
        cloud.send(queue, job(number))
    both[0].until(lambda: len(platform.effects) == 6 and cloud.counts(queue) == (0, 0))
    with ThreadPoolExecutor() as threads:
        assert list(threads.map(Working.stop, both)) == [0, 0]
    assert sorted(map(str, platform.effects.values())) == [str(number) for number in range(6)]
    assert len(platform.told) == 6
