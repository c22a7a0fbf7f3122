"""An SQS queue: messages taken one by one, hidden from others for as long as they are worked on.

boto3's calls block, so each runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from live_asr.config.settings import JobsSettings
from live_asr.core.errors import ConfigError, LiveAsrError

log = logging.getLogger(__name__)

T = TypeVar("T")
QUEUE_HOST = re.compile(r"https?://(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com")
DEFAULT_REGION = "us-east-1"
MAX_REASON = 1000
"""Characters of a reason that goes with a message."""
SHORTENED = 50_000
"""Characters that are kept of a message which is too large to be put aside: queues take 256 KiB or more."""
BEATS = 3
"""So often a message is renewed in the time for which it is hidden."""
READ_TIMEOUT = 10
"""Seconds that SQS has to answer what it can answer at once."""
WITHOUT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that SQS takes in no message."""


class QueueError(LiveAsrError):
    """The queue did not do what it was asked for."""

    code = "queue"


@dataclass(frozen=True, slots=True)
class Message:
    """One receive of a message."""

    id: str
    body: str = field(repr=False)
    receipt: str = field(repr=False)
    receives: int
    """So often it has been received, this time included."""
    sent_at: float
    """Unix time in seconds."""

    @property
    def age(self) -> float:
        """Seconds since it was sent."""
        return max(0.0, time.time() - self.sent_at)


@dataclass(frozen=True, slots=True)
class Redrive:
    """What the queue itself does with messages that come again and again."""

    max_receives: int


