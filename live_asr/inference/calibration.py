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
KERNELS = ("CT2_FORCE_CPU_ISA", "CT2_USE_MKL")
"""Variables that change what CTranslate2 computes with; see `kernels`."""
TIMES = 3
"""So often a step is timed; the shortest counts, as nothing makes one shorter than it is."""
BUSY = 1.0
"""Programs that want each core, above which a machine is busy."""
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
    key = key_of(load)
    found = _step_of(kept(load.measured_file).get(key))
    if found is not None and not is_to_be_mended(found):
        return float(found["seconds"])
    seconds = time_step(recognizer, on_cpu=load.device == "cpu")
    if found is not None:  # other work makes it longer, and nothing makes it shorter
        seconds = min(seconds, float(found["seconds"]))
    keep(load.measured_file, key, {"seconds": round(seconds, 5), "load": load_now()})
    return seconds


def _step_of(entry: Any) -> dict[str, float] | None:
    """Return what is kept of a step; None for what is no measurement. The first versions kept its seconds."""
    if isinstance(entry, int | float):
        entry = {"seconds": entry}
    seconds = entry.get("seconds") if isinstance(entry, dict) else None
    return entry if isinstance(seconds, int | float) and seconds > 0 else None


def is_to_be_mended(entry: dict[str, Any]) -> bool:
    """Tell whether a measurement was made beside other work, and there is less of that now."""
    load = entry.get("load", 0.0)
    return isinstance(load, int | float) and load > BUSY and load_now() <= BUSY


def load_now() -> float:
    """Return how many programs want each core, as a mean of the last minute."""
    return round(os.getloadavg()[0] / cpu_count(), 2) if hasattr(os, "getloadavg") else 0.0


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
        *(os.environ.get(name, "") for name in KERNELS),
    )
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return f"{load.recognizer_name} {load.compute_type} {load.device} {digest}"


def cpu_info() -> str:
    """Return what the system says of its processors; nothing where it has no such file."""
    try:
        return CPU_INFO.read_text()
    except OSError:
        return ""


def _processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    lines = cpu_info().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def kept(file: Path) -> dict[str, Any]:
    """Return all measurements that are kept."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def keep(file: Path, key: str, measurement: dict[str, Any]) -> None:
    """Write a measurement down beside the others; a folder that cannot be written has it made again."""
    measurements = kept(file) | {key: measurement}
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(measurements, indent=1) + "\n", "utf-8")
        beside.replace(file)
    except OSError as error:
        log.warning("what a decode takes is measured again at the next start: %s", error)
