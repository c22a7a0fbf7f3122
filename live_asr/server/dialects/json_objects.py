"""JSON objects as foreign clients send them, by messages or as bodies: what was read can be told back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from live_asr.core.errors import ClientError
from live_asr.core.fields import describe, parse_json

SURROGATE = r"\\u[dD][89a-fA-F]"
IN_TEXT, IN_BYTES = re.compile(SURROGATE), re.compile(SURROGATE.encode())


def read_object(text: str | bytes, holder: str = "message") -> Mapping[str, Any]:
    """Read a JSON object; `holder` is what it came as, for the sentence about a fault.

    Raises ClientError `not_json` or `bad_message`, for lone surrogates as well: JSON can spell them, but no
    answer that repeats one could be sent.
    """
    try:
        value = parse_json(text)
    except ClientError as error:
        # The hint is about our own protocol's frames.
        message = error.message.replace("The text frame", f"The {holder}", 1)
        raise ClientError(error.code, message, close_code=error.close_code) from None
    if not isinstance(value, Mapping):
        raise ClientError("bad_message", f"The {holder} must be a JSON object, not {describe(value)}.")
    is_suspect = IN_TEXT.search(text) if isinstance(text, str) else IN_BYTES.search(text)
    if is_suspect and not _can_be_told(value):
        raise ClientError("bad_message", f"The {holder} holds a lone surrogate, which is no character.")
    return value


def _can_be_told(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True
