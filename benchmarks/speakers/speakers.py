"""The suite `speakers`: who said it, live and after the full pass, where it is known who did.

Each recording is played to the real server as any client would. The live labels are read as they stood at
`stopped` (revision 0), the full pass's turns and words from revision 1. pyannote's own pipeline is run by
itself on the same file with the same weights, after the server has ended.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from benchmarks.base.measure import violations
from benchmarks.base.options import Options
from benchmarks.base.processes import INFERENCE, BenchServer, watched
from benchmarks.base.recordings import RECORDINGS, Recording, load_recording
from benchmarks.base.speech import MissingSpeechError
from benchmarks.base.streaming import Pace, SessionLog, play
from benchmarks.speakers.speaker_measures import (
    DiarizationErrors,
    Labelling,
    cp_word_errors,
    diarization_errors,
    labelling,
    passages,
    read_rttm,
    speech_seconds,
    unmapped,
    words_of,
    wrong_speakers,
)
from benchmarks.speakers.stock import StockPipeline

REALTIME = ("conv2_public",)
"""Played in real time where no pace was asked for: delays mean something there, the others save the time."""
COST = "conv2_public"
"""Played once more without speakers, for what they cost."""


@dataclass(slots=True)
class Words:
    """How the words of one revision fare against what was said."""

    wer: float
    """Percent, whoever said them."""
    cp_wer: float
    """Percent, words of the wrong speaker counting as wrong."""
    wrong: int
    """Words with the wrong speaker or none."""
    compared: int


@dataclass(slots=True)
class Revision:
    """One revision of a session: its turns, scored, and its words where they are known."""

    errors: DiarizationErrors
    speakers: int
    words: Words | None


@dataclass(slots=True)
class Outcome:
    """What one session of one recording came to."""

    name: str
    pace: Pace
    duration: float
    """Seconds of audio."""
    speech: float
    """Seconds in which anybody speaks."""
    speakers: int
    """True number."""
    live: Revision | None = None
    full: Revision | None = None
    labels: str | None = None
    """Where `final` says its speakers come from."""
    stock: DiarizationErrors | None = None
    """pyannote's pipeline by itself."""
    stock_speakers: int = 0
    labelling: Labelling | None = None
    unmapped: list[str] | None = None
    worker_cpu: float = 0.0
    """CPU seconds of the inference process over the session."""
    full_pass_seconds: float = float("nan")
    """From `stopped` to `final`."""
    others_cores: float = 0.0
    failure: str | None = None
    breaches: list[str] | None = None


@dataclass(slots=True)
class Cost:
    """CPU seconds of the inference process per second of speech, with speakers and without."""

    clip: str
    with_speakers: float
    without: float


@dataclass(slots=True)
class SpeakerRuns:
    """All that was measured with one model."""

    model: str
    outcomes: list[Outcome]
    cost: Cost | None = None


def available_recordings(names: Iterable[str], options: Options) -> list[Recording]:
    """Load the recordings that are on this machine, and say which are not."""
    found = []
    for name in names:
        try:
            found.append(load_recording(name, options))
        except MissingSpeechError as missing:
            options.say(f"left out: {missing}")
    return found


def run_model(model: str, options: Options, pace: Pace | None) -> SpeakerRuns:
    """Measure one model from start to end on a server of its own, then pyannote's pipeline by itself."""
    recordings = available_recordings(options.clips or RECORDINGS, options)
    runs = SpeakerRuns(model, [])
    with BenchServer(model, models_dir=options.models_dir) as server:
        for recording in recordings:
            chosen: Pace = pace or ("realtime" if recording.name in REALTIME else "fast")
            options.say(f"{model}: {recording.name}, {recording.clip.duration:.0f} s, {chosen}")
            outcome = measured(server, recording, chosen, options)
            runs.outcomes.append(outcome)
            if outcome.failure is not None:
                options.say(f"{recording.name} failed: {outcome.failure}\n{server.output()}")
            elif recording.name == COST:
                options.say(f"{model}: {recording.name} without speakers, {chosen}")
                runs.cost = _cost(server, recording, outcome, options)
    stock = StockPipeline(options)
    for recording, outcome in zip(recordings, runs.outcomes, strict=True):
        options.say(f"pyannote by itself: {recording.name}")
        found = stock.turns(recording)
        outcome.stock = diarization_errors(recording.turns, found, recording.clip.duration)
        outcome.stock_speakers = len({turn.speaker for turn in found})
    return runs


