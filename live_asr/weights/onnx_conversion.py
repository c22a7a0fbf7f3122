"""Published torch weights → ONNX, once, so that live sessions need no torch.

torch and pyannote take hundreds of megabytes, and CAM++ runs twice as fast without them. The conversion
runs in a process of its own, which takes some seconds, and its result is kept beside the weights.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from live_asr.core.errors import WeightsError
from live_asr.models.derived import kept_beside
from live_asr.weights.store import Weights

log = logging.getLogger(__name__)

VERSION = 1
"""Of the conversion: a result of another one is made anew."""
MODEL_FILE = "live-asr.onnx"
RECEIPT = f"{MODEL_FILE}.json"
CHECKPOINTS = {
    "campplus": "campplus_cn_en_common.pt",
    "ge2e": "pretrained.pt",
    "segmentation-3.0": "pytorch_model.bin",
}
"""Network → its published checkpoint."""
MAX_CONVERSION = 300.0


def converted(weights: Weights) -> Path:
    """Return the ONNX form of a model's weights, made now if it is not there yet.

    A folder with an `.onnx` of its own is taken as it is. Where the folder cannot be written, the result goes
    with this process. Raises WeightsError where it cannot be made.
    """
    own = (file for file in sorted(weights.folder.glob("*.onnx")) if file.name != MODEL_FILE)
    ready = next(own, None)
    if ready is not None:
        return ready
    network = next((name for name, file in CHECKPOINTS.items() if (weights.folder / file).is_file()), None)
    if network is None:
        raise WeightsError(
            f"{weights.folder} holds neither an .onnx file nor a checkpoint that can be converted.",
            f"Give a folder with one of: {', '.join(CHECKPOINTS.values())}.",
        )
    checkpoint = weights.folder / CHECKPOINTS[network]
    stamp = {"version": VERSION, "checkpoint_bytes": checkpoint.stat().st_size}

    def convert(part: Path) -> None:
        log.info("Converting %s to ONNX, once.", weights.name)
        done = subprocess.run(
            [sys.executable, "-m", "live_asr.weights.onnx_conversion", network, checkpoint, part],
            capture_output=True,
            text=True,
            timeout=MAX_CONVERSION,
        )
        if done.returncode:
            raise _failed(weights, done.stderr.strip().splitlines()[-1:])

    try:
        kept = kept_beside(weights.folder, MODEL_FILE, stamp, convert)
        if kept is None:  # a read-only volume: what can be done without it is
            log.info("%s cannot be written: the conversion is kept until this ends.", weights.folder)
            of_folder = stamp | {"folder": str(weights.folder)}
            kept = kept_beside(Path(_scratch().name), f"{network}.onnx", of_folder, convert)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(weights, [str(error)]) from error
    if kept is None:
        raise _failed(weights, ["nothing can be written"])
    return kept


@lru_cache(1)
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that goes with this process."""
    return tempfile.TemporaryDirectory(prefix="live-asr-")


def _failed(weights: Weights, reason: list[str]) -> WeightsError:
    return WeightsError(
        f"{weights.name} could not be converted to ONNX: {' '.join(reason) or 'no reason given'}.",
        "`live-asr models verify` checks the weights; `live-asr doctor` checks the packages.",
    )


def main(network: str, checkpoint: Path, target: Path) -> None:
    """Convert one checkpoint, whose digest has been verified."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    torch.set_num_threads(1)
    if network == "campplus":
        from live_asr.models import campplus

        model: torch.nn.Module = campplus.load(checkpoint)
        example, name, dynamic = torch.zeros(1, 300, campplus.MEL_BINS), "features", {1: "frames"}
    elif network == "ge2e":
        from live_asr.models import ge2e

        model = ge2e.load(checkpoint)
        example, name, dynamic = torch.zeros(2, 160, ge2e.MEL_BINS), "features", {0: "windows"}
    else:
        from live_asr.full_pass.diarization import load_segmentation

        model = load_segmentation(checkpoint)
        example, name, dynamic = torch.zeros(1, 1, 160_000), "samples", {2: "samples"}
    torch.onnx.export(
        model,
        (example,),
        str(target),
        dynamo=False,
        input_names=[name],
        output_names=["output"],
        dynamic_axes={name: dynamic},
        opset_version=17,
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
