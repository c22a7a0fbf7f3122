"""Which models the full pass uses, by the settings; brought here at start-up, so that no job waits."""

from __future__ import annotations

import logging
from pathlib import Path

from live_asr.config import Settings
from live_asr.errors import WeightsError
from live_asr.inference.conversion import converted
from live_asr.inference.device import pick_compute_type, pick_device
from live_asr.inference.diarization import LocalPipeline, PretrainedPipeline
from live_asr.inference.full_pass import FullPassLoad
from live_asr.inference.manifest import load_manifest
from live_asr.inference.sources import Progress
from live_asr.inference.weights import AUTO, Weights, resolve, resolve_here, resolve_recognizer

log = logging.getLogger(__name__)

LOCAL = "local"
PUBLISHED = "community-1"
ENCODER = "campplus"
"""The local pipeline's voices, whatever tells them apart live: its threshold is measured for this one."""
BEAM_SIZE = 2


def full_pass_load(
    settings: Settings, recognizer: Weights, detector: Weights, *, on_progress: Progress | None = None
) -> FullPassLoad:
    """Return what the full pass is to load, fetching what is not here.

    `recognizer` and `detector` are the live ones. Without weights for a pipeline there is none, and the log
    says why: a server that cannot tell who spoke still tells what was said. Raises WeightsError where
    `final.recognizer` names one that is not to be had.
    """
    device = pick_device(settings.inference.device)
    if settings.final.recognizer is not None:
        recognizer = resolve_recognizer(
            settings.final.recognizer,
            device,
            models_dir=settings.models.dir,
            local=settings.models.local,
            on_progress=on_progress,
            offline=settings.models.offline,
        )
    return FullPassLoad(
        recognizer_name=recognizer.name,
        recognizer_folder=recognizer.folder,
        detector_file=detector.model_file,
        device=device,
        compute_type=pick_compute_type(settings.inference.compute_type, device),
        beam_size=BEAM_SIZE,
        pipeline=_pipeline(settings, on_progress),
    )


def _pipeline(settings: Settings, on_progress: Progress | None) -> LocalPipeline | PretrainedPipeline | None:
    """Return the pipeline that the settings name, or None where it is not to be had; log which and why."""
    try:
        pipeline = _resolved(settings, on_progress)
    except WeightsError as error:
        log.warning("%s The full pass cannot tell speakers apart; transcripts keep the live labels.", error)
        return None
    log.info("The full pass tells speakers apart with %s.", pipeline.name)
    return pipeline


def _resolved(settings: Settings, on_progress: Progress | None) -> LocalPipeline | PretrainedPipeline:
    wanted, models = settings.final.pipeline, settings.models
    if wanted == AUTO:
        # What would have to be fetched first, and asks for a token, is for those who name it.
        held = resolve_here(PUBLISHED, models_dir=models.dir, local=models.local)
        return _local(settings, on_progress) if held is None else _from_folder(held.folder, PUBLISHED)
    if wanted == LOCAL:
        return _local(settings, on_progress)
    published = {entry.hub: entry.name for entry in load_manifest().values() if entry.kind == "pipeline"}
    name = published.get(wanted, wanted)
    folder = Path(wanted).expanduser()
    if name in published.values():
        weights = resolve(
            name,
            models_dir=models.dir,
            local=models.local,
            on_progress=on_progress,
            offline=models.offline,
        )
        return _from_folder(weights.folder, name)
    if folder.is_dir() or folder.is_absolute() or len(folder.parts) != 2:
        return _from_folder(resolve(wanted, models_dir=models.dir, kind="pipeline").folder, folder.name)
    # Some other repository of the hub, which may name further ones: pyannote itself fetches them.
    return PretrainedPipeline(wanted, wanted, offline=models.offline)


def _from_folder(folder: Path, name: str) -> PretrainedPipeline:
    return PretrainedPipeline(str(folder), name)


def _local(settings: Settings, on_progress: Progress | None) -> LocalPipeline:
    def fetch(name: str, kind: str) -> Weights:
        return resolve(
            name,
            models_dir=settings.models.dir,
            local=settings.models.local,
            on_progress=on_progress,
            offline=settings.models.offline,
            kind=kind,
        )

    segmentation = fetch(settings.models.segmentation, "segmentation")
    encoder = fetch(ENCODER, "speaker_encoder")
    return LocalPipeline(
        segmentation.folder / "pytorch_model.bin",
        converted(encoder),
        f"{segmentation.name} + {encoder.name}",
    )
