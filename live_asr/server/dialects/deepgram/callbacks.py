"""Deepgram's `callback`: the result goes to a URL, by the outbox that webhooks go by.

What the request was is kept with its session, so that whichever run of the server ends it can tell of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson

from live_asr.core.errors import ClientError
from live_asr.core.messages import Final, Start, Webhook
from live_asr.server.dialects.deepgram.answers import Heard, answer_to
from live_asr.server.dialects.deepgram.parameters import Asked, bad, read_query
from live_asr.server.dialects.deepgram.results import Request

FORM = "deepgram"
"""What such a webhook's `form` is."""
MAX_QUERY = 8000
"""Of a request that names a callback: its query is kept with the session."""


def with_callback(asked: Asked, request: Request, query: str) -> Asked:
    """Return the request with a session that sends its result to the callback, where there is one.

    Raises ClientError for a query that is too long to be kept.
    """
    if asked.callback is None:
        return asked
    if len(query) > MAX_QUERY:
        bad(f"With `callback` the query may have {MAX_QUERY} characters, not {len(query)}.")
    # Where it goes is with the session's webhook, and nobody else's business: it may hold a password.
    kept = [item for item in parse_qsl(query, keep_blank_values=True) if not item[0].startswith("callback")]
    about = {
        "request_id": request.id,
        "model": request.model,
        "created": request.created.isoformat(),
        "query": urlencode(kept),
    }
    start = replace(asked.start, webhook=Webhook(asked.callback, FORM), metadata=about)
    return replace(asked, start=start)


def body_of(session_id: str, start: Start, final: Final, error: tuple[str, str] | None) -> bytes:
    """Return what is sent to a callback: the answer to a recording, or why there is none."""
    about: Mapping[str, Any] = start.metadata
    number = str(about.get("request_id", session_id))
    if error is not None:
        code, message = error
        return orjson.dumps({"err_code": code, "err_msg": message, "request_id": number})
    request = Request(str(about.get("model", "")), number, digest=None)
    try:
        request.created = datetime.fromisoformat(str(about["created"]))
        asked = read_query(parse_qsl(str(about.get("query", "")), keep_blank_values=True), is_live=False)
    except (ClientError, KeyError, ValueError):  # kept by another version, or not by us at all
        asked = Asked(start)
    return orjson.dumps(answer_to(Heard(session_id, final), asked, request))
