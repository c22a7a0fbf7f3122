"""What the settings use, brought in one step: the models of live sessions and those of the full pass.

All is here, and in the form in which it is run, before a server loads anything: so no job waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from live_asr.config.settings import LOCAL_ENGINE, Settings
from live_asr.core.errors import WeightsError
from live_asr.full_pass.diarization import LocalPipeline, PretrainedPipeline
from live_asr.full_pass.process import FullPassLoad
from live_asr.models.device import pick_compute_type, pick_device
from live_asr.weights.manifest import load_manifest
from live_asr.weights.onnx_conversion import converted
from live_asr.weights.sources import Progress
from live_asr.weights.store import AUTO, Weights, default_model, resolve, resolve_here

log = logging.getLogger(__name__)

LOCAL = "local"
PUBLISHED = "community-1"
FULL_PASS_BEAM_SIZE = 2
ENCODER = "campplus"
"""The local pipeline's voices, whatever tells them apart live: its threshold is measured for this one."""
NOT_TO_BE_HAD = ("weights_unreachable", "weights_unwritable")
"""Codes of weights that are not here and cannot be brought: what can do without them does."""

Pipeline = LocalPipeline | PretrainedPipeline


@dataclass(frozen=True, slots=True)
class Voices:
    """What tells speakers apart live."""

    name: str
    """For people."""
    segmentation_file: Path
    """ONNX, as is `encoder_file`."""
    encoder_file: Path


@dataclass(frozen=True, slots=True)
class ModelSet:
    """What a server loads. An error says why speakers cannot be told apart: captions do without."""

    recognizer: Weights
    detector: Weights
    voices: Voices | WeightsError
    final_recognizer: Weights
    """For the full pass."""
    pipeline: Pipeline | WeightsError
    weights: tuple[Weights, ...]
    """All that this took, each once."""

    def lacks(self) -> Iterator[str]:
        """Yield a sentence on each that cannot tell speakers apart, with why and what to do."""
        if isinstance(self.voices, WeightsError):
            yield f"Speakers are not told apart live. {self.voices}"
        if isinstance(self.pipeline, WeightsError):
            yield (
                f"The full pass cannot tell speakers apart; transcripts keep the live labels. {self.pipeline}"
            )


