"""Where log lines go and what they look like."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import orjson

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
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


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
    text = {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"}
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
