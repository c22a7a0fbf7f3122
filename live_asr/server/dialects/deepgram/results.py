"""What a session says, as Deepgram's clients read it."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from live_asr import __version__
from live_asr.core.clock import utc_text
from live_asr.core.messages import (
    Commit,
    Finalized,
    Label,
    Lag,
    Partial,
    ServerMessage,
    Speech,
    Stopped,
    UtteranceMessage,
    WireWord,
)
from live_asr.core.speaker_timeline import live_label
from live_asr.server.dialects.deepgram.parameters import Asked
from live_asr.server.dialects.lines import Line, Lines

JsonObject = dict[str, Any]


@dataclass(slots=True)
class Request:
    """One request: its number, when it came, what was heard."""

    model: str
    """The name of the recogniser."""
    id: str = field(default_factory=lambda: str(uuid4()))
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    digest: Any = field(default_factory=hashlib.sha256)
    """Of the audio as it came; None where that is not known any more."""

    @property
    def model_id(self) -> str:
        """The model's number: the same for the same model."""
        return str(uuid5(NAMESPACE_URL, f"live-asr:{self.model}"))

    @property
    def model_info(self) -> JsonObject:
        """What writes."""
        return {"name": self.model, "version": __version__, "arch": "whisper"}

    def metadata(self, duration: float, channels: int) -> JsonObject:
        """Return what is told of a request once it is over."""
        return {
            "transaction_key": "deprecated",
            "request_id": self.id,
            **({"sha256": self.digest.hexdigest()} if self.digest is not None else {}),
            "created": utc_text(self.created),
            "duration": duration,
            "channels": channels,
        }


class Channel:
    """The results of one channel, as they are made."""

    def __init__(self, request: Request, asked: Asked, index: int = 0) -> None:
        self._request = request
        self._asked = asked
        self._index = index
        self._lines = Lines(waits_for_speakers=asked.is_diarized)
        self._end = 0.0
        """Up to here results are final."""
        self._ended_at: float | None = None
        """Where speech has ended; None while somebody speaks."""
        self._last_word_end: float | None = None
        """Of the last committed word, until it is told that the utterance has ended."""
        self._asked_to_finalize = 0
        self._held: JsonObject | None = None
        """The last final result, while it is not known whether it is a `Finalize` that made it."""

    def finalize(self) -> None:
        """Take note that a `Finalize` is on its way."""
        self._asked_to_finalize += 1

    def apply(self, message: ServerMessage) -> Iterator[JsonObject]:
        """Take the session's next message, whichever channel it is about; yield what its client is told."""
        own = message if self._asked.channels == 1 else self._own(message)
        if own is not None:
            yield from self._apply(own)

    def _own(self, message: ServerMessage) -> ServerMessage | None:
        """Return what of a message is about this channel; None where nothing is."""
        label = live_label(self._index + 1)
        match message:
            case Commit(words=words) if words and words[0].speaker != label:
                return None
            case UtteranceMessage(speaker=speaker) if speaker != label:
                return None
            case Speech(channel=channel) if channel != self._index:
                return None
            case Partial(words=words):
                own = tuple(word for word in words if word.speaker == label)
                return replace(message, words=own, text="".join(word.text for word in own))
        return message

    def _apply(self, message: ServerMessage) -> Iterator[JsonObject]:
        settles = isinstance(message, Commit | Speech | Partial | UtteranceMessage | Stopped)
        if self._held is not None and settles:
            held, self._held = self._held, None
            yield held
        had_pending = bool(self._lines.pending)
        lines = self._lines.apply(message)
        match message:
            case Speech("started", time):
                self._ended_at = None
                if self._asked.wants_speech_started:
                    yield {"type": "SpeechStarted", "channel": [self._index], "timestamp": time}
            case Speech(_, time):
                self._ended_at = time
            case Partial():
                yield from self._interim()
            case Commit(words=words) if words:
                if not had_pending:
                    yield from self._utterance_end(words[0].start)
                self._last_word_end = words[-1].end
                yield from map(self._final, lines)
            case Label():
                yield from map(self._final, lines)
            case UtteranceMessage():
                yield from self._utterance(lines, message.end)
            case Lag():
                if not self._lines.pending:
                    yield from self._utterance_end(message.committed)
            case Finalized():
                self._asked_to_finalize -= 1
                result, self._held = self._held or self._empty(), None
                yield {**result, "from_finalize": True}
            case Stopped():
                yield from map(self._final, lines)
                yield from self._utterance_end(message.duration)

    def _utterance(self, lines: tuple[Line, ...], end: float) -> Iterator[JsonObject]:
        results = [self._final(line) for line in lines] or [self._empty()]
        is_silent = self._ended_at is not None and self._ended_at >= end
        results[-1]["speech_final"] = self._asked.wants_speech_final and is_silent
        yield from results[:-1]
        if self._asked_to_finalize:
            self._held = results[-1]
        elif lines or results[-1]["speech_final"]:
            yield results[-1]

    def _utterance_end(self, now: float) -> Iterator[JsonObject]:
        """Tell that no word has come for as long as the client wants to know of."""
        patience, last = self._asked.utterance_end, self._last_word_end
        if patience is not None and last is not None and now >= last + patience:
            self._last_word_end = None
            yield {
                "type": "UtteranceEnd",
                "channel": [self._index, self._asked.channels],
                "last_word_end": last,
            }

    def _interim(self) -> Iterator[JsonObject]:
        words = (*self._lines.pending, *self._lines.tail)
        if words:
            yield self._result(words, speaker=None, language=None, is_final=False)

    def _final(self, line: Line) -> JsonObject:
        self._end = line.end
        return self._result(line.words, speaker=line.speaker, language=line.language, is_final=True)

    def _empty(self) -> JsonObject:
        return self._result((), speaker=None, language=None, is_final=True)

    def _result(
        self, words: Sequence[WireWord], *, speaker: str | None, language: str | None, is_final: bool
    ) -> JsonObject:
        start = words[0].start if words else self._end
        end = words[-1].end if words else start
        shown = [shown_word(word, self._asked, word.speaker or speaker) for word in words]
        alternative: JsonObject = {
            "transcript": text_of(words, is_punctuated=self._asked.is_punctuated),
            "confidence": confidence_of(words),
            "words": shown,
        }
        if self._asked.wants_languages and language is not None:
            alternative["languages"] = [language]
            alternative["words"] = [{**word, "language": language} for word in shown]
        return {
            "type": "Results",
            "channel_index": [self._index, self._asked.channels],
            "duration": round(max(0.0, end - start), 3),
            "start": start,
            "is_final": is_final,
            "speech_final": False,
            "channel": {"alternatives": [alternative]},
            "metadata": {
                "request_id": self._request.id,
                "model_info": self._request.model_info,
                "model_uuid": self._request.model_id,
            },
            "from_finalize": False,
        }


