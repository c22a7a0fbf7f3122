"""How Deepgram's clients are told what went wrong."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from live_asr.core.errors import LiveAsrError, MediaError, Unavailable
from live_asr.core.errors import told as public
from live_asr.server.dialects.openai_errors import status_of

MAX_REASON_BYTES = 123
"""Of a WebSocket's close."""
UNDECODABLE, IDLE = "DATA-0000", "NET-0001"
"""Deepgram's names for audio that is none, and for a client that says nothing."""
CODES = {
    401: "INVALID_AUTH",
    403: "FORBIDDEN",
    413: "PAYLOAD_TOO_LARGE",
    429: "TOO_MANY_REQUESTS",
    500: "INTERNAL_SERVER_ERROR",
    503: "SERVICE_UNAVAILABLE",
}
"""Deepgram's names by status; all else is 400."""


def refusal(error: LiveAsrError, request_id: str) -> JSONResponse:
    """Return the answer to a request that is refused."""
    status = status_of(error)
    code = CODES.get(status, "Bad Request")
    status = status if status in CODES else 400
    if error.code == "remote_content":
        code = "REMOTE_CONTENT_ERROR"
    headers = {"dg-request-id": request_id, "dg-error": _one_line(str(public(error)))}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = f"{error.retry_after:.0f}"
    body = {"err_code": code, "err_msg": str(public(error)), "request_id": request_id}
    return JSONResponse(body, status_code=status, headers=headers)


def told(error: LiveAsrError, request_id: str) -> dict[str, Any]:
    """Return the message that says why a stream ends."""
    return {
        "type": "Error",
        "variant": error.code,
        "description": str(public(error)),
        "request_id": request_id,
    }


def close_of(error: LiveAsrError) -> tuple[int, str]:
    """Return close code and reason of a stream that fails."""
    if isinstance(error, MediaError) or error.code == "not_audio":
        return 1008, UNDECODABLE
    name = IDLE if error.code == "idle" else error.code
    return error.close_code, f"{name}: {_one_line(public(error).message)}"[:MAX_REASON_BYTES]


def warning_headers(request_id: str, warnings: tuple[str, ...]) -> dict[str, str]:
    """Return the headers of an answer: its number, and what of the request has no effect."""
    headers = {"dg-request-id": request_id}
    if warnings:
        headers["live-asr-warning"] = _one_line(" ".join(warnings))
    return headers


def _one_line(text: str) -> str:
    """Return text as a header may hold it."""
    return " ".join(text.split()).encode("ascii", "replace").decode()[:500]
