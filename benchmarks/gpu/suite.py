"""The suite `gpu`: what a model's calls take on this machine's GPU, and how many sessions it carries.

Where no GPU can be used it measures the CPU, less of it. What was measured is kept at once: a run that was
cut goes on where it was. Each part has its share of the time; what was not reached is said.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base.matching import errors
from benchmarks.base.options import Options, default_models_dir, parts_of
from benchmarks.base.processes import ServerFailedError
from benchmarks.base.report import RESULTS, Table, fact, machine
from benchmarks.base.speech import Clip, MissingSpeechError
from benchmarks.gpu import tables
from benchmarks.gpu.calls import Order, measure_calls
from benchmarks.gpu.kept import Clock, Kept
from benchmarks.gpu.sessions import Sessions
from benchmarks.gpu.shapes import TURBO, Shape, written
from live_asr.models.device import AUTO, look_for_gpu, pick_compute_type, pick_device, why_not_gpu
from live_asr.weights.store import resolve_here

PARTS = ("calls", "sessions", "pass")
MINUTES = 8.0
CLIPS = ("talk5_lj", "sample")
"""The first one that is here is played."""
PACKAGED = "tiny.en"
"""Its weights come in a package; its words have the times that latencies count from."""
FINISHING = 20.0
"""Seconds kept for the end."""
CALLS_SHARE = 0.4
"""Of the time, for calls, where sessions follow."""
LARGEST_SHARE = 0.6
"""Of a part's time, for the largest model, where others follow."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured on a kind of device."""

    windows: tuple[float, ...]
    """Seconds; the first is what first calls, lanes and other arithmetics are measured with."""
    batches: tuple[int, ...]
    lanes: tuple[int, ...]
    compute_batches: tuple[int, ...]
    """For arithmetics but the server's own choice."""
    compute_types: tuple[str, ...] | None
    """None for all that the device has."""
    shape: Shape | None
    """Whose speed is measured with random numbers where its weights are not here."""
    clip_seconds: float
    first_sessions: int
    most_sessions: int
    pass_repeats: int
    """So many times the clip is what the full pass goes over."""


