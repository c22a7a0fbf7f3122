"""Decoded sound on its file's own clock: how much silence belongs between two stretches of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from live_asr.core.messages import Notice

Stretch = TypeVar("Stretch")

JITTER = 0.05
"""Seconds by which timestamps may be ahead of the sound before silence is put there."""
MAX_OVERLAP = 1.0
"""Timestamps that go back further are a clock that began anew, as where recordings are put end to end."""
MAX_GAP = 3600.0
"""Seconds of silence at most for one gap: timestamps beyond are no pause but another clock."""
FREE_SILENCE = 300.0
"""Seconds of silence that any file may ask for."""
BYTES_PER_SILENT_SECOND = 256
"""Encoded audio that pays for each further second of silence, so that small files ask for little."""
LATEST_BEGINNING = 60.0
"""Seconds up to which a file may begin whose clock starts at zero; one that begins later was joined late."""
FROM_ZERO = frozenset({"matroska", "mov", "asf", "flv"})
"""FFmpeg's names of formats whose clock starts at zero."""
FROM_ANYWHERE = frozenset({"ogg", "mpegts", "mpeg"})
"""Formats that carry timestamps as well, of a clock that may have run for long. All others have none."""


@dataclass(frozen=True, slots=True)
class SkippedGap:
    """A gap that was too long to be filled."""

    at: float
    """Seconds from the beginning, where it would have been."""
    length: float
    """Seconds."""

    def notice(self) -> Notice:
        """Return what to tell whoever sent the file."""
        at, length = timedelta(seconds=round(self.at)), timedelta(seconds=round(self.length))
        message = (
            f"The file's clock jumps ahead by {length} after {at}. That is left out: all times after it are"
            " earlier by as much."
        )
        return Notice("gap_skipped", message)


class Timeline(Generic[Stretch]):
    """Says how much silence goes before each stretch of a file's sound, so that its times are the file's.

    `formats` are FFmpeg's names of the file's format, `start` is where the first of its tracks begins.
    Nothing is ever taken away: sound that overlaps by its timestamps follows what was before it. A jump
    ahead counts once the next stretch does not take it back, so a single damaged timestamp does no harm.
    """

    def __init__(self, formats: str, start: float | None = None) -> None:
        self._formats = formats
        self._has_clock = bool((FROM_ZERO | FROM_ANYWHERE) & set(formats.split(",")))
        self._start = start
        self._origin: float | None = None
        self._position = 0.0
        self._credit = FREE_SILENCE
        self._held: tuple[Stretch, float, float] | None = None
        """A stretch after a gap, its time and its duration."""
        self.skipped: list[SkippedGap] = []
        """Gaps that were not filled, in order; whoever tells of them may remove them."""

    def place(
        self, stretch: Stretch, time: float | None, duration: float, size_bytes: int
    ) -> list[tuple[float, Stretch]]:
        """Take the next stretch, encoded in `size_bytes`; return what is settled, with silence before each.

        All times are in seconds. `time` is by the file's clock; None where it does not say.
        """
        if not self._has_clock:
            time = None  # it was counted from sizes, wrongly where the rate changes
        self._credit += size_bytes / BYTES_PER_SILENT_SECOND
        placed = self._settled(
            taken_back=time is not None and self._held is not None and time < self._held[1]
        )
        if time is None:
            return [*placed, self._put(stretch, 0.0, duration)]
        if self._origin is None:
            self._origin = origin(self._formats, time if self._start is None else min(time, self._start))
        ahead = time - self._origin - self._position
        if ahead > JITTER:
            self._held = (stretch, time, duration)
            return placed
        if ahead < -MAX_OVERLAP:
            self._origin = time - self._position
        return [*placed, self._put(stretch, 0.0, duration)]

    def finish(self) -> list[tuple[float, Stretch]]:
        """Return what waited for the stretch after it."""
        return self._settled(taken_back=False)

    def _settled(self, *, taken_back: bool) -> list[tuple[float, Stretch]]:
        if self._held is None or self._origin is None:
            return []
        (stretch, time, duration), self._held = self._held, None
        gap = 0.0 if taken_back else time - self._origin - self._position
        if gap > min(MAX_GAP, self._credit):
            self.skipped.append(SkippedGap(self._position, gap))
            self._origin, gap = time - self._position, 0.0
        self._credit -= gap
        return [self._put(stretch, gap, duration)]

    def _put(self, stretch: Stretch, gap: float, duration: float) -> tuple[float, Stretch]:
        self._position += gap + duration
        return gap, stretch


def origin(formats: str, start: float) -> float:
    """Return where on its clock a file begins whose first track starts at `start`, in seconds.

    `formats` are FFmpeg's names of its format, separated by commas.
    """
    starts_at_zero = bool(FROM_ZERO & set(formats.split(",")))
    return 0.0 if starts_at_zero and 0 <= start <= LATEST_BEGINNING else start
