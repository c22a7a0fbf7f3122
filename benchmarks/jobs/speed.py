"""A job beside a straight script of faster-whisper and pyannote: time, memory, words and speakers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from benchmarks.base.matching import errors
from benchmarks.base.options import Options, default_models_dir
from benchmarks.base.processes import server_environment
from benchmarks.base.recordings import Recording, load_recording
from benchmarks.base.report import Table, fact, limit
from benchmarks.base.speech import RATE_HZ, Samples
from benchmarks.speakers.pass_memory import write_looped
from benchmarks.speakers.speaker_measures import Turn, diarization_errors, read_rttm

TIME, MORE_MB = 1.0, 100.0
"""Most that a job may take, over the script, and most memory above the script's."""
INTERVAL = 0.5
"""Seconds between two looks at the memory."""
FRAMES_PER_SECOND = 5


@dataclass(frozen=True, slots=True)
class Run:
    """What one of both took, and what it found."""

    seconds: float
    peak_mb: float
    """Of all its processes together: what is their own, and their shares of what they share."""
    text: str
    turns: tuple[Turn, ...]


def looped(recordings: Sequence[Recording], seconds: float) -> tuple[Samples, str, list[Turn]]:
    """Put recordings one after another until they fill so many seconds: sound, words, and who speaks when."""
    pieces: list[Samples] = []
    words: list[str] = []
    turns: list[Turn] = []
    at, number = 0.0, 0
    while at < seconds:
        one = recordings[number % len(recordings)]
        number += 1
        pieces.append(one.clip.audio)
        words += [said.text for said in sorted(one.said, key=lambda said: said.start)]
        # The same people, however often they come.
        turns += [Turn(turn.start + at, turn.end + at, turn.speaker) for turn in one.turns]
        at += one.clip.duration
    return np.concatenate(pieces), " ".join(words), turns


