"""Who spoke as heard live, laid over the speech that the pipeline found: another guess at who said what.

The pipeline clusters voices by windows of 10 s, in which it may take two people who take turns for one. Of a
talk of half a minute there are few windows, and nothing to make up for the ones that are wrong. Live, each
stretch was listened to by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from live_asr.core.speaker_timeline import FRAME_SAMPLES
from live_asr.core.types import Turn, samples
from live_asr.full_pass.speaker_reassignment import joined

MIN_FRAMES = samples(0.2) // FRAME_SAMPLES
"""Both may be wrong by so much on where a turn begins: who is heard for less of one did not say it."""
NOBODY = -1


def with_live_speakers(turns: Sequence[Turn], live_turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return the pipeline's turns, cut and named after who was heard in each of them live; by start.

    Where nobody or several were heard, a turn goes to who was heard next to that in the same turn. One in
    which that is so all along goes to whoever was heard and has not got that stretch, else to whom the
    pipeline's speaker is taken for elsewhere. One who was never heard live keeps a name of their own.
    """
    names = sorted({turn.speaker for turn in live_turns})
    length = max((_last(turn) for turn in (*turns, *live_turns)), default=0)
    live = np.zeros((length, len(names)), np.bool_)
    for turn in live_turns:
        live[_first(turn) : _last(turn), names.index(turn.speaker)] = True
    speaking = np.zeros(length, np.int16)
    for turn in turns:
        speaking[_first(turn) : _last(turn)] += 1
    heard = np.where((live.sum(axis=1) == 1) & (speaking == 1), live.argmax(axis=1), NOBODY)
    given = np.zeros_like(live)
    usual = {turn.speaker: np.zeros(len(names), np.int64) for turn in turns}
    found: list[Turn] = []
    unheard: list[Turn] = []
    for turn in turns:
        frames = slice(_first(turn), _last(turn))
        speakers = _without_gaps(heard[frames])
        if speakers is None:
            unheard.append(turn)
            continue
        given[np.arange(frames.start, frames.stop), speakers] = True
        usual[turn.speaker] += np.bincount(speakers, minlength=len(names))
        found += (replace(part, speaker=names[int(part.speaker)]) for part in _parts(turn, speakers))
    for turn in unheard:
        frames = slice(_first(turn), _last(turn))
        free = (live[frames] & ~given[frames]).sum(axis=0)
        share = free if free.any() else usual[turn.speaker]
        name = names[int(share.argmax())] if share.any() else f"unheard {turn.speaker}"
        found.append(replace(turn, speaker=name))
    return joined(found)


def _without_gaps(heard: NDArray[np.intp]) -> NDArray[np.intp] | None:
    """Give frames in which nobody is known to who is heard nearest to them; None where nobody is at all."""
    known = heard.copy()
    edges = np.flatnonzero(np.diff(heard)) + 1
    for frames in np.split(np.arange(len(heard)), edges):
        if len(frames) < MIN_FRAMES:
            known[frames] = NOBODY
    if not (known != NOBODY).any():
        known = heard
    frames = np.flatnonzero(known != NOBODY)
    if not frames.size:
        return None
    nearest = np.searchsorted((frames[1:] + frames[:-1]) / 2, np.arange(len(heard)))
    return np.asarray(known[frames[nearest]])


def _parts(turn: Turn, speakers: NDArray[np.intp]) -> Iterable[Turn]:
    """Cut a turn where its speaker changes; speakers are numbers."""
    first = _first(turn)
    cuts = [
        first * FRAME_SAMPLES + int(edge) * FRAME_SAMPLES for edge in np.flatnonzero(np.diff(speakers)) + 1
    ]
    bounds = [turn.start_sample, *cuts, turn.end_sample]
    for start, end in itertools.pairwise(bounds):
        yield Turn(start, end, str(speakers[min(start // FRAME_SAMPLES - first, len(speakers) - 1)]))


def _first(turn: Turn) -> int:
    return turn.start_sample // FRAME_SAMPLES


def _last(turn: Turn) -> int:
    return max(_first(turn) + 1, -(-turn.end_sample // FRAME_SAMPLES))
