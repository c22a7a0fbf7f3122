"""What a message of the queue asks for: a job of a platform, or the news of a store that a file has come.

Nothing here does any I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote_plus

from live_asr.core.errors import ClientError
from live_asr.core.fields import LARGEST_INTEGER, array, describe, integer, language, string, web_url
from live_asr.core.messages import MAX_SPEAKERS, MAX_VOCABULARY

LARGEST_BODY_BYTES = 1024 * 1024
"""SQS takes no larger message."""
LARGEST_REST_BYTES = 64 * 1024
"""Of the fields that nobody here knows and that go back as they came."""
MAX_RECORDS = 100
"""Files that one notification tells of; S3 sends one."""
MAX_ID = 1024
MAX_URL = 4096
"""Presigned ones are long."""
DEEPEST = 3
"""Envelopes around each other: a notification within SNS's, within a queue's."""


class NotAJob(ClientError):
    """A message that asks for nothing that can be done; `job_id` is whose it is, where it says so."""

    def __init__(self, code: str, message: str, hint: str = "", *, told: Mapping[str, Any] | None = None):
        super().__init__(code, message, hint)
        self.told = dict(told or {})
        """`jobId` and `presentationId` as they came, where they can be read."""


@dataclass(frozen=True, slots=True)
class Job:
    """One recording, what to find in it, and who is to be told."""

    job_id: int | str
    audio_url: str = field(repr=False)
    """May be presigned."""
    presentation_id: int | str | None = None
    language: str | None = None
    """As Whisper spells it; None where the message names none."""
    min_speakers: int | None = None
    max_speakers: int | None = None
    vocabulary: tuple[str, ...] = ()
    webhook_url: str | None = field(default=None, repr=False)
    rest: Mapping[str, Any] = field(default_factory=dict)
    """The fields that nobody here knows, as they came."""

    @property
    def told(self) -> dict[str, Any]:
        """What stands at the top of what is told of it: whose it is, under the platform's names."""
        ids = {"jobId": self.job_id, "presentationId": self.presentation_id}
        return {name: value for name, value in ids.items() if value is not None}


def read_body(body: str) -> tuple[Job, ...]:
    """Read a message's body: the jobs in it, none for news that asks for nothing.

    Raises NotAJob: `too_large`, `not_json`, `not_a_job`, or `bad_job` for a field that holds what it may not.
    """
    if len(body) > LARGEST_BODY_BYTES or len(body.encode("utf-8", "replace")) > LARGEST_BODY_BYTES:
        raise NotAJob("too_large", f"The message is larger than {LARGEST_BODY_BYTES} bytes.")
    value = parsed(body)
    for _ in range(DEEPEST):
        inner = _enclosed(value)
        if inner is None:
            break
        value = parsed(inner)
    if not isinstance(value, Mapping):
        raise NotAJob("not_a_job", f"The message is {describe(value)}, not an object.", _HINT)
    if value.get("Event") == "s3:TestEvent":
        return ()  # S3 says so when notifications are set up
    if isinstance(value.get("Records"), list):
        return tuple(_from_notification(value["Records"]))
    if value.get("source") == "aws.s3" and isinstance(value.get("detail"), Mapping):
        return tuple(_from_event_bridge(value))
    return (read_job(value),)


def read_job(value: Mapping[str, Any]) -> Job:
    """Read a job from parsed JSON. Raises NotAJob as `read_body` does."""
    if "jobId" not in value or "audioUrl" not in value:
        missing = " and ".join(f"`{name}`" for name in ("jobId", "audioUrl") if name not in value)
        raise NotAJob("not_a_job", f"The message has no {missing}.", _HINT, told=_ids_of(value))
    try:
        given = {
            name: read(value[wire], wire)
            for wire, (name, read) in _READERS.items()
            if value.get(wire) is not None
        }
        # Required: null is refused by their readers.
        given |= {"job_id": _id(value["jobId"], "jobId"), "audio_url": _url(value["audioUrl"], "audioUrl")}
    except ClientError as error:
        raise NotAJob("bad_job", error.message, error.hint, told=_ids_of(value)) from None
    low, high = given.get("min_speakers"), given.get("max_speakers")
    if low is not None and high is not None and low > high:
        raise NotAJob(
            "bad_job",
            f"`minSpeakers` is {low} and `maxSpeakers` is {high}.",
            "Swap them.",
            told=_ids_of(value),
        )
    rest = {name: entry for name, entry in value.items() if name not in _READERS}
    try:
        text = json.dumps(rest, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):  # 1e999 is JSON, and nothing that can be written again
        raise NotAJob(
            "bad_job",
            "A field holds a number that is too large.",
            "Send it as a string.",
            told=_ids_of(value),
        ) from None
    size_bytes = len(text.encode("utf-8", "replace"))
    if size_bytes > LARGEST_REST_BYTES:
        raise NotAJob(
            "too_large",
            f"The fields that go back as they came have {size_bytes} bytes; "
            f"{LARGEST_REST_BYTES} are allowed.",
            "Keep them on your side, by the `jobId`.",
            told=_ids_of(value),
        )
    return Job(**given, rest=rest)


