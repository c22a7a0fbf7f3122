"""The suite `fuzz`: whatever bytes come, messages and media are read or refused as documented.

Three targets at once, each in a process of its own that may crash, hang or grow without taking this one
along: the decoders of messages, the decoder that a session gives its container to, and those of what other
programs' clients send. Inputs are mutated from real messages and real recordings; one that comes to something
new is mutated further. What must not be is kept in a folder, to be tried again by `python -m
benchmarks.fuzz.target`.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.base.options import Options
from benchmarks.base.report import Row, Table, fact, limit, machine, write
from benchmarks.base.speech import MissingSpeechError
from benchmarks.fuzz.dialects import dialects
from benchmarks.fuzz.inputs import Corpus, Source, containers, messages
from benchmarks.fuzz.process import HANG, Child, MemorySample, TargetDiedError
from benchmarks.table.endurance import slope
from live_asr.core.errors import LiveAsrError

NAMES = ("messages", "container", "dialects")
MINUTES = 60.0
SLOW = 1.0
"""Seconds of CPU from which on the slowest input is kept, to be looked at; it is no fault."""
SAMPLE_INTERVAL = 5.0
"""Seconds between two looks at a target's memory, while it waits."""
WARM_UP = 300.0
"""Seconds after which memory must not grow any more; a quarter of a shorter run."""
MIN_FOR_SLOPE = 3 * WARM_UP
"""Seconds that a process must have lived for a slope to mean anything."""
SLOPE_MB_PER_HOUR = 5.0
GREED_MB = 128.0
"""Most that one input may take: the bytes that a session may hold unread, and a minute of audio, twice."""
MAX_KEPT = 20
"""So many inputs of one fault are kept."""
MAX_DEATHS = 200
"""A target that dies so often has been found out."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is fuzzed, and how."""

    name: str
    command: tuple[str, ...]
    source: Source
    batch: int
    """Inputs that are handed over at once."""
    barren: frozenset[str] = frozenset()
    """Kinds of outcome that nothing is made of, new as it may be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that must not do what it does."""

    kind: str
    """`crash`, `hang`, `greed` or `fault`."""
    what: str
    file: str
    """Its name in the folder; empty where enough of the kind are kept."""


@dataclass(slots=True)
class Fuzzed:
    """What came of one target."""

    name: str
    seconds: float = 0.0
    inputs: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    signatures: int = 0
    slowest_cpu: float = 0.0
    """Most seconds of one core for one input."""
    greediest_mb: float = 0.0
    """The most by which one input raised the most memory so far, in a process that had warmed up."""
    findings: list[Finding] = field(default_factory=list)
    lives: list[list[MemorySample]] = field(default_factory=list)
    """Of each process."""

    def count(self, kind: str) -> int:
        """Return how many findings of a kind there are."""
        return sum(finding.kind == kind for finding in self.findings)

    @property
    def longest(self) -> list[MemorySample]:
        """What was seen of the process that lived longest."""
        return max(self.lives, key=len, default=[])


# Fuzzing -----------------------------------------------------------------------------------------