def shown_word(word: WireWord, asked: Asked, speaker: str | None) -> JsonObject:
    """Return a word with its times in seconds."""
    shown: JsonObject = {
        "word": bare(word.text),
        "start": word.start,
        "end": word.end,
        "confidence": word.probability,
    }
    if asked.is_punctuated:
        shown["punctuated_word"] = word.text.strip()
    if asked.is_diarized:
        shown["speaker"] = speaker_of(asked, speaker)
    return shown


def speaker_of(asked: Asked, speaker: str | None) -> int:
    """Return who it is of those on their channel: where channels are heard apart there is one on each."""
    return number_of(speaker) if asked.channels == 1 else 0


def number_of(speaker: str | None) -> int:
    """Return a speaker as Deepgram counts them, from 0 on; one who is not known counts as the first."""
    if speaker is None:
        return 0
    return int(speaker.removeprefix("SPEAKER_")) if speaker.startswith("SPEAKER_") else int(speaker[1:]) - 1


def text_of(words: Iterable[WireWord], *, is_punctuated: bool) -> str:
    """Return words as one line: as they were written, or in lower case and without punctuation."""
    if is_punctuated:
        return "".join(word.text for word in words).strip()
    spaced = (" " * word.text[:1].isspace() + bare(word.text) for word in words)
    return "".join(spaced).strip()


def confidence_of(words: Sequence[WireWord]) -> float:
    """Return how sure a text is: its words' mean, 0 where there is none."""
    return round(sum(word.probability for word in words) / len(words), 4) if words else 0.0


def bare(text: str) -> str:
    """Return a word in lower case without the punctuation around it; punctuation alone stays."""
    word = text.strip()
    first, last = 0, len(word)
    while first < last and _is_punctuation(word[first]):
        first += 1
    while first < last and _is_punctuation(word[last - 1]):
        last -= 1
    return (word[first:last] or word).lower()


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P") and character not in "%&@#"
