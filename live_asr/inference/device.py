"""What the models run on: which device, which arithmetic, how many cores."""

from __future__ import annotations

import ctypes
import os
import sys

from live_asr.errors import ConfigError

AUTO = "auto"


def pick_device(wanted: str = AUTO) -> str:
    """Return `wanted`, or for `auto` what this machine has: `cuda` or `cpu`.

    Raises ConfigError where a GPU is wanted and there is none: better said here than by the library that
    loads the model, after gigabytes were fetched.
    """
    if wanted == "cpu":
        return wanted
    has_gpu = cuda_device_count() > 0
    if wanted == "cuda" and not has_gpu:
        raise ConfigError("There is no CUDA GPU here; use --device cpu (or auto).")
    return "cuda" if has_gpu else "cpu"


def pick_compute_type(wanted: str, device: str) -> str:
    """Return `wanted`, or for `auto` the fastest arithmetic that keeps the words: float16 or int8."""
    if wanted != AUTO:
        return wanted
    return "float16" if device == "cuda" else "int8"


def cuda_device_count() -> int:
    """Count the GPUs that CTranslate2 can use."""
    # The driver's library is looked for first: without it, which is most machines, nothing is imported.
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    import ctranslate2

    return int(ctranslate2.get_cuda_device_count())


def cpu_count() -> int:
    """Count the CPU cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
