"""Diarization without a server: what each step of the full pass brings, and what hours of it cost.

`python -m benchmarks.diarization` sweeps the threshold and the smallest cluster on all recordings whose
speakers are known, beside pyannote's pipeline by itself on the same weights, and cuts them into blocks.
`python -m benchmarks.diarization --hours 4` puts the recordings together to one of four hours and watches
the memory of the process of the full pass. Results are kept in benchmarks/results.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.options import Options, default_models_dir
from benchmarks.recordings import RECORDINGS, Recording, load_recording
from benchmarks.report import Row, Table, fact, machine, write
from benchmarks.speaker_measures import DiarizationErrors, Turn, diarization_errors
from benchmarks.speech import RATE_HZ, MissingSpeechError

THRESHOLDS = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)
CLUSTER_SIZES = (6, 12, 20)
BLOCK_SECONDS = (60, 100)
CONVERSATIONS = ("conv2_public", "conv4_overlap_public", "conv6_public")
"""What long recordings are made of: some people are in several."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one way of doing it found in one recording."""

    errors: DiarizationErrors
    speakers: int
    cpu_share: float | None = None
    """CPU seconds that it took, by second of audio."""

    def __str__(self) -> str:
        return f"{self.errors}, {self.speakers} sp."


def options_for(models_dir: Path | None) -> Options:
    """Return options that say only where the weights are."""
    return Options(("base",), RECORDINGS, 0.0, 1, None, models_dir)


def local_weights(options: Options) -> Any:
    """Return the local pipeline's weights, brought here where that is needed."""
    from live_asr.inference.conversion import converted
    from live_asr.inference.diarization import LocalPipeline
    from live_asr.inference.weights import resolve

    encoder = resolve("campplus", models_dir=options.models_dir or default_models_dir())
    return LocalPipeline(options.weights("segmentation-3.0") / "pytorch_model.bin", converted(encoder))


def recordings(options: Options) -> list[Recording]:
    """Load the recordings that are on this machine."""
    found = []
    for name in options.clips:
        try:
            found.append(load_recording(name, options))
        except MissingSpeechError as missing:
            options.say(f"left out: {missing}")
    return found


# The sweep ----------------------------------------------------------------------------------------


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
    from live_asr.inference.settling import settle_voices

    length = len(recording.clip.audio)
    given = [
        types.Turn(round(turn.start * RATE_HZ), min(round(turn.end * RATE_HZ), length), turn.speaker)
        for turn in turns
    ]
    found = settle_voices(sorted(given, key=lambda turn: turn.start_sample), recording.clip.audio, embed)
    return in_seconds(found)


def in_seconds(turns: Any) -> list[Turn]:
    """Return the full pass's turns as the metrics take them."""
    return [Turn(turn.start_sample / RATE_HZ, turn.end_sample / RATE_HZ, turn.speaker) for turn in turns]


def judged(turns: list[Turn], recording: Recording, took: float | None = None) -> Found:
    """Compare turns with the true ones."""
    duration = recording.clip.duration
    errors = diarization_errors(recording.turns, turns, duration)
    return Found(errors, len({turn.speaker for turn in turns}), took and took / duration)


def sweep(options: Options) -> tuple[list[Table], dict[str, Any]]:
    """Measure every setting on every recording, and the whole as it is shipped."""
    from live_asr.inference.diarization import (
        CLUSTERING_THRESHOLD,
        MIN_CLUSTER_SIZE,
        Diarizer,
        import_pyannote,
        local_pipeline,
    )
    from live_asr.inference.embedding import open_encoder

    weights, known = local_weights(options), recordings(options)
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


# Hours --------------------------------------------------------------------------------------------


async def long_pass(hours: float, model: str, options: Options) -> tuple[Table, dict[str, Any]]:
    """Run the full pass on a recording of hours, and watch its process."""
    from live_asr.inference.full_pass import FullPass, FullPassJob, FullPassLoad

    pieces = [load_recording(name, options) for name in CONVERSATIONS]
    said = {turn.speaker for piece in pieces for turn in piece.turns}
    round_trip = np.concatenate([piece.clip.audio for piece in pieces])
    length = round(hours * 3600 * RATE_HZ)
    load = FullPassLoad(
        recognizer_name=model,
        recognizer_folder=options.weights(model),
        detector_file=options.weights("silero-vad") / "silero_vad_16k_sequence.onnx",
        device="cpu",
        compute_type="int8",
        beam_size=2,
        pipeline=local_weights(options),
    )
    with tempfile.TemporaryDirectory() as folder:
        audio = Path(folder) / "audio.pcm"
        np.resize(round_trip, length).tofile(audio)
        full_pass = FullPass(load)
        samples: list[dict[str, Any]] = []
        now = {"stage": "loading", "fraction": 0.0}
        job = FullPassJob(audio, "en", "transcribe", (), True, True, None, None)
        began = time.monotonic()
        asked = asyncio.create_task(
            full_pass.run(job, lambda stage, fraction: now.update(stage=stage, fraction=fraction))
        )
        while not asked.done():
            await asyncio.wait([asked], timeout=1.0)
            sample = look_at(full_pass.process_id)
            if sample is not None:
                samples.append({"at": round(time.monotonic() - began, 1), **now, **sample})
        result = asked.result()
        took = time.monotonic() - began
    assert result.turns is not None and result.words is not None
    rows = [fact("recording", f"{hours:g} h, {len(said)} people in turn over and over")]
    for stage in dict.fromkeys(sample["stage"] for sample in samples):
        own = [sample["private_mb"] for sample in samples if sample["stage"] == stage]
        rows.append(fact(f"memory while in {stage}, most", f"{max(own):.0f} MB"))
    cpu = samples[-1]["cpu"]
    rows += [
        fact("real-time factor", f"{took / hours / 3600:.3f} ({took:.0f} s; others had the machine first)"),
        fact("CPU seconds a second of audio", f"{cpu / hours / 3600:.3f}"),
        fact("speakers found", str(len({turn.speaker for turn in result.turns}))),
        fact("turns, words", f"{len(result.turns)}, {len(result.words)}"),
    ]
    notes = ["memory is what the process alone would free, the recording's pages on disk not counted"]
    # One sample in thirty keeps the file readable.
    return Table(f"The full pass of {hours:g} hours, {model}", rows, notes), {"samples": samples[::30]}


def look_at(process_id: int | None) -> dict[str, float] | None:
    """Return the memory and CPU time of a process; None when there is none."""
    try:
        process = psutil.Process(process_id) if process_id else None
        if process is None:
            return None
        memory, times = process.memory_full_info(), process.cpu_times()
        return {"private_mb": round(memory.uss / 1e6), "cpu": round(times.user + times.system, 1)}
    except psutil.NoSuchProcess:
        return None


def main() -> None:
    """Measure what was asked for and keep it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.diarization", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--hours", type=float, help="of one long recording, instead of the sweep")
    parser.add_argument("--model", default="tiny.en", help="that recognises the long recording (tiny.en)")
    parser.add_argument("--models-dir", type=Path, help="where the weights are")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    where, options = machine(), options_for(arguments.models_dir)
    if arguments.hours:
        table, behind = asyncio.run(long_pass(arguments.hours, arguments.model, options))
        write("diarization-hours", where, [table], behind)
    else:
        tables, found = sweep(options)
        write("diarization", where, tables, found)


if __name__ == "__main__":
    main()
