"""The worker, from a message to the payload: a real queue, a real recording, a real receiver."""

from __future__ import annotations

from typing import Any

from standardwebhooks import Webhook

from tests.delivery.receiver import Receiver, answer, receiving
from tests.jobs.aws import BUCKET, Aws
from tests.jobs.conftest import SECRET, StartWorker, until

EXAMPLE = {
    "jobId": 123,
    "presentationId": 456,
    "audioUrl": f"https://s3.amazonaws.com/{BUCKET}/presentations/456/audio.wav",
    "timestamp": "2026-01-22T10:30:00Z",
}


def told(receiver: Receiver, index: int = 0) -> dict[str, Any]:
    """Return what a request told, its signature verified."""
    request = receiver.requests[index]
    body: dict[str, Any] = Webhook(SECRET).verify(request.body, request.headers)
    return body


async def test_the_worked_example_is_answered_to_the_letter(
    cloud: Aws, queue: str, start_worker: StartWorker, recording: bytes
) -> None:
    cloud.put("presentations/456/audio.wav", recording)
    example = EXAMPLE | {"audioUrl": f"{cloud.url}/{BUCKET}/presentations/456/audio.wav"}
    async with receiving(answer(200)) as receiver:
        worker = start_worker(NODE_API_URL=receiver.url, WEBHOOK_SECRET=SECRET)
        cloud.send(queue, example)
        await until(lambda: receiver.requests, lambda: worker.said, lambda: worker.process.poll() is not None)
        body = told(receiver)
        await until(lambda: cloud.counts(queue) == (0, 0), lambda: worker.said)
        assert worker.stop() == 0

    assert body["jobId"] == 123 and body["presentationId"] == 456
    assert body["status"] == "success"
    assert "Sheila" in body["transcript"]
    assert list(body["segments"][0]) == ["text", "startTime", "endTime", "speakerLabel", "confidence"]
    for segment in body["segments"]:
        assert isinstance(segment["text"], str) and segment["text"]
        assert 0 <= segment["startTime"] < segment["endTime"] <= 30.1
        assert segment["speakerLabel"] in ("SPEAKER_00", "SPEAKER_01")
        assert 0 < segment["confidence"] <= 1
    assert {one["aiSpeakerLabel"] for one in body["diarization"]} == {"SPEAKER_00", "SPEAKER_01"}
    for speaker in body["diarization"]:
        assert list(speaker) == ["aiSpeakerLabel", "totalDuration", "segmentCount", "confidence"]
        assert isinstance(speaker["totalDuration"], float) and speaker["totalDuration"] > 0
        assert isinstance(speaker["segmentCount"], int) and speaker["segmentCount"] > 0
    metadata = body["metadata"]
    assert metadata["language"] == "en"
    assert metadata["duration"] == 30.0
    assert metadata["audioFormat"] == "wav"
    assert metadata["processingTime"] > 0
    assert metadata["timestamp"] == "2026-01-22T10:30:00Z"
    assert receiver.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert len(receiver.requests) == 1
