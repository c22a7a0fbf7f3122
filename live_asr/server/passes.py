"""What the process of the full pass loads: which pipeline finds the speakers, which model recognises."""

from __future__ import annotations

import logging
from pathlib import Path

from live_asr.config import Settings
from live_asr.errors import WeightsError
from live_asr.inference.channel import Load
from live_asr.inference.conversion import converted
from live_asr.inference.diarization import LocalPipeline, PretrainedPipeline
from live_asr.inference.full_pass import FullPassLoad
from live_asr.inference.weights import Weights, resolve, resolve_here, resolve_recognizer

log = logging.getLogger(__name__)

AUTO, LOCAL = "auto", "local"
COMMUNITY = "community-1"
CAMPPLUS, GE2E = "campplus", "ge2e"


def full_pass_load(settings: Settings, load: Load) -> FullPassLoad:
    """Return what the full pass loads, bringing its weights where they are not here yet.

    `load` is the live models'. Without weights that find speakers no recording is diarized, and the log says
    so. Raises WeightsError where a recogniser of its own is asked for and cannot be had.
    """
    name, folder = load.recognizer_name, load.recognizer_folder
    if settings.final.recognize and settings.final.recognizer is not None:
        weights = resolve_recognizer(
            settings.final.recognizer,
            load.device,
            models_dir=settings.models.dir,
            local=settings.models.local,
            offline=settings.models.offline,
        )
        name, folder = weights.name, weights.folder
    return FullPassLoad(
        recognizer_name=name,
        recognizer_folder=folder,
        detector_file=load.detector_file,
        device=load.device,
        compute_type=load.compute_type,
        beam_size=load.beam_size,
        pipeline=_pipeline(settings),
    )


def _pipeline(settings: Settings) -> LocalPipeline | PretrainedPipeline | None:
    wanted = settings.final.pipeline
    if wanted == AUTO:
        held = _community(settings)
        if held is not None:
            return PretrainedPipeline(str(held.folder), COMMUNITY)
    elif wanted != LOCAL:
        is_folder = Path(wanted).expanduser().is_dir()
        source = str(Path(wanted).expanduser().absolute()) if is_folder else wanted
        return PretrainedPipeline(source, Path(wanted).name)
    # The local pipeline is tuned for CAM++; GE2E is for live sessions.
    voices = CAMPPLUS if settings.models.speaker_encoder == GE2E else settings.models.speaker_encoder
    try:
        encoder = converted(_resolve(settings, voices))
        return LocalPipeline(_resolve(settings, settings.models.segmentation).model_file, encoder)
    except WeightsError as error:
        log.warning("full passes find no speakers, the live labels stand: %s", error)
        return None


def _community(settings: Settings) -> Weights | None:
    """Return pyannote's published pipeline where it is here, or where the hub grants it to this user."""
    from huggingface_hub import get_token

    held = resolve_here(COMMUNITY, models_dir=settings.models.dir, local=settings.models.local)
    if held is not None or settings.models.offline or get_token() is None:
        return held
    try:
        return _resolve(settings, COMMUNITY)
    except WeightsError as error:
        log.info("%s is not to be had, the local pipeline is used: %s", COMMUNITY, error)
        return None


def _resolve(settings: Settings, name: str) -> Weights:
    return resolve(
        name,
        models_dir=settings.models.dir,
        local=settings.models.local,
        offline=settings.models.offline,
    )
