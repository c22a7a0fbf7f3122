"""Wyoming, over TCP: how Home Assistant asks for transcripts.

An event is a line of JSON, then as many bytes of further JSON and of audio as it says. The protocol has no
key and no encryption, so it is served only where the operator names a port.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from live_asr import __version__
from live_asr.core.errors import ClientError, ConfigError, LiveAsrError, told
from live_asr.core.fields import describe
from live_asr.core.messages import (
    AudioFormat,
    Commit,
    Start,
    Stop,
    Stopped,
    UtteranceMessage,
    client_from_dict,
)
from live_asr.server.dialects.json_objects import read_object
from live_asr.server.dialects.link import Link, linked
from live_asr.server.dialects.pacing import Receiver, first_items, most_ahead_bytes, rate_of
from live_asr.server.dialects.task_groups import together
from live_asr.server.sockets import SEND_TIMEOUT
from live_asr.server.state import ServerState
from live_asr.sessions.admission import Client
from live_asr.sessions.resume import loading

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 * 1024
LARGEST_PART_BYTES = 1024 * 1024
"""Of further JSON, and of audio, in one event."""
LARGEST_SKIPPED_BYTES = 1024**3
"""Of a part that is too large so much is passed over, to come to the next event."""
PIECE_BYTES = 64 * 1024
MAX_CONNECTIONS = 64
QUIET_TIMEOUT = 300.0
"""Seconds without an event after which a connection is closed."""
AUDIO_TIMEOUT = 30.0
"""The same while audio is awaited; what came is then brought to its end."""
LINGERING = 1.0
"""Seconds for which one that is refused is read."""
WIDTH = 2
"""Bytes of a sample."""
PROJECT = "https://github.com/openai/whisper"


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `data` is both its parts of JSON."""

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    audio: bytes = b""


