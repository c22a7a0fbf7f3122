"""A viewer that records what it is sent, for tests of the real server over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from talking import TIMEOUT

Message = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One event: its id, where it has one, and the message."""

    id: int | None
    message: Message


class Watcher:
    """One stream of events."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.seen: list[Event] = []
        self.comments = 0
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def until(self, wanted: Callable[[Message], bool]) -> Message:
        """Return the first message for which this holds; also if it came before."""
        async with asyncio.timeout(TIMEOUT):
            while not any(wanted(event.message) for event in self.seen):
                if self._reading.done():
                    raise ConnectionError(f"the stream ended after {self.seen[-3:]}")
                self._changed.clear()
                await self._changed.wait()
        return next(event.message for event in self.seen if wanted(event.message))

    async def until_type(self, kind: str) -> Message:
        """Return the first message of this type."""
        return await self.until(lambda message: message["type"] == kind)

    async def ended(self) -> None:
        """Wait until the server has ended the stream."""
        async with asyncio.timeout(TIMEOUT):
            await self._reading

    @property
    def kept(self) -> list[Message]:
        """The kept messages so far."""
        return [event.message for event in self.seen if event.id is not None]

    @property
    def ids(self) -> list[int]:
        """The ids so far."""
        return [event.id for event in self.seen if event.id is not None]

    def all(self, kind: str) -> list[Message]:
        """Return all messages of a type so far."""
        return [event.message for event in self.seen if event.message["type"] == kind]

    async def _read(self) -> None:
        event_id: int | None = None
        try:
            async for line in self.answer.aiter_lines():
                if line.startswith("id: "):
                    event_id = int(line[4:])
                elif line.startswith("data: "):
                    self.seen.append(Event(event_id, json.loads(line[6:])))
                elif line.startswith(":"):
                    self.comments += 1
                elif not line:
                    event_id = None
                self._changed.set()
        except httpx.TransportError:
            pass
        finally:
            self._changed.set()

    async def leave(self) -> None:
        """Read no more."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


@asynccontextmanager
async def watch(url: str, session: str, **options: Any) -> AsyncIterator[Watcher]:
    """Watch a session; `options` are those of a request, such as headers and params."""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client,
        client.stream("GET", f"{url}/v1/sessions/{session}/events", **options) as answer,
    ):
        watcher = Watcher(answer)
        try:
            yield watcher
        finally:
            await watcher.leave()
