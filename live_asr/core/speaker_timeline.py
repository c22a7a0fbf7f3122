"""Who speaks in which frame, as far back as it may still change; and the turns that come of it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from live_asr.core.types import SpeakerLabel, Turn, samples

FloatArray = NDArray[np.float32]

FRAME_SAMPLES = 320
"""Activity is known every 20 ms."""
UNKNOWN = 0
"""Column of the timeline for somebody who is not told yet; speaker n has column n + 1."""
SHORTEST_PAUSE_SAMPLES = samples(0.2)
"""A shorter one does not end a turn."""
MIN_OF_WORD_SAMPLES = samples(0.1)
"""So much that is heard before a pause is a word; less is what was left of the one before it."""


class TurnList:
    """Turns as they grow out of rows of activity."""

    def __init__(self) -> None:
        self._done: list[Turn] = []
        self._open: dict[int, tuple[int, int]] = {}

    def copy(self) -> TurnList:
        """Return one that may grow by itself."""
        other = TurnList()
        other._done, other._open = list(self._done), dict(self._open)
        return other

    def extend(self, rows: FloatArray, start_frame: int) -> None:
        """Take rows of activity, shape (frames, speakers + 1), that follow on the ones before."""
        for column in range(1, rows.shape[1]):
            active = np.flatnonzero(rows[:, column] > 0.5)
            if not active.size:
                continue
            for run in np.split(active, np.flatnonzero(np.diff(active) > 1) + 1):
                self._grow(column, start_frame + int(run[0]), start_frame + int(run[-1]) + 1)

    def _grow(self, column: int, first: int, last: int) -> None:
        begun = self._open.get(column)
        if begun is not None and (first - begun[1]) * FRAME_SAMPLES <= SHORTEST_PAUSE_SAMPLES:
            self._open[column] = (begun[0], last)
            return
        if begun is not None:
            self._done.append(_turn(column, *begun))
        self._open[column] = (first, last)

    def all(self) -> tuple[Turn, ...]:
        """Return the turns, in order of their start."""
        turns = self._done + [_turn(column, *begun) for column, begun in self._open.items()]
        return tuple(sorted(turns, key=lambda turn: (turn.start_sample, turn.speaker)))


def _before_pause(rows: FloatArray) -> FloatArray:
    """Return the rows before the first pause behind something that was said; all where there is none."""
    spoken = rows.sum(axis=1) > 0.5
    heard = silent = 0
    for index, is_spoken in enumerate(spoken.tolist()):
        if is_spoken:
            heard, silent = heard + 1, 0
            continue
        silent += 1
        if silent * FRAME_SAMPLES >= SHORTEST_PAUSE_SAMPLES:
            if heard * FRAME_SAMPLES >= MIN_OF_WORD_SAMPLES:
                return rows[: index + 1]
            heard = 0
    return rows


def _turn(column: int, first: int, last: int) -> Turn:
    return Turn(first * FRAME_SAMPLES, last * FRAME_SAMPLES, live_label(column))


@cache
def live_label(column: int) -> SpeakerLabel:
    """Return the label of a speaker of a live session: one string for all words that a long session keeps."""
    return f"S{column}"


class Timeline:
    """The latest frames of a session, and how much each speaker speaks in them, 0 to 1.

    `memory_frames` are kept; what is older has become turns for good.
    """

    def __init__(self, memory_frames: int) -> None:
        self._memory_frames = memory_frames
        self._rows = np.zeros((0, 1), np.float32)
        self._turns = TurnList()
        self.start_frame = 0
        """The first frame that is kept."""

    @classmethod
    def restored(cls, memory_frames: int, end_sample: int, turns: Iterable[Turn], speakers: int) -> Timeline:
        """Return one in which these turns of `speakers` were seen, up to `end_sample`."""
        rows = np.zeros((end_sample // FRAME_SAMPLES, speakers + 1), np.float32)
        for turn in turns:
            first, last = turn.start_sample // FRAME_SAMPLES, turn.end_sample // FRAME_SAMPLES
            rows[first:last, int(turn.speaker[1:])] = 1.0
        timeline = cls(memory_frames)
        timeline.write(0, rows)
        return timeline

    @property
    def end_frame(self) -> int:
        """One past the last frame."""
        return self.start_frame + len(self._rows)

    def at(self, frames: NDArray[np.intp], columns: int) -> FloatArray:
        """Return the rows of these frames, shape (len(frames), columns), without those that are not kept."""
        kept = frames[(frames >= self.start_frame) & (frames < self.end_frame)] - self.start_frame
        self._widen(columns)
        return self._rows[kept]

    def share_of_word(self, start_sample: int, end_sample: int) -> FloatArray | None:
        """Return each column's mean during a word; None where that is not kept.

        Nobody pauses inside a word: the aligner lets it run on through the pause that follows, and into what
        is said next. What is heard behind a pause does not count.
        """
        first = start_sample // FRAME_SAMPLES
        last = max(-(-end_sample // FRAME_SAMPLES), first + 1)
        if first < self.start_frame or first >= self.end_frame:
            return None
        rows = _before_pause(self._rows[first - self.start_frame : last - self.start_frame])
        return np.asarray(rows.mean(axis=0), np.float32)

    def write(self, start_frame: int, rows: FloatArray) -> None:
        """Write rows from `start_frame` on; frames that were never looked at are silent."""
        self._widen(rows.shape[1])
        kept = self._rows[: start_frame - self.start_frame]
        gap = np.zeros((start_frame - self.start_frame - len(kept), rows.shape[1]), np.float32)
        self._rows = np.concatenate([kept, gap, rows])
        surplus = len(self._rows) - self._memory_frames
        if surplus > 0:
            self._turns.extend(self._rows[:surplus], self.start_frame)
            self._rows = self._rows[surplus:]
            self.start_frame += surplus

    def turns(self) -> tuple[Turn, ...]:
        """Return who spoke when, from the session's start on, in order of the turns' start."""
        turns = self._turns.copy()
        turns.extend(self._rows, self.start_frame)
        return turns.all()

    def copy(self) -> Timeline:
        """Return one that stays as it is: for another thread to read while this one goes on."""
        other = Timeline(self._memory_frames)
        other._rows = self._rows  # never written in place
        other._turns = self._turns.copy()
        other.start_frame = self.start_frame
        return other

    def _widen(self, columns: int) -> None:
        missing = columns - self._rows.shape[1]
        if missing > 0:
            self._rows = np.pad(self._rows, ((0, 0), (0, missing)))
