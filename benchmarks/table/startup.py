"""The suite `startup`: what it takes to import the server's process and to be ready."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.base.options import Options
from benchmarks.base.processes import BenchServer
from benchmarks.base.report import Row, Table, fact, limit

MODULE = "live_asr.server.app"
IMPORT_SECONDS = 1.5
READY_SECONDS = 10.0
UNWANTED = ("torch", "torchaudio", "pyannote", "faster_whisper", "ctranslate2")
"""Loaded only by processes that compute."""

_TIMED = f"""
import time; began = time.perf_counter()
import {MODULE}
took = time.perf_counter() - began
import json, sys
print(json.dumps([took, [name for name in {UNWANTED!r} if name in sys.modules], len(sys.modules)]))
"""


def imports(repeats: int) -> list[Row]:
    """Time the import in fresh interpreters, and see what it brought along."""
    found: list[tuple[float, list[str], int]] = []
    for _ in range(repeats + 1):
        answer = subprocess.run([sys.executable, "-c", _TIMED], capture_output=True, text=True, check=True)
        found.append(tuple(json.loads(answer.stdout)))
    warm = found[1:]  # the first one compiled what was not compiled yet
    brought = sorted({name for _, names, _ in warm for name in names})
    torch = sum(name.startswith("torch") for name in brought)
    return [
        limit(f"import of {MODULE}", statistics.median(took for took, _, _ in warm), IMPORT_SECONDS, "s"),
        limit("torch in it", torch, 0, digits=0),
        fact("modules of inference in it", ", ".join(brought) or "none"),
        fact("modules in all", str(warm[-1][2])),
    ]


def slowest_imports(most: int = 12) -> list[tuple[float, str]]:
    """Return the costliest modules themselves, children left out, as (milliseconds, name)."""
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {MODULE}"],
        capture_output=True,
        text=True,
        check=True,
    )
    costs: list[tuple[float, str]] = []
    for line in answer.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            costs.append((int(own) / 1000, name.strip()))
    return sorted(costs, reverse=True)[:most]


def readiness(model: str, options: Options) -> list[Row]:
    """Start the server again and again: the first start may bring weights, the later ones count."""
    took: list[float] = []
    for _ in range(options.repeats + 1):
        with BenchServer(model, models_dir=options.models_dir) as server:
            took.append(server.ready_after)
    return [
        limit(
            f"`serve` with {model} → first 200 of /readyz, second time",
            statistics.median(took[1:]),
            READY_SECONDS,
            "s",
        ),
        fact(f"the same with {model}, first time", f"{took[0]:.1f} s"),
    ]


def run(options: Options, _: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite; return its table and the numbers behind it."""
    rows = imports(options.repeats)
    for model in options.models:
        options.say(f"{model}: starting {options.repeats + 1} times")
        rows += readiness(model, options)
    slowest = slowest_imports()
    notes = [f"{name}: {cost:.0f} ms by itself" for cost, name in slowest[:6]]
    return [Table("startup", rows, notes)], {"slowest_imports_ms": slowest}
