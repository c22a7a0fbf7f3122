"""The streaming policy by itself: real decodes, a virtual clock, no server.

Each variant of the policy hears the same clips; a decode takes as long on the virtual clock as it took
of CPU. So latencies are those of a machine that does nothing else, and the text is the one that a
server gives that keeps up: what the policy decides depends on the audio alone.

A change in the last bit of a sample moves a clip's text by a word or two. `--copies` plays each clip several
times, shifted by a few samples and with its last bit shaken, so that a policy is told from its luck. The
latencies of copies are too short by the shift.

    python -m benchmarks.policy --model tiny.en --clips talk5_lj --variants recipe "no doubt" --copies 6
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.matching import Errors, errors
from benchmarks.measure import latencies, percentile
from benchmarks.options import default_models_dir
from benchmarks.reference import Reference, reference
from benchmarks.speech import Clip, load_clip
from benchmarks.streaming import Arrival, SessionLog
from live_asr.core.streaming_policy import (
    Committed,
    MarkReached,
    StreamingPolicy,
    StreamingPolicyOptions,
    TailChanged,
)
from live_asr.core.types import SAMPLE_RATE_HZ, Word, samples
from live_asr.models.interfaces import SpeechState
from live_asr.models.silero import SileroDetector
from live_asr.models.whisper import WhisperRecognizer
from live_asr.weights.store import resolve

SHIFTS = (0, 37, 111, 229, 53, 311, 173, 401)
"""How many samples each copy of a clip starts later; at most 25 ms or so, so that its words stay the same."""
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Variant:
    """A policy, and how it is decoded."""

    options: StreamingPolicyOptions
    beam_size: int = 2
    """How many hypotheses the decoder follows."""
    prefix_at_once: bool = True
    """Whether forced words cost one pass, or one for each token."""


def all_variants() -> dict[str, Variant]:
    """Return the recipe, and the recipe with one thing changed."""
    recipe = StreamingPolicyOptions()
    window, segmenter = recipe.window, recipe.segmenter

    def changed(**changes: int | float) -> Variant:
        return Variant(replace(recipe, **changes))

    def windowed(**changes: int | float) -> Variant:
        return Variant(replace(recipe, window=replace(window, **changes)))

    def silent(duration: float) -> Variant:
        return Variant(replace(recipe, segmenter=replace(segmenter, end_silence_samples=samples(duration))))

    return {
        "recipe": Variant(recipe),
        "prefix token by token": Variant(recipe, prefix_at_once=False),
        "greedy": Variant(recipe, beam_size=1),
        "beam 5": Variant(recipe, beam_size=5),
        "no doubt": changed(doubt_probability=0.0),
        "doubt 0.5": changed(doubt_probability=0.5),
        "doubt 0.6": changed(doubt_probability=0.6),
        "doubt 0.9": changed(doubt_probability=0.9),
        "greedy, no doubt": Variant(replace(recipe, doubt_probability=0.0), beam_size=1),
        "three hypotheses, no doubt": changed(agreement_depth=3, doubt_probability=0.0),
        "edge guard 0.3": changed(edge_guard_samples=samples(0.3)),
        "edge guard 0.7": changed(edge_guard_samples=samples(0.7)),
        "step 0.65": windowed(step_samples=samples(0.65)),
        "step 0.5": windowed(step_samples=samples(0.5)),
        "step 1.0": windowed(step_samples=samples(1.0)),
        "no carry": windowed(carry_samples=0),
        "carry 8": windowed(carry_samples=samples(8.0)),
        "no look back": windowed(look_back_samples=0, doubt_look_back_samples=0),
        "no look back in doubt": windowed(doubt_look_back_samples=0),
        "look back 20": windowed(look_back_samples=samples(20.0)),
        "window 6, filled to 9": windowed(trim_above_samples=samples(6.0), min_window_samples=samples(9.0)),
        "keep 3": windowed(keep_committed_samples=samples(3.0)),
        "window 8, keep 4": windowed(trim_above_samples=samples(8.0), keep_committed_samples=samples(4.0)),
        "look back 15 in doubt": windowed(doubt_look_back_samples=samples(15.0)),
        "end silence 0.8": silent(0.8),
    }


@dataclass(slots=True)
class Run:
    """What one variant made of one clip."""

    log: SessionLog
    """Everything shown, on the virtual clock, whose zero is the clip's begin."""
    cpu: float = 0.0
    """CPU seconds of all decodes."""
    decodes: int = 0
    text: str = ""
    end: float = 0.0
    """When everything was committed, seconds of the virtual clock."""


