"""The suite `diarization`: what each step of the full pass brings to telling speakers apart; no server.

The threshold and the smallest cluster are swept on all recordings whose speakers are known: pyannote's
pipeline by itself, the same with the full pass's second look at the voices, and the whole as it is shipped,
on recordings in one piece and cut into blocks.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.options import Options
from benchmarks.recordings import Recording
from benchmarks.report import Row, Table, fact
from benchmarks.speaker_measures import DiarizationErrors, Turn, diarization_errors
from benchmarks.speakers import available_recordings
from benchmarks.speech import RATE_HZ
from benchmarks.stock import local_weights

THRESHOLDS = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)
CLUSTER_SIZES = (6, 12, 20)
BLOCK_SECONDS = (60, 100)


@dataclass(frozen=True, slots=True)
class Found:
    """What one way of doing it found in one recording."""

    errors: DiarizationErrors
    speakers: int
    cpu_share: float | None = None
    """CPU seconds that it took, by second of audio."""

    def __str__(self) -> str:
        return f"{self.errors}, {self.speakers} sp."


@dataclass
class Stock:
    """pyannote's pipeline by itself, whose networks run once for each recording."""

    pipeline: Any
    computed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Recording → what pyannote takes from a file instead of computing it, as when it is tuned."""

    def turns(self, recording: Recording, threshold: float, cluster_size: int) -> list[Turn]:
        """Return the turns of one setting."""
        import torch

        self.pipeline.training = True
        self.pipeline.instantiate(
            {
                "segmentation": {"min_duration_off": 0.0},
                "clustering": {
                    "method": "centroid",
                    "threshold": threshold,
                    "min_cluster_size": cluster_size,
                },
            }
        )
        kept = self.computed.setdefault(recording.name, {})
        artifacts: dict[str, Any] = {}

        def hook(step: str, artifact: Any, *_: Any, total: int | None = None, **__: Any) -> None:
            if total is None:
                artifacts[step] = artifact

        waveform = torch.from_numpy(recording.clip.audio.astype(np.float32) / 32768)[None]
        output = self.pipeline(
            {"waveform": waveform, "sample_rate": RATE_HZ, "uri": recording.name, **kept}, hook=hook
        )
        kept["training_cache/segmentation"] = artifacts["segmentation"]
        kept["training_cache/embeddings"] = {"embeddings": artifacts["embeddings"]}
        return [
            Turn(segment.start, segment.end, str(label))
            for segment, _, label in output.speaker_diarization.itertracks(yield_label=True)
        ]


def remembering(embed: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return an encoder that embeds each piece of audio once."""
    known: dict[bytes, Any] = {}

    def embed_once(audio: Any) -> Any:
        key = hashlib.sha256(audio.tobytes()).digest()
        if key not in known:
            known[key] = embed(audio)
        return known[key]

    return embed_once


def settled(turns: list[Turn], recording: Recording, embed: Callable[[Any], Any]) -> list[Turn]:
    """Return the turns after the full pass's second look at the voices."""
    from live_asr.core import types
    from live_asr.core.speaker_clusters import TUNED_EQUAL_ERROR_DISTANCE
    from live_asr.full_pass.diarization import CLUSTERING_THRESHOLD
    from live_asr.full_pass.speaker_reassignment import reassign_speakers

    length = len(recording.clip.audio)
    given = [
        types.Turn(round(turn.start * RATE_HZ), min(round(turn.end * RATE_HZ), length), turn.speaker)
        for turn in turns
    ]
    found = reassign_speakers(
        [sorted(given, key=lambda turn: turn.start_sample)],
        recording.clip.audio,
        embed,
        threshold=CLUSTERING_THRESHOLD,
        equal_error_distance=TUNED_EQUAL_ERROR_DISTANCE,
    )
    return in_seconds(found)


def in_seconds(turns: Any) -> list[Turn]:
    """Return the full pass's turns as the metrics take them."""
    return [Turn(turn.start_sample / RATE_HZ, turn.end_sample / RATE_HZ, turn.speaker) for turn in turns]


def judged(turns: list[Turn], recording: Recording, took: float | None = None) -> Found:
    """Compare turns with the true ones."""
    duration = recording.clip.duration
    errors = diarization_errors(recording.turns, turns, duration)
    return Found(errors, len({turn.speaker for turn in turns}), took and took / duration)


def run(options: Options, _: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite: every setting on every recording, and the whole as it is shipped."""
    from live_asr.full_pass.diarization import (
        CLUSTERING_THRESHOLD,
        MIN_CLUSTER_SIZE,
        Diarizer,
        import_pyannote,
        local_pipeline,
    )
    from live_asr.models.embedding import open_encoder

    warnings.simplefilter("ignore")  # torch's and pyannote's, which concern nobody here
    weights, known = local_weights(options), available_recordings(options.clips, options)
    import_pyannote()
    stock = Stock(local_pipeline(weights))
    embed = remembering(open_encoder(weights.encoder_file).embed)
    tables, behind = [], {}
    for size in CLUSTER_SIZES:
        rows = []
        for threshold in THRESHOLDS:
            options.say(f"threshold {threshold}, smallest cluster {size}")
            plain, mended = {}, {}
            for recording in known:
                turns = stock.turns(recording, threshold, size)
                plain[recording.name] = judged(turns, recording)
                mended[recording.name] = judged(settled(turns, recording, embed), recording)
            for title, found in (("stock", plain), ("settled", mended)):
                rows.append(row_of(f"{threshold} {title}", found))
                behind[f"{size} {threshold} {title}"] = numbers(found)
        tables.append(
            Table(f"Threshold, smallest cluster {size} windows: DER % (missed + false + confused)", rows)
        )
    diarizer = Diarizer(weights)
    rows = []
    shipped = f"as shipped ({CLUSTERING_THRESHOLD}, {MIN_CLUSTER_SIZE})"
    for title, seconds in [(shipped, None), *((f"in blocks of {at} s", at) for at in BLOCK_SECONDS)]:
        options.say(title)
        found = {}
        for recording in known:
            began = time.process_time()
            blocks = {} if seconds is None else {"block_samples": seconds * RATE_HZ}
            turns = in_seconds(diarizer.diarize(recording.clip.audio, **blocks))
            found[recording.name] = judged(turns, recording, time.process_time() - began)
        rows.append(row_of(title, found))
        behind[title] = numbers(found)
        if seconds is None:
            each = {name: f"{one.cpu_share:.2f}" for name, one in found.items()}
            rows.append(fact("CPU seconds a second of audio", "", each))
    true = {recording.name: str(recording.speakers) for recording in known}
    rows.append(fact("people who speak", "", true))
    tables.insert(0, Table("The full pass's turns: DER % (missed + false + confused)", rows))
    return tables, behind


def row_of(title: str, found: dict[str, Found]) -> Row:
    """Make a row of one setting."""
    mean = sum(one.errors.percent for one in found.values()) / len(found)
    return fact(title, f"mean {mean:.1f}", {name: str(one) for name, one in found.items()})


def numbers(found: dict[str, Found]) -> dict[str, Any]:
    """Return what programs may want of one setting."""
    return {
        name: {
            "der": round(one.errors.percent, 2),
            "confused": round(one.errors.confused_percent, 2),
            "speakers": one.speakers,
            "cpu_share": one.cpu_share and round(one.cpu_share, 3),
        }
        for name, one in found.items()
    }
