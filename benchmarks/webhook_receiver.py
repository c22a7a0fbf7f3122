"""A receiver of webhooks that remembers ids, and fails by chance: what the suite `webhooks` delivers to."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

ANSWERS = ("200", "200", "500", "reset", "kept, then reset")
"""What the receiver picks from. `kept, then reset` has had its effect, but the server does not hear of it."""
RARE_ANSWERS = ("429", "410", "redirect", "hang")
"""What is worth a few tries: a receiver that wants time, wants no more, sends us on, or never answers."""
ALL_ANSWERS = (*ANSWERS, *ANSWERS, *RARE_ANSWERS)
MAX_FAILURES = 2
"""Tries of one delivery that may be failed: the third wait, two minutes, would prove nothing more."""
EFFECTS = ("200", "kept, then reset", "410")
"""Answers after which the receiver has made up its mind about an id."""
RETRY_AFTER = 8
"""Seconds asked for by a 429: longer than the first wait would be."""
HOOK, ELSEWHERE = "/hook", "/elsewhere"
"""Where deliveries go, and where a redirect leads."""
FOLLOWED = "404"
"""The answer to one that was sent there all the same."""
MAX_HOLD = 0.15
"""Seconds for which the receiver may keep a request before it answers, so that kills fall between."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that came to the receiver, and what it did."""

    webhook_id: str
    session: str
    """Empty where the signature did not hold."""
    answer: str
    effect: bool
    """Whether it was the first of its id that was kept, or refused for good: that, too, is to be told."""
    digest: str
    """Of the body."""
    revision: int | None = None
    labels: str | None = None


def answer_to(
    seed: int, session_number: int, tries_before: int, answers: Sequence[str] = ANSWERS
) -> tuple[str, float]:
    """Return what the receiver does with a try, and after how many seconds.

    It depends on nothing else, so that a run with the same seed meets the same receiver.
    """
    chance = random.Random(f"{seed} {session_number} {tries_before}")
    answer = chance.choice(answers) if tries_before < MAX_FAILURES else "200"
    return answer, chance.uniform(0.0, MAX_HOLD)


class Receiver:
    """Verifies, remembers ids, and answers by chance.

    Its memory outlives every server: an id that was kept has its effect once, and one that was refused with
    410 is refused again.
    """

    def __init__(self, secret: str, seed: int, answers: Sequence[str] = ANSWERS) -> None:
        self.requests: list[Request] = []
        self.arrived = asyncio.Event()
        """Set at each request; who waits clears it."""
        self._webhook = Webhook(secret)
        self._seed = seed
        self._answers = answers
        self._settled: dict[str, str] = {}
        """Id → what is answered from its effect on."""
        self._tries: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection; whoever dies at its other end is no error here."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            pairs = (line.split(":", 1) for line in lines)
            headers = {name.lower(): value.strip() for name, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.arrived.set()
            answer, hold = self._take(first.split()[1], headers, body)
            await asyncio.sleep(hold)
            if answer == "hang":
                await reader.read()  # until the other side has had enough, or is dead
            elif answer.endswith("reset"):
                connection: socket.socket = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            elif answer == "redirect":
                # 307: who follows it sends all of it again.
                await _send(writer, "307", f"Location: http://{headers['host']}{ELSEWHERE}")
            elif answer == "429":
                await _send(writer, answer, f"Retry-After: {RETRY_AFTER}")
            else:
                await _send(writer, answer)
        writer.close()

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[str, float]:
        """Note a request, and return what is answered after how many seconds."""
        webhook_id, digest = headers.get("webhook-id", ""), hashlib.sha256(body).hexdigest()
        try:
            told = self._webhook.verify(body, headers)
        except (WebhookVerificationError, ValueError):
            self.requests.append(Request(webhook_id, "", "400", False, digest))
            return "400", 0.0
        number, tries = told.get("number", -1), self._tries[webhook_id]
        answer, hold = answer_to(self._seed, number, tries, self._answers)
        self._tries[webhook_id] += 1
        answer = self._settled.get(webhook_id, answer)
        if path != HOOK:
            answer, hold = FOLLOWED, 0.0
        effect = answer in EFFECTS and webhook_id not in self._settled
        if effect:
            self._settled[webhook_id] = "410" if answer == "410" else "200"
        found = Request(
            webhook_id,
            told["sessionId"],
            answer,
            effect,
            digest,
            told["revision"],
            told.get("metadata", {}).get("labels"),
        )
        self.requests.append(found)
        return answer, hold


async def _send(writer: asyncio.StreamWriter, status: str, *more: str) -> None:
    lines = (f"HTTP/1.1 {status} X", "Content-Length: 0", "Connection: close", *more, "", "")
    writer.write("\r\n".join(lines).encode())
    await writer.drain()


@contextlib.asynccontextmanager
async def receiving(receiver: Receiver) -> AsyncIterator[str]:
    """Listen for as long as the block lasts; yields the URL."""
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{HOOK}"
    finally:
        server.close()
