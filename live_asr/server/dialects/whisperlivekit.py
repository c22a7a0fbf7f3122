"""WhisperLiveKit's protocol: the WebSocket `/asr`.

Its clients send audio and an empty frame at the end, and get the whole state again and again, or in `diff`
mode what was added to it. A client that sends a file as fast as the socket takes it is read all along, so
that its pings are answered: what is ahead of the recogniser waits on disk, `MAX_AHEAD` seconds at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, WebSocket

from live_asr.audio.formats import is_container
from live_asr.core.errors import ClientError, LiveAsrError, told
from live_asr.core.messages import Error, Lag, Notice, ServerMessage, Start, Stop, Stopped, client_from_dict
from live_asr.server.access import api_key
from live_asr.server.dialects.lines import Line, Lines, text_of
from live_asr.server.dialects.link import Link, linked
from live_asr.server.dialects.pacing import DECIDING, MAX_AHEAD
from live_asr.server.dialects.serving import served
from live_asr.server.rest import State
from live_asr.server.sockets import GONE, SEND_TIMEOUT, close, receive, send
from live_asr.server.state import ServerState
from live_asr.sessions.admission import Client, check_start
from live_asr.sessions.resume import loading

BYTES_PER_SECOND = 32_000
"""Of what `MAX_AHEAD` counts: audio at 16 kHz, or as many bytes of a container."""
FIRST_AUDIO_TIMEOUT = 120.0
"""Seconds that a client has for its first audio: a browser asks its user for the microphone in between."""
FILE_BYTES = 96_000
"""Three seconds of PCM: who has sent as much within `DECIDING` does not speak."""
FILE_CONTAINER_BYTES = 256 * 1024
"""The same of a container; no browser records so fast."""
HEAD_BYTES = 16
"""So much tells containers and PCM apart."""
STOP_TIMEOUT = 10.0
"""Seconds that a client has to close once it may."""
MIN_INTERVAL = 0.05
INTERVAL_PER_LINE = 0.002
MAX_INTERVAL = 1.0
"""Seconds between two updates: `full` repeats all lines, so the more there are the fewer updates come."""
BAD_TOKEN, BAD_PARAMETERS, NOT_BINARY = 4401, 4400, 1003
"""Close codes; the first two are WhisperLiveKit's own."""
PARAMETERS = ("language", "mode", "target_language", "token", "audio", "pace", "diarize")

router = APIRouter(tags=["WhisperLiveKit"])


@router.get("/health", summary="WhisperLiveKit: is the server ready?")
async def health(state: State) -> dict[str, object]:
    """Answer as WhisperLiveKit's server does; `/readyz` tells more."""
    return {"status": "ok", "backend": "live-asr", "ready": state.engine.is_up}


@router.websocket("/asr")
async def asr(socket: WebSocket) -> None:
    """Serve one client of WhisperLiveKit."""
    state: ServerState = socket.app.state.server
    given = api_key(socket) or socket.query_params.get("token")
    try:
        grant = await state.access.admit(socket, given, "caption")
    except LiveAsrError as error:
        state.metrics.refused.labels(error.code).inc()
        await socket.close(BAD_TOKEN)  # before it is accepted: the handshake fails with 403
        return
    await Conversation(socket, state, grant.client).run()


