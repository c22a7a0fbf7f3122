"""Measure the server: `python -m benchmarks.run SUITE`; see docs/benchmarks.md.

Suites: table (the default), speakers, pass, webhooks, resilience, hour, silence, startup. Each starts servers
of its own, prints a table of what must hold and what was measured, and keeps it in benchmarks/results. The
exit status is 0 also where a target was missed: `--strict` makes it 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import endurance, passing, resilience, speakers, startup, table, webhooks
from benchmarks.beside import beside
from benchmarks.options import CLIPS, Options, available
from benchmarks.processes import ServerFailedError
from benchmarks.recordings import RECORDINGS
from benchmarks.report import Table, machine, write
from benchmarks.rows import table_of
from benchmarks.speaker_rows import table_of as table_of_speakers
from benchmarks.speech import MissingSpeechError, speech_folder
from live_asr.errors import LiveAsrError

SUITES = ("table", "speakers", "pass", "webhooks", "resilience", "hour", "silence", "startup")
MODELS = {"table": "tiny.en,base", "speakers": "base", "pass": "base"}
"""What is measured where nothing was chosen; tiny.en by the other suites."""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    result.add_argument("suite", nargs="?", default="table", choices=SUITES)
    result.add_argument(
        "--models", default=None, help="comma-separated (table: tiny.en,base; speakers: base; else tiny.en)"
    )
    result.add_argument(
        "--clips", default=None, help="table, speakers: comma-separated; table: NAME@S from second S"
    )
    result.add_argument(
        "--seconds", type=float, default=None, help="of each clip (90), a long session (3600), cuts (600)"
    )
    result.add_argument("--repeats", type=int, default=1, help="of each measurement; medians count")
    result.add_argument("--language", default=None, help="asked of the server; it detects it otherwise")
    result.add_argument(
        "--pace",
        choices=["realtime", "fast"],
        default=None,
        help="of hour and silence (fast), and of speakers (conv2_public in real time, the others fast)",
    )
    result.add_argument(
        "--no-beside", action="store_true", help="speakers: no live session beside a full pass"
    )
    result.add_argument("--models-dir", type=Path, default=None, help="where the weights are")
    result.add_argument(
        "--only-single", action="store_true", help="table: one session at a time, speech only"
    )
    result.add_argument("--name", default=None, help="of the files in benchmarks/results")
    passing.add_arguments(result)
    webhooks.add_arguments(result)
    result.add_argument("--strict", action="store_true", help="exit with 1 where a target was missed")
    return result


def options_from(arguments: argparse.Namespace) -> Options:
    """Read the command line into options."""
    named = os.environ.get("LIVE_ASR_MODELS__DIR")
    models = arguments.models or MODELS.get(arguments.suite, "tiny.en")
    clips = {"speakers": RECORDINGS, "pass": passing.CLIPS}.get(arguments.suite, CLIPS)
    options = Options(
        models=tuple(models.split(",")),
        clips=tuple(arguments.clips.split(",")) if arguments.clips else clips,
        seconds=arguments.seconds or 90.0,
        repeats=arguments.repeats,
        language=arguments.language,
        models_dir=arguments.models_dir or (Path(named) if named else None),
        with_together=not arguments.only_single,
        with_nonspeech=not arguments.only_single,
    )
    if arguments.suite == "table":
        return replace(options, clips=available(options.clips, options))
    return replace(options, seconds=endurance.SOURCE_SECONDS)


def run_suite(arguments: argparse.Namespace, options: Options) -> tuple[list[Table], dict[str, Any]]:
    """Run one suite; return its tables and the numbers behind them."""
    tables: list[Table] = []
    behind: dict[str, Any] = {"options": asdict(options)}
    if arguments.suite == "startup":
        found, behind["startup"] = startup.startup(options)
        return [found], behind
    if arguments.suite == "pass":
        tables, found_passes = passing.run(options, arguments)
        return tables, behind | found_passes
    if arguments.suite == "webhooks":
        tables, found_webhooks = webhooks.run(options, arguments.seed, arguments.kills)
        return tables, behind | found_webhooks
    for model in options.models:
        if arguments.suite == "speakers":
            found_speakers = speakers.run_model(model, options, arguments.pace)
            cost = None if arguments.no_beside or speech_folder() is None else beside(model, options)
            tables.append(table_of_speakers(found_speakers, cost))
            behind[model] = {**speakers.details(found_speakers), "beside": asdict(cost) if cost else None}
            continue
        if arguments.suite == "table":
            runs = table.run_model(model, options)
            tables.append(table_of(runs, options.language))
            behind[model] = table.details(runs)
            continue
        if arguments.suite == "resilience":
            seconds = arguments.seconds or 600.0
            found_cuts, behind[f"{model}: cuts"] = resilience.cuts(model, seconds, options)
            found_kills, behind[f"{model}: kills"] = resilience.kills(model, arguments.kills, options)
            tables += [found_cuts, found_kills]
            continue
        measured = endurance.hour if arguments.suite == "hour" else endurance.quiet
        found, run = measured(model, arguments.seconds or 3600.0, arguments.pace or "fast", options)
        tables.append(found)
        behind[model] = {
            "processes": run.labels,
            "samples": [asdict(sample) for sample in run.usage.samples],
            "cost_by_sixth": endurance.cost_by_part(run),
        }
    return tables, behind


def main() -> int:
    """Run the suite that was asked for; return the exit status."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is ended too
    where = machine()
    try:
        options = options_from(arguments)
        if arguments.suite == "table" and not options.clips:
            print("There is no speech to play; set LIVE_ASR_BENCH_SPEECH to a folder of it.", file=sys.stderr)
            return 2
        tables, behind = run_suite(arguments, options)
    except (ServerFailedError, MissingSpeechError, LiveAsrError, ValueError) as failed:
        print(failed, file=sys.stderr)
        return 2
    path = write(arguments.name or arguments.suite, where, tables, behind)
    missed = [row.metric for found in tables for row in found.rows if row.passed is False]
    print(f"{path}: {len(missed)} missed" if missed else f"{path}: all hold", file=sys.stderr)
    return 1 if missed and arguments.strict else 0


if __name__ == "__main__":
    sys.exit(main())
