"""Part `talks` of the suite `words`: who says what in talks of two people that last some seconds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.options import Options
from benchmarks.processes import BenchServer
from benchmarks.recordings import Recording, load_recording
from benchmarks.report import Table, fact, limit
from benchmarks.speaker_measures import Said, words_of, wrong_speakers
from benchmarks.speech import RATE_HZ, Clip, MissingSpeechError
from benchmarks.streaming import SessionLog
from benchmarks.words_playing import play_all

TALKS = 20
SHORTEST, MAX = 15.0, 30.0
MIN_OF_EACH = 2.0
"""Seconds that each of the two speaks at least."""
SOURCES = {"conv2_public": 16, "sample": 4}
"""How many talks are cut from each."""
EDGE = 0.15
"""Seconds of sound kept before the first utterance and after the last."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A talk cut from a recording, times of the cut."""

    clip: Clip
    said: list[Said]


@dataclass(frozen=True, slots=True)
class Told:
    """Who was said to speak in one talk."""

    talk: str
    seconds: float
    live_words: int
    """Compared: said and heard, whether alike or not."""
    final_words: int
    live_wrong: int
    final_wrong: int
    live_speakers: int
    final_speakers: int
    failure: str | None


def windows(said: Sequence[Said], most: int) -> list[tuple[int, int]]:
    """Pick runs of utterances, first and last place, of the right length in which two people speak.

    Spread over all that there are; from each first utterance, the shortest and the longest run count.
    """
    found: list[tuple[int, int]] = []
    for first in range(len(said)):
        runs = [(first, last) for last in range(first, len(said)) if fits(said[first : last + 1])]
        found += dict.fromkeys([*runs[:1], *runs[-1:]])
    step = max(len(found) / most, 1.0)
    return [found[int(place * step)] for place in range(min(most, len(found)))]


def fits(said: Sequence[Said]) -> bool:
    """Tell whether a run of utterances is a talk of two."""
    length = max(one.end for one in said) - said[0].start + 2 * EDGE
    spoken: dict[str | None, float] = {}
    for one in said:
        spoken[one.speaker] = spoken.get(one.speaker, 0.0) + one.end - one.start
    return SHORTEST <= length <= MAX and len(spoken) == 2 and min(spoken.values()) >= MIN_OF_EACH


def talks_of(recording: Recording, most: int) -> list[Talk]:
    """Cut talks from a recording."""
    found = []
    for first, last in windows(recording.said, most):
        chosen = recording.said[first : last + 1]
        begin = max(chosen[0].start - EDGE, 0.0)
        end = max(one.end for one in chosen) + EDGE
        audio = recording.clip.audio[round(begin * RATE_HZ) : round(end * RATE_HZ)]
        clip = Clip(f"{recording.name}@{begin:.1f}-{end:.1f}", audio, None)
        moved = [replace(one, start=one.start - begin, end=one.end - begin) for one in chosen]
        found.append(Talk(clip, moved))
    return found


def told_of(talk: Talk, log: SessionLog, live: list[Said], final: list[Said]) -> Told:
    """Count the words with the wrong speaker in both revisions."""
    live_wrong, live_compared = wrong_speakers(talk.said, live)
    final_wrong, final_compared = wrong_speakers(talk.said, final)
    counts = [len({word.speaker for word in words if word.speaker}) for words in (live, final)]
    return Told(
        talk.clip.name,
        round(talk.clip.duration, 2),
        live_compared,
        final_compared,
        live_wrong,
        final_wrong,
        *counts,
        failure=log.failure,
    )


def revision(server: BenchServer, log: SessionLog, number: int) -> list[Said]:
    """Fetch the words of one revision of a session; none where it has none."""
    ready = log.first("ready")
    if ready is None:
        return []
    path = f"/v1/sessions/{ready.message['session']}/transcript.json?revision={number}"
    status, body = server.get(path)
    return words_of(json.loads(body)) if status == 200 else []


def run(
    server: BenchServer, model: str, options: Options, arguments: argparse.Namespace
) -> tuple[list[Table], dict[str, Any]]:
    """Play all talks; return the table and the numbers behind it."""
    talks: list[Talk] = []
    for name, most in SOURCES.items():
        try:
            talks += talks_of(load_recording(name, options), most)
        except MissingSpeechError as missing:
            options.say(f"left out: {missing}")
    if not talks:
        raise MissingSpeechError("There is no talk of two people here.")
    start = {"final_pass": True, "language": "en", "diarize": True}
    jobs = [(talk.clip, start) for talk in talks]
    logs = play_all(server, jobs, options, arguments.together)
    told = [
        told_of(talk, log, revision(server, log, 0), revision(server, log, 1))
        for talk, log in zip(talks, logs, strict=True)
    ]
    return [table_of(model, told)], {"talks": [asdict(one) for one in told]}


def table_of(model: str, told: Sequence[Told]) -> Table:
    """Hold the labels of the full pass against those that were shown live."""
    live, final = (sum(getattr(one, f"{which}_wrong") for one in told) for which in ("live", "final"))
    shares = [
        100 * wrong / max(sum(getattr(one, f"{which}_words") for one in told), 1)
        for which, wrong in (("live", live), ("final", final))
    ]
    worse = [one for one in told if one.final_wrong > one.live_wrong]
    miscounted = [sum(getattr(one, f"{which}_speakers") != 2 for one in told) for which in ("live", "final")]
    rows = [
        fact(
            "words with the wrong speaker, live / final",
            f"{shares[0]:.1f} / {shares[1]:.1f} %",
        ),
        limit("words with the wrong speaker, final above live", final - live, 0, digits=0),
        fact("talks in which the final labels are worse than the live ones", f"{len(worse)} of {len(told)}"),
        fact("talks with another number of speakers than two, live", f"{miscounted[0]} of {len(told)}"),
        limit(
            "talks with another number of speakers than two, final, at most the live ones",
            miscounted[1],
            miscounted[0],
            digits=0,
        ),
        limit("sessions that failed", sum(one.failure is not None for one in told), 0, digits=0),
    ]
    notes = [
        f"{one.talk}: words with the wrong speaker live {one.live_wrong} of {one.live_words}, "
        f"final {one.final_wrong} of {one.final_words}; "
        f"speakers live {one.live_speakers}, final {one.final_speakers}"
        for one in told
        if one.live_wrong or one.final_wrong or (one.live_speakers, one.final_speakers) != (2, 2)
    ]
    return Table(f"{model}: short talks", rows, notes)
