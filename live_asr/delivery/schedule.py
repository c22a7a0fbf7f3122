"""When a delivery is tried again. Pure: the clock and the dice are passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

DELAYS = (5.0, 30.0, 120.0, 600.0, 3600.0, 21600.0)
"""Seconds before the second try, the third …; the first is made at once, and none follows the last."""
JITTER = 0.2
"""A delay is this share longer or shorter, so that what failed together does not come back together."""
MAX_RETRY_AFTER = 24 * 3600.0
"""Seconds of `Retry-After` that are believed."""


def delay_before_next(
    tries: int,
    chance: Callable[[], float],
    *,
    retry_after: float | None = None,
    delays: Sequence[float] = DELAYS,
) -> float | None:
    """Return the seconds until the next try after `tries` of them; None when there is none left.

    `chance` returns a random number from 0 to 1. The receiver's `retry_after`, in seconds, makes the
    delay longer, never shorter, and at most a day, the dice included.
    """
    if tries > len(delays):
        return None
    delay = delays[tries - 1] * (1 - JITTER + 2 * JITTER * chance())
    if retry_after is None:
        return delay
    asked = retry_after * (1 + JITTER * chance())  # not before what was asked, and not all at once
    return max(delay, min(asked, MAX_RETRY_AFTER))


def read_retry_after(value: str, now: float) -> float | None:
    """Read `Retry-After` (RFC 9110, 10.2.3), seconds or a date, as seconds from `now` (Unix time) on.

    Returns None for what is neither. The receiver wrote it: nothing in it raises.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:12]), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # no date; a year, a day or an offset that C cannot hold
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)  # "-0000" and asctime's form: both mean UTC here
    return min(max(date.timestamp() - now, 0.0), MAX_RETRY_AFTER)
