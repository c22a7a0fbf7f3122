"""AymurAI's endpoint: a file's transcript as a document, growing while it is written."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from live_asr.audio.isolated_files import IS_PLACE_SHARED, duration_of
from live_asr.core.errors import LiveAsrError, StorageError, Unavailable, told
from live_asr.core.messages import AudioFormat, Commit, Lag, Start
from live_asr.core.passages import passages
from live_asr.core.transcript import Transcript
from live_asr.core.types import Segment, seconds
from live_asr.server.dialects.files import FileSession, transcribed
from live_asr.server.dialects.openai_errors import status_of
from live_asr.server.dialects.requests import NOBODY, form_with, received, unless_gone
from live_asr.server.dialects.uploads import file_of
from live_asr.server.rest import State
from live_asr.server.sse import EventStream, Heartbeat
from live_asr.server.state import ServerState
from live_asr.sessions.admission import Client
from live_asr.storage.files import storage_error

FOLDER = "documents"
"""Below the data folder: a file for each document, which names the session that wrote it."""
DIGEST_BYTES = 16
HASHED_BYTES = 1024 * 1024
MIN_INTERVAL = 0.5
INTERVAL_PER_PARAGRAPH = 0.005
"""Seconds between two events: each repeats the document, so the longer it is the fewer events come."""

router = APIRouter(prefix="/asr", tags=["AymurAI"])
UseCache = Annotated[bool, Query(description="Answer at once where the same bytes were written down before.")]
FinalPass = Annotated[
    bool, Query(description="Go over the whole recording once more at the end, for who said what.")
]


@router.post(
    "/transcribe/stream",
    summary="AymurAI: write down a file, as events",
    response_class=Response,
    openapi_extra=form_with(),
)
async def stream(
    request: Request, state: State, use_cache: UseCache = True, final_pass: FinalPass = False
) -> Response:
    """Answer a form with `file` by the events `transcription`, `done` and `error`; see docs/clients.md."""
    try:
        async with AsyncExitStack() as stack:
            form, client = await stack.enter_async_context(received(request, state))
            file = file_of(form)
            document_id = await asyncio.to_thread(id_of, file.file)
            known = await _kept(state, document_id, client) if use_cache else None
            if known is not None:
                return Response(event("done", known), media_type=EventStream.media_type)
            total = await _measured(file.file, stack)
            session = await stack.enter_async_context(transcribed(state, file, _start(final_pass), client))
            events = _events(state, session, document_id, total)
            beat = Heartbeat(events, state.settings.server.keepalive)
            return EventStream(beat.get, during=stack.pop_all())
    except LiveAsrError as error:
        return _refused(state, error)
    except ClientDisconnect:
        return Response(status_code=NOBODY)


@router.post(
    "/transcribe",
    summary="AymurAI: write down a file",
    deprecated=True,
    response_class=Response,
    openapi_extra=form_with(),
)
async def transcribe(
    request: Request, state: State, use_cache: UseCache = True, final_pass: FinalPass = False
) -> Response:
    """Answer a form with `file` by the whole document; `/asr/transcribe/stream` shows it as it grows."""
    try:
        async with received(request, state) as (form, client):
            file = file_of(form)
            document_id = await asyncio.to_thread(id_of, file.file)
            document = await _kept(state, document_id, client) if use_cache else None
            if document is None:
                async with transcribed(state, file, _start(final_pass), client) as session:
                    document = await unless_gone(request, _whole(state, session, document_id))
    except LiveAsrError as error:
        return _refused(state, error)
    except ClientDisconnect:
        return Response(status_code=NOBODY)
    headers = {"Deprecation": "true", "Link": '</asr/transcribe/stream>; rel="successor-version"'}
    return Response(orjson.dumps(document), headers=headers, media_type="application/json")


# Documents -------------------------------------------------------------------------------------------


def id_of(file: IO[bytes]) -> uuid.UUID:
    """Return the UUID that AymurAI gives these bytes. Blocks, and goes back to their beginning."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    file.seek(0)
    while piece := file.read(HASHED_BYTES):
        digest.update(piece)
    file.seek(0)
    return uuid.uuid5(uuid.NAMESPACE_DNS, digest.hexdigest())


def document_of(
    document_id: uuid.UUID, segments: Iterable[Segment], current_time: float, total_time: float
) -> dict[str, Any]:
    """Return what was said as paragraphs, one for each change of speaker; times are seconds."""
    paragraphs = list(_paragraphs(segments))
    return {
        "document_id": str(document_id),
        "paragraphs": paragraphs,
        "document": paragraphs,  # what it was called before there was a stream
        "current_time": current_time,
        "total_time": max(total_time, current_time),
    }


