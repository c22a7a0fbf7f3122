"""How much memory the process of the full pass takes over a recording of hours."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import Any

import psutil

from benchmarks.options import Options
from benchmarks.recordings import CONVERSATIONS, WHOLE
from benchmarks.report import Row, Table, fact, limit
from benchmarks.speech import RATE_HZ, Samples
from benchmarks.stock import local_weights

INTERVAL = 1.0
"""Seconds between two looks at the process."""
FIRST = 1800.0
"""Seconds of the recording that the rest is held against."""
GROWTH = 1.25
"""Most that a phase's memory may be, over that in its first half hour; four hours of growth with the
recording's length would make it 8."""
RECOGNITION = "recognition"
PHASES = ("diarization", RECOGNITION)
"""What a pass does one after the other; each goes over the whole recording."""


@dataclass(frozen=True, slots=True)
class MemorySample:
    """What the process held at one moment."""

    at: float
    """Seconds since the job was asked for."""
    stage: str
    fraction: float
    """Of the whole pass, 0 to 1."""
    pss_mb: float
    """Proportional set size."""
    anonymous_mb: float
    """Of it, what is no file's: the rest the system takes back when it needs room."""
    cpu: float
    """Seconds since the process began."""


def parse_rollup(text: str) -> tuple[float, float]:
    """Read Linux's `smaps_rollup` into (PSS, of it anonymous), in MB; nan for a line that is missing."""
    found = {"Pss": nan, "Pss_Anon": nan}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024 / 1e6
    return found["Pss"], found["Pss_Anon"]


def look_at(process_id: int | None) -> tuple[float, float, float] | None:
    """Return (PSS, of it anonymous, in MB, CPU seconds) of a process; None when there is none."""
    if process_id is None:
        return None
    try:
        times = psutil.Process(process_id).cpu_times()
        pss, anonymous = parse_rollup(Path(f"/proc/{process_id}/smaps_rollup").read_text())
    except (psutil.Error, OSError):
        return None
    return pss, anonymous, times.user + times.system


def write_looped(path: Path, pieces: Sequence[Samples], count: int) -> None:
    """Write `count` samples of the pieces, over and over, as raw s16le; in memory is one piece at a time."""
    left = count
    with path.open("wb") as file:
        for piece in itertools.cycle(pieces):
            file.write(piece[:left].astype("<i2", copy=False).tobytes())
            left -= min(len(piece), left)
            if not left:
                return


def phases(samples: Sequence[MemorySample]) -> dict[str, list[MemorySample]]:
    """Sort the samples by what the pass did; loading belongs to neither."""
    found: dict[str, list[MemorySample]] = {name: [] for name in PHASES}
    for sample in samples:
        if sample.stage != "loading":
            found[RECOGNITION if sample.stage == RECOGNITION else PHASES[0]].append(sample)
    return {name: each for name, each in found.items() if each}


def positions(samples: Sequence[MemorySample], duration: float) -> list[float]:
    """Return how many seconds of the recording a phase had gone over at each of its samples, about.

    Its share of the pass's progress is taken as its share of the recording.
    """
    first, last = samples[0].fraction, samples[-1].fraction
    scale = duration / (last - first) if last > first else 0.0
    return [(sample.fraction - first) * scale for sample in samples]


def phase_rows(name: str, samples: Sequence[MemorySample], duration: float) -> list[Row]:
    """Hold the memory of one phase against that in its first half hour of the recording."""
    at = positions(samples, duration)
    early = [sample for sample, place in zip(samples, at, strict=True) if place <= FIRST]
    peak, early_peak = (max(sample.anonymous_mb for sample in some) for some in (samples, early))
    most, early_most = (max(sample.pss_mb for sample in some) for some in (samples, early))
    each = {"peak": f"{peak:.0f} MB", "first 30 minutes": f"{early_peak:.0f} MB"}
    title = f"{name}: its own memory, peak over peak in the first 30 minutes of the recording"
    grown = peak / early_peak
    judged = limit(title, grown, GROWTH, each=each) if duration > FIRST else fact(title, f"{grown:.2f}", each)
    shown = {"peak": f"{most:.0f} MB", "first 30 minutes": f"{early_most:.0f} MB"}
    return [judged, fact(f"{name}: PSS, pages of the recording included", f"{most:.0f} MB", shown)]


