"""A receiver of webhooks that remembers ids, and fails by chance: what the suite `webhooks` delivers to."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

ANSWERS = ("200", "200", "500", "reset", "kept, then reset")
"""What the receiver picks from. `kept, then reset` has had its effect, but the server does not hear of it."""
MOST_FAILURES = 2
"""Tries of one delivery that may be failed: the third wait, two minutes, would prove nothing more."""
LONGEST_HOLD = 0.15
"""Seconds for which the receiver may keep a request before it answers, so that kills fall between."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that came to the receiver, and what it did."""

    webhook_id: str
    session: str
    """Empty where the signature did not hold."""
    answer: str
    effect: bool
    """Whether it was the first of its id that was kept."""
    digest: str
    """Of the body."""
    revision: int | None = None


def answer_to(seed: int, session_number: int, tries_before: int) -> tuple[str, float]:
    """Return what the receiver does with a try, and after how many seconds.

    It depends on nothing else, so that a run with the same seed meets the same receiver.
    """
    chance = random.Random(f"{seed} {session_number} {tries_before}")
    answer = chance.choice(ANSWERS) if tries_before < MOST_FAILURES else "200"
    return answer, chance.uniform(0.0, LONGEST_HOLD)


class Receiver:
    """Verifies, remembers ids, and answers by chance.

    Its memory outlives every server: an id that was kept has its effect once.
    """

    def __init__(self, secret: str, seed: int) -> None:
        self.requests: list[Request] = []
        self.arrived = asyncio.Event()
        """Set at each request; who waits clears it."""
        self._webhook = Webhook(secret)
        self._seed = seed
        self._kept: set[str] = set()
        self._tries: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection; whoever dies at its other end is no error here."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            pairs = (line.split(":", 1) for line in head.strip().split("\r\n")[1:])
            headers = {name.lower(): value.strip() for name, value in pairs}
            body = await reader.readexactly(int(headers["content-length"]))
            self.arrived.set()
            await self._answer(headers, body, writer)
        writer.close()

    async def _answer(self, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter) -> None:
        webhook_id, digest = headers.get("webhook-id", ""), hashlib.sha256(body).hexdigest()
        try:
            told = self._webhook.verify(body, headers)
        except (WebhookVerificationError, ValueError):
            self.requests.append(Request(webhook_id, "", "400", False, digest))
            return await _send(writer, 400)
        answer, hold = answer_to(self._seed, told.get("number", -1), self._tries[webhook_id])
        self._tries[webhook_id] += 1
        if webhook_id in self._kept:
            answer = "200"
        effect = answer in ("200", "kept, then reset") and webhook_id not in self._kept
        if effect:
            self._kept.add(webhook_id)
        found = Request(webhook_id, told["sessionId"], answer, effect, digest, told["revision"])
        self.requests.append(found)
        await asyncio.sleep(hold)
        if answer.isdigit():
            return await _send(writer, int(answer))
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return None


async def _send(writer: asyncio.StreamWriter, status: int) -> None:
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()


@contextlib.asynccontextmanager
async def receiving(receiver: Receiver) -> AsyncIterator[str]:
    """Listen for as long as the block lasts; yields the URL."""
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()
