"""What Deepgram answers to a recording: the whole result."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from live_asr.core.messages import Final, FinalSegment, WireWord
from live_asr.core.passages import ends_sentence
from live_asr.core.result import final_label
from live_asr.server.dialects.deepgram.parameters import Asked
from live_asr.server.dialects.deepgram.results import (
    JsonObject,
    Request,
    confidence_of,
    shown_word,
    speaker_of,
    text_of,
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of a recording, and the session that heard it."""

    session: str
    final: Final

    def segments_of(self, channel: int, asked: Asked) -> list[FinalSegment]:
        """Return what was said on a channel."""
        segments = self.final.segments
        if asked.channels == 1:
            return list(segments)
        return [segment for segment in segments if segment.speaker == final_label(channel)]


def answer_to(heard: Heard, asked: Asked, request: Request) -> JsonObject:
    """Return what was heard as Deepgram answers it."""
    metadata = request.metadata(heard.final.duration, asked.channels)
    metadata |= {"models": [request.model_id], "model_info": {request.model_id: request.model_info}}
    metadata |= {"sessions": [heard.session], **asked.told}
    said = [heard.segments_of(index, asked) for index in range(asked.channels)]
    language = heard.final.language
    results: JsonObject = {"channels": [_channel(segments, language, asked) for segments in said]}
    if asked.wants_utterances:
        spoken = [(index, segment) for index, segments in enumerate(said) for segment in segments]
        spoken.sort(key=lambda found: found[1].start)
        results["utterances"] = [_utterance(index, segment, asked) for index, segment in spoken]
    return {"metadata": metadata, "results": results}


def _channel(segments: list[FinalSegment], language: str | None, asked: Asked) -> JsonObject:
    words = [word for segment in segments for word in segment.words]
    alternative: JsonObject = {
        "transcript": text_of(words, is_punctuated=asked.is_punctuated),
        "confidence": confidence_of(words),
        "words": [
            shown_word(word, asked, word.speaker or segment.speaker)
            for segment in segments
            for word in segment.words
        ],
    }
    if asked.wants_paragraphs:
        paragraphs = [_paragraph(segment, asked) for segment in segments if segment.words]
        text = "\n\n".join(" ".join(s["text"] for s in paragraph["sentences"]) for paragraph in paragraphs)
        alternative["paragraphs"] = {"transcript": text, "paragraphs": paragraphs}
    channel: JsonObject = {"alternatives": [alternative]}
    if asked.wants_languages and language is not None:
        channel["detected_language"] = language
    return channel


def _paragraph(segment: FinalSegment, asked: Asked) -> JsonObject:
    sentences: list[list[WireWord]] = [[]]
    for word in segment.words:
        if ends_sentence(text_of(sentences[-1], is_punctuated=True)) and word.text[:1].isspace():
            sentences.append([])
        sentences[-1].append(word)
    who = {"speaker": speaker_of(asked, segment.speaker)} if asked.is_diarized else {}
    return {
        "sentences": [
            {"text": text_of(words, is_punctuated=True), "start": words[0].start, "end": words[-1].end}
            for words in sentences
        ],
        "num_words": len(segment.words),
        "start": segment.start,
        "end": segment.end,
        **who,
    }


def _utterance(channel: int, segment: FinalSegment, asked: Asked) -> JsonObject:
    who = {"speaker": speaker_of(asked, segment.speaker)} if asked.is_diarized else {}
    return {
        "start": segment.start,
        "end": segment.end,
        "confidence": confidence_of(segment.words),
        "channel": channel,
        "transcript": text_of(segment.words, is_punctuated=asked.is_punctuated),
        "words": [shown_word(word, asked, word.speaker or segment.speaker) for word in segment.words],
        "id": str(uuid4()),
        **who,
    }
