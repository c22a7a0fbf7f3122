"""A plot of how late words come with how many sessions, as SVG: no library, for any browser."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 60, 40, 50
"""Margins, in pixels."""
P50, P95, CORES, GREY = "#1b7f79", "#b3261e", "#6750a4", "#666666"
TICKS = 6


@dataclass(frozen=True, slots=True)
class Point:
    """What came of so many sessions; seconds, and cores of the machine."""

    sessions: int
    p50: float
    p95: float
    cores: float | None = None


def plot(points: Sequence[Point], *, target: float, held: int, predicted: int) -> str:
    """Draw sessions against commit latencies, on the left, and the server's cores, on the right."""
    most = max([point.sessions for point in points] + [predicted, 2])
    times = [seconds for point in points for seconds in (point.p50, point.p95) if math.isfinite(seconds)]
    # What is far too late needs no room of its own: lines leave the picture there.
    latest = _round(min(max([target, *times]), 4 * target))
    cores = [point.cores for point in points if point.cores is not None]
    most_cores = _round(max([1.0, *cores]))

    def x(sessions: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * sessions / most

    def y(value: float, full: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value, 1.05 * full) / full

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12" role="img">',
        f"<title>{escape(f'{held} sessions within {target:g} s; {predicted} predicted')}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for tick in range(TICKS + 1):
        seconds, busy = latest * tick / TICKS, most_cores * tick / TICKS
        at = y(seconds, latest)
        parts.append(_line(LEFT, at, WIDTH - RIGHT, at, "#dddddd"))
        parts.append(_text(LEFT - 8, at + 4, f"{seconds:g}", "end"))
        if cores:
            parts.append(_text(WIDTH - RIGHT + 8, at + 4, f"{busy:.2g}", "start", CORES))
    step = max(1, math.ceil(most / 10))
    for sessions in range(0, most + 1, step):
        parts.append(_text(x(sessions), HEIGHT - BOTTOM + 18, str(sessions), "middle"))
    parts.append(_text(WIDTH / 2, HEIGHT - 12, "sessions at once", "middle"))
    parts.append(_text(LEFT, 18, "seconds until a word is committed", "start"))
    if cores:
        parts.append(_text(WIDTH - RIGHT, 18, "cores", "end", CORES))
    parts.append(_line(LEFT, y(target, latest), WIDTH - RIGHT, y(target, latest), P95, dashes="6 4"))
    for sessions, what, place in ((held, "holds", 0), (predicted, "predicted", 14)):
        if sessions:
            parts.append(_line(x(sessions), TOP, x(sessions), HEIGHT - BOTTOM, GREY, dashes="2 4"))
            parts.append(_text(x(sessions) + 4, TOP + 10 + place, f"{what}: {sessions}", "start", GREY))
    lines: list[tuple[str, str, Callable[[Point], float | None], float]] = [
        ("p50", P50, lambda point: point.p50, latest),
        ("p95", P95, lambda point: point.p95, latest),
        ("cores", CORES, lambda point: point.cores, most_cores),
    ]
    for name, colour, of, full in lines:
        found = [(point.sessions, of(point)) for point in points]
        pairs = [
            (x(sessions), y(value, full))
            for sessions, value in found
            if value is not None and math.isfinite(value)
        ]
        if pairs:
            path = " ".join(f"{left:.1f},{top:.1f}" for left, top in pairs)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [
                f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3" fill="{colour}"/>' for left, top in pairs
            ]
            parts.append(_text(pairs[-1][0] + 6, pairs[-1][1] - 6, name, "start", colour))
    return "\n".join([*parts, "</svg>", ""])


def _round(value: float) -> float:
    """Return a round number that is no smaller."""
    size = 10.0 ** math.floor(math.log10(value))
    return next(size * step for step in (1, 1.2, 1.5, 2, 3, 5, 6, 8, 10) if size * step >= value * 0.9999)


def _line(left: float, top: float, right: float, bottom: float, colour: str, *, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{left:.1f}" y1="{top:.1f}" x2="{right:.1f}" y2="{bottom:.1f}" stroke="{colour}"{dashed}/>'
    )


def _text(left: float, top: float, text: str, anchor: str, colour: str = "black") -> str:
    where = f'x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {where}>{escape(text)}</text>"
