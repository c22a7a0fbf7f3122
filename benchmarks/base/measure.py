"""From a recorded session to the numbers of the table. No clock and no I/O: a log in, measures out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.base.matching import Errors, differences, errors, key, keys, matches, unlike
from benchmarks.base.reference import Reference, ReferenceWord
from benchmarks.base.streaming import Message, SessionLog

TIME_TOLERANCE = 0.1
"""How far a word's time may lie outside the audio before it counts as wrong, seconds."""


@dataclass(frozen=True, slots=True)
class LiveWord:
    """A committed word and when the client first knew of it; times are `perf_counter` seconds."""

    key: str
    committed: float
    first_shown: float


@dataclass(slots=True)
class SessionMeasures:
    """What one session's log comes to. Times are seconds."""

    clip: str
    duration: float
    """Of the audio."""
    failure: str | None = None
    text: str = ""
    """All `commit.text`."""
    against_reference: Errors | None = None
    against_truth: Errors | None = None
    """None where the truth is not known."""
    reference_against_truth: Errors | None = None
    differences: list[str] = field(default_factory=list)
    """Where the live text is not the single pass's."""
    commit_latencies: list[float] = field(default_factory=list)
    """One for each word of the single pass that was committed."""
    first_latencies: list[float] = field(default_factory=list)
    end_to_last_commit: float = 0.0
    """0 where everything was committed before the audio ended."""
    end_to_stopped: float = 0.0
    changed_afterwards: int = 0
    """Words of the record that are not what was committed."""
    violations: list[str] = field(default_factory=list)
    """Where the session broke the protocol."""
    bytes_per_second: float = 0.0
    partials_per_second: float = 0.0
    pings: list[float] = field(default_factory=list)
    slowest_ping_at: float = 0.0
    """When the ping that took longest went out, counted from the session's start."""
    ack_gap: float = 0.0
    """The longest time without an `ack` while audio was sent."""
    lag_gap: float = 0.0
    """The longest time without a `lag` while audio was sent."""
    client_lateness: float = 0.0
    """The worst delay of the client itself behind its schedule."""


def measure(log: SessionLog, reference: Reference | None = None) -> SessionMeasures:
    """Measure a session; without a reference only what needs none."""
    clip = log.clip
    text = "".join(str(arrival.message.get("text", "")) for arrival in log.of_type("commit"))
    result = SessionMeasures(clip.name, clip.duration, log.failure, text)
    if clip.truth is not None:
        result.against_truth = errors(text, clip.truth)
    if reference is not None:
        result.against_reference = errors(text, reference.text)
        result.differences = differences(text, reference.text)
        if clip.truth is not None:
            result.reference_against_truth = errors(reference.text, clip.truth)
        result.commit_latencies, result.first_latencies = latencies(log, reference.words)
    result.changed_afterwards = changed_afterwards(log)
    result.violations = violations(log)
    _measure_end(log, result)
    _measure_flow(log, result)
    return result


def _measure_end(log: SessionLog, result: SessionMeasures) -> None:
    if not log.stop_time:
        return
    commits, stopped = log.of_type("commit"), log.first("stopped")
    if commits:
        result.end_to_last_commit = max(commits[-1].time - log.stop_time, 0.0)
    if stopped is not None:
        result.end_to_stopped = stopped.time - log.stop_time


def _measure_flow(log: SessionLog, result: SessionMeasures) -> None:
    duration = max(log.clip.duration, 1e-9)
    result.bytes_per_second = sum(arrival.size_bytes for arrival in log.arrivals) / duration
    result.partials_per_second = len(log.of_type("partial")) / duration
    result.pings = list(log.pings)
    if log.pings:
        result.slowest_ping_at = log.ping_times[log.pings.index(max(log.pings))] - log.started
    result.client_lateness = log.lateness
    if log.sent_times:
        result.ack_gap = _longest_gap(log, "ack")
        result.lag_gap = _longest_gap(log, "lag")


def _longest_gap(log: SessionLog, kind: str) -> float:
    """Return the longest time without a message of a type between the first chunk and the last."""
    begin, end = log.sent_times[0], log.sent_times[-1]
    inside = [arrival.time for arrival in log.of_type(kind) if begin <= arrival.time <= end]
    return max(later - earlier for earlier, later in itertools.pairwise([begin, *inside, end]))


