"""pyannote's speaker diarization of a whole recording, in bounded memory.

The stock pipeline runs on blocks of a quarter of an hour, cut in silences; its speakers are then linked
across blocks, and each turn is compared once more with all voices. The same is done with the speakers heard
live, and whichever go better with the voices stand. docs/decisions/0006 and 0014 have what each step brings.
"""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_asr.core.errors import WeightsError
from live_asr.core.types import SAMPLE_RATE_HZ, Turn, samples
from live_asr.full_pass.blocks import as_float, cut_in_pauses, link_speakers
from live_asr.full_pass.live_speakers import with_live_speakers
from live_asr.full_pass.speaker_reassignment import reassign_speakers
from live_asr.models.interfaces import FloatArray, SpeakerEncoder

Pcm = NDArray[np.int16]
"""16 kHz mono, shape (n,); may lie in a file."""
OnStage = Callable[[str, float], None]
"""Called with the stage and the share of the diarization that is done, 0 to 1."""

BLOCK_SAMPLES = samples(15 * 60)
"""Longest stretch that the pipeline sees at once: its clustering takes memory by the square of it."""
SHORTEST_SAMPLES = samples(0.1)
"""Nobody is heard in less."""
CLUSTERING_THRESHOLD = 0.8
"""Distance up to which two voices are one, of embeddings of length 1."""
MIN_CLUSTER_SIZE = 12
"""Windows in which a voice must be heard to count as a speaker."""
BATCH_WINDOWS = 8
GPU_BATCH_WINDOWS = 32
SHARES = {"segmentation": 0.3, "embeddings": 0.95, "clustering": 1.0}
"""Share of a block's work that is done when a stage is."""
STAGE_OF_STEP = {
    "segmentation": "segmentation",
    "speaker_counting": "segmentation",
    "embeddings": "embeddings",
}
"""What pyannote calls its steps; all others come after the embeddings."""
SETTLING_SHARE = 0.1
"""Share of the whole that goes into settling the voices."""


@dataclass(frozen=True, slots=True)
class LocalPipeline:
    """The pipeline out of weights that packages ship: segmentation-3.0 and CAM++."""

    segmentation_file: Path
    """pyannote's checkpoint, its digest verified: it is a pickle."""
    encoder_file: Path
    """CAM++ as ONNX."""
    name: str = "segmentation-3.0 + campplus"
    """For people."""

    @property
    def is_local(self) -> bool:
        """Whether it needs no hub."""
        return True


@dataclass(frozen=True, slots=True)
class PretrainedPipeline:
    """A pipeline as pyannote publishes them."""

    source: str
    """Folder with a `config.yaml`, or name of a repository of the hub."""
    name: str
    """For people."""
    offline: bool = False
    """Take it from the hub's cache only."""

    @property
    def is_local(self) -> bool:
        """Whether it needs no hub."""
        return self.offline or Path(self.source).is_dir()


