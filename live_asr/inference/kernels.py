"""Which of CTranslate2's kernels are the fastest on this CPU: tried once, and kept beside the weights.

The library chooses them by the CPU's brand, when it is loaded, and variables of the environment are the only
way to have others: so each choice is tried in a process of its own. One that writes other words than the
plain one does is not taken, however fast.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from live_asr.core.types import DecodeRequest, samples
from live_asr.inference.calibration import BUSY, KERNELS, cpu_info, keep, kept, key_of, load_now
from live_asr.inference.ipc import ONE_THREAD, Load

log = logging.getLogger(__name__)

AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
PLAIN: Mapping[str, str] = {}
TIMES = 6
"""So often a step is timed; the shortest counts."""
LONGEST_TIMING = 4.0
"""Seconds of computing after which no further one is."""
WORTH = 0.97
"""What a choice may take of the plain one's time at most, to be taken."""
HOPELESS = 1.3
"""A first step of so many times the plain one's time ends a trial: on some CPUs it would take minutes."""
SETTING_UP = 3.0
"""Times as long the first step may take, which sets up."""
MAX_TRIAL = 30.0
"""Seconds that a trial may take, loading included."""
LARGEST_BYTES = 600_000_000
"""Models of more are not tried: loading them again and again would take minutes."""
WINDOW_SECONDS = 6.0
TONES_HZ = (140.0, 210.0, 320.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one choice."""

    seconds: float
    """Of computing, that a typical step takes."""
    written: tuple[str, ...]
    """What was written on the sounds that all are tried with."""


def environment_of(load: Load) -> Mapping[str, str]:
    """Return the variables that have the fastest kernels taken, as kept or as tried now. Blocks.

    Nothing where the choice is not ours to make: on a GPU, for a device that is simulated, where somebody has
    made it, and where there is no file to keep it in.
    """
    file, folder = load.kernels_file, load.recognizer_folder
    is_set = any(name in os.environ for name in KERNELS)  # somebody has chosen
    if file is None or folder is None or load.device != "cpu" or load.simulated is not None or is_set:
        return PLAIN
    candidates = choices(cpu_info())
    key, found = f"kernels {key_of(load)}", kept(file)
    known = found.get(key)
    if isinstance(known, dict) and known.get("choice") in candidates:
        return candidates[known["choice"]]
    model = folder / "model.bin"
    if len(candidates) < 2 or not model.is_file() or model.stat().st_size > LARGEST_BYTES:
        return PLAIN
    if load_now() > BUSY:  # it would take long, and say little: another start will do
        return PLAIN
    choice, trials = choose(load, candidates)
    about = {name: round(trial.seconds, 5) for name, trial in trials.items()}
    keep(file, key, {"choice": choice, "seconds": about})
    return candidates[choice]


def choices(info: str) -> dict[str, Mapping[str, str]]:
    """Return what may be chosen on a CPU, by what /proc/cpuinfo says of it: name → variables."""
    found: dict[str, Mapping[str, str]] = {"plain": PLAIN}
    flags = next((line.partition(":")[2] for line in info.splitlines() if line.startswith("flags")), "")
    if set(flags.split()) >= AVX512:
        found["AVX-512"] = {"CT2_FORCE_CPU_ISA": "AVX512"}
    if "AuthenticAMD" in info:
        found["MKL"] = {"CT2_USE_MKL": "1"}
    return found


def choose(load: Load, candidates: Mapping[str, Mapping[str, str]]) -> tuple[str, dict[str, Trial]]:
    """Try all; return the fastest that writes the plain one's words, and what came of each that ended."""
    plain = try_out(load, candidates["plain"])
    if plain is None:
        return "plain", {}
    trials = {"plain": plain}
    for name, variables in candidates.items():
        if name != "plain" and (trial := try_out(load, variables, HOPELESS * plain.seconds)) is not None:
            trials[name] = trial
    same = {name: trial for name, trial in trials.items() if trial.written == plain.written}
    best = min(same, key=lambda name: same[name].seconds)
    choice = best if same[best].seconds <= WORTH * plain.seconds else "plain"
    log.info("kernels of CTranslate2: %s (%s)", choice, {n: f"{t.seconds:.3f} s" for n, t in trials.items()})
    return choice, trials


def try_out(load: Load, variables: Mapping[str, str], hopeless: float = float("inf")) -> Trial | None:
    """Try one choice in a process of its own; None where it fails, or takes longer than is of use."""
    asked = {"folder": str(load.recognizer_folder), "compute_type": load.compute_type}
    asked |= {"beam_size": str(load.beam_size), "hopeless": str(hopeless)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "live_asr.inference.kernels", json.dumps(asked)],
            env={**os.environ, **ONE_THREAD, **variables},
            capture_output=True,
            text=True,
            timeout=MAX_TRIAL,
        )
        found = json.loads(done.stdout)
        return Trial(float(found["seconds"]), tuple(found["written"]))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        log.debug("kernels %s: %s", dict(variables), error)
        return None


def sounds() -> list[np.ndarray]:
    """Return what all are tried with: noise, tones, and something like vowels; shape (samples,) each."""
    count = samples(WINDOW_SECONDS)
    dice = np.random.default_rng(0)
    at = np.arange(count) / samples(1.0)
    noise = dice.normal(0, 0.05, count)
    tones = sum(np.sin(2 * np.pi * tone * at) for tone in TONES_HZ) * 0.1
    # A pitch that rises and falls, opened and closed four times a second.
    pitch = np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * at)) / samples(1.0)
    vowels = sum(np.sin(2 * np.pi * n * pitch) / n for n in range(1, 20)) * 0.1
    vowels = vowels * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * at))
    return [np.asarray(sound, np.float32) for sound in (noise, tones, vowels)]


def _try_here(asked: dict[str, str]) -> Trial:
    from live_asr.models.whisper import WhisperRecognizer

    recognizer = WhisperRecognizer(
        Path(asked["folder"]),
        name="trial",
        compute_type=asked["compute_type"],
        workers=1,
        beam_size=int(asked["beam_size"]),
    )
    noise = sounds()[0]
    hopeless = float(asked["hopeless"])
    taken: list[float] = []
    while len(taken) < TIMES and sum(taken) < LONGEST_TIMING:
        began = time.process_time()
        recognizer.typical_step(noise)
        taken.append(time.process_time() - began)
        first = SETTING_UP if len(taken) == 1 else 1.0
        if min(taken) > first * hopeless:
            raise SystemExit(1)
    written = []
    for sound in sounds():
        request = DecodeRequest(0, sound.size, (), 40, samples(10.0), 0, language="en")
        words = recognizer.recognize(request, sound).words
        written.append("".join(word.text for word in words))
    return Trial(min(taken), tuple(written))


if __name__ == "__main__":
    print(json.dumps(asdict(_try_here(json.loads(sys.argv[1])))))