class ModelResolver:
    """Brings models from where the settings say."""

    def __init__(
        self, settings: Settings, on_progress: Progress | None = None, *, offline: bool = False
    ) -> None:
        """Take `offline` to fetch nothing, whatever the settings say."""
        self._settings = settings
        self._resolve = partial(
            resolve,
            models_dir=settings.models.dir,
            local=settings.models.local,
            on_progress=on_progress,
            offline=offline or settings.models.offline,
        )
        self._brought: dict[Path, Weights] = {}

    def bring(self, name_or_dir: str, kind: str = "recognizer") -> Weights:
        """Return a model's files; raise WeightsError as `weights.resolve` does."""
        return self._noted(self._resolve(name_or_dir, kind=kind))

    def bring_recognizer(self, name_or_dir: str, device: str) -> Weights:
        """Return a recogniser's files; `auto` is the device's default.

        Where the default for a GPU cannot be had, as no hub can be reached, what packages ship is used.
        """
        if name_or_dir != AUTO:
            return self.bring(name_or_dir)
        wanted, shipped = default_model(device), default_model("cpu")
        try:
            return self.bring(wanted)
        except WeightsError as error:
            if wanted == shipped or error.code not in NOT_TO_BE_HAD:
                raise
            log.warning("%s Using %s instead.", error.message, shipped)
            return self.bring(shipped)

    def bring_all(self) -> ModelSet:
        """Bring all that the settings use.

        Raises ConfigError, before anything is fetched, where a GPU is wanted and there is none, or none that
        does the arithmetic; WeightsError where there are no captions to be had, or a live model is named that
        there is not.
        """
        device = device_here(self._settings)
        if not is_elsewhere(self._settings):
            pick_compute_type(self._settings.inference.compute_type, device)  # which is refused now or never
        models, final = self._settings.models, self._settings.final
        recognizer = self._live_recognizer(models.recognizer, device)
        return ModelSet(
            recognizer=recognizer,
            detector=self.bring(models.speech_detector, "speech_detector"),
            voices=self._voices(),
            final_recognizer=self._final_recognizer(final.recognizer or models.recognizer, device),
            pipeline=self._pipeline(),
            weights=tuple(self._brought.values()),
        )

    def _live_recognizer(self, name: str, device: str) -> Weights:
        if is_elsewhere(self._settings):
            return Weights(default_model(device) if name == AUTO else name, Path(), "the workers", "")
        return self.bring_recognizer(name, device)

    def _final_recognizer(self, name: str, device: str) -> Weights:
        if self._settings.cluster.full_passes:
            return self._live_recognizer(name, device)
        return self.bring_recognizer(name, device)

    def _voices(self) -> Voices | WeightsError:
        models = self._settings.models
        try:
            segmentation = self.bring(models.segmentation, "segmentation")
            encoder = self.bring(models.speaker_encoder, "speaker_encoder")
        except WeightsError as error:
            if error.code not in NOT_TO_BE_HAD:
                raise
            return error
        try:
            return Voices(_both(segmentation, encoder), converted(segmentation), converted(encoder))
        except WeightsError as error:
            return error

    def _pipeline(self) -> Pipeline | WeightsError:
        try:
            return self._named_pipeline()
        except WeightsError as error:
            return error

    def _named_pipeline(self) -> Pipeline:
        wanted, models = self._settings.final.pipeline, self._settings.models
        if wanted == AUTO:
            # What would have to be fetched first, and asks for a token, is for those who name it.
            held = resolve_here(PUBLISHED, models_dir=models.dir, local=models.local)
            return self._local_pipeline() if held is None else _from_folder(self._noted(held))
        if wanted == LOCAL:
            return self._local_pipeline()
        published = {entry.hub: entry.name for entry in load_manifest().values() if entry.kind == "pipeline"}
        name = published.get(wanted, wanted)
        folder = Path(wanted).expanduser()
        if name in published.values() or folder.is_dir() or folder.is_absolute() or len(folder.parts) != 2:
            return _from_folder(self.bring(name, "pipeline"))
        # Some other repository of the hub, which may name further ones: pyannote itself fetches them.
        repository, _, revision = wanted.partition("@")
        if not revision:
            raise WeightsError(
                f"final.pipeline = {wanted} names no revision: what it is may change any day.",
                f"Name a commit of the hub, {wanted}@COMMIT, or {wanted}@main for the newest each time.",
            )
        return PretrainedPipeline(repository, wanted, offline=models.offline, revision=revision)

    def _local_pipeline(self) -> LocalPipeline:
        segmentation = self.bring(self._settings.models.segmentation, "segmentation")
        encoder = self.bring(ENCODER, "speaker_encoder")
        checkpoint = segmentation.folder / "pytorch_model.bin"
        return LocalPipeline(checkpoint, converted(encoder), _both(segmentation, encoder))

    def _noted(self, weights: Weights) -> Weights:
        self._brought[weights.folder] = weights
        return weights


def _from_folder(weights: Weights) -> PretrainedPipeline:
    return PretrainedPipeline(str(weights.folder), weights.name)


def _both(segmentation: Weights, encoder: Weights) -> str:
    return f"{segmentation.name} + {encoder.name}"


def is_elsewhere(settings: Settings) -> bool:
    """Tell whether live sessions are recognised by other machines, which bring weights for that."""
    return settings.inference.engine != LOCAL_ENGINE


def device_here(settings: Settings) -> str:
    """Return the device of this machine, `cpu` or `cuda`. Raises ConfigError as `pick_device` does."""
    return "cpu" if is_elsewhere(settings) else pick_device(settings.inference.device)


def full_pass_load(settings: Settings, brought: ModelSet, *, cores: int = 0) -> FullPassLoad:
    """Return what the process of the full pass is to load; `cores` are those it has for itself."""
    device = device_here(settings)
    return FullPassLoad(
        recognizer_name=brought.final_recognizer.name,
        recognizer_folder=brought.final_recognizer.folder,
        detector_file=brought.detector.model_file,
        device=device,
        compute_type=pick_compute_type(settings.inference.compute_type, device),
        beam_size=FULL_PASS_BEAM_SIZE,
        pipeline=None if isinstance(brought.pipeline, WeightsError) else brought.pipeline,
        cores=cores,
    )


def models_of(load: FullPassLoad) -> str:
    """Name what the results of full passes hang on: the models and their arithmetic."""
    speakers = load.pipeline.name if load.pipeline is not None else "nobody"
    return f"{load.recognizer_name} {load.compute_type} {load.beam_size}, {speakers}"
