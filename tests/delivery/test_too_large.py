"""Results that are larger than a receiver takes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from standardwebhooks import Webhook

from live_asr.core.messages import Final, FinalSegment, Start, WireWord
from live_asr.delivery.webhook import webhook_body
from live_asr.storage.database import Database
from tests.delivery.running_sender import BODY, SECRET, sending

MEGABYTE = 1_000_000
LINKS = {"json": "https://captions.example/v1/sessions/a1/transcript.json"}


@dataclass
class Bounded:
    """A receiver that refuses a body by its announced length, as nginx does, without reading it."""

    most_bytes: int = MEGABYTE
    url: str = ""
    refused_bytes: list[int] = field(default_factory=list)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")[1:]
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        size = int(headers["content-length"])
        if size > self.most_bytes:
            self.refused_bytes.append(size)
            writer.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        else:
            self.taken.append((headers, await reader.readexactly(size)))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def bounded(most_bytes: int = MEGABYTE) -> AsyncIterator[Bounded]:
    receiver = Bounded(most_bytes)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()


def talk_of_eight_hours() -> bytes:
    """Return what is told of 8 hours of speech."""
    words = tuple(WireWord(f" word{n}", n * 0.4, n * 0.4 + 0.3, 0.9, "SPEAKER_00") for n in range(12))
    text = "".join(word.text for word in words)
    segments = tuple(FinalSegment(n * 5.0, n * 5.0 + 4.8, "SPEAKER_00", text, words) for n in range(8 * 720))
    final = Final(
        seq=1,
        revision=1,
        duration=28_800.0,
        language="en",
        text=text * len(segments),
        segments=segments,
        speakers=(),
        links={},
        labels="full",
    )
    start = Start(metadata={"jobId": 7})
    return webhook_body(session_id="a1", start=start, final=final, turns=(), error=None, processing_time=1.0)


async def test_a_receiver_that_answers_413_gets_a_notice_with_links_at_once(database: Database) -> None:
    body = talk_of_eight_hours()
    assert len(body) > MEGABYTE
    async with bounded() as receiver, sending(database, links=lambda _: LINKS) as run:
        run.add(receiver.url, body=body)
        refused = await run.next_try()
        assert (refused.state, refused.last_status) == ("pending", 413)
        assert refused.last_error == "It answered 413: a notice with links is sent instead."
        delivered = await run.next_try()
        assert (delivered.id, delivered.state, delivered.attempts) == (refused.id, "delivered", 2)
        assert receiver.refused_bytes == [len(body)]
        ((headers, sent),) = receiver.taken
        assert headers["webhook-id"] == delivered.id
        told = Webhook(SECRET).verify(sent, headers)
        assert told == {
            **json.loads(body),
            "transcript": "",
            "segments": [],
            "tooLarge": {"bytes": len(body), "links": LINKS},
        }
        assert (told["sessionId"], told["jobId"], told["status"]) == ("a1", 7, "success")
        assert len(sent) < 2_000


async def test_a_receiver_that_refuses_the_notice_too_is_tried_as_any_other(database: Database) -> None:
    async with bounded(most_bytes=10) as receiver, sending(database, links=lambda _: LINKS) as run:
        run.add(receiver.url, body=BODY)
        await run.next_try()
        delivery = await run.next_try()
        waits = []
        while delivery.state == "pending":
            assert delivery.last_error == "It answered 413."
            waits.append(round(delivery.next_at - run.clock.now))
            run.clock.now = delivery.next_at
            run.sender.wake()
            delivery = await run.next_try()
        assert delivery.state == "dead"
        assert waits == [30, 120, 600, 3600, 21600]
