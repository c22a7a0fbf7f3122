"""What a session waits for, as spans, and whose log lines are whose.

Spans go to a tracer of OpenTelemetry's where the server was told to use one, and nowhere otherwise. Which
session is worked for goes with the task, and with those that it starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol

Attribute = str | bool | int | float

session_id: ContextVar[str] = ContextVar("session_id", default="")
"""The session that is worked for; "" where it is none."""


class Span(Protocol):
    """A stretch of work that is under way."""

    def set_attribute(self, key: str, value: Attribute) -> None:
        """Say something of it."""
        ...


class Tracer(Protocol):
    """What OpenTelemetry's tracers offer, as far as it is needed here."""

    def start_as_current_span(
        self, name: str, *, attributes: Mapping[str, Attribute]
    ) -> AbstractContextManager[Span]:
        """Begin a span, below the one that is under way."""
        ...


class _Untold:
    def set_attribute(self, key: str, value: Attribute) -> None:
        """Do nothing: nobody wants to know."""


_UNTOLD = _Untold()
_tracers: list[Tracer] = []


def use(tracer: Tracer | None) -> None:
    """Have spans told to a tracer from now on, or to nobody."""
    _tracers[:] = [] if tracer is None else [tracer]


@contextmanager
def span(name: str, **attributes: Attribute | None) -> Iterator[Span]:
    """Have what is done in the block told as a span, below the one around it; what is None is left out."""
    if not _tracers:
        yield _UNTOLD
        return
    told = {f"live_asr.{key}": value for key, value in attributes.items() if value is not None}
    with _tracers[0].start_as_current_span(name, attributes=told) as under_way:
        yield under_way
