"""Captions that can be read: at most two lines of 42 columns and seven seconds.

They are broken where a reader would pause; the numbers are those of the BBC's and Netflix's subtitle
guidelines. Cutting is a shortest-path search over the words: about a quarter of a second for an hour of
speech.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from live_asr.core.passages import (
    CLAUSE_ENDS,
    CLOSING,
    LONG_PAUSE_SAMPLES,
    SENTENCE_ENDS,
    columns_of,
    ends_sentence,
    label_before,
    passages,
)
from live_asr.core.types import SAMPLE_RATE_HZ, Segment, SpeakerLabel, Word

LINE_COLUMNS = 42
"""Widest line of a cue; a wide (East Asian) character takes two columns."""
MAX_CUE_MS = 7_000
SHORTEST_CUE_MS = 1_000
"""Cues are held this long where the next one leaves room."""
_MIN_CUE_MS = 40
"""A cue lasts one frame at 25 Hz at least, even where speakers overlap: parsers refuse empty ones."""
_COLUMNS_PER_SECOND = 20
"""Reading speed to aim at: a cue lingers until it can have been read, where the next one leaves room."""
_PAUSE_SAMPLES = SAMPLE_RATE_HZ * 2 // 5
"""A silence between words that is a better place to break than a comma."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One caption: when, by whom, and its lines."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    """One or two lines."""
    speaker: SpeakerLabel | None = None


