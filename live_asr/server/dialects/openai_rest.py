"""OpenAI's audio API over HTTP: transcriptions, translations, and which models there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import orjson
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from live_asr.core.errors import LiveAsrError
from live_asr.core.messages import Commit, Final
from live_asr.core.transcript import Transcript
from live_asr.inference.ipc import Loaded
from live_asr.server.dialects.files import FileSession, transcribed
from live_asr.server.dialects.lines import Line, Lines
from live_asr.server.dialects.openai_errors import BadParameter, fault_of, response_of
from live_asr.server.dialects.openai_formats import (
    DONE,
    data,
    delta_event,
    done_event,
    rendered,
    segment_event,
    segment_id,
)
from live_asr.server.dialects.openai_parameters import ALIASES, KNOWN, Asked, read
from live_asr.server.dialects.openai_speakers import SpeakerNames, voice_of
from live_asr.server.dialects.requests import NOBODY, admit, form_with, models_of, received, unless_gone
from live_asr.server.dialects.uploads import file_of
from live_asr.server.rest import State
from live_asr.server.sse import EventStream, Heartbeat
from live_asr.server.state import ServerState

EARLY = 1.0
"""Seconds in which a stream that fails is still answered with a status of its own."""
WARNING = "X-Live-ASR-Warning"
"""The header that names what has no effect here."""

router = APIRouter(tags=["OpenAI"])


@router.post(
    "/v1/audio/transcriptions",
    summary="OpenAI: write down a file",
    response_class=Response,
    openapi_extra=form_with(*sorted(KNOWN - {"file"}), required=("file", "model")),
)
async def transcriptions(request: Request, state: State) -> Response:
    """Answer a form with `file` and `model` as OpenAI's API does; see docs/clients.md."""
    return await _answered(request, state, "transcribe")


@router.post(
    "/v1/audio/translations",
    summary="OpenAI: translate a file",
    response_class=Response,
    openapi_extra=form_with(
        *("model", "prompt", "response_format", "temperature"), required=("file", "model")
    ),
)
async def translations(request: Request, state: State) -> Response:
    """Answer as `transcriptions`, in English."""
    return await _answered(request, state, "translate")


@router.get("/v1/models", summary="OpenAI: which models there are", response_class=Response)
async def list_models(request: Request, state: State) -> Response:
    """Answer the model that the server has, by its own name and those that clients are set to."""
    try:
        await admit(request, state)
        names = _names(state)
    except LiveAsrError as error:
        return response_of(error)
    return _json({"object": "list", "data": [_model(name) for name in names]})


@router.get("/v1/models/{name:path}", summary="OpenAI: one model", response_class=Response)
async def one_model(name: str, request: Request, state: State) -> Response:
    """Answer one of the models that are listed."""
    try:
        await admit(request, state)
        if name not in _names(state):
            raise BadParameter("model", f"The model {name[:80]!a} does not exist.", code="model_not_found")
    except LiveAsrError as error:
        return response_of(error)
    return _json(_model(name))


def _names(state: ServerState) -> list[str]:
    return list(dict.fromkeys((models_of(state).recognizer.name, *ALIASES)))


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "live-asr"}


def _json(answer: object) -> Response:
    return Response(orjson.dumps(answer), media_type="application/json")


# A file ----------------------------------------------------------------------------------------------


async def _answered(request: Request, state: ServerState, task: str) -> Response:
    """Do what a request asks for; whatever is refused is told in the API's shape."""
    try:
        async with AsyncExitStack() as stack:
            form, client = await stack.enter_async_context(received(request, state))
            loaded = models_of(state)
            asked = read(form, loaded.recognizer.name, task=task)
            file = file_of(form)
            _check_voices(asked, loaded)
            session = await stack.enter_async_context(transcribed(state, file, asked.start, client))
            # Behind the session's place: each sample has a process of its own decode it.
            names = await _speaker_names(state, asked, loaded)
            if asked.stream:
                beat = Heartbeat(_events(session, asked, names), state.settings.server.keepalive)
                await beat.begin(EARLY)
                response: Response = EventStream(_with_errors(beat), during=stack.pop_all())
            else:
                body, media_type = await unless_gone(request, _whole(session, asked, names))
                response = Response(body, media_type=media_type)
    except LiveAsrError as error:
        state.metrics.refused.labels(error.code).inc()
        return response_of(error)
    except ClientDisconnect:
        return Response(status_code=NOBODY)
    response.headers["X-Request-Id"] = session.link.id
    if asked.warnings:
        response.headers[WARNING] = "; ".join(asked.warnings).encode("ascii", "replace").decode()
    return response


def _check_voices(asked: Asked, loaded: Loaded) -> None:
    """Raise ClientError where speakers are to be told apart and cannot be."""
    if asked.diarize and loaded.equal_error_distance is None:
        raise BadParameter(
            "response_format",
            "This server tells no speakers apart: it has no model of voices.",
            code="diarization_unavailable",
        )


async def _speaker_names(state: ServerState, asked: Asked, loaded: Loaded) -> SpeakerNames:
    """Return who names the speakers, with the voices of those who are known. Raises ClientError."""
    if loaded.equal_error_distance is None:
        return SpeakerNames()
    known = [(name, await voice_of(state, name, file)) for name, file in asked.known_speakers]
    return SpeakerNames(known, loaded.equal_error_distance)


async def _whole(session: FileSession, asked: Asked, names: SpeakerNames) -> tuple[bytes, str]:
    """Wait for the result; return the answer and its media type."""
    transcript = Transcript()
    collected: list[Line] = []
    lines = Lines(waits_for_speakers=False, language=asked.start.language)
    async for message in session.messages():
        transcript.apply(message)
        collected += lines.apply(message)
        if isinstance(message, Final):
            names.recognize(
                {speaker.label: session.voices_of(speaker.live_labels) for speaker in message.speakers}
            )
    return await asyncio.to_thread(rendered, asked, session.link.id, transcript, collected, names)


async def _events(session: FileSession, asked: Asked, names: SpeakerNames) -> AsyncIterator[bytes]:
    """Give the events of a stream: what was said is never taken back. Raises LiveAsrError."""
    lines = Lines(waits_for_speakers=True, language=asked.start.language)
    count, is_first = 0, True
    async for message in session.messages():
        if isinstance(message, Commit) and not asked.diarize:
            yield data(delta_event(_begun(message.text, is_first), message.words, asked))
            is_first = False
        for line in lines.apply(message) if asked.diarize else ():
            if line.speaker is not None:
                names.recognize({line.speaker: session.voices_of((line.speaker,))})
            text = _begun("".join(word.text for word in line.words), is_first)
            yield data(delta_event(text, line.words, asked, segment_id=segment_id(count)))
            yield data(segment_event(count, line.words, names.of(line.speaker)))
            count, is_first = count + 1, False
        if isinstance(message, Final):
            yield data(done_event(message, asked))
            yield DONE


def _begun(text: str, is_first: bool) -> str:
    return text.lstrip() if is_first else text


def _with_errors(beat: Heartbeat) -> Callable[[], Awaitable[bytes | None]]:
    """Return what gives the events of a stream that has begun: an error is the last one."""

    async def get() -> bytes | None:
        try:
            return await beat.get()
        except LiveAsrError as error:
            return data({"error": fault_of(error)})

    return get
