"""The audio that is kept of a session, to be played from any place: `/v1/sessions/{id}/audio`."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse

from live_asr.server.permission import audio_of, may_change, opens_audio, refusal
from live_asr.server.rest import SessionId, State, unknown_session
from live_asr.server.schemas import Problem
from live_asr.sessions.archive import Archive
from live_asr.sessions.playback import Playable
from live_asr.storage.database import OVER
from live_asr.storage.journal import Journal

log = logging.getLogger(__name__)

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
"""One piece of a file; who asks for several gets all of it."""

router = APIRouter(tags=["sessions"])


@router.get(
    "/v1/sessions/{session_id}/audio",
    summary="The audio that is kept of a session",
    response_class=Response,
    responses={
        200: {"content": {"audio/*": {}}, "description": "All of it, as FLAC, WAV or as it came."},
        206: {"content": {"audio/*": {}}, "description": "The piece that `Range` asks for."},
        307: {"description": "It is in an object store, at a link that is good for a while."},
        401: {"model": Problem, "description": "The token is missing or wrong."},
        403: {"model": Problem, "description": "The key of the session is missing."},
        404: {"model": Problem, "description": "There is no such session, or no audio of it."},
        416: {"model": Problem, "description": "The audio is shorter than that."},
    },
)
async def audio(
    session_id: SessionId,
    request: Request,
    state: State,
    token: Annotated[
        str | None, Query(max_length=1024, description="As in `audio` of the session, for players")
    ] = None,
) -> Response:
    """Answer the audio of a session that is over, where the server keeps it, for who may change it."""
    try:
        is_heard = token is not None and await opens_audio(session_id, token, state)
        if not is_heard and not await may_change(session_id, request, state):
            raise await refusal(session_id, request, state)
        stored = (await state.catalogue.status(session_id)).stored
    except KeyError:
        raise unknown_session(session_id) from None
    kept = await audio_of(session_id, state)
    if stored.state not in OVER:
        raise HTTPException(404, "This session is not over yet: its audio can be played once it is.")
    if kept is None:
        raise HTTPException(404, "The audio of this session is not kept.")
    headers = {"Cache-Control": "private, no-store", "X-Robots-Tag": "noindex"}
    if kept.object_key is not None and state.archive is not None:
        return await _from_store(kept, kept.object_key, state.archive, request, headers)
    if kept.path is not None and not kept.header:
        return FileResponse(kept.path, media_type=kept.media_type, headers=headers)
    pieces = partial(_pieces, kept, state.store, session_id)
    return _with_header(kept, pieces, request.headers.get("range"), headers)


async def _from_store(
    kept: Playable, key: str, archive: Archive, request: Request, headers: dict[str, str]
) -> Response:
    """Lead to a link that is good for a while, or pass on what the object store has."""
    link = await archive.link(key)
    if link is not None:
        return RedirectResponse(link, headers=headers)
    size_bytes = await archive.objects.size_of(key)
    if size_bytes is None:
        log.error("%s is not in the object store any more", key)
        raise HTTPException(404, "The audio of this session is not where it was put.")
    there = replace(kept, size_bytes=size_bytes)
    return _with_header(there, partial(archive.objects.read, key), request.headers.get("range"), headers)


def _with_header(
    kept: Playable,
    pieces: Callable[[int, int], AsyncIterator[bytes]],
    wanted: str | None,
    headers: dict[str, str],
) -> Response:
    """Answer raw samples behind a header that makes them a file, or the piece of that which is asked for."""
    total = len(kept.header) + kept.size_bytes
    first, end = 0, total
    found = RANGE.fullmatch(wanted.strip()) if wanted is not None else None
    if found is not None and any(found.groups()):
        if found[1]:
            first, end = int(found[1]), min(int(found[2] or total) + 1, total)
        else:  # so many of the last ones
            first = max(0, total - int(found[2]))
        if first >= end:
            raise HTTPException(
                416, f"The audio has {total} bytes.", headers={"Content-Range": f"bytes */{total}"}
            )
        headers |= {"Content-Range": f"bytes {first}-{end - 1}/{total}"}
    headers |= {"Accept-Ranges": "bytes", "Content-Length": str(end - first)}
    return StreamingResponse(
        pieces(first, end),
        status_code=206 if "Content-Range" in headers else 200,
        media_type=kept.media_type,
        headers=headers,
    )


async def _pieces(
    kept: Playable, journal: Journal, session_id: str, first: int, end: int
) -> AsyncIterator[bytes]:
    if first < len(kept.header):
        yield kept.header[first:end]
    at = len(kept.header)
    if end > at:
        async for piece in journal.read_audio(session_id, max(first - at, 0), end - at):
            yield piece