_HINT = 'Send {"jobId": …, "audioUrl": "s3://bucket/key"}, or have S3 notify the queue.'


def _id(value: object, field: str) -> int | str:
    if isinstance(value, str):
        text: str = string(MAX_ID, 1)(value, field)
        return text
    number: int = integer(-LARGEST_INTEGER)(value, field)
    return number


def _url(value: object, field: str) -> str:
    text: str = string(MAX_URL, 1)(value, field)
    return text


_READERS: Mapping[str, tuple[str, Any]] = {
    "jobId": ("job_id", _id),
    "presentationId": ("presentation_id", _id),
    "audioUrl": ("audio_url", _url),
    "language": ("language", language),
    "minSpeakers": ("min_speakers", integer(1, MAX_SPEAKERS)),
    "maxSpeakers": ("max_speakers", integer(1, MAX_SPEAKERS)),
    "vocabulary": ("vocabulary", array(string(100, 1), MAX_VOCABULARY)),
    "webhookUrl": ("webhook_url", web_url),
}
"""Name on the wire → name here, and reader."""


def _ids_of(value: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name in ("jobId", "presentationId"):
        try:
            found[name] = _id(value.get(name), name)
        except ClientError:
            continue
    return found


def parsed(text: str) -> object:
    """Parse JSON. Raises NotAJob `not_json`."""
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise NotAJob("not_json", "The message is nested too deep.", _HINT) from None
    except ValueError as error:  # a number of thousands of digits, too
        reason = getattr(error, "msg", "a value that JSON does not have")
        raise NotAJob("not_json", f"The message is not JSON: {reason}.", _HINT) from None
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _enclosed(value: object) -> str | None:
    """Return what SNS has put into its envelope; None for what is no envelope."""
    if isinstance(value, Mapping) and value.get("Type") == "Notification" and "TopicArn" in value:
        message = value.get("Message")
        return message if isinstance(message, str) else None
    return None


# What S3 tells ------------------------------------------------------------------------------------------


def _from_notification(records: list[Any]) -> Iterator[Job]:
    """Yield a job for each file that has come, as S3's own notifications tell of it."""
    if len(records) > MAX_RECORDS:
        raise NotAJob("too_large", f"The notification tells of {len(records)} files.")
    for record in records:
        if not isinstance(record, Mapping) or not isinstance(record.get("s3"), Mapping):
            raise NotAJob("not_a_job", "A record of the notification is none of S3's.", _HINT)
        if not str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated"):
            continue
        bucket, stored = record["s3"].get("bucket"), record["s3"].get("object")
        if not isinstance(bucket, Mapping) or not isinstance(stored, Mapping):
            raise NotAJob("not_a_job", "A record of the notification names no file.", _HINT)
        key = stored.get("key")
        # The key is written as in a form: blanks are plus signs.
        yield _of_file(bucket.get("name"), unquote_plus(key) if isinstance(key, str) else key, stored)


def _from_event_bridge(event: Mapping[str, Any]) -> Iterator[Job]:
    """Yield the job of an event that came by EventBridge, whose keys are written as they are."""
    detail = event["detail"]
    if event.get("detail-type") != "Object Created":
        return
    bucket, stored = detail.get("bucket"), detail.get("object")
    if not isinstance(bucket, Mapping) or not isinstance(stored, Mapping):
        raise NotAJob("not_a_job", "The event names no file.", _HINT)
    yield _of_file(bucket.get("name"), stored.get("key"), stored)


def _of_file(bucket: object, key: object, stored: Mapping[str, Any]) -> Job:
    if not isinstance(bucket, str) or not isinstance(key, str) or not bucket or not key:
        raise NotAJob("not_a_job", "The notification names no bucket or no key.", _HINT)
    version = next(
        (stored[name] for name in ("versionId", "version-id") if isinstance(stored.get(name), str)), None
    )
    # The same file put again is another job.
    state = version or next((stored[name] for name in ("sequencer", "eTag", "etag") if stored.get(name)), "")
    url = f"s3://{bucket}/{quote(key)}" + (f"?versionId={quote(version)}" if version else "")
    return Job(job_id=f"{bucket}/{key}#{state}"[:MAX_ID], audio_url=url, rest={"bucket": bucket, "key": key})
