"""What the models run on: which device, which arithmetic, how many cores.

Whether a GPU can be used is found out in a process of its own: the driver is loaded there, cuBLAS is asked to
begin, and what takes a process down takes that one.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from live_asr.core.errors import ConfigError

log = logging.getLogger(__name__)

AUTO = "auto"
INSTALL = 'pip install "live-asr[server,cuda]"'
CUBLAS = ("libcublasLt.so.12", "libcublas.so.12")
"""What CTranslate2 multiplies with on a GPU, in the order in which they need each other."""
GPU_COMPUTE_TYPES = ("float16", "bfloat16", "int8_float16", "int8_float32", "float32")
"""What is taken on a GPU, the best that it can do: old ones have no fast float16."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
MAX_LOOK = 120.0
"""Seconds in which a driver answers."""
DEVICE_FAULT = re.compile(r"\b(?:cuda|cublas|cudnn|nvrtc)|libcu(?:da|blas|dnn)", re.IGNORECASE)
"""What the messages of a device's libraries hold, whichever of them fails."""
CURES = {
    r"libcublas": f"Install cuBLAS 12: {INSTALL}.",
    r"out of memory|ALLOC_FAILED": "Free memory on the GPU, or choose a smaller model with --model.",
    r"driver|kernel image|toolchain|NOT_INITIALIZED": "Update the NVIDIA driver, to 570 or newer.",
    r"no CUDA GPU": "Use --device cpu (or auto), or install the NVIDIA driver.",
}
"""What a problem's sentence holds → what to do."""
CUBLAS_STATUSES = {1: "CUBLAS_STATUS_NOT_INITIALIZED", 3: "CUBLAS_STATUS_ALLOC_FAILED"}


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a machine has for CTranslate2."""

    count: int = 0
    compute_types: tuple[str, ...] = ()
    """The arithmetics of the first one."""
    problem: str = ""
    """Why it cannot be used, as a sentence; "" where it can."""
    is_there: bool = True
    """Whether there is a driver, so that a GPU is to be expected."""


def pick_device(wanted: str = AUTO) -> str:
    """Return `wanted`, or for `auto` what this machine can use: `cuda` or `cpu`.

    Raises ConfigError where a GPU is wanted and cannot be used: better said here than by the library that
    loads the model, after gigabytes were fetched.
    """
    if wanted == "cpu":
        return wanted
    gpu = look_for_gpu()
    if wanted == "cuda" and gpu.problem:
        raise ConfigError(f"{gpu.problem} {cure_of(gpu.problem)}")
    return "cpu" if gpu.problem else "cuda"


def why_not_gpu(wanted: str) -> str:
    """Say why `auto` is the CPU on a machine that has a GPU; "" where there is nothing to say."""
    gpu = look_for_gpu() if wanted == AUTO else Gpu()
    return f"{gpu.problem} {cure_of(gpu.problem)}" if gpu.problem and gpu.is_there else ""


def pick_compute_type(wanted: str, device: str) -> str:
    """Return `wanted`, or for `auto` the fastest arithmetic that keeps the words: float16 or int8.

    Raises ConfigError for one that the GPU cannot do.
    """
    if device != "cuda":
        return "int8" if wanted == AUTO else wanted
    known = look_for_gpu().compute_types
    if wanted == AUTO:
        return next((one for one in GPU_COMPUTE_TYPES if one in known), "float32")
    if wanted not in known:
        raise ConfigError(
            f"The GPU does not compute in {wanted}; it does in {', '.join(sorted(known))}.",
            "Set inference.compute_type to one of these, or to auto.",
        )
    return wanted


@lru_cache(1)
def look_for_gpu() -> Gpu:
    """Find out whether CTranslate2 can use a GPU here. Blocks; where there is no driver, not for long."""
    # The driver's library is looked for first: without it, which is most machines, nothing is imported.
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return Gpu(problem="There is no CUDA GPU here.", is_there=False)
    command = [sys.executable, "-m", "live_asr.models.device"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_LOOK)
        found = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Gpu(problem=f"The NVIDIA driver has not answered for {MAX_LOOK:.0f} s.")
    except (IndexError, ValueError):
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return Gpu(problem=f"The CUDA GPU cannot be looked at: {reason.rstrip('.')}.")
    return Gpu(**found | {"compute_types": tuple(found["compute_types"])})


def environment_for(gpu: int | None) -> dict[str, str]:
    """Return what has a process see one GPU alone, by its number among those that this one may use."""
    if gpu is None:
        return {}
    visible = [one.strip() for one in os.environ.get(VISIBLE, "").split(",") if one.strip()]
    return {VISIBLE: visible[gpu] if gpu < len(visible) else str(gpu)}


def load_cublas() -> None:
    """Load cuBLAS from NVIDIA's package where it is, so that CTranslate2 finds it by its name alone."""
    package = importlib.util.find_spec("nvidia")
    folders = [
        Path(place) / "cublas" / "lib" for place in (package and package.submodule_search_locations) or ()
    ]
    for name in CUBLAS:
        for folder in folders:
            if (folder / name).is_file():
                ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
                break


def is_device_fault(error: BaseException) -> bool:
    """Tell whether it was the GPU or one of its libraries that failed: the process cannot go on then."""
    return isinstance(error, RuntimeError | OSError) and DEVICE_FAULT.search(str(error)) is not None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a GPU had no room for a piece of work."""
    return is_device_fault(error) and "out of memory" in str(error)


def cure_of(problem: str) -> str:
    """Say what to do about a GPU that cannot be used."""
    found = (cure for pattern, cure in CURES.items() if re.search(pattern, problem, re.IGNORECASE))
    return next(found, "Use --device cpu, or see what `live-asr doctor` says.")


def cpu_count() -> int:
    """Count the CPU cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _look() -> Gpu:
    import ctranslate2

    count = int(ctranslate2.get_cuda_device_count())
    if not count:
        return Gpu(problem="There is no CUDA GPU here.", is_there=False)
    load_cublas()
    if sys.platform != "win32":
        try:
            cublas = ctypes.CDLL(CUBLAS[-1])
        except OSError as error:
            return Gpu(count, problem=f"There is a CUDA GPU, and its library cannot be loaded: {error}.")
        status = cublas.cublasCreate_v2(ctypes.byref(ctypes.c_void_p()))
        if status:
            name = CUBLAS_STATUSES.get(status, f"status {status}")
            return Gpu(count, problem=f"cuBLAS cannot begin on the CUDA GPU: {name}.")
    return Gpu(count, tuple(sorted(ctranslate2.get_supported_compute_types("cuda"))))


def main() -> None:
    """Print what there is, for the process that asks."""
    print(json.dumps(asdict(_look())))


if __name__ == "__main__":
    main()
