"""What calls of one model take, in a process of its own: `python -m benchmarks.gpu.calls`.

A process begins with a device that nobody has used yet, which is what the first calls are timed on, and gives
back its memory when it ends. It reads an `Order` as a line of JSON and writes a result a line, as it comes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.speech import RATE_HZ
from benchmarks.gpu.kept import Clock, Kept

FIRST = "first"
"""The name under which loading and first calls are kept."""
LANES = "lanes x "
"""What the names of lanes begin with."""
SHORT, LONG = 4, 20
"""New tokens of the two answers whose difference tells what one takes."""
PREFIX = tuple(range(1000, 1016))
"""Ordinary text in every vocabulary."""
REPEATS = 5
MIN_REPEATS = 2
ENOUGH = 0.6
"""Seconds after which a call is not repeated again."""
LANE_SECONDS = 2.0
FRAMES_PER_SECOND = 100
GRACE = 30.0
"""Seconds past its time after which a process is ended: a single call may take as long."""


@dataclass(frozen=True, slots=True)
class Order:
    """Which model, and what is to be measured on it."""

    folder: str
    device: str
    compute_type: str
    audio: str
    """A file of samples, `.npy`, float32."""
    cells: tuple[tuple[float, int], ...]
    """Seconds of window and how many windows at once."""
    lanes: tuple[int, ...]
    """Windows at once of one lane and of two."""
    window: float
    """Seconds of those that first calls and lanes have."""
    seconds: float = 0.0
    """After so many nothing more is begun."""

    @property
    def names(self) -> list[str]:
        """The names of all results."""
        lanes = [lanes_name(batch) for batch in self.lanes]
        return [FIRST, *(cell_name(*one) for one in self.cells), *lanes]


def measure_calls(order: Order, kept: Kept, name: str, clock: Clock) -> str:
    """Have a process measure what is not kept yet, and keep it as it comes; return what went wrong, or ""."""
    if all(f"{name}/{one}" in kept for one in order.names):
        return ""
    if clock.left < 1.0:
        return "no time was left"
    asked = asdict(order) | {
        "cells": [one for one in order.cells if f"{name}/{cell_name(*one)}" not in kept],
        "lanes": [batch for batch in order.lanes if f"{name}/{lanes_name(batch)}" not in kept],
        "seconds": clock.left,
    }
    command = [sys.executable, "-m", "benchmarks.gpu.calls", json.dumps(asked)]
    root = Path(__file__).resolve().parents[2]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        too_long = threading.Timer(clock.left + GRACE, process.kill)
        too_long.start()
        try:
            for line in process.stdout or ():
                found = json.loads(line)
                key = f"{name}/{found['name']}"
                if key not in kept:  # a second first time would not be one
                    kept.keep(key, found["result"])
            code = process.wait()
        finally:
            too_long.cancel()
            process.kill()
        if code == 0:
            return ""
        said.seek(0)
        lines = said.read().strip().splitlines() or ["it said nothing"]
        return f"ended with {code}: {lines[-1]}"


def cell_name(window: float, batch: int) -> str:
    """Name the measurement of so many windows of so many seconds."""
    return f"{window:g} s x {batch}"


def lanes_name(batch: int) -> str:
    """Name the measurement of lanes with so many windows at once."""
    return f"{LANES}{batch}"


# In the process ----------------------------------------------------------------------------------------


class Calls:
    """A loaded model and the sound that is put to it."""

    def __init__(self, order: Order) -> None:
        from live_asr.config.settings import load_settings
        from live_asr.models.ctranslate2_whisper import WhisperModel

        began = time.perf_counter()
        self.model = WhisperModel(
            Path(order.folder),
            device=order.device,
            compute_type=order.compute_type,
            workers=2,
            beam_size=load_settings().settings.inference.beam_size,
        )
        self.load_seconds = time.perf_counter() - began
        from faster_whisper.feature_extractor import FeatureExtractor

        self._extract: Any = FeatureExtractor(feature_size=self.model.mel_bins)
        self._audio: NDArray[np.float32] = np.load(order.audio)
        self.prompt = prompt_of(Path(order.folder), is_multilingual=self.model.is_multilingual)

    def features(self, window: float, batch: int) -> NDArray[np.float32]:
        """Return the features of `batch` different windows: (batch, mel bins, frames)."""
        length, frames = round(window * RATE_HZ), round(window * FRAMES_PER_SECOND)
        made = []
        for place in range(batch):
            audio = np.take(self._audio, np.arange(length) + place * RATE_HZ * 3, mode="wrap")
            made.append(np.asarray(self._extract(audio, padding=0))[:, :frames])
        return np.stack(made).astype(np.float32)

    def write(self, encoded: Any, batch: int, most: int, prefix: Sequence[int] = ()) -> list[list[int]]:
        """Write at most so many tokens in each window, by the call that a server would make."""
        if batch == 1:
            one = self.model.write(encoded, self.prompt, prefix, most_new_tokens=most, suppress_blank=True)
            return [one.tokens]
        many = self.model.write_many(
            encoded, self.prompt, [prefix] * batch, most_new_tokens=[most] * batch, suppress_blank=True
        )
        return [one.tokens for one in many]

    def align(self, encoded: Any, written: Sequence[Sequence[int]], window: float) -> None:
        """Align what was written; a window without a word gets one, as the server has it."""
        frames = [round(window * FRAMES_PER_SECOND)] * len(written)
        self.model.align(encoded, self.prompt[:-1], [list(tokens) or [0] for tokens in written], frames)

    def step(self, features: NDArray[np.float32], window: float) -> None:
        """Do what a batch of live windows takes from end to end."""
        encoded = self.model.encode(features)
        self.align(encoded, self.write(encoded, len(features), LONG), window)


def prompt_of(folder: Path, *, is_multilingual: bool) -> list[int]:
    """Return the tokens that a transcript in English starts with."""
    names = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    if not is_multilingual:
        del names[1:3]
    file = folder / "tokenizer.json"
    if not file.is_file():  # one of `shapes`
        tokens = json.loads((folder / "vocabulary.json").read_text())
        return [tokens.index(name) for name in names]
    import tokenizers

    known = tokenizers.Tokenizer.from_file(str(file))
    return [known.token_to_id(name) for name in names]


def first_calls(calls: Calls, window: float) -> dict[str, float]:
    """Time loading, and each kind of call the first and the second time, in seconds."""
    features = calls.features(window, 1)
    result = {"load": calls.load_seconds}
    for turn in ("first", "second"):
        encode = timed(lambda: calls.model.encode(features))
        encoded = calls.model.encode(features)
        written: list[list[int]] = []
        write = timed(lambda: written.extend(calls.write(encoded, 1, LONG)))  # noqa: B023
        align = timed(lambda: calls.align(encoded, written, window))  # noqa: B023
        result |= {f"{turn} encode": encode, f"{turn} write": write, f"{turn} align": align}
    return result


def cell(calls: Calls, window: float, batch: int) -> dict[str, float | None]:
    """Time each kind of call on so many windows, in seconds; None for what a device does not do.

    `step` is one more token of all windows, `prefix` a forced one. Answers that end by themselves before they
    are long enough leave `step` to be told from one answer alone.
    """
    features = calls.features(window, batch)
    first_encode = timed(lambda: calls.model.encode(features))
    encode = repeated(lambda: calls.model.encode(features))
    encoded = calls.model.encode(features)
    long_ones = calls.write(encoded, batch, LONG)
    new = max(len(tokens) for tokens in long_ones)
    write = repeated(lambda: calls.write(encoded, batch, LONG))
    short = repeated(lambda: calls.write(encoded, batch, SHORT))
    step = (write - short) / (new - SHORT) if new > SHORT else write / max(1, new)
    prefix = None
    if batch == 1 or not calls.model.prefix_at_once:
        calls.write(encoded, batch, SHORT, PREFIX)
        prefix = (repeated(lambda: calls.write(encoded, batch, SHORT, PREFIX)) - short) / len(PREFIX)
    align = repeated(lambda: calls.align(encoded, long_ones, window))
    return {
        "first encode": first_encode,
        "encode": encode,
        "write": write,
        "tokens": float(new),
        "step": step,
        "prefix": prefix,
        "align": align,
        "all": encode + write + align,
    }


def lanes(calls: Calls, window: float, batch: int) -> dict[str, float]:
    """Count the windows a second that one lane does from end to end, and two at once."""
    features = calls.features(window, batch)
    calls.step(features, window)
    found = {}
    for count in (1, 2):
        done = [0] * count
        ends = time.perf_counter() + LANE_SECONDS

        def work(lane: int, done: list[int] = done, ends: float = ends) -> None:
            while time.perf_counter() < ends or not done[lane]:
                calls.step(features, window)
                done[lane] += batch

        began = time.perf_counter()
        threads = [threading.Thread(target=work, args=(lane,)) for lane in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found[f"{count}"] = sum(done) / (time.perf_counter() - began)
    return found


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def repeated(call: Callable[[], Any]) -> float:
    """Return the median seconds of a few calls."""
    took: list[float] = []
    while len(took) < MIN_REPEATS or (len(took) < REPEATS and sum(took) < ENOUGH):
        took.append(timed(call))
    return statistics.median(took)


def main(asked: str) -> None:
    """Measure what was asked for and print each result. A batch that finds no memory is a result, too."""
    from live_asr.models.device import is_out_of_memory

    body = json.loads(asked)
    order = Order(**body | {"cells": tuple(map(tuple, body["cells"])), "lanes": tuple(body["lanes"])})
    clock = Clock.of(order.seconds)

    def say(name: str, result: dict[str, Any]) -> None:
        print(json.dumps({"name": name, "result": result}), flush=True)

    calls = Calls(order)
    say(FIRST, first_calls(calls, order.window))
    wanted: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        (cell_name(*one), lambda one=one: cell(calls, *one)) for one in order.cells
    ]
    wanted += [
        (lanes_name(batch), lambda batch=batch: lanes(calls, order.window, batch)) for batch in order.lanes
    ]
    for name, make in wanted:
        if not clock.left:
            break
        try:
            say(name, make())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            say(name, {"failed": str(error)})


if __name__ == "__main__":
    main(sys.argv[1])
