"""One client session, recorded: what was sent when, what came back when, and how pings fared."""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import websockets
from websockets.asyncio.client import ClientConnection

from benchmarks.base.speech import RATE_HZ, Clip

CHUNK_SAMPLES = RATE_HZ // 10
"""100 ms, as a microphone delivers it."""
BYTES_PER_SAMPLE = 2
PING_INTERVAL = 0.25
"""Seconds between two pings."""
REPLY_TIMEOUT = 120.0
"""Longest wait for `ready`, for an acknowledgement, and for `stopped` after the end in real time, seconds."""
FULL_PASS_TIMEOUT = 1800.0
"""Longest wait for `final` after `stopped`, seconds: the full pass may wait for its turn."""

Pace = Literal["realtime", "fast"]
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message and when it came."""

    time: float
    """`time.perf_counter()`, seconds."""
    size_bytes: int
    """Of the JSON, before any compression."""
    message: Message


@dataclass(slots=True)
class SessionLog:
    """Everything that one session's client saw; all times are `time.perf_counter()` seconds."""

    clip: Clip
    started: float = 0.0
    """The `start` message went out."""
    sent_ends: list[int] = field(default_factory=list)
    """One past the last sample of each chunk."""
    sent_times: list[float] = field(default_factory=list)
    """When that chunk was sent."""
    lateness: float = 0.0
    """The worst delay of a chunk behind its schedule, seconds: the client's own fault, not the server's."""
    stop_time: float = 0.0
    """The end of the audio: `stop` went out."""
    arrivals: list[Arrival] = field(default_factory=list)
    pings: list[float] = field(default_factory=list)
    """Round trips, seconds."""
    ping_times: list[float] = field(default_factory=list)
    """When each of them went out."""
    close_code: int | None = None
    failure: str | None = None
    """What went wrong, in words; None where the session ended with `stopped` and close code 1000."""

    def sent_at(self, end: float) -> float:
        """Return when the sample that ends at `end` (seconds of the clip) was sent."""
        chunk = bisect_left(self.sent_ends, round(end * RATE_HZ))
        return self.sent_times[min(chunk, len(self.sent_times) - 1)]

    def of_type(self, kind: str) -> list[Arrival]:
        """Return the arrivals of one message type, in order."""
        return [arrival for arrival in self.arrivals if arrival.message.get("type") == kind]

    def first(self, kind: str) -> Arrival | None:
        """Return the first arrival of a type, None where there is none."""
        return next(iter(self.of_type(kind)), None)


