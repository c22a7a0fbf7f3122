"""S3 and SQS on loopback, in a process of their own: moto's server, asked by boto3 as AWS is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET = "recordings"
REGION = "ap-southeast-1"
NOBODY = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@dataclass(frozen=True)
class Aws:
    """A cloud of one's own."""

    url: str
    sqs: Any
    s3: Any

    def queue(self, name: str, **attributes: str) -> str:
        """Make a queue; return its URL."""
        url: str = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def arn(self, queue_url: str) -> str:
        """Return the name of a queue all over AWS."""
        found = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        arn: str = found["Attributes"]["QueueArn"]
        return arn

    def put(self, key: str, content: bytes) -> str:
        """Put a file into the bucket; return its s3:// URL."""
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def send(self, queue_url: str, message: object) -> str:
        """Send a message, an object as JSON; return its id."""
        body = message if isinstance(message, str) else json.dumps(message)
        sent: str = self.sqs.send_message(QueueUrl=queue_url, MessageBody=body)["MessageId"]
        return sent

    def counts(self, queue_url: str) -> tuple[int, int]:
        """Return how many messages wait in a queue, and how many are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def take(self, queue_url: str, count: int = 10) -> list[dict[str, Any]]:
        """Take messages out of a queue, for good."""
        taken: list[dict[str, Any]] = []
        while len(taken) < count:
            found = self.sqs.receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                AttributeNames=["All"],
            ).get("Messages", [])
            if not found:
                break
            for message in found:
                self.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
            taken += found
        return taken

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs in its environment to find it."""
        return {**NOBODY, "AWS_ENDPOINT_URL": self.url, "AWS_REGION": REGION, "AWS_S3_BUCKET": BUCKET}


@contextmanager
def aws(folder: Path) -> Iterator[Aws]:
    """Run S3 and SQS for as long as the block lasts. Raises RuntimeError where they do not start."""
    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "moto.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **NOBODY},
        )
    try:
        _wait(process, port, log)
        at = {
            "endpoint_url": f"http://127.0.0.1:{port}",
            "region_name": REGION,
            "aws_access_key_id": "testing",
            "aws_secret_access_key": "testing",
        }
        s3 = boto3.client("s3", **at)
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield Aws(at["endpoint_url"], boto3.client("sqs", **at), s3)
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)  # between two looks at another process
        else:
            return
    raise RuntimeError(f"moto did not start:\n{log.read_text()}")