async def long_pass(
    hours: float, model: str, options: Options, *, recognize: bool = True
) -> tuple[Table, dict[str, Any]]:
    """Run the full pass on a recording of hours, without a server, and watch its process.

    Raises MissingSpeechError without the conversations, EngineError when the pass fails.
    """
    from live_asr.full_pass.process import FullPass, FullPassJob, FullPassLoad

    pieces = [options.clip(name, WHOLE).audio for name in CONVERSATIONS]
    duration = hours * 3600
    load = FullPassLoad(
        recognizer_name=model,
        recognizer_folder=options.weights(model),
        detector_file=options.weights("silero-vad") / "silero_vad_16k_sequence.onnx",
        device="cpu",
        compute_type="int8",
        beam_size=2,
        pipeline=local_weights(options),
    )
    samples: list[MemorySample] = []
    now = ("loading", 0.0)

    def on_progress(stage: str, fraction: float) -> None:
        nonlocal now
        if stage != now[0] or int(20 * fraction) != int(20 * now[1]):
            options.say(f"{model}: {stage}, {100 * fraction:.0f} %")
        now = stage, fraction

    with tempfile.TemporaryDirectory(prefix="live-asr-bench-") as folder:
        audio = Path(folder) / "audio.pcm"
        write_looped(audio, pieces, round(duration * RATE_HZ))
        full_pass = FullPass(load)
        began = time.monotonic()
        job = FullPassJob(audio, "en", "transcribe", (), True, recognize, None, None)
        asked = asyncio.create_task(full_pass.run(job, on_progress))
        try:
            while not asked.done():
                seen = look_at(full_pass.process_id)
                if seen is not None:
                    samples.append(MemorySample(time.monotonic() - began, *now, *seen))
                await asyncio.wait([asked], timeout=INTERVAL)
            result = asked.result()
        finally:
            await full_pass.close()
        took = time.monotonic() - began
    title = f"{model}: the full pass over {hours:g} hours" + ("" if recognize else ", speakers only")
    told = [
        *memory_rows(samples, duration, took),
        fact("speakers found", str(len({turn.speaker for turn in result.turns or ()}))),
        fact("turns, words", f"{len(result.turns or ())}, {len(result.words or ())}"),
    ]
    return Table(title, told, notes(duration)), {"samples": [asdict(sample) for sample in samples[::10]]}


def memory_rows(samples: Sequence[MemorySample], duration: float, took: float) -> list[Row]:
    """Make the rows of a long pass; `duration` of the recording and what the pass took, in seconds."""
    rows = [
        row for name, each in phases(samples).items() for row in phase_rows(name, each, duration)
    ]  # in the order of the work
    return [
        *rows,
        fact("PSS, peak over all", f"{max(sample.pss_mb for sample in samples):.0f} MB"),
        fact("its own memory, peak over all", f"{max(sample.anonymous_mb for sample in samples):.0f} MB"),
        fact("real-time factor", f"{took / duration:.3f} ({took:.0f} s; others had the machine first)"),
        fact("CPU seconds per second of audio", f"{samples[-1].cpu / duration:.3f}"),
    ]


def notes(duration: float) -> list[str]:
    """Say how to read the table."""
    told = [
        "its own memory: the anonymous part of the PSS. The rest is pages of files, the mapped recording's "
        "above all, which the system takes back when it needs room.",
        f"sampled every {INTERVAL:g} s; {', '.join(CONVERSATIONS)} in turn, over and over",
    ]
    if duration <= FIRST:
        told.append("too short a recording to show that memory is bounded: give it over half an hour")
    return told
