"""pyannote's models and pipelines are data here: no file of theirs says what is run.

A checkpoint is a pickle, a pipeline's `config.yaml` names classes and what to call them with, and pyannote
follows both. In a process that calls `distrust`, torch unpickles weights alone, whoever asks it for more, and
pyannote finds no class but its own.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from live_asr.core.errors import WeightsError

MODELS = "pyannote.audio.models."
PIPELINES = ("pyannote.audio.pipelines", "pyannote.audio.utils.preprocessors")
ABROAD = "pyannote.audio.pipelines.pyannoteai"
"""Pipelines that send the audio to a service."""
UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    KeyError,
    TypeError,
    ValueError,
    EOFError,
    OSError,
)
"""What torch and pyannote raise for a file that is no checkpoint."""
HINT = (
    "Use a published model (`live-asr models list`), or have whoever made this one save its weights alone "
    "(torch.save of tensors and plain values)."
)


def distrust() -> None:
    """Have this process run nothing that a model's file names; idempotent. Imports torch and pyannote."""
    # torch's own word for it, which counts against `weights_only=False`, too: that is how pyannote loads.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    import torch
    from pyannote.audio.core import model, pipeline
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.pipelines import speaker_verification

    # What describes a model's task in pyannote's own checkpoints.
    described: list[Any] = [torch.torch_version.TorchVersion, Problem, Resolution, Specifications]
    torch.serialization.add_safe_globals(described)
    model.import_module = own_module
    pipeline.get_class_by_name = own_class
    # Models of theirs are programs, which a pipeline's embedding may name.
    speaker_verification.SPEECHBRAIN_IS_AVAILABLE = False
    speaker_verification.NEMO_IS_AVAILABLE = False


def own_module(name: str) -> ModuleType:
    """Import the module of a checkpoint's network. Raises WeightsError where it is not one of pyannote's."""
    if not name.startswith(MODELS):
        raise WeightsError(f"The checkpoint names a network that is not pyannote's own: {name}.", HINT)
    return import_module(name)


def own_class(name: str, default_module_name: str = "") -> Any:
    """Return a class that a pipeline's configuration names. Raises WeightsError where it is not pyannote's.

    Modules hold what they import, so that a name in one of pyannote's modules is not enough.
    """
    module, _, last = name.rpartition(".")
    if _is_own(module):
        found = getattr(import_module(module), last, None)
        if isinstance(found, type) and _is_own(found.__module__):
            return found
    raise WeightsError(f"The pipeline names a class that is not pyannote's own: {name}.", HINT)


def _is_own(module: str) -> bool:
    is_listed = any(module == own or module.startswith(f"{own}.") for own in PIPELINES)
    return is_listed and not f"{module}.".startswith(f"{ABROAD}.")


@contextmanager
def refusing(what: object, errors: tuple[type[Exception], ...] = (pickle.UnpicklingError,)) -> Iterator[None]:
    """Say as WeightsError why `what` is not loaded where one of these errors tells it."""
    try:
        yield
    except errors as error:
        raise WeightsError(
            f"{what} holds more than weights, or none of pyannote's: {_reason(error)}", HINT
        ) from None


def _reason(error: BaseException) -> str:
    """Return what torch found, without its advice on how to load it all the same."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = next((line for line in lines if line.startswith("WeightsUnpickler error:")), None)
    if found is not None:
        return found.removeprefix("WeightsUnpickler error:").strip().partition(" Please use ")[0]
    return (lines or [type(error).__name__])[0]