class Diarizer:
    """Find who speaks when in a recording."""

    def __init__(self, pipeline: LocalPipeline | PretrainedPipeline, device: str = "cpu") -> None:
        import_pyannote()
        self._encoder: SpeakerEncoder | None = None
        if isinstance(pipeline, LocalPipeline):
            from live_asr.models.embedding import open_encoder

            self._pipeline = local_pipeline(pipeline, device)
            self._encoder = open_encoder(pipeline.encoder_file)
        else:
            self._pipeline = _pretrained_pipeline(pipeline)
        import torch

        # CTranslate2 may know the GPU where torch, built for CPUs, does not.
        if device != "cpu" and torch.cuda.is_available():
            self._pipeline.to(torch.device(device))
        self.name = pipeline.name
        """Name of the pipeline, for people."""

    def diarize(
        self,
        pcm: Pcm,
        *,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        live_turns: Sequence[Turn] = (),
        block_samples: int = BLOCK_SAMPLES,
        on_stage: OnStage = lambda stage, fraction: None,
    ) -> tuple[Turn, ...]:
        """Return who speaks when, by start; turns of different speakers may overlap.

        Speakers are SPEAKER_00, SPEAKER_01 … in the order in which they are first heard. The number of
        speakers is kept within the bounds where what is said allows it. `live_turns` are who spoke when as
        heard live: they say who speaks, never when, where that goes better with the voices.
        """
        if pcm.size < SHORTEST_SAMPLES:
            return ()
        blocks = cut_in_pauses(pcm, block_samples) if self._knows_voices else [(0, pcm.size)]
        # How many speak in the whole says at most how many speak in a part.
        least = min_speakers if len(blocks) == 1 else None
        found = []
        for index, (start, end) in enumerate(blocks):

            def on_block(stage: str, fraction: float, index: int = index) -> None:
                on_stage(stage, (index + fraction) / len(blocks) * (1 - SETTLING_SHARE))

            found.append(_shifted(self._block(pcm[start:end], least, max_speakers, on_block), start))
        turns = _linked(found, self._threshold, min_speakers, max_speakers)
        if self._encoder is not None:
            turns = reassign_speakers(
                [with_live_speakers(turns, live_turns), turns] if live_turns else [turns],
                pcm,
                self._encoder.embed,
                threshold=self._threshold,
                equal_error_distance=self._encoder.equal_error_distance,
                min_speakers=min_speakers or 1,
                max_speakers=max_speakers,
                on_share=lambda share: on_stage("clustering", 1 - SETTLING_SHARE * (1 - share)),
            )
        on_stage("clustering", 1.0)
        return _named_in_order(turns)

    @property
    def _knows_voices(self) -> bool:
        """Whether the pipeline says what its speakers sound like, so that blocks can be linked."""
        from pyannote.audio.pipelines import SpeakerDiarization

        return isinstance(self._pipeline, SpeakerDiarization) and not self._pipeline.legacy

    @property
    def _threshold(self) -> float:
        """The clustering's own threshold, by which blocks are linked too."""
        threshold = getattr(getattr(self._pipeline, "clustering", None), "threshold", None)
        return float(threshold) if isinstance(threshold, float) else CLUSTERING_THRESHOLD

    def _block(
        self, pcm: Pcm, min_speakers: int | None, max_speakers: int | None, on_stage: OnStage
    ) -> _Block:
        """Run the stock pipeline on one stretch; times count from its start."""
        import torch

        def hook(
            step: str, *_: Any, total: int | None = None, completed: int | None = None, **__: Any
        ) -> None:
            stage = STAGE_OF_STEP.get(step, "clustering")
            begun = {"segmentation": 0.0, "embeddings": SHARES["segmentation"]}.get(
                stage, SHARES["embeddings"]
            )
            done = min(1.0, float(completed / total)) if total and completed is not None else 1.0
            on_stage(stage, begun + done * (SHARES[stage] - begun))

        waveform = torch.from_numpy(as_float(pcm))[None]
        bounds = {"min_speakers": min_speakers, "max_speakers": max_speakers}
        output = self._pipeline(
            {"waveform": waveform, "sample_rate": SAMPLE_RATE_HZ, "uri": "recording"},
            hook=hook,
            **{name: bound for name, bound in bounds.items() if bound is not None},
        )
        annotation = getattr(output, "speaker_diarization", output)
        labels = list(annotation.labels())
        turns = [
            Turn(max(0, samples(segment.start)), min(pcm.size, samples(segment.end)), str(label))
            for segment, _, label in annotation.itertracks(yield_label=True)
        ]
        voices = getattr(output, "speaker_embeddings", None)
        if voices is None:
            voices = np.zeros((len(labels), 1))
        return _Block(
            tuple(turn for turn in turns if turn.end_sample > turn.start_sample),
            {str(label): np.asarray(voice, np.float32) for label, voice in zip(labels, voices, strict=False)},
        )


@dataclass(frozen=True, slots=True)
class _Block:
    """What the pipeline found in one stretch."""

    turns: tuple[Turn, ...]
    voices: dict[str, FloatArray]
    """Speaker → mean embedding; all zeros where it has none."""


def _shifted(block: _Block, by_samples: int) -> _Block:
    turns = (
        replace(turn, start_sample=turn.start_sample + by_samples, end_sample=turn.end_sample + by_samples)
        for turn in block.turns
    )
    return replace(block, turns=tuple(turns))


def _linked(
    blocks: Sequence[_Block], threshold: float, min_speakers: int | None, max_speakers: int | None
) -> tuple[Turn, ...]:
    """Give the same label to one speaker in several blocks; by start."""
    labels = [list(block.voices) for block in blocks]
    lengths = [
        [
            sum(turn.end_sample - turn.start_sample for turn in block.turns if turn.speaker == label)
            for label in names
        ]
        for block, names in zip(blocks, labels, strict=True)
    ]
    speakers = link_speakers(
        [[block.voices[label] for label in names] for block, names in zip(blocks, labels, strict=True)],
        lengths,
        threshold=threshold,
        min_speakers=min_speakers or 1,
        max_speakers=max_speakers,
    )
    turns = [
        replace(turn, speaker=str(numbers[names.index(turn.speaker)]))
        for block, names, numbers in zip(blocks, labels, speakers, strict=True)
        for turn in block.turns
    ]
    return tuple(sorted(turns, key=lambda turn: (turn.start_sample, turn.end_sample)))


