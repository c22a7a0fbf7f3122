"""The routes that change a session that there is: its names, its title, its text; and its erasure."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, NoReturn

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response
from pydantic import ValidationError

from live_asr.core.editing import EditError
from live_asr.core.messages import MAX_TITLE
from live_asr.server.access import token_in
from live_asr.server.permission import may_change, refusal
from live_asr.server.rest import UNKNOWN, SessionId, State, unknown_session
from live_asr.server.schemas import (
    LARGEST_EDITS_BYTES,
    LARGEST_NAMES_BYTES,
    MAX_EDITS,
    MAX_NAME,
    Corrected,
    EditModel,
    EditRequest,
    Names,
    Problem,
    Title,
    read_names,
    read_title,
    sentence_of,
)
from live_asr.sessions.corrections import Best, NotOver, Outdated


async def allowed(session_id: SessionId, request: Request, state: State) -> None:
    """Let a request pass whose sender may change the session."""
    try:
        is_allowed = await may_change(session_id, request, state)
    except KeyError:
        if not state.access.asks or state.access.granted(token_in(request)) is not None:
            raise unknown_session(session_id) from None
        is_allowed = False
    if not is_allowed:
        raise await refusal(session_id, request, state)


changes = APIRouter(
    prefix="/v1/sessions",
    tags=["sessions"],
    dependencies=[Depends(allowed)],
    responses={
        401: {"model": Problem, "description": "The token is missing or wrong."},
        403: {
            "model": Problem,
            "description": "This session may be read only: the key to change it is missing.",
        },
        422: {"model": Problem, "description": "The request holds what it may not."},
        503: {"model": Problem, "description": "The database does not answer."},
        **UNKNOWN,
    },
)
CONFLICTS: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "The session is not over yet."},
    412: {"model": Problem, "description": "Somebody else has changed the transcript since."},
    413: {"model": Problem, "description": "These are more changes than are made at once."},
    428: {"model": Problem, "description": "`If-Match` is missing."},
}
BODY_TIMEOUT = 30.0
"""Seconds that a peer has for what is to be changed."""
IfMatch = Annotated[
    str | None, Header(max_length=100, description="`ETag` of the transcript that is to be changed")
]


async def read_body(request: Request, most_bytes: int, complaint: str) -> bytes:
    """Read the body of a request; one that is longer gets 413 and is read no further."""
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise HTTPException(413, complaint)
    except TimeoutError:
        raise HTTPException(408, f"The request was not complete within {BODY_TIMEOUT:g} seconds.") from None
    return body


def body_of(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that is read by hand."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


@changes.delete(
    "/{session_id}",
    summary="Erase a session",
    status_code=204,
    responses={202: {"description": "Erased here, and in the object store once that can be reached."}},
)
async def erase(session_id: SessionId, state: State) -> Response:
    """End a session if it goes on, and erase its audio, its text and a webhook that was not delivered."""
    # Not left half done where the client does not wait for it.
    erased = await asyncio.shield(state.registry.erase(session_id))
    state.viewers.forget(session_id)
    state.exports.forget(session_id)
    if not erased:
        raise unknown_session(session_id)
    is_gone = state.archive is None or await state.archive.erase(session_id)
    return Response(status_code=204 if is_gone else 202)


@changes.delete("/{session_id}/links", summary="Revoke the links for its audience", status_code=204)
async def revoke_links(session_id: SessionId, state: State) -> None:
    """Have no link for the audience count that was made so far, and let go of those who watch by one. The
    session has another one from then on."""
    if not state.access.asks:
        raise HTTPException(409, "This server asks nobody for a token: its links hold nothing to revoke.")
    try:
        await state.links.revoke(session_id)
    except KeyError:
        raise unknown_session(session_id) from None


@changes.patch(
    "/{session_id}",
    summary="Give a session a title",
    response_model=Title,
    openapi_extra=body_of(
        {"type": "object", "properties": {"title": {"type": "string", "maxLength": MAX_TITLE}}},
        {"title": "Town meeting"},
    ),
)
async def entitle(session_id: SessionId, request: Request, state: State) -> Title:
    """Have a session called by a title; an empty one, or null, takes it away."""
    body = await read_body(request, LARGEST_NAMES_BYTES, "This is more than a title can hold.")
    try:
        title = read_title(body)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    try:
        await state.catalogue.set_title(session_id, title)
    except KeyError:
        raise unknown_session(session_id) from None
    state.viewers.entitle(session_id, title)
    return Title(title=title)


@changes.put(
    "/{session_id}/names",
    summary="Name the speakers",
    response_model=Names,
    openapi_extra=body_of(
        {"type": "object", "additionalProperties": {"type": "string", "maxLength": MAX_NAME}},
        {"SPEAKER_00": "Anna", "S2": "Ben"},
    ),
)
async def name_speakers(session_id: SessionId, request: Request, state: State) -> Names:
    """Replace the names of a session's speakers, by label; an empty name removes one.

    They stand in place of the labels in `vtt`, `srt`, `txt` and `docx`. A name for a live label counts for
    the final speaker that it became, unless that one has a name of its own.
    """
    body = await read_body(request, LARGEST_NAMES_BYTES, "These are more names than can be kept.")
    try:
        names = read_names(body)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    try:
        await state.catalogue.set_names(session_id, names)
    except KeyError:
        raise unknown_session(session_id) from None
    state.viewers.name(session_id, names)
    return Names(names=names)


@changes.post(
    "/{session_id}/corrections",
    summary="Correct the transcript by hand",
    response_model=Corrected,
    responses=CONFLICTS,
    openapi_extra=body_of(
        {
            "type": "object",
            "properties": {
                "edits": {
                    "type": "array",
                    "items": EditModel.model_json_schema(),
                    "minItems": 1,
                    "maxItems": MAX_EDITS,
                }
            },
            "required": ["edits"],
        },
        {"edits": [{"segment": 3, "word": 1, "text": "Thornton"}, {"segment": 4, "speaker": "SPEAKER_01"}]},
    ),
)
async def correct(
    session_id: SessionId, request: Request, response: Response, state: State, if_match: IfMatch = None
) -> Corrected:
    """Change words and speakers of a session that is over: all of the changes are made, or none.

    What follows is revision 2, which all exports have from then on; revisions 0 and 1 stay. `segment` and
    `word` count from 0 in the transcript that `If-Match` names by its `ETag`.
    """
    tag = tag_in(if_match)
    body = await read_body(
        request, LARGEST_EDITS_BYTES, "These are more changes than are made at once: send them in parts."
    )
    try:
        edits = EditRequest.model_validate_json(body).read()
    except ValidationError as error:
        raise HTTPException(422, sentence_of(error.errors()[0])) from None
    except EditError as error:
        raise HTTPException(422, str(error)) from None
    try:
        best = await state.catalogue.corrections.correct(session_id, tag, edits)
    except EditError as error:
        raise HTTPException(422, str(error)) from None
    except (KeyError, NotOver, Outdated) as error:
        raise_problem(session_id, error)
    return answer(best, session_id, response, state)


@changes.delete(
    "/{session_id}/corrections",
    summary="Take all corrections back",
    response_model=Corrected,
    responses=CONFLICTS,
)
async def take_back(
    session_id: SessionId, response: Response, state: State, if_match: IfMatch = None
) -> Corrected:
    """Make the transcript again what it was before people changed it."""
    try:
        best = await state.catalogue.corrections.take_back(session_id, tag_in(if_match))
    except (KeyError, NotOver, Outdated) as error:
        raise_problem(session_id, error)
    return answer(best, session_id, response, state)


def tag_in(if_match: str | None) -> str:
    """Read the name of the state that is to be changed; a proxy that compresses makes it a weak one."""
    if if_match is None:
        detail = "Send `If-Match` with the `ETag` that came with the transcript: others may change it, too."
        raise HTTPException(428, detail)
    tag = if_match.strip().removeprefix("W/").strip('"')
    return "-".join(tag.split("-")[:2])  # what follows stands for the names, which are no part of it


def answer(best: Best, session_id: str, response: Response, state: State) -> Corrected:
    """Tell what the transcript is now, and have viewers who come later see it."""
    state.viewers.forget(session_id)
    response.headers["ETag"] = f'"{best.tag}"'
    return Corrected(revision=best.result.final.revision, segments=len(best.result.final.segments))


def raise_problem(session_id: str, error: Exception) -> NoReturn:
    """Answer why a transcript is not changed."""
    if isinstance(error, NotOver):
        detail = "This session is not over yet: correct its transcript once it is done."
        raise HTTPException(409, detail) from None
    if isinstance(error, Outdated):
        detail = (
            "Somebody else has changed this transcript since: fetch it once more and make the changes there."
        )
        raise HTTPException(412, detail) from None
    raise unknown_session(session_id) from None
