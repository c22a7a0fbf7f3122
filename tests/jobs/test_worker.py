"""A worker, from a message to the payload: a real queue, a real recording, a real receiver."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import av
import httpx
import numpy as np
import pytest

from benchmarks.jobs.aws import BUCKET, Aws
from benchmarks.resilience.inbox import Inbox, Told, inbox
from tests.jobs.conftest import SECRET, Working, workers

EXAMPLE = {
    "jobId": 123,
    "presentationId": 456,
    "audioUrl": f"https://s3.amazonaws.com/{BUCKET}/presentations/456/audio.mp3",
    "timestamp": "2026-01-22T10:30:00Z",
}
"""As a platform sends it."""
MAX_BYTES, MAX_HOURS = 2_000_000, 0.5


@dataclass(frozen=True)
class Shared:
    """One worker that several tests send jobs to."""

    cloud: Aws
    queue: str
    dlq: str
    platform: Inbox
    worker: Working
    metrics_port: int

    def told(self, job_id: object) -> Told:
        """Wait until a job was told of; return what was said."""
        self.worker.until(lambda: self.platform.of(job_id))
        (told,) = self.platform.of(job_id)
        return told

    def is_empty(self) -> None:
        """Wait until no message is left."""
        self.worker.until(lambda: self.cloud.counts(self.queue) == (0, 0))

    def metric(self, name: str) -> float:
        """Return the value of one of its metrics."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False).text
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)


