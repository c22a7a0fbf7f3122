"""Measure the server: `python -m benchmarks.run SUITE`; see docs/benchmarks.md.

Each suite starts servers of its own, prints tables of what must hold and what was measured, and keeps them in
benchmarks/results. The exit status is 0 also where a target was missed: `--strict` makes it 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.base.options import CLIPS, Options
from benchmarks.base.processes import ServerFailedError
from benchmarks.base.recordings import CONVERSATIONS, RECORDINGS
from benchmarks.base.report import Table, machine, write
from benchmarks.base.speech import MissingSpeechError
from benchmarks.fuzz import suite as fuzzing
from benchmarks.gpu import suite as gpu
from benchmarks.jobs import suite as jobs
from benchmarks.load import cluster, dialects, engines, journal, page, viewers, whisperlivekit
from benchmarks.load import suite as load
from benchmarks.resilience import hostile, resilience, troubles, webhooks
from benchmarks.speakers import diarization, passing, speaker_rows
from benchmarks.table import beside, endurance, rows, startup
from benchmarks.words import material as words_material
from benchmarks.words import suite as words
from live_asr.core.errors import LiveAsrError

SECONDS = 90.0
"""Of each clip, where nothing was chosen."""


@dataclass(frozen=True, slots=True)
class Suite:
    """What can be measured by name."""

    run: Callable[[Options, argparse.Namespace], tuple[list[Table], dict[str, Any]]]
    """Returns the tables and, for programs, the numbers behind them."""
    models: str = "tiny.en"
    """What is measured where nothing was chosen, comma-separated."""
    clips: tuple[str, ...] = CLIPS
    """The same, for suites that may be told what to play."""


SUITES = {
    "table": Suite(rows.run, models="tiny.en,base"),
    "speakers": Suite(speaker_rows.run, models="base", clips=RECORDINGS),
    "diarization": Suite(diarization.run, clips=RECORDINGS),
    "pass": Suite(passing.run, models="base", clips=passing.CLIPS),
    "beside": Suite(beside.run, clips=beside.CLIPS),
    "words": Suite(words.run, models="base,tiny.en", clips=words_material.RECORDINGS),
    "webhooks": Suite(webhooks.run),
    "gpu": Suite(gpu.run, clips=gpu.CLIPS),
    "cluster": Suite(cluster.run, clips=cluster.CLIPS),
    "load": Suite(load.run, clips=load.CLIPS),
    "engines": Suite(engines.run, clips=engines.CLIPS),
    "journal": Suite(journal.run, clips=journal.CLIPS),
    "jobs": Suite(jobs.run, models="base", clips=CONVERSATIONS),
    "resilience": Suite(resilience.run),
    "viewers": Suite(viewers.run),
    "page": Suite(page.run),
    "dialects": Suite(dialects.run),
    "whisperlivekit": Suite(whisperlivekit.run, clips=("talk5_lj", "conv2_public", "ami_dev00")),
    "fuzz": Suite(fuzzing.run),
    "hour": Suite(endurance.run_hour),
    "silence": Suite(endurance.run_silence),
    "startup": Suite(startup.run),
    "troubles": Suite(troubles.run),
    "hostile": Suite(hostile.run, clips=("talk5_lj",)),
}


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    result.add_argument("suite", nargs="?", default="table", choices=list(SUITES))
    result.add_argument("--models", default=None, help="comma-separated; each suite has its own")
    result.add_argument(
        "--clips",
        default=None,
        help="table, words, speakers, diarization, pass, jobs: comma-separated; NAME@S from second S",
    )
    result.add_argument(
        "--seconds",
        type=float,
        default=None,
        help="table, words: of each clip (90); hour, silence (3600), resilience (cuts 600, fast 120), "
        "viewers (300), troubles (600), cluster (60): of the session; load (90): of a wave, all else in "
        "proportion; journal: of a wave (90), of its part hour (3600)",
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
        "--parts",
        default=None,
        help="words, pass, resilience, beside, jobs, gpu, load, journal, dialects: comma-separated; all by "
        "default",
    )
    result.add_argument(
        "--kills",
        type=int,
        default=None,
        help="webhooks (30), resilience (100), jobs, cluster (40): how many",
    )
    result.add_argument(
        "--seed",
        type=int,
        default=None,
        help="webhooks, resilience, troubles, fuzz, jobs, cluster: of all chance; drawn where not given",
    )
    result.add_argument("--models-dir", type=Path, default=None, help="where the weights are")
    result.add_argument("--name", default=None, help="of the files in benchmarks/results")
    result.add_argument("--strict", action="store_true", help="exit with 1 where a target was missed")
    for suite in (
        rows,
        words,
        passing,
        resilience,
        viewers,
        fuzzing,
        beside,
        jobs,
        gpu,
        load,
        whisperlivekit,
    ):
        suite.add_arguments(result)
    return result


def options_from(arguments: argparse.Namespace) -> Options:
    """Read from the command line what most suites ask."""
    suite, named = SUITES[arguments.suite], os.environ.get("LIVE_ASR_MODELS__DIR")
    return Options(
        models=tuple((arguments.models or suite.models).split(",")),
        clips=tuple(arguments.clips.split(",")) if arguments.clips else suite.clips,
        seconds=arguments.seconds or SECONDS,
        repeats=arguments.repeats,
        language=arguments.language,
        models_dir=arguments.models_dir or (Path(named) if named else None),
        with_together=not arguments.only_single,
        with_nonspeech=not arguments.only_single,
    )


def main() -> int:
    """Run the suite that was asked for; return the exit status."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is ended too
    where, options = machine(), options_from(arguments)
    try:
        tables, behind = SUITES[arguments.suite].run(options, arguments)
    except (ServerFailedError, MissingSpeechError, LiveAsrError, ValueError) as failed:
        print(failed, file=sys.stderr)
        return 2
    path = write(arguments.name or arguments.suite, where, tables, {"options": asdict(options)} | behind)
    missed = [row.metric for found in tables for row in found.rows if row.passed is False]
    print(f"{path}: {len(missed)} missed" if missed else f"{path}: all hold", file=sys.stderr)
    return 1 if missed and arguments.strict else 0


if __name__ == "__main__":
    sys.exit(main())