class Fuzzer:
    """Tries inputs on one target until time is up; `stop` ends it earlier."""

    def __init__(
        self, target: Target, seed: int, keep: Path, stop: threading.Event, hang: float = HANG
    ) -> None:
        self.found = Fuzzed(target.name)
        self._target = target
        self._chance = random.Random(f"{seed} {target.name}")
        self._corpus = Corpus(target.source.seeds)
        self._keep = keep
        self._stop, self._hang = stop, hang
        self._signatures: set[str] = set()

    def run(self, seconds: float, say: Callable[[str], None] = lambda _: None) -> Fuzzed:
        """Fuzz for so long. Raises RuntimeError for a target that does not even begin."""
        began = time.monotonic()
        batches = self._batches()
        while (left := seconds - (time.monotonic() - began)) > 0 and not self._stop.is_set():
            self._live(batches, time.monotonic() + left, say)
            if len(self.found.lives) > MAX_DEATHS:
                break
        self.found.seconds = round(time.monotonic() - began, 1)
        self.found.signatures = len(self._signatures)
        return self.found

    def _batches(self) -> Iterator[list[bytes]]:
        """Yield inputs to try: each seed as it is, then what is made of them."""
        seeds, size = self._target.source.seeds, self._target.batch
        yield from (seeds[at : at + size] for at in range(0, len(seeds), size))
        while True:
            yield [self._target.source.make(self._corpus, self._chance) for _ in range(size)]

    def _live(self, batches: Iterator[list[bytes]], deadline: float, say: Callable[[str], None]) -> None:
        """Fuzz one process, to its end or ours."""
        child = Child(self._target.command)
        life: list[MemorySample] = []
        self.found.lives.append(life)
        peak_mb, said = 0.0, time.monotonic()
        batch: list[bytes] = []
        try:
            while time.monotonic() < deadline and not self._stop.is_set():
                batch = next(batches)
                answers = child.ask(batch, self._hang + 0.1 * len(batch))
                for data, answer in zip(batch, answers, strict=True):
                    self._judge(data, answer, max(0.0, answer["peak_mb"] - peak_mb) if life else 0.0)
                    peak_mb = max(peak_mb, answer["peak_mb"])
                if not life or time.monotonic() - child.began - life[-1].at >= SAMPLE_INTERVAL:
                    life.append(child.look())
                if time.monotonic() - said >= 60:
                    said = time.monotonic()
                    say(self._news(life[-1]))
        except TargetDiedError as died:
            self._bury(died, batch)
        finally:
            child.end()

    def _judge(self, data: bytes, answer: dict[str, Any], grown_mb: float) -> None:
        found = self.found
        found.inputs += 1
        found.kinds[answer["kind"]] = found.kinds.get(answer["kind"], 0) + 1
        if answer["cpu_seconds"] > max(found.slowest_cpu, SLOW):
            self._save(f"{found.name}-slowest", data, f"{answer['cpu_seconds']} s of CPU")
        found.slowest_cpu = max(found.slowest_cpu, answer["cpu_seconds"])
        found.greediest_mb = max(found.greediest_mb, grown_mb)
        if answer["signature"] not in self._signatures:
            self._signatures.add(answer["signature"])
            if answer["kind"] not in self._target.barren:
                self._corpus.keep(data, self._chance)
        if answer["fault"] is not None:
            self._report("fault", answer["fault"], data)
        if answer["seconds"] > self._hang:
            self._report("hang", f"{answer['seconds']:.1f} s", data)
        if grown_mb > GREED_MB:
            self._report("greed", f"{grown_mb:.0f} MB", data)

    def _bury(self, died: TargetDiedError, batch: Sequence[bytes]) -> None:
        """Try a batch again, one by one, to find out which input it was; keep that, or all."""
        child: Child | None = None
        before = len(self.found.findings)
        for data in batch:
            child = child or Child(self._target.command)
            try:
                self._judge(data, child.ask([data], self._hang)[0], 0.0)
            except TargetDiedError as again:
                self.found.inputs += 1
                self._report(again.kind, str(again), data)
                child.end()
                child = None
        if child is not None:
            child.end()
        if len(self.found.findings) == before:
            for data in batch:
                self._report(died.kind, f"once only, one of {len(batch)}: {died}", data)

    def _report(self, kind: str, what: str, data: bytes) -> None:
        alike = sum(
            finding.kind == kind and finding.what[:60] == what[:60] for finding in self.found.findings
        )
        name = f"{self.found.name}-{kind}-{self.found.count(kind):03}" if alike < MAX_KEPT else ""
        if name:
            self._save(name, data, what)
        self.found.findings.append(Finding(kind, what, name))

    def _save(self, name: str, data: bytes, what: str) -> None:
        self._keep.mkdir(parents=True, exist_ok=True)
        (self._keep / name).write_bytes(data)
        (self._keep / f"{name}.txt").write_text(what + "\n")

    def _news(self, sample: MemorySample) -> str:
        return (
            f"{self.found.name}: {self.found.inputs} inputs, {len(self._signatures)} different results, "
            f"{len(self.found.findings)} findings, {sample.resident_mb:.0f} MB"
        )


# The table ---------------------------------------------------------------------------------------


def memory_rows(life: Sequence[MemorySample]) -> list[Row]:
    """Fit lines through what the process that lived longest held, after its warm-up."""
    lived = life[-1].at if life else 0.0
    warm = [sample for sample in life if sample.at >= min(WARM_UP, lived / 4)]
    if len(warm) < 3:
        return [limit("growth of memory", float("nan"), SLOPE_MB_PER_HOUR, "MB an hour", 1)]
    first, last = warm[0], warm[-1]
    left = [max(0, last.descriptors - first.descriptors), max(0, last.threads - first.threads)]
    return [
        growth("growth of memory in use", warm, [one.in_use_mb for one in warm]),
        growth("growth of resident memory", warm, [one.resident_mb for one in warm]),
        limit("descriptors and threads left behind", sum(left), 0, digits=0),
    ]