def clients(settings: JobsSettings) -> tuple[Any, Any, Any]:
    """Return boto3's clients of SQS, of SQS for receives, which take long, and of S3. Asks nothing of them.

    Raises ConfigError where boto3 is not installed, or finds the settings wrong.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise ConfigError(
            "The queue's packages are not installed.", 'pip install "live-asr[server,jobs]"'
        ) from error
    region = settings.region or region_of(settings.queue_url or "")
    patient = {"connect_timeout": 10, "retries": {"mode": "standard", "max_attempts": 4}}
    try:
        session = boto3.session.Session()
        region = region or session.region_name or DEFAULT_REGION
        connections = 4 * settings.lanes + 4
        sqs, receiving = (
            session.client(
                "sqs",
                region_name=region,
                config=Config(read_timeout=seconds, max_pool_connections=connections, **patient),
            )
            for seconds in (READ_TIMEOUT, settings.poll_wait + 15)
        )
        # Another store than AWS's is seldom reached by a name of its own for each bucket.
        style = {} if ".amazonaws.com" in sqs.meta.endpoint_url else {"addressing_style": "path"}
        s3 = session.client(
            "s3",
            region_name=region,
            config=Config(read_timeout=30, max_pool_connections=connections, s3=style, **patient),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(
            f"boto3 refuses the settings: {error}", "Check jobs.region and AWS_ENDPOINT_URL."
        ) from error
    return sqs, receiving, s3


def region_of(queue_url: str) -> str | None:
    """Return the region that the URL of a queue names; None where it names none."""
    found = QUEUE_HOST.match(queue_url)
    return None if found is None else found[1] or found[2]


class Queue:
    """A queue that jobs come from, and the one that takes what cannot be done.

    `receiving` is the client for receives, where that is another one.
    """

    def __init__(self, sqs: Any, settings: JobsSettings, receiving: Any | None = None) -> None:
        assert settings.queue_url is not None
        self._sqs = sqs
        self._receiving = receiving or sqs
        self.url = settings.queue_url
        self._dlq_url = settings.dlq_url
        self._wait = settings.poll_wait
        self.visibility = settings.visibility
        self._receivers = ThreadPoolExecutor(settings.lanes, "queue")
        # A receive takes its thread for twenty seconds, and heartbeats must not wait for it.
        self._threads = ThreadPoolExecutor(2 * settings.lanes + 2, "messages")
        self._max_receives = settings.max_receives
        self.redrive: Redrive | None = None

    async def look(self) -> None:
        """See that the queue is there, and what it does by itself. Raises QueueError."""
        answer = await self._call(
            partial(self._sqs.get_queue_attributes, QueueUrl=self.url, AttributeNames=["All"])
        )
        policy = answer.get("Attributes", {}).get("RedrivePolicy")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            self.redrive = Redrive(int(json.loads(policy)["maxReceiveCount"])) if policy else None
        if self.redrive is not None and self.redrive.max_receives <= self._max_receives:
            log.warning(
                "the queue's redrive policy takes a job after %d receives: nobody is told of one that kills "
                "its worker each time; let maxReceiveCount be larger than jobs.max_receives, which is %d",
                *(self.redrive.max_receives, self._max_receives),
            )

    async def depth(self) -> int:
        """Return about how many messages wait. Raises QueueError."""
        name = "ApproximateNumberOfMessages"
        answer = await self._call(
            partial(self._sqs.get_queue_attributes, QueueUrl=self.url, AttributeNames=[name])
        )
        return int(answer.get("Attributes", {}).get(name, 0))

    async def receive(self) -> Message | None:
        """Wait for a message, for as long as a receive takes; None where none came. Raises QueueError.

        What a cancelled call may still bring is given back by itself once it is there.
        """
        work = asyncio.ensure_future(self._call(self._receive, self._receivers))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            with contextlib.suppress(QueueError):
                late = await work
                if late is not None:
                    await self.release(late)
            raise

    def _receive(self) -> Message | None:
        answer = self._receiving.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=self._wait,
            VisibilityTimeout=self.visibility,
            AttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
        )
        for found in answer.get("Messages", ()):
            attributes = found.get("Attributes", {})
            return Message(
                found["MessageId"],
                found["Body"],
                found["ReceiptHandle"],
                int(attributes.get("ApproximateReceiveCount", 1)),
                int(attributes.get("SentTimestamp", time.time() * 1000)) / 1000,
            )
        return None

    @asynccontextmanager
    async def held(self, message: Message) -> AsyncIterator[None]:
        """Keep a message hidden for as long as the block lasts."""
        beating = asyncio.create_task(self._beat(message), name=f"heartbeat {message.id}")
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self, message: Message) -> None:
        pause = self.visibility / BEATS
        while True:
            await asyncio.sleep(pause)
            # On a line that is dead, too, there is time for two more tries.
            pause = self.visibility / (4 * BEATS)
            try:
                async with asyncio.timeout(self.visibility / (2 * BEATS)):
                    await self._hide(message, self.visibility)
            except TimeoutError:
                log.warning("message %s could not be renewed: SQS does not answer", message.id)
            except QueueError as error:  # what it cannot renew another worker gets, and does: one effect
                log.warning("message %s could not be renewed: %s", message.id, error.message)
            else:
                pause = self.visibility / BEATS

    async def _hide(self, message: Message, seconds: int) -> None:
        await self._call(
            partial(
                self._sqs.change_message_visibility,
                QueueUrl=self.url,
                ReceiptHandle=message.receipt,
                VisibilityTimeout=seconds,
            )
        )

    async def release(self, message: Message, after: float = 0.0) -> None:
        """Give a message back, to be received by anybody after so many seconds.

        Never raises: it comes back by itself.
        """
        try:
            await self._hide(message, round(after))
        except QueueError as error:
            log.warning("message %s could not be given back: %s", message.id, error.message)

    async def delete(self, message: Message) -> None:
        """Delete a message. Raises QueueError."""
        await self._call(partial(self._sqs.delete_message, QueueUrl=self.url, ReceiptHandle=message.receipt))

    async def put_aside(self, message: Message, code: str, reason: str) -> None:
        """Have a message go where it is looked at by people, with the reason. Raises QueueError.

        That is the other queue, where one is set; else it is given back, as often as the queue's redrive
        policy wants; where there is none either, it is deleted.
        """
        if self._dlq_url is not None:
            text = WITHOUT_XML.sub("\ufffd", reason)[:MAX_REASON]
            attributes = {
                name: {"DataType": "String", "StringValue": value}
                for name, value in (
                    ("ErrorCode", code),
                    ("ErrorMessage", text or code),
                    ("MessageId", message.id),
                )
            }
            sent: dict[str, Any] = {"MessageBody": message.body, "MessageAttributes": attributes}
            try:
                await self._call(partial(self._sqs.send_message, QueueUrl=self._dlq_url, **sent))
            except QueueError as error:
                if "InvalidParameterValue" not in error.message or len(message.body) <= SHORTENED:
                    raise
                # With its reason it has outgrown what the other queue takes.
                sent["MessageBody"] = message.body[:SHORTENED]
                await self._call(partial(self._sqs.send_message, QueueUrl=self._dlq_url, **sent))
            await self.delete(message)
        elif self.redrive is not None:
            await self.release(message)
        else:
            log.error("message %s is deleted, since there is no other queue for it: %s", message.id, reason)
            await self.delete(message)

    async def _call(self, work: Callable[[], T], threads: ThreadPoolExecutor | None = None) -> T:
        from botocore.exceptions import BotoCoreError
        from botocore.exceptions import ClientError as AnsweredError

        try:
            return await asyncio.get_running_loop().run_in_executor(threads or self._threads, work)
        except AnsweredError as error:
            told = error.response.get("Error", {})
            raise QueueError(f"SQS answered {told.get('Code')}: {told.get('Message')}") from error
        except (BotoCoreError, OSError) as error:
            raise QueueError(f"SQS cannot be reached: {error}") from error

    def close(self) -> None:
        """Let its threads end. Idempotent."""
        self._receivers.shutdown(wait=False, cancel_futures=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
