"""Deepgram's `POST /v1/listen`: a whole recording in, the whole result out.

What comes is handed on as fast as the recogniser works, and the upload waits for it: no memory grows with the
length of a recording. Speakers are told apart by the full pass; without `diarize`
there is none, and the words are those of the live record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from live_asr.core.errors import ClientError, LiveAsrError, MediaError
from live_asr.core.messages import Final, Stop
from live_asr.delivery.post import ForbiddenTarget
from live_asr.server.access import api_key
from live_asr.server.dialects.deepgram.answers import Heard, answer_to
from live_asr.server.dialects.deepgram.callbacks import with_callback
from live_asr.server.dialects.deepgram.parameters import Asked, bad, read_query
from live_asr.server.dialects.deepgram.refusals import refusal, warning_headers
from live_asr.server.dialects.deepgram.results import Request
from live_asr.server.dialects.json_objects import read_object
from live_asr.server.dialects.link import Link, linked
from live_asr.server.dialects.task_groups import together
from live_asr.server.state import ServerState
from live_asr.sessions.admission import Client

log = logging.getLogger(__name__)

LARGEST_URL_BYTES = 16 * 1024
"""Of a body that names a URL."""


async def answer(http: HttpRequest, state: ServerState) -> Response:
    """Transcribe what is sent, or what the URL that is sent leads to."""
    number = str(uuid4())
    try:
        state.access.check_origin(http)
        client = (await state.access.admit(http, api_key(http), "caption")).client
        asked = read_query(http.query_params.multi_items(), is_live=False)
        request = Request(state.registry.admit(asked.start, client).recognizer.name, number)
        asked = with_callback(asked, request, http.url.query)
        async with _body(http, state) as pieces:
            if asked.callback is not None:
                await _take(pieces, asked, request, state, client)
                return JSONResponse({"request_id": number}, headers=warning_headers(number, asked.warnings))
            heard = await _transcribe(pieces, asked, request, state, client)
        body = await asyncio.to_thread(answer_to, heard, asked, request)
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
    most_bytes = state.settings.server.max_upload_bytes
    if http.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        yield _bounded(http.stream(), most_bytes)
        return
    given = b"".join([piece async for piece in _bounded(http.stream(), LARGEST_URL_BYTES)])
    url = read_object(given, "body").get("url")
    if not isinstance(url, str):
        bad('Send the audio itself, or {"url": "https://…"} as application/json.')
    try:
        async with state.sender.fetched(url) as pieces:
            yield _bounded(pieces, most_bytes)
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
) -> Heard:
    """Have all of it recognised."""
    async with linked(state, replace(asked.start, pace="fast"), client) as link:
        (heard,) = await together([_final(link)], _send_all(pieces, link, request))
        assert isinstance(heard, Heard)
        return heard
    raise AssertionError("the block lets all exceptions pass")


async def _take(
    pieces: AsyncIterator[bytes], asked: Asked, request: Request, state: ServerState, client: Client
) -> None:
    """Take a recording whose result goes elsewhere: it is written down once it is here."""
    start = replace(asked.start, pace="fast")
    most_bytes = state.settings.server.max_upload_bytes
    async with linked(state, start, client, most_ahead_bytes=most_bytes) as link:
        await _send_all(pieces, link, request)


async def _send_all(pieces: AsyncIterator[bytes], link: Link, request: Request) -> None:
    sent = 0
    async for piece in pieces:
        request.digest.update(piece)
        sent += len(piece)
        await link.send(piece)
    if not sent:
        raise MediaError("The body holds no audio.", "Send a recording.")
    link.control(Stop())


async def _final(link: Link) -> Heard:
    async for message in link.messages():
        if isinstance(message, Final):
            return Heard(link.id, message)
    raise link.failure or LiveAsrError("The session ended before its time.")
