"""What OpenAI's audio API answers: each `response_format`, and the events of a stream."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from live_asr.core.export import FORMATS, Record
from live_asr.core.languages import NAMES
from live_asr.core.messages import Final, WireWord
from live_asr.core.transcript import Transcript
from live_asr.server.dialects.lines import Line, text_of
from live_asr.server.dialects.openai_parameters import Asked
from live_asr.server.dialects.openai_speakers import SpeakerNames

MIN_PROBABILITY = 1e-3
"""Probabilities come to three decimals."""
DONE = b"data: [DONE]\n\n"


def rendered(
    asked: Asked,
    session_id: str,
    transcript: Transcript,
    lines: Sequence[Line],
    names: SpeakerNames,
) -> tuple[bytes, str]:
    """Return the answer to a request, and its media type; for a transcript that is complete."""
    final = transcript.final
    assert final is not None, "it is complete"
    match asked.response_format:
        case "text":
            return f"{final.text.strip()}\n".encode(), "text/plain; charset=utf-8"
        case "srt" | "vtt":
            render, media_type = FORMATS[asked.response_format]
            return render(Record.of(session_id, transcript)).encode(), media_type
        case "verbose_json":
            answer = verbose(asked, final, lines)
        case "diarized_json":
            answer = diarized(final, names)
        case _:
            answer = {"text": final.text.strip(), "usage": usage(final)}
            if asked.with_logprobs:
                answer["logprobs"] = logprobs(words_of(final))
    return orjson.dumps(answer), "application/json"


def verbose(asked: Asked, final: Final, lines: Sequence[Line]) -> dict[str, Any]:
    """Return `verbose_json`: segments and words as they were asked for."""
    language = "en" if asked.start.task == "translate" else final.language or ""
    answer: dict[str, Any] = {
        "task": asked.start.task,
        "language": NAMES.get(language, language).lower(),
        "duration": final.duration,
        "text": final.text.strip(),
    }
    if asked.with_segments:
        answer["segments"] = [_segment(number, line) for number, line in enumerate(lines)]
    if asked.with_words:
        answer["words"] = [
            {"word": word.text.strip(), "start": word.start, "end": word.end} for word in words_of(final)
        ]
    return {**answer, "usage": usage(final)}


def _segment(number: int, line: Line) -> dict[str, Any]:
    text = "".join(word.text for word in line.words)
    data = text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": line.start,
        "end": line.end,
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": sum(map(_logprob, line.words)) / len(line.words),
        "compression_ratio": len(data) / len(zlib.compress(data)),
        "no_speech_prob": 0.0,
    }


def diarized(final: Final, names: SpeakerNames) -> dict[str, Any]:
    """Return `diarized_json`: what the full pass found, by speaker."""
    segments = [
        segment_event(number, segment.words, names.of(segment.speaker))
        for number, segment in enumerate(final.segments)
    ]
    return {
        "task": "transcribe",
        "duration": final.duration,
        "text": final.text.strip(),
        "segments": segments,
        "usage": usage(final),
    }


def segment_event(number: int, words: Sequence[WireWord], speaker: str) -> dict[str, Any]:
    """Return what one speaker said on end, which is an event of a stream as well."""
    return {
        "type": "transcript.text.segment",
        "id": segment_id(number),
        "start": words[0].start,
        "end": words[-1].end,
        "text": text_of(tuple(words)),
        "speaker": speaker,
    }


def segment_id(number: int) -> str:
    """Name a segment."""
    return f"seg_{number + 1:03}"


def delta_event(text: str, words: Sequence[WireWord], asked: Asked, **more: Any) -> dict[str, Any]:
    """Return words that were added to the text."""
    event = {"type": "transcript.text.delta", "delta": text, **more}
    return {**event, "logprobs": logprobs(words)} if asked.with_logprobs else event


def done_event(final: Final, asked: Asked) -> dict[str, Any]:
    """Return the last event."""
    event = {"type": "transcript.text.done", "text": final.text.strip()}
    return {**event, "logprobs": logprobs(words_of(final))} if asked.with_logprobs else event


def data(event: dict[str, Any]) -> bytes:
    """Return an event as it goes over the wire."""
    return b"data: %b\n\n" % orjson.dumps(event)


def words_of(final: Final) -> list[WireWord]:
    """Return all words of a result."""
    return [word for segment in final.segments for word in segment.words]


def logprobs(words: Iterable[WireWord]) -> list[dict[str, Any]]:
    """Return the logarithms of the words' probabilities; a token here is a word."""
    return [
        {"token": word.text, "bytes": list(word.text.encode()), "logprob": _logprob(word)} for word in words
    ]


def usage(final: Final) -> dict[str, Any]:
    """Return what is paid for where somebody pays."""
    return {"type": "duration", "seconds": math.ceil(final.duration)}


def _logprob(word: WireWord) -> float:
    return math.log(max(word.probability, MIN_PROBABILITY))
