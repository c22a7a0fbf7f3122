"""Tables of what a device takes, and the costs that the scheduler's simulation asks for."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import numpy as np

from benchmarks.base.report import Row, Table, fact
from benchmarks.gpu.calls import FIRST, LANES, cell_name
from benchmarks.gpu.kept import Kept
from benchmarks.gpu.sessions import LIMIT, Wave
from live_asr.inference.costs import CostTable

Results = dict[str, dict[str, Any]]


def gpu_name() -> str:
    """Return the first GPU's name, memory and driver; "" where there is none that says so."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ""
    asked = [command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60.0)
    except subprocess.TimeoutExpired:
        return ""
    return (answer.stdout.strip().splitlines() or [""])[0] if answer.returncode == 0 else ""


def tables_of(kept: Kept) -> list[Table]:
    """Make tables of all that is kept."""
    models: dict[str, Results] = {}
    for name, found in kept.found.items():
        model, _, rest = name.partition("/")
        models.setdefault(model, {})[rest] = found
    called = {model: found for model, found in models.items() if FIRST in found}
    device = kept.about.get("gpu") or kept.about.get("device", "")
    tables = [first_table(called, device)] if called else []
    for model, found in called.items():
        if table := grid_table(model, found):
            tables.append(table)
        if any(name.startswith(LANES) for name in found):
            tables.append(lanes_table(model, found))
    for name, found in models.items():
        if name.startswith("sessions "):
            single = kept.found.get("single pass", {}).get("wer")
            tables.append(sessions_table(name.removeprefix("sessions "), found, single))
    return tables


def first_table(called: dict[str, Results], device: str) -> Table:
    """What loading and the first calls take."""
    rows = []
    for model, found in called.items():
        took = found[FIRST]
        each = {
            call: f"{1000 * took[f'first {call}']:.0f} / {1000 * took[f'second {call}']:.0f} ms"
            for call in ("encode", "write", "align")
        }
        rows.append(fact(f"{model}: loading", f"{took['load']:.2f} s", each))
    return Table(f"loading; the first and the second call of a kind ({device})", rows)


def grid_table(model: str, found: Results) -> Table | None:
    """What batches of windows take, by their length; None where nothing was measured."""
    cells = cells_of(found)
    if not cells:
        return None
    windows = sorted({window for window, _ in cells})
    batches = sorted({batch for _, batch in cells})
    rows: list[Row] = []
    for kind, title, unit in (
        ("encode", "encode", "ms"),
        ("step", "write a token", "ms"),
        ("prefix", "force a token", "ms"),
        ("align", "align", "ms"),
        ("all", "all, a window", "ms"),
    ):
        for batch in batches:
            each = {f"{window:g} s": _shown(cells.get((window, batch)), kind, batch) for window in windows}
            if any(shown not in ("", "-") for shown in each.values()):
                rows.append(fact(f"{title}, {unit}: {batch} at once", "", each))
    costs = costs_of(cells)
    notes = [f"as `live_asr.inference.costs` has it: `{costs}`"] if costs else []
    return Table(f"{model}: calls", rows, notes)


def cells_of(found: Results) -> dict[tuple[float, int], dict[str, Any]]:
    """Return the measured batches by seconds of window and number of windows."""
    cells = {}
    for name, result in found.items():
        window, between, batch = name.partition(" s x ")
        if between:
            cells[float(window), int(batch)] = result
    assert all(cell_name(*cell) in found for cell in cells)
    return cells


def _shown(cell: dict[str, Any] | None, kind: str, batch: int) -> str:
    if cell is None:
        return ""
    if "failed" in cell:
        return "no memory"
    seconds = cell[kind]
    if seconds is None:
        return "-"
    return f"{1000 * seconds / (batch if kind == 'all' else 1):.2f}"


def costs_of(cells: dict[tuple[float, int], dict[str, Any]]) -> CostTable | None:
    """Fit a table of costs; None where fewer than two sizes of batch were measured.

    A window's share of encoding is that of the largest batch; writing and aligning are lines through all.
    """
    good = {cell: result for cell, result in cells.items() if "failed" not in result}
    if len({batch for _, batch in good}) < 2:
        return None
    encode = []
    for window in sorted({window for window, _ in good}):
        batch = max(batch for other, batch in good if other == window)
        encode.append((window, round(good[window, batch]["encode"] / batch, 6)))
    counts = [batch for _, batch in good]

    def line(kind: str) -> tuple[float, float]:
        each, fixed = np.polyfit(counts, [result[kind] for result in good.values()], 1)
        return round(max(0.0, float(fixed)), 6), round(max(0.0, float(each)), 7)

    (step, step_item), (align, align_item) = line("step"), line("align")
    return CostTable(tuple(encode), step, step_item, align, align_item)


def lanes_table(model: str, found: Results) -> Table:
    """What two lanes bring over one."""
    rows = []
    for name, took in found.items():
        if name.startswith(LANES):
            batch = name.removeprefix(LANES)
            if "failed" in took:
                rows.append(fact(f"{batch} at once", "no memory"))
                continue
            gain = took["2"] / took["1"]
            each = {f"{count} lane(s)": f"{took[count]:.1f} windows/s" for count in ("1", "2")}
            rows.append(fact(f"{batch} at once", f"x {gain:.2f}", each))
    return Table(f"{model}: two lanes", rows)


def sessions_table(model: str, found: Results, single_pass: float | None) -> Table:
    """How many sessions are carried, and what a full pass does beside some."""
    waves = [Wave(**found[count]) for count in sorted(filter(str.isdigit, found), key=int)]
    rows = [_wave_row(f"{wave.sessions} sessions", wave) for wave in waves]
    held = [wave.sessions for wave in waves if wave.holds]
    broke = [wave.sessions for wave in waves if not wave.holds]
    most = f"{max(held, default=0)}" + (f"; {min(broke)} are too many" if broke else " or more")
    rows.append(fact(f"carried with commits within {LIMIT:g} s (p95)", most))
    if single_pass is not None:
        rows.append(fact("WER of the single pass, tiny.en on the CPU", f"{single_pass:.1%}"))
    if "ready" in found:
        rows.append(fact("`serve` → ready", f"{found['ready']['seconds']:.1f} s"))
    passed = found.get("pass")
    if passed is not None and passed.get("failure"):
        rows.append(fact("full pass", f"failed: {passed['failure']}"))
    elif passed is not None:
        wer = "" if passed["wer"] is None else f", WER {passed['wer']:.1%}"
        factor = passed["seconds"] / passed["recording"]
        beside = Wave(**passed["beside"])
        rows.append(fact(f"full pass over {passed['recording']:.0f} s", f"x {factor:.3f} of it{wer}"))
        rows.append(_wave_row(f"{beside.sessions} sessions beside it", beside))
    notes = [
        f"{wave.sessions} sessions: {wave.failed} failed: {wave.failure}" for wave in waves if wave.failed
    ]
    return Table(f"{model}: sessions in real time", rows, notes)


def _wave_row(name: str, wave: Wave) -> Row:
    each = {
        "WER": "" if wave.wer is None else f"{wave.wer:.1%}",
        "failed": str(wave.failed),
        "server's cores": f"{wave.server_cores:.2f}",
        "client late by": f"{wave.lateness:.2f} s",
    }
    return fact(name, f"p50 / p95 {wave.p50:.2f} / {wave.p95:.2f} s", each)
