"""Deepgram's `POST /v1/listen`: a whole recording in, the whole result out.

What comes is handed on as fast as the recogniser works, and the upload waits for it: no memory grows with the
length of a recording. Speakers are told apart by the full pass; without `diarize`
there is none, and the words are those of the live record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from uuid import uuid4

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from live_asr.core.fields import parse_json
from live_asr.core.messages import Final, FinalSegment, Stop, WireWord
from live_asr.core.passages import ends_sentence
from live_asr.delivery.post import ForbiddenTarget
from live_asr.errors import ClientError, LiveAsrError, MediaError
from live_asr.server.access import api_key
from live_asr.server.dialects.deepgram.parameters import Asked, bad, read_query
from live_asr.server.dialects.deepgram.refusals import refusal, warning_headers
from live_asr.server.dialects.deepgram.results import (
    JsonObject,
    Request,
    confidence_of,
    number_of,
    shown_word,
    text_of,
)
from live_asr.server.dialects.link import Link, linked
from live_asr.server.dialects.together import together
from live_asr.server.state import ServerState
from live_asr.sessions.admission import Client

log = logging.getLogger(__name__)

MOST_UPLOAD_BYTES = 4 * 1024**3
LARGEST_URL_BYTES = 16 * 1024
"""Of a body that names a URL."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One channel's result, and its session."""

    session: str
    final: Final


async def answer(http: HttpRequest, state: ServerState) -> Response:
    """Transcribe what is sent, or what the URL that is sent leads to."""
    number = str(uuid4())
    try:
        client = (await state.access.admit(http, api_key(http), "caption")).client
        asked = read_query(http.query_params.multi_items(), is_live=False)
        request = Request(state.registry.admit(asked.start, asked.channels, client), number)
        async with _body(http, state) as pieces:
            heard = await _transcribe(pieces, asked, request, state, client)
        body = await asyncio.to_thread(_response, heard, asked, request)
        return JSONResponse(body, headers=warning_headers(number, asked.warnings))
    except LiveAsrError as error:
        state.metrics.refused.labels(error.code).inc()
        return refusal(error, number)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody is there to read it
    except Exception:
        log.exception("a recording could not be transcribed")
        return refusal(LiveAsrError("Something went wrong in the server."), number)


# What is heard ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _body(http: HttpRequest, state: ServerState) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give the audio of a request, in pieces."""
    if http.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        yield _bounded(http.stream(), MOST_UPLOAD_BYTES)
        return
    given = b"".join([piece async for piece in _bounded(http.stream(), LARGEST_URL_BYTES)])
    asked = parse_json(given)
    url = asked.get("url") if isinstance(asked, Mapping) else None
    if not isinstance(url, str):
        bad('Send the audio itself, or {"url": "https://…"} as application/json.')
    try:
        async with state.sender.fetched(url) as pieces:
            yield _bounded(pieces, MOST_UPLOAD_BYTES)
    except ForbiddenTarget as error:
        raise ClientError("remote_content", str(error), "Send the file itself.") from None


async def _bounded(pieces: AsyncIterator[bytes], most_bytes: int) -> AsyncIterator[bytes]:
    count = 0
    async for piece in pieces:
        count += len(piece)
        if count > most_bytes:
            raise ClientError("too_large", f"The body is larger than {most_bytes} bytes.")
        yield piece


async def _transcribe(
    pieces: AsyncIterator[bytes], asked: Asked, request: Request, state: ServerState, client: Client
) -> list[Heard]:
    """Have all channels recognised at once, each by a session of its own."""
    async with contextlib.AsyncExitStack() as stack:
        links = []
        for start in asked.starts:
            opening = linked(state.registry, replace(start, pace="fast"), client)
            links.append(await stack.enter_async_context(opening))
        return await together([_final(link) for link in links], _send_all(pieces, links, request))
    raise AssertionError("the stack lets all exceptions pass")


async def _send_all(pieces: AsyncIterator[bytes], links: list[Link], request: Request) -> None:
    sent = 0
    async for piece in pieces:
        request.digest.update(piece)
        sent += len(piece)
        for link in links:
            await link.send(piece)
    if not sent:
        raise MediaError("The body holds no audio.", "Send a recording.")
    for link in links:
        link.control(Stop())


async def _final(link: Link) -> Heard:
    async for message in link.messages():
        if isinstance(message, Final):
            return Heard(link.id, message)
    raise link.failure or LiveAsrError("The session ended before its time.")


# What is answered -------------------------------------------------------------------------------------


def _response(heard: list[Heard], asked: Asked, request: Request) -> JsonObject:
    metadata = request.metadata(max(one.final.duration for one in heard), len(heard))
    metadata |= {"models": [request.model_id], "model_info": {request.model_id: request.model_info}}
    metadata["sessions"] = [one.session for one in heard]
    for name, value in (("tags", asked.tags), ("extra", asked.extra), ("warnings", asked.warnings)):
        if value:
            metadata[name] = value
    results: JsonObject = {"channels": [_channel(one.final, asked) for one in heard]}
    if asked.wants_utterances:
        spoken = [(index, segment) for index, one in enumerate(heard) for segment in one.final.segments]
        spoken.sort(key=lambda found: found[1].start)
        results["utterances"] = [_utterance(index, segment, asked) for index, segment in spoken]
    return {"metadata": metadata, "results": results}


def _channel(final: Final, asked: Asked) -> JsonObject:
    words = [word for segment in final.segments for word in segment.words]
    alternative: JsonObject = {
        "transcript": text_of(words, is_punctuated=asked.is_punctuated),
        "confidence": confidence_of(words),
        "words": [
            shown_word(word, asked, word.speaker or segment.speaker)
            for segment in final.segments
            for word in segment.words
        ],
    }
    if asked.wants_paragraphs:
        paragraphs = [_paragraph(segment, asked) for segment in final.segments if segment.words]
        text = "\n\n".join(" ".join(s["text"] for s in paragraph["sentences"]) for paragraph in paragraphs)
        alternative["paragraphs"] = {"transcript": text, "paragraphs": paragraphs}
    channel: JsonObject = {"alternatives": [alternative]}
    if asked.wants_languages and final.language is not None:
        channel["detected_language"] = final.language
    return channel


def _paragraph(segment: FinalSegment, asked: Asked) -> JsonObject:
    sentences: list[list[WireWord]] = [[]]
    for word in segment.words:
        if ends_sentence(text_of(sentences[-1], is_punctuated=True)) and word.text[:1].isspace():
            sentences.append([])
        sentences[-1].append(word)
    who = {"speaker": number_of(segment.speaker)} if asked.is_diarized else {}
    return {
        "sentences": [
            {"text": text_of(words, is_punctuated=True), "start": words[0].start, "end": words[-1].end}
            for words in sentences
        ],
        "num_words": len(segment.words),
        "start": segment.start,
        "end": segment.end,
        **who,
    }


def _utterance(channel: int, segment: FinalSegment, asked: Asked) -> JsonObject:
    who = {"speaker": number_of(segment.speaker)} if asked.is_diarized else {}
    return {
        "start": segment.start,
        "end": segment.end,
        "confidence": confidence_of(segment.words),
        "channel": channel,
        "transcript": text_of(segment.words, is_punctuated=asked.is_punctuated),
        "words": [shown_word(word, asked, word.speaker or segment.speaker) for word in segment.words],
        "id": str(uuid4()),
        **who,
    }
