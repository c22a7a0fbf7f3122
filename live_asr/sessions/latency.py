"""How late the words of a live session are, as the server sees it. No I/O, no clock of its own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from live_asr.core.messages import Commit, Partial, ServerMessage

RESOLUTION = 0.05
"""Seconds: audio that arrives within them counts as arrived at once."""
MAX_ARRIVALS = 4000
"""What is remembered: a minute and a half at least. Words that are later still count as so late."""


class WordLatency:
    """From when the end of a word arrived to when it is first shown, and to when it is committed.

    `on_first` and `on_commit` are called with the seconds of each word. Times are seconds of any one clock.
    """

    def __init__(self, on_first: Callable[[float], None], on_commit: Callable[[float], None]) -> None:
        self._on_first = on_first
        self._on_commit = on_commit
        self._ends: list[float] = []
        """Positions in the audio, in seconds, and beside them when they were reached."""
        self._times: list[float] = []
        self._since: float | None = None
        """What came before that position, another run of the server took."""
        self._shown = 0.0
        """Up to where words were shown."""

    def note_audio(self, start: float, end: float, now: float) -> None:
        """Take note that audio from `start` to `end` has arrived, in seconds from the session's beginning."""
        if self._since is None:
            self._since = start
        elif now - self._times[-1] < RESOLUTION:
            self._ends[-1] = end
            return
        self._ends.append(end)
        self._times.append(now)
        if len(self._ends) > MAX_ARRIVALS:
            del self._ends[: MAX_ARRIVALS // 2]
            del self._times[: MAX_ARRIVALS // 2]

    def note_message(self, message: ServerMessage, now: float) -> None:
        """Take note of what is said to the client."""
        if not isinstance(message, Commit | Partial) or self._since is None:
            return
        for word in message.words:
            if word.end <= self._since:
                continue
            late = max(0.0, now - self._arrival_of(word.end))
            # A word's ends move a little from one decode to the next; its middle stays between them.
            if (word.start + word.end) / 2 > self._shown:
                self._on_first(late)
            if isinstance(message, Commit):
                self._on_commit(late)
        if message.words:
            self._shown = max(self._shown, message.words[-1].end)

    def _arrival_of(self, position: float) -> float:
        return self._times[min(bisect_left(self._ends, position), len(self._times) - 1)]
