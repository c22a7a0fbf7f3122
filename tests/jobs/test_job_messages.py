"""What messages ask for: the platform's own, the store's news, and what is neither."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.jobs.messages import Job, NotAJob, read_body

JOB = {"jobId": 123, "audioUrl": "s3://bucket/key.mp3"}


def read(**fields: Any) -> Job:
    (job,) = read_body(json.dumps(JOB | fields))
    return job


def refusal(body: str) -> NotAJob:
    with pytest.raises(NotAJob) as caught:
        read_body(body)
    return caught.value


def test_a_job_is_read_with_all_that_it_may_say() -> None:
    job = read(
        presentationId="p",
        language="pt-BR",
        minSpeakers=1,
        maxSpeakers=3.0,
        vocabulary=["Sheila"],
        webhookUrl="https://example.com/hook",
        timestamp="2026-01-22T10:30:00Z",
        nested={"a": [1, None, {"b": 2.5}]},
    )
    assert job == Job(
        job_id=123,
        audio_url="s3://bucket/key.mp3",
        presentation_id="p",
        language="pt",
        min_speakers=1,
        max_speakers=3,
        vocabulary=("Sheila",),
        webhook_url="https://example.com/hook",
        rest={"timestamp": "2026-01-22T10:30:00Z", "nested": {"a": [1, None, {"b": 2.5}]}},
    )
    assert job.told == {"jobId": 123, "presentationId": "p"}
    assert read(language="auto").language is None
    assert read(language=None, minSpeakers=None).min_speakers is None


@given(
    rest=st.dictionaries(
        st.text().filter(
            lambda name: name not in ("jobId", "audioUrl", "Records", "source", "Type", "Event")
        ),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=5,
    )
)
def test_fields_that_nobody_knows_come_back_as_they_were(rest: dict[str, Any]) -> None:
    known = {"presentationId", "language", "minSpeakers", "maxSpeakers", "vocabulary", "webhookUrl"}
    rest = {f"x{name}" if name in known else name: value for name, value in rest.items()}
    assert dict(read(**rest).rest) == rest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("jobId", None),
        ("jobId", ""),
        ("jobId", 1.5),
        ("jobId", {}),
        ("audioUrl", ""),
        ("audioUrl", ["s3://b/k"]),
        ("audioUrl", "s3://b/" + "k" * 5000),
        ("presentationId", []),
        ("language", 7),
        ("minSpeakers", 0),
        ("maxSpeakers", "3"),
        ("vocabulary", "word"),
        ("vocabulary", ["x" * 101]),
        ("webhookUrl", "ftp://example.com"),
    ],
)
def test_a_wrong_type_is_refused_by_the_field_s_name(field: str, value: Any) -> None:
    error = refusal(json.dumps(JOB | {field: value}))
    assert error.code == "bad_job"
    assert f"`{field}" in error.message
    assert error.told.get("jobId") == (None if field == "jobId" else 123)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "not_json"),
        ("rubbish", "not_json"),
        ('{"jobId": NaN}', "not_json"),
        ("[" * 200_000, "not_json"),
        ("1" * 5000, "not_json"),
        ("null", "not_a_job"),
        ("[]", "not_a_job"),
        ("{}", "not_a_job"),
        ('{"Records": [{"eventSource": "aws:ses"}]}', "not_a_job"),
        ('{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": 1, "object": {}}}]}', "not_a_job"),
        (
            '{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {}, "object": {}}}]}',
            "not_a_job",
        ),
        (json.dumps({"Records": [{}] * 101}), "too_large"),
        ('{"Type": "Notification", "TopicArn": "t", "Message": 7}', "not_a_job"),
        ('{"Type": "Notification", "TopicArn": "t", "Message": "nothing"}', "not_json"),
        (json.dumps(JOB | {"rest": "x" * 70_000}), "too_large"),
        (json.dumps(JOB | {"minSpeakers": 3, "maxSpeakers": 2}), "bad_job"),
        ('{"jobId": 1, "audioUrl": "s3://b/k", "x": 1e999}', "bad_job"),
        ("x" * (1024 * 1024 + 1), "too_large"),
    ],
)
def test_what_is_no_job_is_refused_with_a_code(body: str, code: str) -> None:
    assert refusal(body).code == code


def test_the_store_s_news_are_jobs_for_files_that_have_come_and_for_no_others() -> None:
    def record(event: str, key: str, **more: str) -> dict[str, Any]:
        stored = {"key": key, "sequencer": "0A", **more}
        return {"eventName": event, "s3": {"bucket": {"name": "b"}, "object": stored}}

    jobs = read_body(
        json.dumps(
            {
                "Records": [
                    record("ObjectCreated:Put", "a+talk%2B1.mp3"),
                    record("s3:ObjectCreated:CompleteMultipartUpload", "x.mp3", versionId="v 1"),
                    record("ObjectRemoved:Delete", "gone.mp3"),
                ]
            }
        )
    )
    assert [(job.audio_url, job.rest["key"]) for job in jobs] == [
        ("s3://b/a%20talk%2B1.mp3", "a talk+1.mp3"),
        ("s3://b/x.mp3?versionId=v%201", "x.mp3"),
    ]
    assert [job.job_id for job in jobs] == ["b/a talk+1.mp3#0A", "b/x.mp3#v 1"]
    assert read_body('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}') == ()
    bridge = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "b"}, "object": {"key": "a+b.mp3", "etag": "e"}},
    }
    (job,) = read_body(json.dumps(bridge))
    assert (job.audio_url, job.job_id) == ("s3://b/a%2Bb.mp3", "b/a+b.mp3#e")
    assert read_body(json.dumps(bridge | {"detail-type": "Object Deleted"})) == ()


def test_an_envelope_of_sns_is_opened() -> None:
    inner: Any = JOB
    for _ in range(2):
        inner = {"Type": "Notification", "TopicArn": "arn:aws:sns:x:1:t", "Message": json.dumps(inner)}
    assert read_body(json.dumps(inner)) == read_body(json.dumps(JOB))
