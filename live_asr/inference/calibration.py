"""What a typical decode takes on this machine: measured at the first start, and kept beside the weights.

It is measured again where anything is different that it depends on: the model, its arithmetic, the machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from live_asr.core.types import samples
from live_asr.inference.ipc import Load
from live_asr.models.device import cpu_count
from live_asr.models.interfaces import FloatArray, Recognizer

log = logging.getLogger(__name__)

WINDOW_SECONDS = 10.0
TIMES = 3
"""So often a step is timed; the shortest counts, as nothing makes one shorter than it is."""
CPU_INFO = Path("/proc/cpuinfo")


@runtime_checkable
class Timed(Protocol):
    """A recogniser that can do what a live step takes."""

    def typical_step(self, noise: FloatArray) -> None:
        """See `WhisperRecognizer.typical_step`."""
        ...


def measured(load: Load, recognizer: Recognizer) -> float | None:
    """Return the seconds of a lane that a typical step takes: as kept in `load.measured_file`, or measured.

    None where the recogniser cannot be measured. Raises what its library raises.
    """
    if load.measured_file is None or not isinstance(recognizer, Timed):
        return None
    key, kept = key_of(load), _kept(load.measured_file)
    found = kept.get(key)
    if isinstance(found, int | float) and found > 0:
        return float(found)
    seconds = time_step(recognizer, on_cpu=load.device == "cpu")
    _keep(load.measured_file, kept | {key: round(seconds, 5)})
    return seconds


def time_step(recognizer: Timed, *, on_cpu: bool) -> float:
    """Return how many seconds a typical step takes; nothing else may be done beside it.

    On a CPU, those are seconds of computing, in which other programs have no part.
    """
    clock = time.process_time if on_cpu else time.perf_counter
    noise = np.random.default_rng(0).normal(0, 0.01, samples(WINDOW_SECONDS)).astype(np.float32)
    taken = []
    for _ in range(TIMES):
        began = clock()
        recognizer.typical_step(noise)
        taken.append(clock() - began)
    return min(taken)


def key_of(load: Load) -> str:
    """Name what a measurement depends on: model, arithmetic, machine and library."""
    model = load.recognizer_folder and load.recognizer_folder / "model.bin"
    size = model.stat().st_size if model and model.is_file() else 0
    parts = (
        *(load.recognizer_name, size, load.device, load.compute_type, load.workers, load.beam_size),
        *(_processor(), cpu_count(), version("ctranslate2")),
    )
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return f"{load.recognizer_name} {load.compute_type} {load.device} {digest}"


def _processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _kept(file: Path) -> dict[str, Any]:
    try:
        kept = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _keep(file: Path, measurements: dict[str, Any]) -> None:
    """Write the measurements down, all at once; a folder that cannot be written has them made again."""
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(measurements, indent=1) + "\n", "utf-8")
        beside.replace(file)
    except OSError as error:
        log.warning("what a decode takes is measured again at the next start: %s", error)