def growth(metric: str, warm: Sequence[MemorySample], held_mb: Sequence[float]) -> Row:
    """Hold the slope of what a process held against the limit; that of a short life is only shown."""
    first, last = warm[0], warm[-1]
    grown = slope([one.at for one in warm], held_mb)
    an_input = 1e6 * grown * (last.at - first.at) / 3600.0 / max(1, last.inputs - first.inputs)
    each = {
        "from": f"{held_mb[0]:.1f} MB",
        "to": f"{held_mb[-1]:.1f} MB",
        "a million inputs": f"{an_input:.1f} MB",
        "over": f"{(last.at - first.at) / 60:.0f} min",
    }
    if last.at < MIN_FOR_SLOPE:
        return fact(metric, f"{grown:.1f} MB an hour", each)
    return limit(metric, grown, SLOPE_MB_PER_HOUR, "MB an hour", 1, each)


def table_of(found: Fuzzed, seed: int) -> Table:
    """Hold what was seen against what is promised."""
    rows = [
        limit("crashes", found.count("crash"), 0, digits=0),
        limit("hangs", found.count("hang"), 0, digits=0),
        limit("undocumented errors and unsound results", found.count("fault"), 0, digits=0),
        *memory_rows(found.longest),
        limit("most memory for one input", found.greediest_mb, GREED_MB, "MB", 1),
        fact("inputs", str(found.inputs), {"a second": f"{found.inputs / max(found.seconds, 1e-9):.0f}"}),
        fact("different results", str(found.signatures)),
        fact("slowest input", f"{1000 * found.slowest_cpu:.0f} ms of CPU"),
    ]
    notes = [
        f"seed {seed}",
        ", ".join(f"{kind}: {count}" for kind, count in Counter(found.kinds).most_common()),
    ]
    for what, count in Counter((one.kind, one.what.partition("\n")[0]) for one in found.findings).items():
        notes.append(f"**{what[0]}**, {count} times: {what[1]}")
    return Table(f"{found.name}: {found.seconds / 60:.0f} minutes of fuzzing", rows, notes)


def targets(options: Options, names: Sequence[str] = NAMES) -> list[Target]:
    """Return the targets."""
    program = (sys.executable, "-m", "benchmarks.fuzz.target")
    found = []
    if "messages" in names:
        found.append(Target("messages", (*program, "messages"), messages(), 64, frozenset({"not_json"})))
    if "container" in names:
        speech = options.clip("sample", 10.0).audio
        found.append(Target("container", (*program, "container"), containers(speech), 16))
    if "dialects" in names:
        found.append(Target("dialects", (*program, "dialects"), dialects(), 64))
    return found


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Fuzz the targets at once; return a table for each, and the numbers behind them."""
    seed = int.from_bytes(os.urandom(3)) if arguments.seed is None else arguments.seed
    options.say(f"seed {seed}")
    stop = threading.Event()
    fuzzers = [Fuzzer(target, seed, arguments.keep, stop) for target in targets(options, arguments.targets)]
    with ThreadPoolExecutor(len(fuzzers)) as pool:
        try:
            tasks = [
                pool.submit(one.run, 60.0 * (arguments.minutes or MINUTES), options.say) for one in fuzzers
            ]
            runs = [task.result() for task in tasks]
        finally:
            stop.set()
    return [table_of(one, seed) for one in runs], {one.name: asdict(one) for one in runs}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks; `--seed` is the webhooks' too."""
    parser.add_argument(
        "--minutes",
        type=float,
        default=None,
        help=f"fuzz ({MINUTES:.0f}), hostile (30): of each; gpu (8): in all",
    )
    parser.add_argument(
        "--targets", nargs="+", choices=NAMES, default=list(NAMES), help="what is fuzzed (all)"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz-findings"), help="folder for inputs that fail (fuzz-findings)"
    )


def main() -> int:
    """Run the suite; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz.suite", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=None, help="of all inputs; drawn where not given")
    parser.add_argument("--models-dir", type=Path, default=None, help="where the weights are")
    parser.add_argument("--name", default="fuzz", help="of the files in benchmarks/results")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a target was missed")
    add_arguments(parser)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the targets are ended too
    named = os.environ.get("LIVE_ASR_MODELS__DIR")
    models_dir = asked.models_dir or (Path(named) if named else None)
    options = Options(("tiny.en",), ("sample",), 10.0, 1, "en", models_dir)
    where = machine()
    try:
        tables, behind = run(options, asked)
    except (MissingSpeechError, LiveAsrError) as failed:
        print(failed, file=sys.stderr)
        return 2
    write(asked.name, where, tables, behind)
    missed = any(row.passed is False for table in tables for row in table.rows)
    return 1 if missed and asked.strict else 0


if __name__ == "__main__":
    sys.exit(main())