def _paragraphs(segments: Iterable[Segment]) -> Iterator[dict[str, Any]]:
    number = 1
    for passage in passages(segments):
        words = passage.words
        if not words:
            continue
        number = _number(passage.speaker) or number
        yield {
            "speaker_no": number,
            "speaker_id": f"speaker-{number}",
            "start": seconds(words[0].start_sample),
            "end": seconds(words[-1].end_sample),
            "text": "".join(word.text for word in words).strip(),
        }


def _number(label: str | None) -> int | None:
    """Return a speaker's number from 1 on: S1 live, SPEAKER_00 in the end."""
    if label is None:
        return None
    return int(label[1:]) if label[1:].isdecimal() else int(label.rpartition("_")[2]) + 1


def event(name: str, data: object) -> bytes:
    """Return an event as it goes over the wire."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))


# The work --------------------------------------------------------------------------------------------


def _start(final_pass: bool) -> Start:
    return Start(audio=AudioFormat("container"), interim=False, pace="fast", final_pass=final_pass)


async def _measured(file: IO[bytes], stack: AsyncExitStack) -> asyncio.Task[float | None]:
    """Begin to ask how long a file is; `stack` keeps it open until that is known.

    The session hears it meanwhile: each has a process start, which on a busy machine takes a second. Raises
    StorageError.
    """
    try:
        await asyncio.to_thread(file.fileno)  # on the disk from now on, where two may read it
    except OSError as error:
        raise storage_error(error) from error
    total = asyncio.create_task(asyncio.to_thread(duration_of, file))
    stack.push_async_callback(asyncio.wait, {total})
    if IS_PLACE_SHARED:
        await asyncio.wait({total})
    return total


async def _events(
    state: ServerState, session: FileSession, document_id: uuid.UUID, total: asyncio.Task[float | None]
) -> AsyncIterator[bytes]:
    """Give the events of a file: the document again and again, then `done`, or `error` instead."""
    now = asyncio.get_running_loop().time
    transcript, received, due = Transcript(), 0.0, now()
    try:
        async for message in session.messages():
            transcript.apply(message)
            if isinstance(message, Lag):
                received = message.received
            elif isinstance(message, Commit) and now() >= due:
                until = message.words[-1].end if message.words else 0.0
                segments = transcript.live_segments()
                document = document_of(document_id, segments, until, await total or received)
                yield event("transcription", document)
                due = now() + MIN_INTERVAL + INTERVAL_PER_PARAGRAPH * len(document["paragraphs"])
        yield event("done", await _settled(state, session, document_id, transcript))
    except LiveAsrError as error:
        is_ours = isinstance(error, StorageError) or error.code == LiveAsrError.code
        code = "INTERNAL_ERROR" if is_ours else "UPSTREAM_SERVICE_ERROR"
        yield event("error", {"code": code, "detail": str(told(error))})


async def _whole(state: ServerState, session: FileSession, document_id: uuid.UUID) -> dict[str, Any]:
    transcript = Transcript()
    async for message in session.messages():
        transcript.apply(message)
    return await _settled(state, session, document_id, transcript)


async def _settled(
    state: ServerState, session: FileSession, document_id: uuid.UUID, transcript: Transcript
) -> dict[str, Any]:
    """Return the document of a file that is written down, and remember which session wrote it."""
    await asyncio.to_thread(_keep, _file(state, document_id), session.link.id)
    duration = seconds(transcript.duration_samples)
    return document_of(document_id, transcript.segments(), duration, duration)


def _file(state: ServerState, document_id: uuid.UUID) -> Path:
    return state.settings.storage.data / FOLDER / str(document_id)


def _keep(file: Path, session_id: str) -> None:
    """Remember which session wrote a document. Raises StorageError."""
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        beside = file.with_name(f"{file.name}.{session_id}")
        beside.write_text(session_id)
        beside.replace(file)
    except OSError as error:
        raise storage_error(error) from error


async def _kept(state: ServerState, document_id: uuid.UUID, client: Client) -> dict[str, Any] | None:
    """Return a document that was written before; None where there is none, or its session was erased, or is
    another token's."""
    file = _file(state, document_id)
    try:
        session_id = await asyncio.to_thread(file.read_text)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error) from error
    try:
        if await state.catalogue.owner(session_id) != client.owner:
            return None
        record = await state.catalogue.record(session_id)
    except KeyError:
        await asyncio.to_thread(file.unlink, missing_ok=True)
        return None
    duration = seconds(record.duration_samples)
    return document_of(document_id, record.segments, duration, duration)


def _refused(state: ServerState, error: LiveAsrError) -> Response:
    state.metrics.refused.labels(error.code).inc()
    headers = {"Retry-After": f"{error.retry_after:.0f}"} if isinstance(error, Unavailable) else {}
    body = orjson.dumps({"detail": str(told(error))})
    return Response(body, status_of(error), headers, media_type="application/json")