@asynccontextmanager
async def serving_wyoming(
    state: ServerState, on_failed: Callable[[ConfigError], None]
) -> AsyncIterator[None]:
    """Listen for as long as the block lasts, where the settings name a port; `on_failed` tells why not."""
    host, port = state.settings.server.host, state.settings.server.wyoming_port
    if port is None:
        yield
        return
    if state.access.asks:
        log.warning("Wyoming has no token: whoever reaches port %d may have speech transcribed", port)
    serving: set[asyncio.Task[None]] = set()
    refusing: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversation = Conversation(reader, writer, state)
        is_full = len(serving) >= MAX_CONNECTIONS
        group = refusing if is_full else serving  # so that who is refused keeps nobody out
        group.add(task)
        try:
            if not is_full:
                await conversation.run()
            elif len(refusing) <= MAX_CONNECTIONS:
                await conversation.refuse()
        finally:
            group.discard(task)
            writer.close()

    try:
        server = await asyncio.start_server(serve, host, port, limit=MAX_LINE_BYTES)
    except OSError as error:
        fault = f"Cannot listen on {host}:{port}: {error.strerror or error}."
        on_failed(ConfigError(fault, "Choose another port with server.wyoming_port."))
        yield
        return
    log.info("wyoming is served at tcp://%s:%d", *server.sockets[0].getsockname()[:2])
    try:
        yield
    finally:
        server.close()
        tasks = (*serving, *refusing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Conversation:
    """One connection; it may ask for one transcript after the other."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: ServerState
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._state = state
        self._wanted: Mapping[str, Any] = {}
        """What `transcribe` asked for."""
        self._is_refused = False
        """Whether audio is passed over, to the end of what was refused."""
        self._patience = QUIET_TIMEOUT
        self._receive = Receiver(self._event)

    async def run(self) -> None:
        """Serve the connection. Never raises but when it is cancelled."""
        try:
            while True:
                try:
                    await self._answer(await self._receive())
                except LiveAsrError as error:
                    self._state.metrics.refused.labels(error.code).inc()
                    self._is_refused = True
                    await self._say("error", {"text": str(told(error)), "code": error.code})
        except (ValueError, asyncio.LimitOverrunError) as error:
            log.debug("a client of Wyoming sent what is no event: %s", error)
            with contextlib.suppress(TimeoutError, ConnectionError):
                text = f"What came is no event, and the connection ends with it: {error}"
                await self._say("error", {"text": text, "code": "bad_message"})
        except (TimeoutError, ConnectionError, EOFError) as error:
            log.debug("a client of Wyoming went away: %s", error)
        except Exception:
            log.exception("a client of Wyoming could not be served")
        finally:
            self._receive.close()

    async def refuse(self) -> None:
        """Say that there are too many connections. Never raises but when it is cancelled."""
        self._state.metrics.refused.labels("too_many_connections").inc()
        text = f"{MAX_CONNECTIONS} connections are open, and there may be no more. Try again in a minute."
        with contextlib.suppress(TimeoutError, ConnectionError):
            await self._say("error", {"text": text, "code": "too_many_connections"})
            # What came is read, and what comes for a moment: unread, it would take the answer with it.
            async with asyncio.timeout(LINGERING):
                while await self._reader.read(PIECE_BYTES):
                    pass

    # Events -----------------------------------------------------------------------------------------

    async def _event(self) -> Event:
        """Return the next event. Raises as `read_event` does, and TimeoutError."""
        async with asyncio.timeout(self._patience):
            return await read_event(self._reader)

    async def _say(self, kind: str, data: Mapping[str, Any] | None = None) -> None:
        header: dict[str, Any] = {"type": kind}
        body = orjson.dumps(data) if data else b""
        if body:
            header["data_length"] = len(body)
        self._writer.write(orjson.dumps(header) + b"\n" + body)
        async with asyncio.timeout(SEND_TIMEOUT):
            await self._writer.drain()

    async def _answer(self, event: Event) -> None:
        match event.type:
            case "describe":
                await self._say("info", self._info())
            case "ping":
                text = event.data.get("text")
                await self._say("pong", {"text": text} if isinstance(text, str) else None)
            case "transcribe":
                self._wanted, self._is_refused = event.data, False
            case "audio-stop":
                self._is_refused = False
            case "audio-start":
                self._is_refused = False
                await self._transcribe_patiently(event)
            case "audio-chunk" if not self._is_refused:
                await self._transcribe_patiently(event)

    def _info(self) -> dict[str, Any]:
        """Say what is here. Raises Unavailable while there are no models yet."""
        loaded = self._state.engine.loaded
        if loaded is None:
            raise loading("The models are still being loaded.")
        whose = {"name": "OpenAI", "url": PROJECT}
        recognizer = loaded.recognizer
        about = {"attribution": whose, "installed": True, "version": __version__}
        model = {
            **about,
            "name": recognizer.name,
            "description": f"Whisper {recognizer.name}",
            "languages": list(recognizer.languages),
        }
        program = {
            **about,
            "name": "live-asr",
            "description": "Live captions",
            "models": [model],
            "supports_transcript_streaming": True,
            "requires_external_vad": True,
        }
        return {"asr": [program]}

    # One transcript ---------------------------------------------------------------------------------

    async def _transcribe_patiently(self, first: Event) -> None:
        self._patience = AUDIO_TIMEOUT
        try:
            await self._transcribe(first)
        finally:
            self._patience = QUIET_TIMEOUT

    async def _transcribe(self, first: Event) -> None:
        """Have what is said from here to `audio-stop` transcribed. Raises LiveAsrError."""
        wanted, self._wanted = self._wanted, {}
        start = start_of(wanted, first.data)
        rate = rate_of(start.audio)
        events, is_file = await first_items(
            self._receive,
            lambda event: len(event.audio) / rate,
            lambda event: event.type == "audio-stop",
            first,
        )
        start = replace(start, pace="fast" if is_file else "realtime")
        opening = linked(
            self._state,
            start,
            Client(address=self._writer.get_extra_info("peername")[0]),
            most_ahead_bytes=most_ahead_bytes(start.audio),
        )
        async with opening as link:
            await together([self._tell(link), self._send_all(link, events, start.audio)])

    async def _send_all(self, link: Link, events: list[Event], audio: AudioFormat) -> None:
        """Hand on audio up to `audio-stop`."""
        for event in events:
            if event.type == "audio-stop":
                break
            await self._take(link, event, audio)
        else:
            while (event := await self._receive()).type != "audio-stop":
                await self._take(link, event, audio)
        link.control(Stop())

    async def _take(self, link: Link, event: Event, audio: AudioFormat) -> None:
        if event.type == "audio-chunk":
            if not _is_as_begun(event.data, audio):
                raise ClientError(
                    "bad_message",
                    f"The audio began with {audio.sample_rate} Hz and {audio.channels} channel(s), and goes "
                    "on with another format.",
                    "Begin again with `audio-start`.",
                )
            await link.send(event.audio)
        elif event.type in ("ping", "describe"):
            await self._answer(event)

    async def _tell(self, link: Link) -> None:
        """Say the words as they are committed, then all of them."""
        language, is_begun = None, False
        async for message in link.messages():
            if isinstance(message, UtteranceMessage):
                language = language or message.language
            if isinstance(message, Commit):
                if not is_begun:
                    await self._say("transcript-start", {"language": language} if language else None)
                text = message.text if is_begun else message.text.lstrip()
                is_begun = True
                await self._say("transcript-chunk", {"text": text})
            if isinstance(message, Stopped):
                told = {"text": message.text.strip(), **({"language": language} if language else {})}
                if not is_begun:
                    await self._say("transcript-start")
                await self._say("transcript", told)
                await self._say("transcript-stop")
                return
        raise link.failure or LiveAsrError("The session ended before its time.")


async def read_event(reader: asyncio.StreamReader) -> Event:
    """Read an event.

    Raises EOFError at the end, ValueError or asyncio.LimitOverrunError for what is none, and ClientError for
    one that is too large, of which nothing is left to be read.
    """
    header = _object(await reader.readuntil())
    lengths = [_length(header.get(name)) for name in ("data_length", "payload_length")]
    if max(lengths) > LARGEST_PART_BYTES:
        await _skip(reader, sum(lengths))
        raise ClientError(
            "too_large",
            f"A part of an event may have {LARGEST_PART_BYTES} bytes, not {max(lengths)}.",
            "Send audio in smaller chunks.",
        )
    more, audio = [await reader.readexactly(length) for length in lengths]
    data = {**_object_or_none(header.get("data")), **(_object(more) if more else {})}
    return Event(str(header.get("type")), data, audio)


def _length(value: object) -> int:
    """Read the length of a part. Raises ValueError for what is none."""
    length = 0 if value is None else value
    if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= LARGEST_SKIPPED_BYTES:
        raise ValueError(f"a part of {describe(length)} bytes")
    return length


async def _skip(reader: asyncio.StreamReader, count: int) -> None:
    while count:
        piece = await reader.read(min(count, PIECE_BYTES))
        if not piece:
            raise EOFError
        count -= len(piece)


def start_of(wanted: Mapping[str, Any], audio: Mapping[str, Any]) -> Start:
    """Return the session to open. Raises ClientError for what it cannot be."""
    if audio.get("width", WIDTH) != WIDTH:
        raise ClientError("bad_message", f"Samples must have {WIDTH} bytes, not {describe(audio['width'])}.")
    named = [wanted.get("transcript_names") or [], wanted.get("transcript_terms") or []]
    if not all(isinstance(terms, list) for terms in named):
        raise ClientError("bad_message", "`transcript_names` and `transcript_terms` are arrays of strings.")
    start = client_from_dict(
        {
            "type": "start",
            "audio": {"sample_rate": audio.get("rate", 16_000), "channels": audio.get("channels", 1)},
            "language": wanted.get("language"),
            "vocabulary": [term for terms in named for term in terms],
            "diarize": False,
            "interim": False,
            "final_pass": False,
        }
    )
    assert isinstance(start, Start), "its type says so"
    return start


def _is_as_begun(data: Mapping[str, Any], audio: AudioFormat) -> bool:
    """Tell whether a chunk's audio is what the transcript began with, as far as it says."""
    begun = {"rate": audio.sample_rate, "width": WIDTH, "channels": audio.channels}
    return all(data.get(name) in (None, value) for name, value in begun.items())


def _object(text: bytes) -> Mapping[str, Any]:
    """Read a JSON object. Raises ValueError for what is none."""
    try:
        return read_object(text, "event")
    except ClientError as error:
        raise ValueError(error.message) from None


def _object_or_none(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
