"""The suite `resilience`: what cuts, kills and inference that stands still cost; how fast a file goes.

Its parts, each a module: `cuts`, `kills`, `frozen` and `fast`.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.base.options import Options, parts_of, seed_of
from benchmarks.base.report import Table
from benchmarks.resilience import cuts, fast, frozen, kills

PARTS = ("cuts", "kills", "frozen", "fast")


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the parts that were asked for with each model; return their tables and the numbers behind them."""
    parts, seed = parts_of(arguments, PARTS), seed_of(arguments)
    options.say(f"seed {seed}")
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    for model in options.models:
        found: dict[str, tuple[Table, dict[str, Any]]] = {}
        if "cuts" in parts:
            found["cuts"] = cuts.cuts(
                model, options, seconds=arguments.seconds, count=arguments.cuts, seed=seed
            )
        if "kills" in parts:
            found["kills"] = kills.kills(model, options, count=arguments.kills or kills.COUNT, seed=seed)
        if "frozen" in parts:
            found["frozen"] = frozen.frozen(model, options, duration=arguments.freeze)
        if "fast" in parts:
            found["fast"] = fast.fast(model, options, seconds=arguments.seconds)
        for part, (table, numbers) in found.items():
            tables.append(table)
            behind[f"{model}: {part}"] = numbers
    return tables, behind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument("--cuts", type=int, default=cuts.COUNT, help=f"resilience: how many ({cuts.COUNT})")
    parser.add_argument(
        "--freeze",
        type=float,
        default=frozen.FREEZE,
        help=f"resilience: seconds for which inference stands still ({frozen.FREEZE:g})",
    )
