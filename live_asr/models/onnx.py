"""Small models on onnxruntime: one thread each, no telemetry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def open_model(model_file: Path) -> Any:
    """Return an onnxruntime session for a model of a few milliseconds a call, on the CPU.

    Raises what onnxruntime raises for a file that is no model.
    """
    # It would otherwise keep an id of this machine and report events to its maker.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    # A second thread would only spin beside the recogniser.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # It would keep a layout of memory for every length of audio that it ever sees, and those are many.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model_file), options, providers=["CPUExecutionProvider"])