class Conversation:
    """One connection from its acceptance to its close."""

    def __init__(self, socket: WebSocket, state: ServerState, client: Client) -> None:
        self._socket = socket
        self._state = state
        self._client = client
        self._has_ended = False
        """Whether the client has sent its empty frame."""
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Serve the connection. Never raises: a broken peer is nobody else's trouble."""
        try:
            async with served(self._state, "/asr", self._refuse):
                await self._socket.accept()
                wanted = self._wanted()
                await self._say(self._config(wanted))
                frames = await self._first_audio(wanted)
                if frames is not None:
                    await self._serve(wanted, frames)
        finally:
            await close(self._socket, 1000)

    # Before the session ------------------------------------------------------------------------------

    def _wanted(self) -> dict[str, Any]:
        """Read the parameters, as fields of `start`. Raises LiveAsrError for what cannot be had."""
        self._state.access.check_origin(self._socket)
        wanted = read_query(self._socket.query_params)
        loaded = self._state.engine.loaded
        if loaded is None:
            raise loading("The models are still being loaded.")
        try:
            check_start(start_of(wanted, "pcm_s16le"), loaded.recognizer)
        except ClientError as error:
            raise _bad(str(error)) from None
        return wanted

    def _config(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        config: dict[str, Any] = {
            "type": "config",
            "useAudioWorklet": wanted["audio"] != "container",
            "mode": wanted["mode"],
        }
        unknown = [name for name in self._socket.query_params if name not in PARAMETERS]
        if unknown:
            config["warning"] = f"Not known here and ignored: {', '.join(sorted(unknown))}."
        return config

    async def _first_audio(self, wanted: Mapping[str, Any]) -> list[bytes] | None:
        """Wait for so much audio that its kind and pace are known; None where the client ends without any."""
        frames: list[bytes] = []
        size = 0
        deadline = asyncio.get_running_loop().time() + FIRST_AUDIO_TIMEOUT
        while not self._has_ended and not (
            size >= HEAD_BYTES and (wanted["pace"] != "auto" or size >= _file_bytes(wanted, frames))
        ):
            try:
                async with asyncio.timeout_at(deadline):
                    frame = await self._frame()
            except TimeoutError:
                if not frames:
                    raise ClientError("start_timeout", "No audio came.", "Connect again to speak.") from None
                break
            if not frames and frame:
                deadline = asyncio.get_running_loop().time() + DECIDING
            if frame:
                frames.append(frame)
                size += len(frame)
        if frames:
            return frames
        await self._say({"type": "ready_to_stop"})
        return None

    async def _frame(self) -> bytes:
        """Return the next audio; takes note of the empty frame that ends it. Raises ClientError for text."""
        frame = await receive(self._socket)
        if isinstance(frame, str):
            raise ClientError(
                "bad_message",
                "A text frame came.",
                "Send audio in binary frames, and an empty one at its end.",
                close_code=NOT_BINARY,
            )
        self._has_ended = self._has_ended or not frame
        return frame

    # The session -------------------------------------------------------------------------------------

    async def _serve(self, wanted: Mapping[str, Any], frames: list[bytes]) -> None:
        """Open the session, and read, hear and send until it is over or the client is gone."""
        is_file = self._has_ended or sum(map(len, frames)) >= _file_bytes(wanted, frames)
        encoding = "container" if _is_container(wanted, frames) else "pcm_s16le"
        start = start_of(wanted, encoding, is_file=is_file)
        most_ahead_bytes = round(MAX_AHEAD * BYTES_PER_SECOND)
        async with linked(self._state, start, self._client, most_ahead_bytes=most_ahead_bytes) as link:
            waits = start.diarize and link.loaded.speaker_encoder_name is not None
            view = View(Lines(waits_for_speakers=waits, language=start.language))
            reading = asyncio.create_task(self._read_all(link, frames))
            hearing = asyncio.create_task(self._hear_all(link, view))
            hearing.add_done_callback(lambda _: self._changed.set())
            sending = asyncio.create_task(self._send_all(view, hearing, is_diff=wanted["mode"] == "diff"))
            tasks = (reading, hearing, sending)
            try:
                # What was said of the end reaches the client; one that is gone is noticed by who reads.
                await asyncio.wait((reading, sending), return_when=asyncio.FIRST_COMPLETED)
                if link.failure is not None:  # it is told with the last state
                    await asyncio.wait((sending,), timeout=SEND_TIMEOUT)
                    await close(self._socket, link.failure.close_code)
                    return
                for task in (reading, sending):
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _read_all(self, link: Link, frames: list[bytes]) -> None:
        """Hand on all audio until the client closes; the socket is read whatever the recogniser does."""
        for frame in frames:
            await link.send(frame)
        if self._has_ended:
            link.control(Stop())
        while True:
            ended_before = self._has_ended
            frame = await self._frame()
            if ended_before:
                continue  # WhisperLiveKit passes over what comes behind the end
            if frame:
                await link.send(frame)
            else:
                link.control(Stop())

    async def _hear_all(self, link: Link, view: View) -> None:
        """Take up what the session says, until the live transcript is complete."""
        async for message in link.messages():
            view.apply(message)
            self._changed.set()
            if view.is_over:
                return

    async def _send_all(self, view: View, hearing: asyncio.Task[None], *, is_diff: bool) -> None:
        """Send the newest state whenever it has changed; who reads slowly gets fewer of them."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if hearing.done():
                hearing.result()
            is_over = view.is_over
            await send(self._socket, view.diff() if is_diff else view.full())
            if is_over:
                break
            pause = min(MAX_INTERVAL, MIN_INTERVAL + INTERVAL_PER_LINE * len(view))
            await asyncio.sleep(pause)
        if view.failure is not None:
            return
        await self._say({"type": "ready_to_stop"})
        await asyncio.sleep(STOP_TIMEOUT)  # it is for the client to close

    async def _say(self, message: Mapping[str, Any]) -> None:
        await send(self._socket, orjson.dumps(message))

    async def _refuse(self, error: LiveAsrError) -> None:
        with contextlib.suppress(TimeoutError, *GONE):
            await self._say({"type": "error", "error": str(told(error))})
        await close(self._socket, error.close_code)


class View:
    """What a client of WhisperLiveKit is to see; lines are written once and kept as JSON."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._written: list[bytes] = []
        self._sent = 0
        """How many lines a client in `diff` mode has."""
        self._seq = 0
        self._lag = 0.0
        self._warning = ""
        self.failure: Error | None = None
        """Why the session ended before its time."""
        self.is_over = False
        """Whether nothing more is said."""

    def __len__(self) -> int:
        return len(self._written)

    def apply(self, message: ServerMessage) -> None:
        """Take up what the session says."""
        self._written.extend(orjson.dumps(_line(line)) for line in self._lines.apply(message))
        match message:
            case Lag():
                self._lag = message.seconds
            case Stopped():
                self._lag = 0.0
                self.is_over = True
            case Notice():
                self._warning = message.message
            case Error():
                self.failure = message
                self.is_over = True

    def full(self) -> bytes:
        """Return the whole state."""
        return _joined(self._state(), b"lines", self._written)

    def diff(self) -> bytes:
        """Return what is new to the client: all of it the first time, then lines to append."""
        self._seq += 1
        new, self._sent = self._written[self._sent :], len(self._written)
        if self._seq == 1:
            return _joined({"type": "snapshot", "seq": 1, **self._state()}, b"lines", new)
        state = {"type": "diff", "seq": self._seq, "n_lines": self._sent, **self._state()}
        return _joined(state, b"new_lines", new) if new else orjson.dumps(state)

    def _state(self) -> dict[str, Any]:
        """Return all but the lines."""
        pending, tail = self._lines.pending, self._lines.tail
        nameless = [word for word in pending if word.speaker is None]
        told_apart = self._lines.waits_for_speakers
        is_heard = bool(self._written or pending or tail)
        state: dict[str, Any] = {
            "status": "active_transcription" if is_heard else "no_audio_detected",
            "buffer_transcription": text_of(tail if told_apart else (*pending, *tail)),
            "buffer_diarization": text_of(pending) if told_apart else "",
            "buffer_translation": "",
            "remaining_time_transcription": self._lag,
            "remaining_time_transcription_processing": self._lag,
            "remaining_time_transcription_policy": 0.0,
            "remaining_time_diarization": _span(nameless) if told_apart else 0.0,
        }
        if self._warning:
            state["warning"] = self._warning
        if self.failure is not None:
            state |= {"status": "error", "error": f"{self.failure.message} {self.failure.hint}".strip()}
        return state


def _joined(state: Mapping[str, Any], name: bytes, lines: list[bytes]) -> bytes:
    """Return `state` as JSON, with a field of lines that are JSON already."""
    return b"%b,%b:[%b]}" % (orjson.dumps(state)[:-1], orjson.dumps(name.decode()), b",".join(lines))


def _line(line: Line) -> dict[str, Any]:
    told = {
        "speaker": int(line.speaker[1:]) if line.speaker else 1,
        "text": line.text,
        "start": _clock(line.start),
        "end": _clock(line.end),
    }
    return told if line.language is None else {**told, "detected_language": line.language}


def _clock(seconds: float) -> str:
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02}:{rest // 100:02}.{rest % 100:02}"


def _span(words: list[Any]) -> float:
    return round(words[-1].end - words[0].start, 3) if words else 0.0


# What is asked for ------------------------------------------------------------------------------------


def _bad(message: str) -> ClientError:
    return ClientError("bad_message", message, close_code=BAD_PARAMETERS)


def _choice(query: Mapping[str, str], name: str, *allowed: str) -> str:
    """Return a parameter, the first of those that it may be where it is not given."""
    value = query.get(name) or allowed[0]
    if value not in allowed:
        raise _bad(f"`{name}` must be one of {', '.join(allowed)}.")
    return value


def _is_container(wanted: Mapping[str, Any], frames: list[bytes]) -> bool:
    kind = wanted["audio"]
    return kind == "container" or (kind == "auto" and is_container(_head(frames)))


def _head(frames: list[bytes]) -> bytes:
    return b"".join(frame[:HEAD_BYTES] for frame in frames[:HEAD_BYTES])


def _file_bytes(wanted: Mapping[str, Any], frames: list[bytes]) -> int:
    return FILE_CONTAINER_BYTES if _is_container(wanted, frames) else FILE_BYTES


def read_query(query: Mapping[str, str]) -> dict[str, Any]:
    """Read the parameters of a request, as fields of `start` and some of our own. Raises ClientError."""
    if query.get("target_language"):
        raise _bad("`target_language` is not supported: lines are not translated here.")
    return {
        "type": "start",
        "final_pass": False,
        "language": query.get("language") or None,
        "diarize": _choice(query, "diarize", "true", "false") == "true",
        "mode": _choice(query, "mode", "full", "diff"),
        "audio": _choice(query, "audio", "auto", "pcm", "container"),
        "pace": _choice(query, "pace", "auto", "realtime", "fast"),
    }


def start_of(wanted: Mapping[str, Any], encoding: str, *, is_file: bool = False) -> Start:
    """Return what to open the session with. Raises ClientError for a language that is none."""
    own = {"mode", "audio", "pace"}
    pace = wanted["pace"] if wanted["pace"] != "auto" else "fast" if is_file else "realtime"
    start = client_from_dict(
        {
            **{name: value for name, value in wanted.items() if name not in own},
            "pace": pace,
            "audio": {"encoding": encoding},
        }
    )
    assert isinstance(start, Start), "its type says so"
    return start