class Recorder:
    """Play one clip to the server and record the session."""

    def __init__(
        self,
        url: str,
        clip: Clip,
        *,
        pace: Pace = "realtime",
        language: str | None = None,
        start: Message | None = None,
        token: str | None = None,
        pings: bool = True,
    ) -> None:
        self.url = url
        self.pace = pace
        self._pings = pings
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.log = SessionLog(clip)
        # Suites that measure what is live do without the full pass; `start` may ask for it, and for more.
        self._start: Message = {
            "type": "start",
            "language": language,
            "pace": pace,
            "final_pass": False,
            **(start or {}),
        }
        self._ready = asyncio.Event()
        self._stopped = asyncio.Event()
        self._closed = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._acknowledged_bytes = 0
        self._window_bytes = 0

    async def run(self) -> SessionLog:
        """Play the clip to its end and wait for `stopped`, `final` and the close.

        A refused, failed or cut session is no exception: `failure` in the log says what happened.
        """
        log = self.log
        try:
            async with websockets.connect(
                self.url, max_size=None, ping_interval=None, additional_headers=self._headers
            ) as socket:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._receive(socket))
                    pinging = tasks.create_task(self._ping(socket))
                    tasks.create_task(self._play(socket, pinging))
                log.close_code = socket.close_code
        except* (OSError, websockets.WebSocketException, TimeoutError) as group:
            log.failure = "; ".join(f"{type(error).__name__}: {error}" for error in group.exceptions)
        self._closed.set()  # also where it was never open
        error = log.first("error")
        if error is not None:
            log.failure = f"{error.message.get('code')}: {error.message.get('message')}"
        elif log.failure is None and log.first("stopped") is None:
            log.failure = f"closed with {log.close_code} before `stopped`"
        elif log.failure is None and log.close_code != 1000:
            log.failure = f"closed with {log.close_code}, not 1000"
        return log

    async def stopped(self) -> None:
        """Wait until the live transcript is complete, or the session has ended otherwise."""
        await self._wait(self._stopped, FULL_PASS_TIMEOUT)

    async def _play(self, socket: ClientConnection, pinging: asyncio.Task[None]) -> None:
        log = self.log
        try:
            log.started = time.perf_counter()
            await socket.send(orjson.dumps(self._start).decode())
            await self._wait(self._ready)
            await (self._play_realtime(socket) if self.pace == "realtime" else self._play_fast(socket))
            log.stop_time = time.perf_counter()
            await socket.send('{"type":"stop"}')
            # A file may be with the server long before it is transcribed.
            await self._wait(self._stopped, FULL_PASS_TIMEOUT if self.pace == "fast" else REPLY_TIMEOUT)
            pinging.cancel()
            await self._wait(self._closed, FULL_PASS_TIMEOUT)
        except websockets.ConnectionClosed:
            pass  # the reader knows why
        finally:
            pinging.cancel()
            await socket.close()

    async def _play_realtime(self, socket: ClientConnection) -> None:
        """Send each chunk when its last sample would have been recorded, on an absolute schedule."""
        log = self.log
        begin = time.perf_counter()
        for first in range(0, len(log.clip.audio), CHUNK_SAMPLES):
            chunk = log.clip.audio[first : first + CHUNK_SAMPLES]
            due = begin + (first + len(chunk)) / RATE_HZ
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            log.lateness = max(log.lateness, time.perf_counter() - due)
            await self._send(socket, first, chunk.tobytes())

    async def _play_fast(self, socket: ClientConnection) -> None:
        """Send as fast as acknowledgements allow."""
        sent_bytes = 0
        for first in range(0, len(self.log.clip.audio), CHUNK_SAMPLES):
            body = self.log.clip.audio[first : first + CHUNK_SAMPLES].tobytes()
            while sent_bytes + len(body) - self._acknowledged_bytes > self._window_bytes:
                if self._closed.is_set():
                    return
                self._acknowledged.clear()
                await self._wait(self._acknowledged)
            await self._send(socket, first, body)
            sent_bytes += len(body)

    async def _send(self, socket: ClientConnection, first: int, body: bytes) -> None:
        self.log.sent_ends.append(first + len(body) // BYTES_PER_SAMPLE)
        self.log.sent_times.append(time.perf_counter())
        await socket.send(body)

    async def _wait(self, event: asyncio.Event, longest: float = REPLY_TIMEOUT) -> None:
        """Wait for an event or the end of the connection, whichever is first."""
        both = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._closed.wait())]
        done, _ = await asyncio.wait(both, timeout=longest, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        if not done:
            raise TimeoutError(f"no answer for {longest:.0f} s")

    async def _receive(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                now = time.perf_counter()
                size_bytes = len(text if isinstance(text, bytes) else text.encode())
                message: Message = orjson.loads(text)
                self.log.arrivals.append(Arrival(now, size_bytes, message))
                self._note(message)
        except websockets.ConnectionClosedError as error:
            self.log.failure = str(error)
        finally:
            self._closed.set()

    def _note(self, message: Message) -> None:
        match message.get("type"):
            case "ready":
                self._window_bytes = message["max_unacked_bytes"]
                self._ready.set()
            case "ack":
                self._acknowledged_bytes = message["bytes"]
                self._acknowledged.set()
            case "stopped":
                self._stopped.set()

    async def _ping(self, socket: ClientConnection) -> None:
        """Ping every PING_INTERVAL; a ping that is not answered in time counts with the time waited."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while self._pings:
                sent = time.perf_counter()
                pong = await socket.ping()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(pong), REPLY_TIMEOUT)
                took = time.perf_counter() - sent
                self.log.pings.append(took)
                self.log.ping_times.append(sent)
                await asyncio.sleep(max(PING_INTERVAL - took, 0.0))


async def play(
    url: str,
    clip: Clip,
    *,
    pace: Pace = "realtime",
    language: str | None = None,
    start: Message | None = None,
    token: str | None = None,
) -> SessionLog:
    """Play one clip in one session; `start` has further fields of its `start` message."""
    return await Recorder(url, clip, pace=pace, language=language, start=start, token=token).run()


async def play_together(
    url: str, clips: list[Clip], *, language: str | None = None, token: str | None = None
) -> list[SessionLog]:
    """Play several clips at once in real time, a session each, 0.37 s apart so that steps do not line up."""

    async def later(delay: float, clip: Clip) -> SessionLog:
        await asyncio.sleep(delay)
        return await play(url, clip, language=language, token=token)

    return list(await asyncio.gather(*(later(0.37 * place, clip) for place, clip in enumerate(clips))))
