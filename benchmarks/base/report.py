"""Tables for people and numbers for programs, from what the suites measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("ctranslate2", "faster-whisper", "onnxruntime", "numpy", "uvicorn", "websockets", "av", "soxr")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what must hold, and what was."""

    metric: str
    target: str
    """As written in the table, `≤ 1.3 / 2.5`; empty where nothing is promised."""
    measured: str
    passed: bool | None
    """None where nothing is promised."""
    each: dict[str, str] = field(default_factory=dict)
    """The same by clip or by process, column → value."""

    @property
    def verdict(self) -> str:
        """`pass`, `**miss**` or nothing."""
        return {True: "pass", False: "**miss**", None: ""}[self.passed]


@dataclass(frozen=True, slots=True)
class Table:
    """A titled list of rows and what to know about them."""

    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table as GitHub's Markdown, a column for each clip or process that a row names."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row.each))
        head = ["", "target", "measured", "", *columns]
        lines = [f"### {self.title}", "", _line(head), _line(["---"] * len(head))]
        for row in self.rows:
            each = [row.each.get(column, "") for column in columns]
            lines.append(_line([row.metric, row.target, row.measured, row.verdict, *each]))
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]).rstrip() + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def limit(
    metric: str,
    value: float,
    most: float,
    unit: str = "",
    digits: int = 2,
    each: dict[str, str] | None = None,
) -> Row:
    """Make a row that passes where `value` is at most `most`; nan does not pass."""
    return limits(metric, [value], [most], unit, digits, each)


def limits(
    metric: str,
    values: list[float],
    most: list[float],
    unit: str = "",
    digits: int = 2,
    each: dict[str, str] | None = None,
) -> Row:
    """Make a row of several values that passes where each is at most its limit; nan does not pass."""
    shown = " / ".join(f"{value:.{digits}f}" for value in values)
    target = " / ".join(f"{value:g}" for value in most)
    passed = all(value <= bound for value, bound in zip(values, most, strict=True))
    unit = f" {unit}" if unit else ""
    return Row(metric, f"≤ {target}{unit}", f"{shown}{unit}", passed, each or {})


def fact(metric: str, measured: str, each: dict[str, str] | None = None) -> Row:
    """Make a row that promises nothing."""
    return Row(metric, "", measured, None, each or {})


def machine() -> dict[str, Any]:
    """Describe where and on what a run was made."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def write(name: str, where: dict[str, Any], tables: list[Table], details: dict[str, Any]) -> Path:
    """Write results/NAME.json and results/NAME.md, print the latter, and return its path."""
    RESULTS.mkdir(exist_ok=True)
    body = {"machine": where, "tables": [asdict(table) for table in tables], "details": details}
    (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=1, ensure_ascii=False, default=str) + "\n")
    packages = ", ".join(f"{package} {version}" for package, version in where["packages"].items())
    head = (
        f"# {name}\n\n{where['date']}, commit {where['commit']}, {where['cores']} cores ({where['cpu']}), "
        f"{where['memory_gb']} GB, load {where['load_before']} before; "
        f"Python {where['python']}, {packages}.\n"
    )
    text = "\n".join([head, *(table.markdown() for table in tables)])
    path = RESULTS / f"{name}.md"
    path.write_text(text)
    print(text)
    return path
