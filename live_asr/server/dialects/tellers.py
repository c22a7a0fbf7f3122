"""What foreign clients are told of an end that no conversation has a say in, such as a frame too large."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import orjson

from live_asr.core.errors import LiveAsrError, told
from live_asr.server.dialects.openai_errors import fault_of

Teller = Callable[[LiveAsrError], bytes]


def _whisperlivekit(error: LiveAsrError) -> bytes:
    return orjson.dumps({"type": "error", "error": str(told(error))})


def _realtime(error: LiveAsrError) -> bytes:
    fault = {**fault_of(error), "event_id": None}
    return orjson.dumps({"event_id": f"event_{secrets.token_hex(10)}", "type": "error", "error": fault})


def _deepgram(error: LiveAsrError) -> bytes:
    return orjson.dumps({"type": "Error", "variant": error.code, "description": str(told(error))})


TELLERS: Mapping[str, Teller] = {
    "/asr": _whisperlivekit,
    "/v1/realtime": _realtime,
    "/v1/listen": _deepgram,
}
"""By how the path of a WebSocket ends."""
