"""What a webhook says: PROTOCOL's payload."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from live_asr.core.messages import Final, FinalSegment, Start, WireWord
from live_asr.core.types import Turn, seconds

RESERVED = frozenset(
    {
        "sessionId",
        "revision",
        "status",
        "error",
        "transcript",
        "segments",
        "diarization",
        "metadata",
        "clientMetadata",
        "tooLarge",
    }
)
"""Names at the top level that are ours; a client's metadata of that name goes below `clientMetadata`."""


def webhook_body(
    *,
    session_id: str,
    start: Start,
    final: Final | None,
    turns: Sequence[Turn],
    error: tuple[str, str] | None,
    processing_time: float,
    audio_format: str | None = None,
    rest: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the JSON that tells of a session's end, as UTF-8.

    `final` is the best record there is, of a failed session too; None where there is not a word. `turns`
    are the full pass's, without them the speakers' durations are those of `final`. `error` is (code,
    message) where the session failed. `processing_time` is the seconds from `stop` to the result.

    Of a job, `audio_format` is what its file turned out to be, and `rest` goes back in `metadata`, but for
    what has a name of ours there.
    """
    segments = final.segments if final is not None else ()
    body: dict[str, Any] = {
        "sessionId": session_id,
        "revision": final.revision if final is not None else 0,
        "status": "success" if error is None else "failed",
    }
    body.update((key, value) for key, value in start.metadata.items() if key not in RESERVED)
    clashes = {key: value for key, value in start.metadata.items() if key in RESERVED}
    if clashes:
        body["clientMetadata"] = clashes
    if error is not None:
        body["error"] = {"code": error[0], "message": error[1]}
    body |= {
        "transcript": final.text.strip() if final is not None else "",
        "segments": [_segment(segment) for segment in segments],
        "diarization": _diarization(final, turns),
        "metadata": dict(rest or {})
        | {
            "language": (final.language if final is not None else None) or start.language,
            "duration": round(final.duration, 3) if final is not None else 0.0,
            "audioFormat": audio_format or start.audio.encoding,
            "processingTime": round(processing_time, 3),
            "labels": final.labels if final is not None else None,
            "startedAt": final.started_at if final is not None else None,
            "clock": [{"audio": p.audio, "at": p.at} for p in final.clock] if final is not None else [],
        },
    }
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def notice_of(body: bytes, links: Mapping[str, str]) -> bytes | None:
    """Return what is sent in place of a body that is too large: the same without words, and where they are.

    `links` are the session's transcripts by format. None where the body is such a notice already, or none of
    ours.
    """
    try:
        told = json.loads(body)
    except ValueError:
        return None
    if not isinstance(told, dict) or "tooLarge" in told:
        return None
    told |= {"transcript": "", "segments": [], "tooLarge": {"bytes": len(body), "links": dict(links)}}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _segment(segment: FinalSegment) -> dict[str, Any]:
    return {
        "text": segment.text.strip(),
        "startTime": round(segment.start, 3),
        "endTime": round(segment.end, 3),
        "speakerLabel": segment.speaker,
        "confidence": _confidence(segment.words),
    }


def _diarization(final: Final | None, turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """List the speakers of the record, then those whom only a turn has: they spoke no word we know."""
    spoken = {speaker.label: speaker.duration for speaker in final.speakers} if final is not None else {}
    if turns:
        spoken = dict.fromkeys(spoken, 0.0)
        for speaker, duration_samples in _durations(turns).items():
            spoken[speaker] = seconds(duration_samples)
    segments = final.segments if final is not None else ()
    return [
        {
            "aiSpeakerLabel": label,
            "totalDuration": round(duration, 3),
            "segmentCount": sum(segment.speaker == label for segment in segments),
            "confidence": _confidence(
                chain.from_iterable(segment.words for segment in segments if segment.speaker == label)
            ),
        }
        for label, duration in spoken.items()
    ]


def _durations(turns: Sequence[Turn]) -> dict[str, int]:
    """Return how long each speaks, in samples; turns of one speaker that overlap count once."""
    found: dict[str, int] = {}
    heard: dict[str, int] = {}
    for turn in sorted(turns, key=lambda turn: turn.start_sample):
        begin = max(turn.start_sample, heard.get(turn.speaker, 0))
        found[turn.speaker] = found.get(turn.speaker, 0) + max(0, turn.end_sample - begin)
        heard[turn.speaker] = max(turn.end_sample, heard.get(turn.speaker, 0))
    return found


def _confidence(words: Iterable[WireWord]) -> float:
    """Return the mean probability of the words, 0 to 1; 0 without any."""
    probabilities = [word.probability for word in words]
    return round(sum(probabilities) / len(probabilities), 3) if probabilities else 0.0
