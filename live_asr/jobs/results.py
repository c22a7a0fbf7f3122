"""What a job comes to: the same for the same recording, kept, written where it is read, and told.

A job is a session of its own in the end: with its exports, its place among the past ones, and one delivery.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Connection

from live_asr import __version__
from live_asr.core.export import Record, to_json, to_vtt
from live_asr.core.messages import (
    AudioFormat,
    Final,
    Start,
    Stopped,
    decode_server,
    encode,
    to_dict,
)
from live_asr.core.result import Result, make_result
from live_asr.core.transcript import Transcript
from live_asr.core.types import Turn, samples, seconds
from live_asr.full_pass.process import FullPassResult
from live_asr.jobs.messages import Job
from live_asr.sessions.finalizer import links_of
from live_asr.storage.journal import Journal

ID_CHARACTERS = 32
KNOWN_FORMATS = ("mp3", "mp4", "m4a", "mov", "wav", "flac", "ogg", "opus", "webm", "mkv", "aac", "avi", "wma")
"""Endings of names that say which of its container's kin a file is."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a recording's result hangs on, besides its bytes."""

    language: str | None
    vocabulary: tuple[str, ...]
    diarize: bool
    min_speakers: int | None
    max_speakers: int | None
    models: str
    """Names of what writes and of what tells speakers apart, and their arithmetic."""

    def key(self, digest: str) -> str:
        """Return what a result is kept under; `digest` is of the recording."""
        told = [
            __version__,
            digest,
            self.language,
            list(self.vocabulary),
            self.diarize,
            self.min_speakers,
            self.max_speakers,
            self.models,
        ]
        return hashlib.sha256(orjson.dumps(told)).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a recording came to."""

    result: Result
    audio_format: str
    """What the file is, such as mp3."""

    @classmethod
    def of(cls, found: FullPassResult, length_samples: int, audio_format: str) -> Outcome:
        """Make the outcome of what the full pass found in a recording of that length."""
        heard = Transcript()
        heard.apply(Stopped(1, seconds(length_samples), ""))
        result = make_result(
            heard, {}, turns=found.turns or (), words=found.words or (), language=found.language
        )
        return cls(result, audio_format)

    def to_bytes(self) -> bytes:
        """Write it, to be kept."""
        turns = [
            {"start": seconds(turn.start_sample), "end": seconds(turn.end_sample), "speaker": turn.speaker}
            for turn in self.result.turns
        ]
        return orjson.dumps(
            {"final": to_dict(self.result.final), "turns": turns, "audio_format": self.audio_format}
        )

    @classmethod
    def from_bytes(cls, kept: bytes) -> Outcome:
        """Read what was kept. Raises ValueError for what is nothing of ours."""
        value = orjson.loads(kept)
        final = decode_server(orjson.dumps(value["final"]))
        if not isinstance(final, Final):
            raise ValueError("no result")
        turns = tuple(
            Turn(samples(turn["start"]), samples(turn["end"]), turn["speaker"]) for turn in value["turns"]
        )
        return cls(Result(final, turns), value["audio_format"])

    def final_of(self, session_id: str) -> Final:
        """Return the message `final` of a session with this result."""
        return replace(self.result.final, links=links_of(session_id))

    def record_of(self, session_id: str) -> Record:
        """Return what exports are made from."""
        return Record.of_final(session_id, self.result.final, turns=self.result.turns)


def session_id_of(scope: str, job_id: int | str, message_id: str = "") -> str:
    """Return the id of the session that a job becomes, the same wherever and however often it is done.

    `scope` is where its name means something. A job that failed becomes another one for each message that
    asked for it: it may be asked for again, and succeed.
    """
    told = orjson.dumps([scope, str(job_id), message_id], option=orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(told).hexdigest()[:ID_CHARACTERS]


def start_of(job: Job, options: Options, name: str) -> Start:
    """Return a job as the opening of a session."""
    return Start(
        audio=AudioFormat("container"),
        language=options.language,
        vocabulary=options.vocabulary,
        diarize=options.diarize,
        min_speakers=options.min_speakers,
        max_speakers=options.max_speakers,
        pace="fast",
        metadata=job.told,
        title=name[:200] or None,
    )


def format_of(name: str, container: str) -> str:
    """Say what a file is: by its name, where its container has several kin, such as mov, mp4 and m4a."""
    kin = container.split(",")
    ending = ending_of(name)
    if ending is not None and (ending in kin or len(kin) > 1 or kin[0] in ("ogg", "asf", "matroska")):
        return ending
    return kin[0]


def ending_of(name: str) -> str | None:
    """Return the format that a file's name ends with; None where it is none that is known."""
    ending = name.rpartition(".")[2].lower()
    return ending if ending in KNOWN_FORMATS else None


def keep_session(
    store: Journal, session_id: str, start: Start, outcome: Outcome
) -> Callable[[Connection], None]:
    """Keep a session from which a job's exports are made, as `Journal.keep_whole` does. Blocks."""
    final = replace(outcome.final_of(session_id), seq=2)
    messages = [encode(Stopped(1, final.duration, "")), encode(final)]
    about = {"session": session_id, "start": to_dict(start)}
    return store.keep_whole(session_id, about, messages, outcome.result.turns)


def exports_of(
    session_id: str, outcome: Outcome, told: Mapping[str, Any]
) -> Sequence[tuple[str, bytes, str]]:
    """Return what is written where results are wanted besides: ending, bytes and media type of each."""
    record = outcome.record_of(session_id)
    document = {**to_json(record), **told}
    return (
        ("json", orjson.dumps(document), "application/json"),
        ("vtt", to_vtt(record).encode(), "text/vtt; charset=utf-8"),
    )