def measured(server: BenchServer, recording: Recording, pace: Pace, options: Options) -> Outcome:
    """Play one recording and score both revisions of its session."""
    outcome = Outcome(
        recording.name, pace, recording.clip.duration, speech_seconds(recording.turns), recording.speakers
    )
    log = _played(server, recording, pace, options, {"final_pass": True}, outcome)
    outcome.failure, outcome.breaches = log.failure, violations(log)
    outcome.labelling = labelling(log)
    outcome.unmapped = unmapped(log, outcome.labelling.shown)
    ready, stopped, final = log.first("ready"), log.first("stopped"), log.first("final")
    if ready is None or stopped is None or final is None:
        return outcome
    outcome.labels = final.message.get("labels")
    outcome.full_pass_seconds = final.time - stopped.time
    path = f"/v1/sessions/{ready.message['session']}/transcript"
    try:
        outcome.live = _revision(server, path, 0, recording)
        outcome.full = _revision(server, path, 1, recording)
    except ValueError as error:
        outcome.failure = f"the transcript cannot be read: {error}"
    return outcome


def _played(
    server: BenchServer,
    recording: Recording,
    pace: Pace,
    options: Options,
    start: dict[str, Any],
    outcome: Outcome | None = None,
) -> SessionLog:
    before = worker_cpu_seconds(server)
    with watched(server) as usage:
        log = asyncio.run(play(server.url, recording.clip, pace=pace, language=options.language, start=start))
    if outcome is not None:
        outcome.worker_cpu = worker_cpu_seconds(server) - before
        outcome.others_cores = usage.others_cores
    return log


def _revision(server: BenchServer, path: str, revision: int, recording: Recording) -> Revision:
    turns = read_rttm(_fetched(server, f"{path}.rttm?revision={revision}"))
    errors = diarization_errors(recording.turns, turns, recording.clip.duration)
    words: Words | None = None
    if recording.said:
        heard = words_of(json.loads(_fetched(server, f"{path}.json?revision={revision}")))
        cp_wer, wer = cp_word_errors(recording.said, passages(heard))
        words = Words(wer, cp_wer, *wrong_speakers(recording.said, heard))
    return Revision(errors, len({turn.speaker for turn in turns}), words)


def _fetched(server: BenchServer, path: str) -> str:
    status, body = server.get(path)
    if status != 200:
        raise ValueError(f"{path} answered with {status}: {body[:200]}")
    return body


def _cost(server: BenchServer, recording: Recording, outcome: Outcome, options: Options) -> Cost:
    plain = Outcome(outcome.name, outcome.pace, outcome.duration, outcome.speech, outcome.speakers)
    _played(server, recording, outcome.pace, options, {"diarize": False}, plain)
    return Cost(outcome.name, outcome.worker_cpu / outcome.speech, plain.worker_cpu / outcome.speech)


def worker_cpu_seconds(server: BenchServer) -> float:
    """Return the CPU seconds, user and system, of the inference process since it began."""
    worker = server.child(INFERENCE)
    if worker is None:
        return 0.0
    try:
        times = worker.cpu_times()
    except psutil.Error:  # it ended meanwhile
        return 0.0
    return float(times.user + times.system)


def details(runs: SpeakerRuns) -> dict[str, Any]:
    """Return all numbers behind the table, for programs."""
    outcomes: Sequence[dict[str, Any]] = [asdict(outcome) for outcome in runs.outcomes]
    for outcome in outcomes:
        if outcome["labelling"] is not None:
            outcome["labelling"]["shown"] = sorted(outcome["labelling"]["shown"])
    return {"sessions": outcomes, "cost": asdict(runs.cost) if runs.cost else None}