def _named_in_order(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    names: dict[str, str] = {}
    return tuple(
        replace(turn, speaker=names.setdefault(turn.speaker, f"SPEAKER_{len(names):02d}")) for turn in turns
    )


# Loading ------------------------------------------------------------------------------------------------


def import_pyannote() -> None:
    """Import pyannote.audio, of which the Python part of torchaudio is all that is needed.

    Raises ImportError where it is not installed.
    """
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    import torch

    torch.set_num_threads(1)
    if torch.version.cuda is None and "torchaudio" not in sys.modules:
        # The registry's torchaudio is linked to CUDA and cannot be loaded beside a torch without it.
        sys.modules.setdefault("torchaudio._extension", _InertExtension("torchaudio._extension"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchcodec is as unloadable, and nobody asks it for anything
        import pyannote.audio  # noqa: F401


class _InertExtension(ModuleType):
    """Stands where torchaudio loads its compiled part."""

    _IS_TORCHAUDIO_EXT_AVAILABLE = False

    @staticmethod
    def fail_if_no_align(function: Any) -> Any:
        """Leave the forced aligner as it is; nobody calls it."""
        return function


def load_segmentation(checkpoint: Path) -> Any:
    """Load pyannote's segmentation network: (batch, 1, samples) → (batch, frames, classes).

    Raises WeightsError for a checkpoint that holds more than weights.
    """
    import_pyannote()
    from pyannote.audio import Model

    check_checkpoint(checkpoint)
    return Model.from_pretrained(checkpoint)


def check_checkpoint(checkpoint: Path) -> None:
    """Refuse a checkpoint of pyannote's that would run code: it is a pickle, and pyannote loads it as one.

    It may name the classes that describe a task, and a network of pyannote's own; no more than that is
    loaded here. The files of folders that somebody names are compared with no digest. Raises WeightsError.
    """
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    known: list[Any] = [torch.torch_version.TorchVersion, Problem, Resolution, Specifications]
    try:
        with torch.serialization.safe_globals(known):
            loaded = torch.load(checkpoint, map_location="cpu", weights_only=True)
        module = str(loaded["pyannote.audio"]["architecture"]["module"])
    except (
        pickle.UnpicklingError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        EOFError,
        OSError,
    ) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{checkpoint} holds more than weights, or none of pyannote's: {first_line}",
            "Use the published file: `live-asr models pull segmentation-3.0` brings it.",
        ) from None
    if not module.startswith("pyannote.audio.models."):
        raise WeightsError(
            f"{checkpoint} names a network that is not pyannote's own.", "Use the published file."
        )


def local_pipeline(
    pipeline: LocalPipeline, device: str = "cpu", *, threshold: float = CLUSTERING_THRESHOLD
) -> Any:
    """Build pyannote's `SpeakerDiarization` around the segmentation and CAM++."""
    import_pyannote()
    from pyannote.audio.pipelines import SpeakerDiarization

    from live_asr.full_pass.pyannote_parts import CamPlusModel, NoPlda

    batch = BATCH_WINDOWS if device == "cpu" else GPU_BATCH_WINDOWS
    built = SpeakerDiarization(
        segmentation=load_segmentation(pipeline.segmentation_file),
        segmentation_batch_size=batch,
        embedding=CamPlusModel(pipeline.encoder_file),
        embedding_batch_size=batch,
        embedding_exclude_overlap=True,
        plda=NoPlda(),
        clustering="AgglomerativeClustering",
    )
    return built.instantiate(
        {
            "segmentation": {"min_duration_off": 0.0},
            "clustering": {
                "method": "centroid",
                "min_cluster_size": MIN_CLUSTER_SIZE,
                "threshold": threshold,
            },
        }
    )


def _pretrained_pipeline(pipeline: PretrainedPipeline) -> Any:
    from pyannote.audio import Pipeline

    loaded = Pipeline.from_pretrained(pipeline.source)
    if loaded is None:
        raise RuntimeError(
            f"{pipeline.source} could not be fetched: accept its conditions on the hub and set HF_TOKEN"
        )
    return loaded