GPU = Plan(
    windows=(10.0, 30.0, 13.0, 17.0),
    batches=(1, 2, 4, 8, 16, 24, 32),
    lanes=(1, 8, 24),
    compute_batches=(1, 8),
    compute_types=None,
    shape=TURBO,
    clip_seconds=30.0,
    first_sessions=16,
    most_sessions=1024,
    pass_repeats=4,
)
CPU = Plan(
    windows=(10.0, 30.0),
    batches=(1, 2),
    lanes=(1,),
    compute_batches=(1,),
    compute_types=("int8", "float32"),
    shape=None,
    clip_seconds=20.0,
    first_sessions=1,
    most_sessions=64,
    pass_repeats=2,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default=AUTO, help="gpu: which one")
    parser.add_argument("--fresh", action="store_true", help="gpu: do not go on with a run that was cut")


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Measure, or go on with what was cut. Raises ConfigError where a GPU is wanted and cannot be used."""
    clock = Clock.of(60 * (arguments.minutes or MINUTES) - FINISHING)
    device = pick_device(arguments.device)
    plan = CPU if device == "cpu" else GPU
    if arguments.seconds is not None:
        plan = replace(plan, clip_seconds=arguments.seconds)
    parts = parts_of(arguments, PARTS)
    path = RESULTS / f"{arguments.name or 'gpu'}.cut.json"
    if arguments.fresh:
        path.unlink(missing_ok=True)
    kept = Kept.resumed(path, about(device, plan, options))
    if kept.from_before:
        options.say(f"{path} has {kept.from_before} results of a run that was cut: going on")
    if why := why_not_gpu(arguments.device):
        options.say(f"The CPU is measured, not the GPU. {why}")
    notes = measure(plan, options, kept, clock, device=device, parts=parts)
    found = tables.tables_of(kept)
    if notes:
        found.append(
            Table("not measured: the same command goes on with it", [fact(note, "") for note in notes])
        )
    else:
        kept.done()
    return found, {"about": kept.about, "results": kept.found, "not_measured": notes}


def about(device: str, plan: Plan, options: Options) -> dict[str, Any]:
    """Return what results of one run have in common."""
    where = machine()
    same = {name: where[name] for name in ("commit", "cpu", "cores", "packages")}
    return same | {"device": device, "gpu": tables.gpu_name(), "plan": asdict(plan), "models": options.models}


def measure(
    plan: Plan, options: Options, kept: Kept, clock: Clock, *, device: str, parts: tuple[str, ...]
) -> list[str]:
    """Measure what is not kept yet, the parts in turn; return sentences on what was left out."""
    clip = first_clip(options, plan.clip_seconds)
    notes: list[str] = []
    if "calls" in parts:
        alone = {"sessions", "pass"}.isdisjoint(parts)
        notes += calls(plan, options, kept, clock.share(1.0 if alone else CALLS_SHARE), device, clip)
    if "sessions" in parts or "pass" in parts:
        notes += sessions(plan, options, kept, clock, device, clip, parts)
    return notes


def first_clip(options: Options, seconds: float) -> Clip:
    """Return the first of the clips that is here. Raises MissingSpeechError where none is."""
    missing: list[str] = []
    for name in options.clips:
        try:
            return options.clip(name, seconds)
        except MissingSpeechError as error:
            missing.append(str(error))
    raise MissingSpeechError(" ".join(missing))


# Calls -------------------------------------------------------------------------------------------------


def calls(plan: Plan, options: Options, kept: Kept, clock: Clock, device: str, clip: Clip) -> list[str]:
    """Measure the calls of each model, and those of the largest in each arithmetic."""
    notes: list[str] = []
    own = pick_compute_type(AUTO, device)
    with tempfile.TemporaryDirectory(prefix="live-asr-bench-") as scratch, ExitStack() as shaped:
        audio = Path(scratch) / "audio.npy"
        np.save(audio, clip.audio.astype(np.float32) / 32768)
        models = [(name, options.weights(name)) for name in options.models]
        if plan.shape is not None:
            models.insert(0, speed_of(plan.shape, options, shaped))
        cells = tuple((window, batch) for window in plan.windows for batch in plan.batches)
        orders = [
            (name, Order(str(folder), device, own, str(audio), cells, plan.lanes, plan.windows[0]))
            for name, folder in models
        ]
        few = tuple((plan.windows[0], batch) for batch in plan.compute_batches)
        largest, first = orders[0]
        for compute_type in arithmetics(plan, device):
            if compute_type != own:
                orders.append((largest, replace(first, compute_type=compute_type, cells=few, lanes=())))
        for place, (name, order) in enumerate(orders):
            # The first one has the most to do; what it leaves is the others', in turn.
            is_first = place == 0 and len(orders) > 1
            part = clock.share(LARGEST_SHARE if is_first else 1 / (len(orders) - place))
            label = f"{name} {order.compute_type}"
            options.say(f"{label}: calls, for up to {part.left:.0f} s")
            problem = measure_calls(order, kept, label, part)
            if missing := [one for one in order.names if f"{label}/{one}" not in kept]:
                notes.append(f"{label}: {', '.join(missing)} ({problem or 'no time was left'})")
    return notes


def weights_of(shape: Shape, options: Options) -> Path | None:
    """Return the folder of the weights that have a shape, where they are on this machine."""
    weights = resolve_here(shape.name, models_dir=options.models_dir or default_models_dir())
    return None if weights is None else weights.folder


def speed_of(shape: Shape, options: Options, shaped: ExitStack) -> tuple[str, Path]:
    """Return name and folder of a shape's model, with random numbers where the weights are not here."""
    folder = weights_of(shape, options)
    if folder is not None:
        return shape.name, folder
    options.say(f"{shape.name}: not here; a model of its shape is written, with random numbers")
    return f"{shape.name}'s shape", shaped.enter_context(written(shape))


def arithmetics(plan: Plan, device: str) -> tuple[str, ...]:
    """Return the compute types to measure."""
    return plan.compute_types or (look_for_gpu().compute_types if device != "cpu" else ())


# Sessions ----------------------------------------------------------------------------------------------


def sessions(
    plan: Plan, options: Options, kept: Kept, clock: Clock, device: str, clip: Clip, parts: tuple[str, ...]
) -> list[str]:
    """Find out how many sessions each model carries whose weights are here."""
    models = list(options.models)
    if plan.shape is not None and weights_of(plan.shape, options) is not None:
        models.insert(0, plan.shape.name)
    reference = options.reference(clip, PACKAGED)
    if clip.truth:
        kept.keep("single pass", {"wer": errors(reference.text, clip.truth).rate})
    notes: list[str] = []
    for place, model in enumerate(models):
        first, most = plan.first_sessions, plan.most_sessions if "sessions" in parts else plan.first_sessions
        repeats = plan.pass_repeats if "pass" in parts else 0
        played = Sessions(model, clip, reference, options, kept, device=device)
        try:
            played.measure(
                clock.share(LARGEST_SHARE if len(models) - place > 1 else 1.0),
                first=first,
                most=most,
                pass_repeats=repeats,
            )
        except ServerFailedError as error:
            notes.append(f"{model}: {error}")
            continue
        if missing := played.missing(first, most, repeats):
            notes.append(f"{model}: {', '.join(missing)} (no time was left)")
    return notes
