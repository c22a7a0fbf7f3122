"""Wall-clock times as they go over the wire, and what of them a session takes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

MAX_POINTS = 1000
"""A session takes so many: one a minute for 16 hours. All of them stand in the result."""


class Point(Protocol):
    """A position of the audio and the time at which it was recorded."""

    @property
    def audio(self) -> float:
        """Seconds since the session's first sample."""

    @property
    def at(self) -> str:
        """Wall-clock time as `utc_text` writes it: such texts are in order as their times are."""


def utc_text(at: datetime) -> str:
    """Write a time that knows its zone as ISO 8601 in UTC, to the millisecond: 2026-11-21T14:05:09.120Z.

    Raises ValueError where it knows none, or lies before 1970 or after 9999 by then.
    """
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    try:
        utc = at.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time beyond the calendar") from None
    if utc.year < 1970:
        raise ValueError("a time before 1970")
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def objection(point: Point, earlier: Sequence[Point]) -> str | None:
    """Say why a session does not take a point after these, in a sentence; None where it does."""
    if len(earlier) >= MAX_POINTS:
        return f"The session has {MAX_POINTS} times of its audio already, and takes no more."
    if not earlier:
        return None
    last = earlier[-1]
    if point.audio < last.audio:
        return (
            f"The time of {point.audio:g} s is not taken: that of {last.audio:g} s is known already, and"
            " times come in the order of the audio."
        )
    if point.at < last.at:
        return f"{point.at} at {point.audio:g} s is not taken: it was {last.at} at {last.audio:g} s already."
    return None
