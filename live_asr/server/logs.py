"""Where log lines go and what they look like."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import orjson

from live_asr.sessions.tracing import session_id

TOKEN = re.compile(r"([?&]token=)[^&#\s]*")
"""A token in the query of an address: `EventSource` has no other way to send it."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines; `fields` of a record, by name, stand beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if session := session_id.get():
            line["session"] = session
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


class TextFormatter(logging.Formatter):
    """One line for people; it begins with the session that it is about, where it does not name it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is logging's
        """Return the line, without what follows of an exception."""
        session = session_id.get()
        if session and session not in record.message:
            record.message = f"session {session}: {record.message}"
        return super().formatMessage(record)


class WithoutTokens(logging.Filter):
    """Leave out of a line what is secret in a query: who reads the log shall not learn it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Blank the secrets of a record, which is always shown."""
        if isinstance(record.args, tuple):
            record.args = tuple(_blanked(one) if isinstance(one, str) else one for one in record.args)
        return True


def _blanked(text: str) -> str:
    return TOKEN.sub(r"\1********", text)


def log_config(level: str, style: str) -> dict[str, Any]:
    """Return the logging set-up, in the standard library's dictionary form; lines go to stderr."""
    text = {"()": TextFormatter, "fmt": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"}
    formatter = {"()": JsonFormatter} if style == "json" else text
    # What uvicorn has to say at "info" is its own start and stop; we print better.
    uvicorn_level = "INFO" if level == "debug" else "WARNING"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "filters": {"without tokens": {"()": WithoutTokens}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["without tokens"]}
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "live_asr": {"level": level.upper()},
            "uvicorn": {"level": uvicorn_level},
        },
    }