def joined(pieces: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Join pieces into words where no space stands between them, each with the time of its last letters.

    Whisper splits `forty-two` and a server may send a full stop by itself: words are what spaces separate.
    Pieces are (text, time); words come back as (key, time), those without a letter or digit left out.
    """
    words: list[tuple[str, float]] = []
    for text, time in pieces:
        if words and not text[:1].isspace():
            before, before_time = words[-1]
            words[-1] = (before + text, time if key(text) else before_time)
        else:
            words.append((text, time))
    return [(key(text), time) for text, time in words if key(text)]


def live_words(log: SessionLog) -> list[LiveWord]:
    """Return the committed words in order, with when each was committed and first shown.

    A partial's words are matched with the words that were committed after it came, in order and with the
    fewest edits: a word counts as shown from the first message that holds it in its place.
    """
    commits = log.of_type("commit")
    words = joined(
        (str(word["text"]), arrival.time) for arrival in commits for word in arrival.message["words"]
    )
    all_keys = [word for word, _ in words]
    committed_times = [time for _, time in words]
    shown = list(committed_times)
    for arrival in log.of_type("partial"):
        tail = keys(str(arrival.message.get("text", "")))
        done = sum(time <= arrival.time for time in committed_times)
        ahead = all_keys[done : done + len(tail) + 8]
        for _, place in matches(tail, ahead, open_end=True):
            shown[done + place] = min(shown[done + place], arrival.time)
    return [
        LiveWord(word, committed, first)
        for word, committed, first in zip(all_keys, committed_times, shown, strict=True)
    ]


def latencies(log: SessionLog, words: Sequence[ReferenceWord]) -> tuple[list[float], list[float]]:
    """Return commit latency and first appearance of each reference word that was committed, in seconds.

    Both count from the moment the sample at the word's end was sent.
    """
    live = live_words(log)
    said = joined((word.text, word.end) for word in words)
    pairs = matches([word for word, _ in said], [word.key for word in live])
    sent = [log.sent_at(said[left][1]) for left, _ in pairs]
    committed = [live[right].committed - at for (_, right), at in zip(pairs, sent, strict=True)]
    first = [live[right].first_shown - at for (_, right), at in zip(pairs, sent, strict=True)]
    return committed, first


def changed_afterwards(log: SessionLog) -> int:
    """Count the words in which `stopped` or an `utterance` differs from what was committed before it.

    Compared letter for letter, punctuation included: what is committed may only grow.
    """
    committed: list[str] = []
    by_utterance: dict[Any, list[str]] = {}
    differing = 0
    for arrival in log.arrivals:
        message = arrival.message
        match message.get("type"):
            case "commit":
                committed.append(message["text"])
                by_utterance.setdefault(message.get("utterance"), []).append(message["text"])
            case "utterance":
                said = "".join(by_utterance.get(message.get("utterance"), []))
                differing += unlike(said.split(), message["text"].split())
            case "stopped":
                differing += unlike("".join(committed).split(), message["text"].split())
    return differing


def violations(log: SessionLog) -> list[str]:
    """List where the session breaks the protocol's promises, each as a sentence; at most a few of a kind."""
    found = [*_wrong_seqs(log), *_wrong_commits(log)]
    lasts = [arrival.message.get("type") for arrival in log.arrivals[-2:]]
    if log.failure is None and lasts[-1:] != ["final"]:
        found.append(f"the last message is {lasts[-1] if lasts else 'missing'}, not final")
    stopped = log.first("stopped")
    if stopped is not None and abs(stopped.message["duration"] - log.clip.duration) > TIME_TOLERANCE:
        found.append(f"stopped.duration is {stopped.message['duration']}, the audio {log.clip.duration:.3f}")
    return found


def _wrong_seqs(log: SessionLog) -> list[str]:
    kept = [arrival.message for arrival in log.arrivals if arrival.message.get("seq") is not None]
    for expected, message in enumerate(kept, start=1):
        if message["seq"] != expected:
            return [f"seq {message['seq']} came where {expected} was due"]
    without = {
        str(arrival.message["type"])
        for arrival in log.arrivals
        if arrival.message.get("type") in {"commit", "label", "utterance", "stopped", "final"}
        and arrival.message.get("seq") is None
    }
    return [f"a {kind} carries no seq" for kind in sorted(without)]


def _wrong_commits(log: SessionLog) -> list[str]:
    found: list[str] = []
    last_start = 0.0
    for message in (arrival.message for arrival in log.of_type("commit")):
        words: list[Message] = message["words"]
        if "".join(word["text"] for word in words) != message["text"]:
            found.append(f"commit.text {message['text']!r} is not its words put together")
        for word in words:
            if not last_start <= word["start"] <= word["end"] <= log.clip.duration + TIME_TOLERANCE:
                found.append(f"word {word['text']!r} at {word['start']}-{word['end']} after {last_start}")
            if round(word["start"], 3) != word["start"] or round(word["end"], 3) != word["end"]:
                found.append(f"word {word['text']!r} has a time with more than 3 decimals")
            last_start = max(last_start, word["start"])
    return found[:5]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, linear between ranks; nan of nothing."""
    return float(np.percentile(values, percent)) if values else float("nan")
