"""How clients of OpenAI's API are told what went wrong."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from live_asr.errors import ClientError, LiveAsrError, MediaError, StorageError, Unavailable, told

STATUS = {
    "unauthorized": 401,
    "origin_not_allowed": 403,
    "forbidden": 403,
    "too_large": 413,
    "server_full": 429,
    "too_many_tries": 429,
}


def fault(error: LiveAsrError) -> dict[str, Any]:
    """Return an error as the API describes it."""
    if error.code == "unauthorized":
        kind, code = "invalid_request_error", "invalid_api_key"
    elif STATUS.get(error.code) == 429:
        kind, code = "rate_limit_error", "rate_limit_exceeded"
    elif isinstance(error, ClientError | MediaError):
        kind, code = "invalid_request_error", error.code
    else:
        kind, code = "server_error", error.code
    return {"type": kind, "code": code, "message": str(told(error)), "param": getattr(error, "param", None)}


def refusal(error: LiveAsrError) -> JSONResponse:
    """Return the answer to a request that is refused."""
    if error.code in STATUS:
        status = STATUS[error.code]
    elif isinstance(error, ClientError | MediaError):
        status = 400
    else:
        status = 503 if isinstance(error, Unavailable | StorageError) else 500
    headers = {"Retry-After": f"{error.retry_after:.0f}"} if isinstance(error, Unavailable) else {}
    return JSONResponse({"error": fault(error)}, status_code=status, headers=headers)