def copies_of(clip: Clip, count: int) -> list[Clip]:
    """Return the clip, and copies that nobody could tell from it: each shifted, its last bit shaken."""
    copies = [clip]
    for seed, shift in enumerate(SHIFTS[1:count], 1):
        audio = clip.audio[shift:].astype(np.int32)
        audio += np.random.default_rng(seed).integers(-1, 2, audio.size)
        copies.append(replace(clip, audio=np.clip(audio, -32768, 32767).astype(np.int16)))
    return copies


def simulate(
    clip: Clip, recognizer: WhisperRecognizer, detector: SileroDetector, options: StreamingPolicyOptions
) -> Run:
    """Let one policy hear one clip."""
    captioner = StreamingPolicy(options, language="en")
    captioner.receive_audio(clip.audio.astype(np.float32) / 32768)
    state = SpeechState.initial()
    chunk_ends = list(range(1600, len(clip.audio) + 1600, 1600))
    run = Run(SessionLog(clip, sent_ends=chunk_ends, sent_times=[end / SAMPLE_RATE_HZ for end in chunk_ends]))
    clock = _Clock(captioner, recognizer, run)
    while (chunk := captioner.unjudged(512)) is not None:
        probabilities, state = detector.detect(chunk, state)
        captioner.receive_probabilities(probabilities)
        clock.answer()
    captioner.mark("stop")
    clock.answer()
    if not run.end:
        raise RuntimeError("the policy did not come to its end")
    return run


@dataclass(slots=True)
class _Clock:
    """Does the decodes that are wanted and keeps the virtual time."""

    captioner: StreamingPolicy
    recognizer: WhisperRecognizer
    run: Run
    now: float = 0.0

    def answer(self) -> None:
        """Do all decodes that are wanted."""
        self._collect()
        while (wanted := self.captioner.decode()) is not None:
            began = max(self.now, self._consumed())
            before = time.process_time()
            hypothesis = self.recognizer.recognize(*wanted)
            spent = time.process_time() - before
            self.run.cpu += spent
            self.run.decodes += 1
            self.now = began + spent
            self.captioner.receive_hypothesis(hypothesis)
            self._collect()

    def _consumed(self) -> float:
        return (self.captioner.received_sample - self.captioner.backlog_samples) / SAMPLE_RATE_HZ

    def _collect(self) -> None:
        at = max(self.now, self._consumed())
        for event in self.captioner.events():
            match event:
                case Committed(words, _):
                    self._show(at, "commit", words)
                    self.run.text += "".join(word.text for word in words)
                case TailChanged(words):
                    self._show(at, "partial", words)
                case MarkReached():
                    self.run.end = at

    def _show(self, at: float, kind: str, words: tuple[Word, ...]) -> None:
        text = "".join(word.text for word in words)
        message = {"type": kind, "text": text, "words": [{"text": word.text} for word in words]}
        self.run.log.arrivals.append(Arrival(at, 0, message))


