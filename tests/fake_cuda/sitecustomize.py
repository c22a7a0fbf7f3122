"""A GPU for machines without one: with this folder in PYTHONPATH, a process believes that it has CUDA.

The driver, cuBLAS and CTranslate2's GPU are stand-ins; all else is real. What is asked of the GPU a CPU
computes, and a call fails as CTranslate2's do where FAKE_CUDA_FAULTS says so: `encode:3` fails the third
call, `load` the loading of a model, `probe` the first use of cuBLAS, `missing` the search for it. With
FAKE_CUDA_ONCE, a file, only the process that makes the file fails.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import os
import sys
from collections import Counter
from types import ModuleType
from typing import Any

FAULTS = {
    entry.partition(":")[0]: int(entry.partition(":")[2] or 1)
    for entry in os.environ.get("FAKE_CUDA_FAULTS", "").split(",")
    if entry
}
MESSAGES = {
    "load": "CUDA failed with error out of memory",
    "missing": "Library libcublas.so.12 is not found or cannot be loaded",
}
BROKEN = "cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED"
CALLS = ("encode", "generate", "align", "detect_language")
real_cdll = ctypes.CDLL
counts: Counter[str] = Counter()


def fails(call: str) -> bool:
    """Tell whether this call is the one that fails."""
    counts[call] += 1
    if FAULTS.get(call) != counts[call]:
        return False
    once = os.environ.get("FAKE_CUDA_ONCE")
    if once is None:
        return True
    try:
        os.close(os.open(once, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


class Cublas:
    """cuBLAS, as far as it is asked."""

    @staticmethod
    def cublasCreate_v2(_: Any) -> int:  # noqa: N802  the name is cuBLAS's
        """Begin, or say that it cannot."""
        return 1 if fails("probe") else 0


def cdll(name: Any = None, *arguments: Any, **options: Any) -> Any:
    """Load a library; those of a GPU are pretended."""
    if name == "libcuda.so.1":
        return object()
    if name == "libcublas.so.12":
        if "missing" in FAULTS:
            raise OSError("libcublas.so.12: cannot open shared object file: No such file or directory")
        return Cublas()
    return real_cdll(name, *arguments, **options)


def on_gpu(whisper: Any) -> Any:
    """Return a class of models that computes on a CPU what is asked of a GPU."""

    class Whisper:
        def __init__(self, path: str, *, device: str, compute_type: str, **options: Any) -> None:
            self._on_gpu = device == "cuda"
            if self._on_gpu and fails("load"):
                raise RuntimeError(MESSAGES["load"])
            if self._on_gpu:
                options["intra_threads"] = 1
            self._model = whisper(
                path, device="cpu", compute_type="int8" if self._on_gpu else compute_type, **options
            )
            self.compute_type = compute_type if self._on_gpu else self._model.compute_type

        def __getattr__(self, name: str) -> Any:
            if self._on_gpu and name in CALLS and fails(name):
                raise RuntimeError(BROKEN)
            return getattr(self._model, name)

    return Whisper


class Finder(importlib.abc.MetaPathFinder):
    """Changes CTranslate2 as it is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Find `ctranslate2` where it is, and have what is below done once it is loaded."""
        if name != "ctranslate2":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            module.get_cuda_device_count = lambda: 1  # type: ignore[attr-defined]
            types = {"float32", "float16", "int8_float16", "int8"}
            module.get_supported_compute_types = lambda *_: types  # type: ignore[attr-defined]
            module.models.Whisper = on_gpu(module.models.Whisper)  # type: ignore[attr-defined]

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


ctypes.CDLL = cdll  # type: ignore[misc,assignment]
sys.meta_path.insert(0, Finder())
