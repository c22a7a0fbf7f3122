"""Requests that bring a file: who may send one, when it is taken, and what happens when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect

from live_asr.core.errors import LiveAsrError
from live_asr.inference.ipc import Loaded
from live_asr.server.access import Grant, token_in
from live_asr.server.dialects.uploads import discard, read_form
from live_asr.server.sse import is_gone
from live_asr.server.state import ServerState
from live_asr.sessions.admission import Client
from live_asr.sessions.resume import loading

T = TypeVar("T")
NOBODY = 499
"""Status for the log: the client has gone."""


def form_with(*texts: str, required: Sequence[str] = ("file",)) -> dict[str, Any]:
    """Return what `/docs` shows of a form with a `file` and these fields."""
    fields = {"file": {"type": "string", "format": "binary"}, **{name: {"type": "string"} for name in texts}}
    schema = {"type": "object", "properties": fields, "required": list(required)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


async def admit(request: Request, state: ServerState, *scopes: str) -> Grant:
    """Let a request pass whose page and token may. Raises LiveAsrError, as `Access.admit`."""
    state.access.check_origin(request)
    return await state.access.admit(request, token_in(request), *scopes)


def models_of(state: ServerState) -> Loaded:
    """Return what is loaded. Raises Unavailable as long as there is nothing."""
    if state.engine.loaded is None:
        raise loading("The models are still being loaded.")
    return state.engine.loaded


@asynccontextmanager
async def received(request: Request, state: ServerState) -> AsyncIterator[tuple[FormData, Client]]:
    """Read a form, and whose it is, for as long as the block lasts, unless the request is refused.

    Raises as `admit`, `models_of` and `read_form` do, and Unavailable where there is no room for a session.
    """
    server = state.settings.server
    try:
        client = (await admit(request, state, "caption")).client
        models_of(state)
        if not state.registry.has_room:
            raise state.registry.full()
    except LiveAsrError:
        await discard(request)
        raise
    form = await read_form(request, state.settings.storage.data, server.max_upload_bytes)
    try:
        yield form, client
    finally:
        await form.close()


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do work for as long as somebody waits for it. Raises ClientDisconnect where nobody does any more."""
    working = asyncio.create_task(work)
    gone = asyncio.create_task(is_gone(request.receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)