@dataclass(slots=True)
class Score:
    """One variant over all clips."""

    copies: int = 1
    """Of each clip."""
    live: dict[tuple[str, int], Errors] = field(default_factory=dict)
    """What it made of each copy of each clip whose words are known, against those."""
    offline: dict[str, Errors] = field(default_factory=dict)
    """What the single pass made of each of these clips."""
    against: list[Errors] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    cpu: float = 0.0
    seconds: float = 0.0
    decodes: int = 0

    def add(self, run: Run, offline: Reference, copy: int) -> None:
        """Take what it made of one copy of a clip, held against the single pass of the clip itself."""
        clip = run.log.clip
        self.against.append(errors(run.text, offline.text))
        if clip.truth:
            self.live[clip.name, copy] = errors(run.text, clip.truth)
            self.offline[clip.name] = errors(offline.text, clip.truth)
        committed, first = latencies(run.log, offline.words)
        self.commits += committed
        self.firsts += first
        self.cpu += run.cpu
        self.seconds += clip.duration
        self.decodes += run.decodes

    def over(self, *, clip: str | None = None, copy: int | None = None) -> float:
        """Return how far the word error rate is over the single pass's, points; of one clip, of one copy."""
        chosen = {
            key: found
            for key, found in self.live.items()
            if clip in (None, key[0]) and copy in (None, key[1])
        }
        offline = _sum(self.offline[name] for name, _ in chosen)
        return 100 * (_sum(chosen.values()).rate - offline.rate)

    def row(self, name: str) -> str:
        against = _sum(self.against)
        by_copy = [self.over(copy=copy) for copy in range(self.copies)]
        return (
            f"| {name} | {100 * _sum(self.live.values()).rate:.1f} | {self.over():+.1f} "
            f"| {' '.join(f'{self.over(clip=clip):+.1f}' for clip in self.offline)} "
            f"| {min(by_copy):+.1f} … {max(by_copy):+.1f} "
            f"| {100 * against.lost / against.words:.1f} | {100 * against.invented / against.words:.1f} "
            f"| {100 * against.changed / against.words:.1f} "
            f"| {percentile(self.commits, 50):.2f} / {percentile(self.commits, 95):.2f} "
            f"| {percentile(self.firsts, 50):.2f} / {percentile(self.firsts, 95):.2f} "
            f"| {self.cpu / self.seconds:.3f} | {self.decodes / self.seconds:.2f} |"
        )


HEADER = (
    "| variant | WER | over offline | each clip | least … most of a copy | lost % "
    "| invented % | changed % | commit p50 / p95 | first p50 / p95 | CPU/s | decodes/s |\n"
    + "| --- " * 12
    + "|"
)


def _sum(found: Iterable[Errors]) -> Errors:
    return sum(found, Errors(0, 0, 0, 0))


@threadpool_limits.wrap(limits=1)  # as in the inference process
def score(
    names: list[str],
    clips: list[Clip],
    model: str,
    models_dir: Path,
    tell: Callable[[str], None] = print,
    copies: int = 1,
) -> list[str]:
    """Let each variant hear each clip in so many copies; return a row of the table for each.

    All copies are held against the single pass of the clip itself.
    """
    folder = resolve(model, models_dir=models_dir).folder
    variants = all_variants()
    recognizers = {
        (variant.beam_size, variant.prefix_at_once): WhisperRecognizer(
            folder,
            name=model,
            workers=1,
            beam_size=variant.beam_size,
            prefix_at_once=variant.prefix_at_once,
        )
        for variant in (variants[name] for name in names)
    }
    detector = SileroDetector(resolve("silero-vad", models_dir=models_dir).model_file)
    rows = []
    for name in names:
        variant, total = variants[name], Score(copies)
        for clip in clips:
            offline = reference(clip, model, folder, "en")
            for number, copy in enumerate(copies_of(clip, copies)):
                recognizer = recognizers[variant.beam_size, variant.prefix_at_once]
                run = simulate(copy, recognizer, detector, variant.options)
                total.add(run, offline, number)
        rows.append(total.row(name))
        tell(rows[-1])
    return rows


def main() -> None:
    """Print and keep a table of variants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--clips", nargs="+", default=["talk5_lj", "conv2_public", "conv6_public", "libri"])
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--variants", nargs="+", default=list(all_variants()), choices=list(all_variants()))
    parser.add_argument("--copies", type=int, default=1, choices=range(1, len(SHIFTS) + 1))
    parser.add_argument("--keep", help="name of the file in results/ to write")
    arguments = parser.parse_args()
    models_dir = default_models_dir()
    call = resolve("test-call", models_dir=models_dir).folder
    clips = [load_clip(name, arguments.seconds, call) for name in arguments.clips]
    print(HEADER, flush=True)
    rows = score(
        arguments.variants,
        clips,
        arguments.model,
        models_dir,
        lambda row: print(row, flush=True),
        arguments.copies,
    )
    if arguments.keep:
        about = f"{arguments.model}, {arguments.seconds:g} s each of {', '.join(arguments.clips)}"
        if arguments.copies > 1:
            about += f", {arguments.copies} copies of each"
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{arguments.keep}.md").write_text(f"{about}\n\n{HEADER}\n" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
