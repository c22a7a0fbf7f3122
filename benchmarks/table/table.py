"""The suite `table`: one session for each clip, four at once, and sounds that hold no words."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.base.measure import SessionMeasures, measure
from benchmarks.base.options import Options
from benchmarks.base.processes import BenchServer, Usage, watched
from benchmarks.base.reference import Reference
from benchmarks.base.speech import Clip, nonspeech
from benchmarks.base.streaming import SessionLog, play, play_together

TOGETHER = ("talk5_lj", "conv2_public", "conv6_public", "talk5_lj@90")
"""What four sessions at once play."""
NONSPEECH_SECONDS = 60.0


@dataclass(slots=True)
class Run:
    """One stretch of measuring: its sessions, and what the server used meanwhile."""

    sessions: list[SessionMeasures]
    usage: Usage

    @property
    def cpu_per_second(self) -> float:
        """CPU seconds, all processes, per second of all sessions' audio."""
        return self.usage.cpu_seconds / sum(session.duration for session in self.sessions)


@dataclass(slots=True)
class ModelRuns:
    """All that was measured with one model."""

    model: str
    ready_after: float = 0.0
    single: dict[str, list[Run]] = field(default_factory=dict)
    """Clip → its repeats."""
    together: list[Run] = field(default_factory=list)
    nonspeech: list[Run] = field(default_factory=list)

    def everything(self) -> list[Run]:
        """Return all runs."""
        return [*(run for runs in self.single.values() for run in runs), *self.together, *self.nonspeech]


def measured(
    server: BenchServer, record: Callable[[], Iterable[SessionLog]], references: dict[str, Reference]
) -> Run:
    """Run sessions while the server is watched, and measure them."""
    with watched(server) as usage:
        logs = list(record())
    sessions = [measure(log, references.get(log.clip.digest)) for log in logs]
    for session in sessions:
        if session.failure is not None:
            print(f"{session.clip} failed: {session.failure}\n{server.output()}", file=sys.stderr)
    return Run(sessions, usage)


def run_model(model: str, options: Options) -> ModelRuns:
    """Measure one model from start to end on a server of its own."""
    clips = {name: options.clip(name) for name in options.clips}
    together = [options.clip(name) for name in TOGETHER] if options.together(model) else []
    wanted: list[Clip] = [*clips.values(), *together]
    references = {clip.digest: options.reference(clip, model) for clip in wanted}
    runs = ModelRuns(model)
    with BenchServer(model, models_dir=options.models_dir) as server:
        runs.ready_after = server.ready_after
        language = options.language

        def one(clip: Clip) -> Run:
            options.say(f"{model}: {clip.name}, {clip.duration:.0f} s")
            return measured(
                server, lambda: [asyncio.run(play(server.url, clip, language=language))], references
            )

        def several(group: list[Clip]) -> Run:
            options.say(f"{model}: {', '.join(clip.name for clip in group)} at once")
            return measured(
                server, lambda: asyncio.run(play_together(server.url, group, language=language)), references
            )

        for name, clip in clips.items():
            runs.single[name] = [one(clip) for _ in range(options.repeats)]
        if together:
            runs.together = [several(together) for _ in range(options.repeats)]
        if options.with_nonspeech:
            sounds = nonspeech(NONSPEECH_SECONDS)
            runs.nonspeech = [several(sounds[first : first + 4]) for first in range(0, len(sounds), 4)]
    return runs


def details_of(run: Run) -> dict[str, Any]:
    """Return all numbers of one run, for programs."""
    return {
        "cpu_seconds": run.usage.cpu_seconds,
        "peak_bytes": run.usage.peak_bytes,
        "others_cores": run.usage.others_cores,
        "stall_ms": run.usage.stall_ms,
        "stall_at": run.usage.stall_at,
        "decodes": run.usage.decodes,
        "sessions": [asdict(session) for session in run.sessions],
    }


def details(runs: ModelRuns) -> dict[str, Any]:
    """Return all numbers behind the table, for programs."""
    return {
        "single": {name: list(map(details_of, repeats)) for name, repeats in runs.single.items()},
        "together": list(map(details_of, runs.together)),
        "nonspeech": list(map(details_of, runs.nonspeech)),
    }
