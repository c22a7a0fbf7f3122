"""Errors in the shape of OpenAI's API."""

from __future__ import annotations

import orjson
from fastapi import Response

from live_asr.core.errors import ClientError, LiveAsrError, StorageError, Unavailable, told

STATUS = {
    "unauthorized": 401,
    "origin_not_allowed": 403,
    "forbidden": 403,
    "model_not_found": 404,
    "too_large": 413,
    "upload_too_large": 413,
    "not_a_form": 415,
    "language_unsupported": 422,
    "task_unsupported": 422,
    "server_full": 429,
    "quota_reached": 429,
    "too_many_tries": 429,
    "too_many_requests": 429,
}
"""HTTP status by our code; what is not here is 400 for what the client did, else 503 or 500."""
CODES = {
    "unauthorized": "invalid_api_key",
    "server_full": "rate_limit_exceeded",
    "quota_reached": "insufficient_quota",
    "too_many_tries": "rate_limit_exceeded",
    "too_many_requests": "rate_limit_exceeded",
}
"""OpenAI's code where it has one for the same; else ours."""
TYPES = {401: "invalid_request_error", 429: "rate_limit_error"}


class BadParameter(ClientError):
    """A parameter holds what it may not; `param` names it as the API does."""

    def __init__(self, param: str, message: str, *, code: str = "invalid_value") -> None:
        super().__init__(code, message)
        self.param = param


def status_of(error: LiveAsrError) -> int:
    """Return the HTTP status that tells of an error."""
    if error.code in STATUS:
        return STATUS[error.code]
    if isinstance(error, Unavailable | StorageError):
        return 503
    # What cannot be read as audio is the client's mistake as well, whichever part of the server finds it.
    return 400 if isinstance(error, ClientError) or error.code == "not_audio" else 500


def fault_of(error: LiveAsrError) -> dict[str, object]:
    """Return an error as the API describes it."""
    status = status_of(error)
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    # Named by what was raised for a parameter.
    param = getattr(error, "param", "file" if error.code == "no_file" else None)
    code = CODES.get(error.code, error.code)
    return {"message": str(told(error)), "type": kind, "param": param, "code": code}


def response_of(error: LiveAsrError) -> Response:
    """Return an error as the API answers it."""
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = f"{error.retry_after:.0f}"
    if error.code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    body = orjson.dumps({"error": fault_of(error)})
    return Response(body, status_of(error), headers, media_type="application/json")