@pytest.fixture(scope="module")
def shared(
    cloud: Aws, models_dir: Path, tmp_path_factory: pytest.TempPathFactory, recording: bytes
) -> Iterator[Shared]:
    """A worker with a queue and one for what cannot be done."""
    folder = tmp_path_factory.mktemp("worker")
    name = uuid4().hex
    queue, dlq = cloud.queue(f"jobs-{name}"), cloud.queue(f"dead-{name}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cloud.put("calls/a call.wav", recording)
    cloud.put("page.html", b"<html>Not found</html>")
    cloud.put("bomb.zip", b"PK\x03\x04" + bytes(1000))
    cloud.put("large.wav", bytes(MAX_BYTES + 1))
    with inbox(SECRET) as platform, workers(cloud, models_dir, folder) as start:
        worker = start(
            queue,
            platform,
            LIVE_ASR_JOBS__DLQ_URL=dlq,
            LIVE_ASR_JOBS__METRICS_PORT=str(port),
            LIVE_ASR_JOBS__EMF="true",
            LIVE_ASR_JOBS__LANES="2",
            LIVE_ASR_JOBS__MAX_BYTES=str(MAX_BYTES),
            LIVE_ASR_JOBS__MAX_HOURS=str(MAX_HOURS),
            LIVE_ASR_JOBS__RESULT_PREFIX=f"s3://{BUCKET}/results/",
            LIVE_ASR_SERVER__LOG_FORMAT="json",
        )
        yield Shared(cloud, queue, dlq, platform, worker, port)
        assert worker.stop() == 0


def mp3(wav: Path, target: Path) -> bytes:
    """Return a recording as MP3."""
    with av.open(str(wav)) as reading, av.open(str(target), "w") as writing:
        stream = writing.add_stream("mp3", rate=16_000)
        for frame in reading.decode(audio=0):
            writing.mux(stream.encode(frame))
        writing.mux(stream.encode(None))
    return target.read_bytes()


def test_the_worked_example_is_answered_to_the_letter(
    shared: Shared, sample_wav: Path, tmp_path: Path
) -> None:
    shared.cloud.put("presentations/456/audio.mp3", mp3(sample_wav, tmp_path / "audio.mp3"))
    shared.cloud.send(shared.queue, EXAMPLE)
    told = shared.told(123)
    body = told.body

    assert told.path == "/api/v1/webhooks/asr-complete"
    assert told.authorization == f"Bearer {SECRET}"
    assert (body["jobId"], body["presentationId"], body["status"]) == (123, 456, "success")
    assert "Sheila" in body["transcript"]
    assert body["segments"]
    for segment in body["segments"]:
        assert list(segment) == ["text", "startTime", "endTime", "speakerLabel", "confidence"]
        assert isinstance(segment["text"], str) and segment["text"] in body["transcript"]
        assert 0 <= segment["startTime"] < segment["endTime"] <= 30.2
        assert segment["speakerLabel"] in ("SPEAKER_00", "SPEAKER_01")
        assert 0 < segment["confidence"] <= 1
    assert {one["aiSpeakerLabel"] for one in body["diarization"]} == {"SPEAKER_00", "SPEAKER_01"}
    for speaker in body["diarization"]:
        assert list(speaker) == ["aiSpeakerLabel", "totalDuration", "segmentCount", "confidence"]
        assert isinstance(speaker["totalDuration"], float) and 0 < speaker["totalDuration"] < 30
        own = [one for one in body["segments"] if one["speakerLabel"] == speaker["aiSpeakerLabel"]]
        assert speaker["segmentCount"] == len(own) > 0
        assert 0 < speaker["confidence"] <= 1
    metadata = body["metadata"]
    assert {"language", "duration", "audioFormat", "processingTime"} <= metadata.keys()
    assert metadata["language"] == "en"
    assert metadata["duration"] == pytest.approx(30, abs=0.2)
    assert metadata["audioFormat"] == "mp3"
    assert metadata["processingTime"] > 0
    assert metadata["timestamp"] == "2026-01-22T10:30:00Z"
    shared.is_empty()

    # Besides, where people read it.
    kept = shared.cloud.s3.get_object(Bucket=BUCKET, Key="results/123.json")["Body"].read()
    written = json.loads(kept)
    assert (written["jobId"], written["text"]) == (123, body["transcript"])
    vtt = shared.cloud.s3.get_object(Bucket=BUCKET, Key="results/123.vtt")["Body"].read().decode()
    assert vtt.startswith("WEBVTT\n") and "<v Speaker 1>" in vtt


def send(shared: Shared, **more: Any) -> int:
    """Send a job for the call, and return its id."""
    job_id = int(uuid4().int % 1_000_000_000)
    shared.cloud.send(shared.queue, {"jobId": job_id, "audioUrl": f"s3://{BUCKET}/calls/a%20call.wav"} | more)
    return job_id


def test_the_same_job_twice_has_one_effect_and_the_same_recording_is_recognised_once(shared: Shared) -> None:
    first = send(shared)
    shared.cloud.send(shared.queue, {"jobId": first, "audioUrl": f"s3://{BUCKET}/calls/a%20call.wav"})
    told = shared.told(first)
    shared.is_empty()
    known = shared.metric("live_asr_jobs_answered_from_kept_total")
    second = send(shared)
    again = shared.told(second)
    shared.is_empty()

    assert len(shared.platform.of(first)) == 1
    assert shared.metric("live_asr_jobs_answered_from_kept_total") == known + 1
    assert again.body["transcript"] == told.body["transcript"]
    assert again.body["sessionId"] != told.body["sessionId"]
    # With other options it is another result.
    third = send(shared, maxSpeakers=1)
    speakers = shared.told(third).body["diarization"]
    assert [one["aiSpeakerLabel"] for one in speakers] == ["SPEAKER_00"]


def test_jobs_that_a_key_cannot_tell_apart_are_kept_apart(shared: Shared) -> None:
    for job_id in ("a?b", "a!b"):
        send(shared, jobId=job_id)
        told = shared.told(job_id)
        key = f"results/a_b-{told.body['sessionId'][:8]}.json"
        kept = json.loads(shared.cloud.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        assert kept["jobId"] == job_id
    shared.is_empty()


def test_the_store_s_own_news_are_jobs_and_so_are_those_in_an_envelope(shared: Shared) -> None:
    def record(key: str, sequencer: str) -> dict[str, Any]:
        return {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": BUCKET}, "object": {"key": key, "sequencer": sequencer}},
        }

    plain = {"Records": [record("calls/a+call.wav", "A1")]}
    inner = {"Records": [record(quote("calls/a call.wav"), "B2")]}
    envelope = {"Type": "Notification", "TopicArn": "arn:aws:sns:x:1:t", "Message": json.dumps(inner)}
    shared.cloud.send(shared.queue, {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET})
    shared.cloud.send(shared.queue, plain)
    shared.cloud.send(shared.queue, envelope)

    for name in ("A1", "B2"):
        body = shared.told(f"{BUCKET}/calls/a call.wav#{name}").body
        assert body["status"] == "success"
        assert body["metadata"]["key"] == "calls/a call.wav"
    shared.is_empty()


HOSTILE = (
    (f"s3://{BUCKET}/calls/none.wav", "not_found"),
    (f"s3://{BUCKET}/page.html", "not_audio"),
    (f"s3://{BUCKET}/bomb.zip", "not_audio"),
    (f"s3://{BUCKET}/large.wav", "too_large"),
    ("https://127.0.0.1/talk.mp3", "forbidden_target"),
    ("https://169.254.169.254/latest/meta-data/", "forbidden_target"),
    ("http://example.com/talk.mp3", "forbidden_target"),
    ("file:///etc/passwd", "forbidden_target"),
    ("gopher://example.com/1", "bad_url"),
)
"""Where a recording is said to be, and what its job is answered."""


@pytest.mark.parametrize(("url", "code"), HOSTILE)
def test_what_cannot_be_done_is_told_and_put_aside_at_once(shared: Shared, url: str, code: str) -> None:
    job_id = send(shared, audioUrl=url, presentationId="p-7")
    body = shared.told(job_id).body
    assert (body["status"], body["error"]["code"], body["presentationId"]) == ("failed", code, "p-7")
    assert body["error"]["message"]
    assert (body["transcript"], body["segments"], body["diarization"]) == ("", [], [])
    shared.is_empty()
    (dead,) = shared.cloud.take(shared.dlq)
    assert json.loads(dead["Body"])["jobId"] == job_id
    assert dead["MessageAttributes"]["ErrorCode"]["StringValue"] == code
    assert dead["MessageAttributes"]["ErrorMessage"]["StringValue"] == body["error"]["message"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("rubbish", "not_json"),
        ("[1, 2]", "not_a_job"),
        ('{"hello": "world"}', "not_a_job"),
        ('{"jobId": true, "audioUrl": "s3://b/k"}', "bad_job"),
        ('{"jobId": 1, "audioUrl": 7}', "bad_job"),
        ("[" * 100_000, "not_json"),
        ("x" * 250_000, "not_json"),
    ],
)
def test_a_message_that_is_no_job_goes_aside_at_once_with_the_reason(
    shared: Shared, body: str, code: str
) -> None:
    shared.cloud.send(shared.queue, body)
    shared.worker.until(lambda: shared.cloud.counts(shared.dlq)[0])
    (dead,) = shared.cloud.take(shared.dlq)
    assert dead["Body"] == body[: len(dead["Body"])] and len(dead["Body"]) >= min(len(body), 50_000)
    assert dead["MessageAttributes"]["ErrorCode"]["StringValue"] == code
    shared.is_empty()


def silence(target: Path, seconds: int) -> bytes:
    """Return silence as FLAC: some 12 kB a minute."""
    second = np.zeros((1, 16_000), np.int16)
    with av.open(str(target), "w") as writing:
        stream = writing.add_stream("flac", rate=16_000, layout="mono", format="s16")
        for _ in range(seconds):
            frame = av.AudioFrame.from_ndarray(second, format="s16", layout="mono")
            frame.sample_rate = 16_000
            writing.mux(stream.encode(frame))
        writing.mux(stream.encode(None))
    return target.read_bytes()


def test_hostile_jobs_cost_the_real_ones_among_them_nothing(shared: Shared, tmp_path: Path) -> None:
    alone = shared.told(send(shared, maxSpeakers=3)).body
    bomb = silence(tmp_path / "silence.flac", round(3600 * MAX_HOURS) + 60)
    assert len(bomb) < MAX_BYTES, "what is large is large when it is decoded"
    shared.cloud.put("silence.flac", bomb)
    hostile = [*HOSTILE, (f"s3://{BUCKET}/silence.flac", "too_long")]
    real, wanted = [], {}
    for number, (url, code) in enumerate(hostile):
        wanted[send(shared, audioUrl=url)] = code
        shared.cloud.send(shared.queue, "[" * 100_000)
        if number % 4 == 0:
            real.append(send(shared, maxSpeakers=4 + number))  # with other options nothing kept answers it
    for job_id in real:
        body = shared.told(job_id).body
        assert (body["status"], body["segments"]) == ("success", alone["segments"])
    assert {job_id: shared.told(job_id).body["error"]["code"] for job_id in wanted} == wanted
    shared.is_empty()
    aside = 2 * len(hostile)
    assert len(shared.cloud.take(shared.dlq, aside)) == aside


def test_metrics_are_lines_of_cloudwatch_and_the_log_is_json_beside_them(shared: Shared) -> None:
    shared.told(send(shared))
    shared.is_empty()
    lines = [json.loads(line) for line in shared.worker.said.splitlines()]
    metrics = [line for line in lines if "_aws" in line]
    told = [line for line in lines if "_aws" not in line]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in told)
    assert any(line.get("jobId") and line.get("audioSeconds") == 30.0 for line in told)
    names = set()
    for line in metrics:
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "live-asr"
        assert directive["Dimensions"] == [["Queue"]]
        assert line["Queue"] == shared.queue.rpartition("/")[2]
        for metric in directive["Metrics"]:
            assert isinstance(line[metric["Name"]], int | float)
            names.add(metric["Name"])
    assert {"JobsDone", "JobsFailed", "QueueAge", "QueueDepth", "AudioSeconds", "RealTimeFactor"} <= names
    assert shared.metric("live_asr_jobs_done_total") >= 1
    assert np.isclose(shared.metric("live_asr_jobs_running"), 0)
