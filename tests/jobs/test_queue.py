"""The queue itself: hidden and given back, put aside with a reason, and what none of AWS's settings loses."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread

import boto3
import pytest
from botocore.config import Config

from benchmarks.aws import REGION, Aws
from live_asr.config.settings import JobsSettings
from live_asr.jobs.queue import Message, Queue, QueueError, region_of

Open = Callable[..., Queue]


@pytest.fixture
def opened(cloud: Aws, queue: str) -> Iterator[Open]:
    """Open the queue with settings."""
    with ExitStack() as stack:

        def open_queue(**settings: object) -> Queue:
            given = {"queue_url": queue, "poll_wait": 0, "visibility": 600, **settings}
            found = Queue(cloud.sqs, JobsSettings.model_validate(given))
            stack.callback(found.close)
            return found

        yield open_queue


async def received(queue: Queue) -> Message:
    message = await queue.receive()
    assert message is not None
    return message


async def test_a_message_is_hidden_until_it_is_given_back_or_deleted(
    cloud: Aws, queue: str, opened: Open
) -> None:
    found = opened()
    sent = cloud.send(queue, "hello")
    message = await received(found)
    assert (message.id, message.body, message.receives) == (sent, "hello", 1)
    assert 0 <= message.age < 60
    assert await found.receive() is None
    await found.release(message)
    again = await received(found)
    assert again.receives == 2
    await found.delete(again)
    assert cloud.counts(queue) == (0, 0)


async def test_a_message_is_renewed_for_as_long_as_it_is_held(cloud: Aws, queue: str, opened: Open) -> None:
    cloud.send(queue, "hello")
    short, other = opened(visibility=2), opened(poll_wait=5)
    message = await received(short)
    async with short.held(message):
        assert await other.receive() is None, "for five seconds, and it was hidden for two"
    assert await other.receive() is not None


@contextmanager
def dead_line(cloud: Aws) -> Iterator[str]:
    """Give a way to the cloud whose first connection is never answered."""
    port = int(cloud.url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as stack:

        def carry(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while piece := source.recv(65_536):
                    target.sendall(piece)
                target.shutdown(socket.SHUT_WR)

        def serve() -> None:
            with suppress(OSError):
                stack.enter_context(listening.accept()[0])
                while True:
                    near = stack.enter_context(listening.accept()[0])
                    far = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                    Thread(target=carry, args=(near, far), daemon=True).start()
                    Thread(target=carry, args=(far, near), daemon=True).start()

        Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


async def test_a_beat_on_a_dead_line_leaves_time_for_another(cloud: Aws, queue: str, opened: Open) -> None:
    cloud.send(queue, "hello")
    other = opened(poll_wait=8)
    with dead_line(cloud) as url:
        settings = JobsSettings.model_validate({"queue_url": queue, "visibility": 6, "poll_wait": 0})
        sqs = boto3.client(
            "sqs",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(retries={"total_max_attempts": 1}),
        )
        beating = Queue(sqs, settings, cloud.sqs)
        message = await received(beating)
        async with beating.held(message):
            assert await other.receive() is None, "for eight seconds, and it was hidden for six"
        beating.close()


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_what_is_put_aside_says_why(cloud: Aws, queue: str, dlq: str, opened: Open, size: int) -> None:
    found = opened(dlq_url=dlq)
    message = Message("m", "x" * size, "none", 1, 0.0)
    with pytest.raises(QueueError):  # the receipt is none; it is in the other queue by then
        await found.put_aside(message, "not_json", "It is \x00 rubbish. " + "y" * 5000)
    (dead,) = cloud.take(dlq)
    assert dead["Body"] and set(dead["Body"]) == {"x"}
    attributes = {name: value["StringValue"] for name, value in dead["MessageAttributes"].items()}
    assert (attributes["ErrorCode"], attributes["MessageId"]) == ("not_json", "m")
    assert attributes["ErrorMessage"].startswith("It is � rubbish. y")
    assert len(attributes["ErrorMessage"]) == 1000


async def test_without_another_queue_the_redrive_policy_takes_it_and_without_that_it_is_deleted(
    cloud: Aws, queue: str, dlq: str, opened: Open
) -> None:
    found = opened()
    await found.look()
    assert found.redrive is None
    cloud.send(queue, "rubbish")
    await found.put_aside(await received(found), "not_json", "It is rubbish.")
    assert cloud.counts(queue) == (0, 0)

    policy = json.dumps({"deadLetterTargetArn": cloud.arn(dlq), "maxReceiveCount": 2})
    cloud.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": policy})
    await found.look()
    assert found.redrive is not None and found.redrive.max_receives == 2
    cloud.send(queue, "rubbish")
    for _ in range(2):
        await found.put_aside(await received(found), "not_json", "It is rubbish.")
    assert await found.receive() is None
    assert [dead["Body"] for dead in cloud.take(dlq)] == ["rubbish"]


@pytest.mark.parametrize(("granted", "is_warned"), [(3, True), (4, False)])
async def test_a_redrive_policy_that_leaves_no_receive_to_tell_of_is_warned_of(
    cloud: Aws,
    queue: str,
    dlq: str,
    opened: Open,
    caplog: pytest.LogCaptureFixture,
    granted: int,
    is_warned: bool,
) -> None:
    policy = json.dumps({"deadLetterTargetArn": cloud.arn(dlq), "maxReceiveCount": granted})
    cloud.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": policy})
    await opened(max_receives=3).look()
    assert ("maxReceiveCount" in caplog.text) == is_warned


async def test_a_queue_that_there_is_not_is_said(cloud: Aws, opened: Open) -> None:
    missing = opened(queue_url=f"{cloud.url}/123456789012/none")
    for work in (missing.look, missing.receive):
        with pytest.raises(QueueError) as caught:
            await work()
        assert "NonExistentQueue" in caught.value.message or "QueueDoesNotExist" in caught.value.message


def test_the_region_is_read_from_the_queue_s_address() -> None:
    assert region_of("https://sqs.ap-southeast-1.amazonaws.com/1/asr") == "ap-southeast-1"
    assert region_of("https://eu-west-1.queue.amazonaws.com/1/asr") == "eu-west-1"
    assert region_of("http://localhost:4566/1/asr") is None