def cues(segments: Iterable[Segment], duration_samples: int, *, label_turns: bool = False) -> tuple[Cue, ...]:
    """Cut segments, in order of their start, into captions that follow one another without overlap.

    `label_turns` writes the speaker into the text at each change of speaker, for formats that have no
    other place for it.
    """
    uncut: list[Cue] = []
    for passage in passages(segments):
        text = "".join(word.text for word in passage.words)
        pieces = _pieces(passage.words, label_before(passage.speaker, text) if label_turns else "")
        for first, end in _cuts(pieces):
            group = pieces[first:end]
            uncut.append(
                Cue(_ms(group[0].start_sample), _ms(group[-1].end_sample), _wrap(group), passage.speaker)
            )
    return tuple(_timed(uncut, _ms(duration_samples)))


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a cue or a line is never broken inside: a word with what must stay attached to it."""

    text: str
    spaced: bool
    """A space goes before it, unless it opens a line."""
    start_sample: int
    end_sample: int
    columns: int
    break_cost: float
    """How much a reader minds a break after it: 0 at the end of a sentence."""


def _pieces(words: Sequence[Word], label: str = "") -> list[_Piece]:
    """Join what cannot be separated, split what is wider than a line, and weigh each break."""
    # Languages that write no spaces may be broken between any two words; in the others a word without a
    # leading space ("'s", "-like") belongs to the one before.
    writes_spaces = 2 * sum(word.text[:1].isspace() for word in words) > len(words)
    glued: list[tuple[str, bool, int, int]] = []
    for word in words:
        text = " ".join(word.text.split())
        if not text:
            continue
        spaced = word.text[0].isspace()
        attached = not spaced and (writes_spaces or text[0] in SENTENCE_ENDS + CLAUSE_ENDS + CLOSING)
        if glued and attached:
            before, before_spaced, start_sample, _ = glued[-1]
            glued[-1] = (before + text, before_spaced, start_sample, word.end_sample)
        else:
            glued.append((text, spaced, word.start_sample, word.end_sample))
    if glued and label:
        text, spaced, start_sample, end_sample = glued[0]
        glued[0] = (label + text, spaced, start_sample, end_sample)
    pieces = []
    for index, (text, spaced, start_sample, end_sample) in enumerate(glued):
        next_sample = glued[index + 1][2] if index + 1 < len(glued) else None
        parts = list(_split_wide(text))
        length_samples = max(0, end_sample - start_sample)
        for number, part in enumerate(parts):
            is_last = number == len(parts) - 1
            pieces.append(
                _Piece(
                    text=part,
                    spaced=spaced and number == 0,
                    start_sample=start_sample + length_samples * number // len(parts),
                    end_sample=start_sample + length_samples * (number + 1) // len(parts),
                    columns=columns_of(part),
                    break_cost=_break_cost(part, end_sample, next_sample) if is_last else 8.0,
                )
            )
    return pieces


def _break_cost(text: str, end_sample: int, next_sample: int | None) -> float:
    if next_sample is None:
        return 0.0
    if ends_sentence(text):
        return 0.0
    if next_sample - end_sample >= _PAUSE_SAMPLES:
        return 0.5
    return 1.0 if text.rstrip(CLOSING).endswith(tuple(CLAUSE_ENDS)) else 4.0


def _split_wide(text: str) -> Iterator[str]:
    part, part_columns = "", 0
    for character in text:
        columns = columns_of(character)
        if part_columns + columns > LINE_COLUMNS:
            yield part
            part, part_columns = "", 0
        part += character
        part_columns += columns
    yield part


def _cuts(pieces: Sequence[_Piece]) -> list[tuple[int, int]]:
    """Find the cheapest division of the pieces into cues: (first, one past the last) of each.

    A shortest path: `cost[end]` is the least cost of cutting `pieces[:end]`. Each cue adds a fixed price
    (so that cues are not needlessly many), what its break costs, what its shortness costs, and what it
    costs to show a piece of one sentence with a piece of another.
    """
    cost = [0.0] + [float("inf")] * len(pieces)
    best_first = [0] * (len(pieces) + 1)
    for first in range(len(pieces)):
        starts_sentence = first == 0 or pieces[first - 1].break_cost == 0
        has_sentence_end = False
        for end, columns in _fitting_ends(pieces, first):
            break_cost = pieces[end - 1].break_cost
            shortness = 1.0 - columns / (2 * LINE_COLUMNS)
            total = cost[first] + 1.5 + break_cost + 1.5 * shortness * shortness
            total += 2.0 * _haste(pieces, first, end)
            if has_sentence_end and not (starts_sentence and break_cost == 0):
                total += 2.5
            if total < cost[end]:
                cost[end], best_first[end] = total, first
            has_sentence_end = has_sentence_end or break_cost == 0
    cuts = []
    end = len(pieces)
    while end:
        cuts.append((best_first[end], end))
        end = best_first[end]
    return cuts[::-1]


def _haste(pieces: Sequence[_Piece], first: int, end: int) -> float:
    """Return by how much a cue has less time than the shortest should, 0 to 1."""
    gone_sample = pieces[end].start_sample if end < len(pieces) else pieces[-1].end_sample
    shown_ms = _ms(gone_sample - pieces[first].start_sample)
    return min(1.0, max(0.0, 1.0 - shown_ms / SHORTEST_CUE_MS))


def _fitting_ends(pieces: Sequence[_Piece], first: int) -> Iterator[tuple[int, int]]:
    """Yield each end that makes `pieces[first:end]` a readable cue, with its width in columns."""
    limit_sample = pieces[first].start_sample + MAX_CUE_MS * SAMPLE_RATE_HZ // 1000
    columns = line_columns = 0
    lines = 1
    for index in range(first, len(pieces)):
        piece = pieces[index]
        if index > first and (
            piece.end_sample > limit_sample
            or piece.start_sample - pieces[index - 1].end_sample >= LONG_PAUSE_SAMPLES
        ):
            return
        width = piece.columns + (piece.spaced and line_columns > 0)
        # Filling lines greedily finds a two-line layout whenever there is one.
        if line_columns + width > LINE_COLUMNS:
            lines += 1
            if lines > 2:
                return
            line_columns = piece.columns
        else:
            line_columns += width
        columns += width
        yield index + 1, columns


def _wrap(pieces: Sequence[_Piece]) -> tuple[str, ...]:
    """Lay a cue out on one line, or on two of like length, broken where the sense breaks."""
    whole = _line(pieces)
    if columns_of(whole) <= LINE_COLUMNS:
        return (whole,)
    candidates = []
    for split in range(1, len(pieces)):
        upper, lower = _line(pieces[:split]), _line(pieces[split:])
        upper_columns, lower_columns = columns_of(upper), columns_of(lower)
        if max(upper_columns, lower_columns) <= LINE_COLUMNS:
            unevenness = abs(upper_columns - lower_columns)
            candidates.append((unevenness + 3 * pieces[split - 1].break_cost, upper, lower))
    _, upper, lower = min(candidates)
    return (upper, lower)


def _line(pieces: Sequence[_Piece]) -> str:
    return "".join(f" {piece.text}" if piece.spaced else piece.text for piece in pieces).strip()


def _ms(position_samples: int) -> int:
    return position_samples * 1000 // SAMPLE_RATE_HZ


def _timed(uncut: Sequence[Cue], duration_ms: int) -> Iterator[Cue]:
    """Hold each cue long enough to be read, and end it before the next one starts."""
    ordered = sorted(uncut, key=lambda cue: cue.start_ms)
    earliest_ms = 0
    for index, cue in enumerate(ordered):
        start_ms = max(cue.start_ms, earliest_ms)
        reading_ms = sum(map(columns_of, cue.lines)) * 1000 // _COLUMNS_PER_SECOND
        wanted_ms = max(cue.end_ms, start_ms + SHORTEST_CUE_MS, start_ms + reading_ms)
        next_ms = ordered[index + 1].start_ms if index + 1 < len(ordered) else max(duration_ms, cue.end_ms)
        end_ms = min(wanted_ms, next_ms, start_ms + MAX_CUE_MS)
        # Where speakers overlap, the earlier cue keeps a readable share and the later one starts late.
        share_ms = min(cue.end_ms - cue.start_ms, SHORTEST_CUE_MS)
        end_ms = max(end_ms, start_ms + share_ms, start_ms + _MIN_CUE_MS)
        earliest_ms = end_ms
        yield Cue(start_ms, end_ms, cue.lines, cue.speaker)
