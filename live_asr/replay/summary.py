"""Who spoke when and for how long, once the whole recording has been gone through."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.text import Text

from live_asr.core.messages import Final, FinalSegment, FinalSpeaker

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red", "bright_cyan", "bright_yellow")
_TIMELINE_COLUMNS = 30
_UNITS = (" ", "░", "▒", "█")
"""How much of a column's time somebody speaks: none, a little, half, most."""


def colour_of(label: str) -> str:
    """Return the colour of a speaker, the same at every place: `S1` and `SPEAKER_00` have the first."""
    digits = re.search(r"[0-9]{1,6}$", label)
    number = int(digits.group()) if digits else 0
    return _COLOURS[(number if label.startswith("SPEAKER_") else max(number - 1, 0)) % len(_COLOURS)]


def summary(final: Final, *, with_timeline: bool) -> list[Text]:
    """Describe the speakers of a result, a line each, longest talking time first; none without speakers.

    A speaker keeps the colour that the first of its live labels had.
    """
    if not final.speakers:
        return []
    speakers = sorted(final.speakers, key=lambda speaker: -speaker.duration)
    talked = sum(speaker.duration for speaker in speakers) or 1.0
    label_columns = max(len(speaker.label) for speaker in speakers)
    lines = [Text(_heading(final), style="bold")]
    for speaker in speakers:
        colour = colour_of(speaker.live_labels[0] if speaker.live_labels else speaker.label)
        line = Text("  ")
        line.append(printable(speaker.label).ljust(label_columns), style=f"bold {colour}")
        if with_timeline:
            line.append(f"  {timeline(final.segments, speaker.label, final.duration)}", style=colour)
        line.append(f"  {clock(speaker.duration)}  {speaker.duration / talked:>4.0%}  {_turns(speaker)}")
        if speaker.live_labels:
            line.append(f"  live {printable(', '.join(speaker.live_labels))}", style="dim")
        lines.append(line)
    return lines


def timeline(segments: Sequence[FinalSegment], label: str, duration: float) -> str:
    """Draw when somebody speaks, as a bar over the whole recording of `duration` seconds."""
    spoken = [0.0] * _TIMELINE_COLUMNS
    width = max(duration, 1e-3) / _TIMELINE_COLUMNS
    for segment in segments:
        if segment.speaker != label:
            continue
        first = min(max(int(segment.start / width), 0), _TIMELINE_COLUMNS - 1)
        last = min(max(int(segment.end / width), first), _TIMELINE_COLUMNS - 1)
        for column in range(first, last + 1):
            inside = min(segment.end, (column + 1) * width) - max(segment.start, column * width)
            spoken[column] += max(inside, 0.0)
    most = len(_UNITS) - 1
    return "".join(
        _UNITS[0 if time <= 0 else min(max(round(time / width * most), 1), most)] for time in spoken
    )


def clock(position: float | None) -> str:
    """Write a time in seconds as MM:SS or H:MM:SS; a question mark for one that is not known."""
    if position is None:
        return "?"
    minutes, seconds = divmod(int(position), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def printable(text: str) -> str:
    """Drop what could steer a terminal: names of files, labels and recognised text come from outside."""
    return "".join(character if character.isprintable() else " " for character in text)


def _heading(final: Final) -> str:
    count = len(final.speakers)
    heard = "1 speaker" if count == 1 else f"{count} speakers"
    source = ", as told apart live" if final.labels == "live" else ""
    return f"{heard}{source}"


def _turns(speaker: FinalSpeaker) -> str:
    return "1 turn" if speaker.turns == 1 else f"{speaker.turns} turns"
