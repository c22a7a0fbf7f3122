"""The suite `words`: what is written down, live and in the end, of all kinds of speech and of none.

One server for each model; sessions as fast as it takes them, one after another.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.base.options import Options, parts_of
from benchmarks.base.processes import BenchServer
from benchmarks.base.report import Table
from benchmarks.base.speech import MissingSpeechError
from benchmarks.words import languages as words_languages
from benchmarks.words import recordings as words_recordings
from benchmarks.words import repetition as words_repetition
from benchmarks.words import sounds as words_sounds
from benchmarks.words import talks as words_talks
from benchmarks.words import times as words_times

Part = Callable[[BenchServer, str, Options, argparse.Namespace], tuple[list[Table], dict[str, Any]]]

PARTS: dict[str, Part] = {
    "recordings": words_recordings.run,
    "languages": words_languages.run,
    "noises": words_sounds.run,
    "repetition": words_repetition.run,
    "times": words_times.run,
    "talks": words_talks.run,
}


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the parts that were asked for with each model; return their tables and the numbers behind them."""
    parts = parts_of(arguments, tuple(PARTS))
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    for model in options.models:
        behind[model] = {}
        with BenchServer(model, models_dir=options.models_dir) as server:
            for part in parts:
                options.say(f"{model}: {part}")
                try:
                    found, behind[model][part] = PARTS[part](server, model, options, arguments)
                except MissingSpeechError as missing:
                    options.say(f"left out: {missing}")
                    found = [Table(f"{model}: {part}", [], [f"**not measured**: {missing}"])]
                tables += found
    return tables, behind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument(
        "--conditions",
        default="some",
        help="words: comma-separated, `all`, or `some` (as it is and one more of each recording)",
    )
    parser.add_argument("--together", type=int, default=1, help="words: sessions at once")
    parser.add_argument("--detect", action="store_true", help="words: leave the language to the server")
    parser.add_argument(
        "--ablation", action="store_true", help="words: what each step of the full pass brings, too (long)"
    )
    parser.add_argument(
        "--against",
        type=Path,
        help="words: results (JSON) of an earlier commit to compare with; load: another checkout, which runs "
        "its own code in turn with this one",
    )