def write_video(path: Path, audio: Samples) -> None:
    """Write a video with this sound: an index that comes last, and frames between, as cameras do."""
    with av.open(str(path), "w") as writing:
        picture = writing.add_stream("mpeg4", rate=FRAMES_PER_SECOND)
        picture.width, picture.height, picture.pix_fmt = 320, 180, "yuv420p"
        sound = writing.add_stream("aac", rate=RATE_HZ, layout="mono")
        second = RATE_HZ
        for start in range(0, len(audio), second):
            for number in range(FRAMES_PER_SECOND):
                shade = np.full((180, 320, 3), (start // second * 3 + number) % 256, np.uint8)
                writing.mux(picture.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
            frame = av.AudioFrame.from_ndarray(audio[None, start : start + second], "s16", "mono")
            frame.sample_rate, frame.pts = RATE_HZ, start
            writing.mux(sound.encode(frame))
        for stream in (picture, sound):
            writing.mux(stream.encode(None))


def watched(command: Sequence[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Run a command; return its seconds, the peak of its processes' memory in MB, and what it printed."""
    began = time.monotonic()
    process = psutil.Popen(
        list(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    peak, over = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(INTERVAL):
            peak = max(peak, _memory_mb(process))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        said, _ = process.communicate()
        took = time.monotonic() - began
    finally:  # interrupted, too
        over.set()
        watching.join()
        if process.poll() is None:
            process.kill()
    if process.returncode:
        raise ValueError(f"{command[:4]} ended with {process.returncode}")
    return took, peak, said


def _memory_mb(process: psutil.Process) -> float:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_full_info().pss
    except psutil.Error:
        return nan
    return total / 1e6


def environment_of(options: Options) -> dict[str, str]:
    """Return the environment that both run in."""
    return {
        **server_environment(),
        "LIVE_ASR_MODELS__DIR": str((options.models_dir or default_models_dir()).resolve()),
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]),
    }


def ours(path: Path, model: str, options: Options) -> Run:
    """Write a file down as a job."""
    with tempfile.TemporaryDirectory(prefix="live-asr-bench-") as folder:
        command = [sys.executable, "-m", "live_asr.cli", "transcribe", str(path), "--model", model]
        command += ["--device", "cpu", "--language", "en", "--output", folder, "--data", f"{folder}/data"]
        seconds, peak, _ = watched(command, environment_of(options))
        target = Path(folder) / path.stem
        text = json.loads(target.with_suffix(".json").read_text())["text"]
        turns = read_rttm(target.with_suffix(".rttm").read_text())
    return Run(seconds, peak, text, tuple(turns))


def straight(path: Path, model: str, options: Options) -> Run:
    """Have the script do the same."""
    command = [sys.executable, "-m", "benchmarks.jobs.straight", str(path), model]
    seconds, peak, said = watched(command, environment_of(options))
    found = json.loads(said.splitlines()[-1])
    return Run(seconds, peak, found["text"], tuple(Turn(*turn) for turn in found["turns"]))


def side_by_side(model: str, options: Options, minutes: float) -> tuple[Table, dict[str, Any]]:
    """Write minutes of video down by both, one after the other. Raises MissingSpeechError."""
    recordings = [load_recording(name, options) for name in options.clips]
    audio, truth, turns = looped(recordings, minutes * 60)
    duration = len(audio) / RATE_HZ
    with tempfile.TemporaryDirectory(prefix="live-asr-bench-") as folder:
        path = Path(folder) / "meeting.mp4"
        write_video(path, audio)
        runs = {}
        for name, work in (("straight script", straight), ("job", ours)):
            options.say(f"{model}: {name} over {duration / 60:.0f} minutes of video")
            runs[name] = work(path, model, options)
    script, job = runs["straight script"], runs["job"]

    def words(found: Run) -> float:
        return 100 * errors(found.text, truth, "en").rate

    def speakers(found: Run) -> float:
        return diarization_errors(turns, found.turns, duration).percent

    def each(values: tuple[float, float], digits: int, unit: str = "") -> dict[str, str]:
        return {
            name: f"{value:.{digits}f}{unit}" for name, value in zip(("job", "script"), values, strict=True)
        }

    wer, der = (words(job), words(script)), (speakers(job), speakers(script))
    rows = [
        limit(
            "time, over the script's",
            job.seconds / script.seconds,
            TIME,
            each=each((job.seconds, script.seconds), 0, " s"),
        ),
        limit(
            "memory above the script's, MB",
            job.peak_mb - script.peak_mb,
            MORE_MB,
            digits=0,
            each=each((job.peak_mb, script.peak_mb), 0, " MB"),
        ),
        limit("word error rate above the script's, points", wer[0] - wer[1], 0.0, each=each(wer, 1, " %")),
        limit("DER above the script's, points", der[0] - der[1], 0.0, each=each(der, 1, " %")),
        fact(
            "share of the recording's length",
            f"{job.seconds / duration:.2f}",
            each((job.seconds / duration, script.seconds / duration), 2),
        ),
    ]
    behind = {
        name: asdict(found) | {"text": len(found.text), "turns": len(found.turns)}
        for name, found in runs.items()
    }
    return Table(f"{model}: {duration / 60:.0f} minutes of video, beside a straight script", rows), behind


def long_memory(model: str, options: Options, hours: float) -> tuple[Table, dict[str, Any]]:
    """Write hours down and tell what memory that takes. Raises MissingSpeechError."""
    pieces = [load_recording(name, options).clip.audio for name in options.clips]
    with tempfile.TemporaryDirectory(prefix="live-asr-bench-") as folder:
        raw, path = Path(folder) / "long.pcm", Path(folder) / "long.wav"
        write_looped(raw, pieces, round(hours * 3600 * RATE_HZ))
        with wave.open(str(path), "wb") as file, raw.open("rb") as reading:
            file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            while piece := reading.read(1 << 20):
                file.writeframes(piece)
        raw.unlink()
        options.say(f"{model}: a job of {hours:g} hours")
        found = ours(path, model, options)
    rows = [
        fact("memory, peak of all processes", f"{found.peak_mb:.0f} MB"),
        fact("share of the recording's length", f"{found.seconds / hours / 3600:.2f}"),
    ]
    return Table(f"{model}: a job of {hours:g} hours", rows), {
        "peak_mb": found.peak_mb,
        "seconds": found.seconds,
    }
