"""What a session says, as the Realtime API's items: each turn, or each commit of the client's, is one."""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from live_asr.core.messages import (
    Commit,
    Finalized,
    Lag,
    Notice,
    ServerMessage,
    Speech,
    UtteranceMessage,
    WireWord,
)
from live_asr.server.dialects.realtime.settings import SessionSettings

Event = dict[str, Any]
TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass(slots=True)
class Item:
    """One turn, from its first sound to its transcript."""

    id: str = field(default_factory=lambda: f"item_{secrets.token_hex(12)}")
    start: float = 0.0
    """Seconds; where it is heard to begin."""
    end: float | None = None
    """Where it ends; None while it goes on."""
    text: str = ""
    words: list[WireWord] = field(default_factory=list)
    unsaid: list[WireWord] = field(default_factory=list)
    """Words that wait until the item is committed."""
    has_failed: bool = False


class Items:
    """Make items of a session's messages: with turn detection of what is spoken between two silences, without
    it of what the client commits."""

    def __init__(self, settings: SessionSettings, *, is_beta: bool) -> None:
        self.settings = settings
        self._is_beta = is_beta
        self._has_turns = settings.turn_detection is not None
        self._open: Item | None = None
        """What is spoken, or with what the client has not committed."""
        self._asked: deque[Item | None] = deque()
        """The items of the flushes that are on their way; None for one whose words nobody wants."""
        self._previous: str | None = None

    # What the client does ---------------------------------------------------------------------------

    def commit(self, start: float, end: float) -> Iterator[Event]:
        """Take note that the client has committed the audio between these seconds, and flushes it."""
        if self._has_turns:
            item = self._open or Item(start=start)
            self._open = item
            self._asked.append(item)
            return
        item, self._open = self._open or Item(), None
        item.start, item.end = start, end
        self._asked.append(item)
        yield from self._committed(item)
        yield from self._deltas(item, item.unsaid)
        item.unsaid = []

    def clear(self) -> None:
        """Take note that the client drops what it has not committed, and flushes it."""
        self._open = None
        self._asked.append(None)

    # What the session says --------------------------------------------------------------------------

    def apply(self, message: ServerMessage) -> Iterator[Event]:
        """Take the next message of the session; yield what its client is told."""
        match message:
            case Speech("started", time) if self._has_turns:
                yield from self._completed_in_silence(time)
                if self._open is None:
                    self._open = Item(start=time)
                started = {"audio_start_ms": round(1000 * time), "item_id": self._open.id}
                yield {"type": "input_audio_buffer.speech_started", **started}
            case Speech("ended", time) if self._has_turns and self._open is not None:
                self._open.end = time
                stopped = {"audio_end_ms": round(1000 * time), "item_id": self._open.id}
                yield {"type": "input_audio_buffer.speech_stopped", **stopped}
                yield from self._committed(self._open)
            case Commit():
                yield from self._heard(message.words)
            case UtteranceMessage() if self._has_turns and self._open is not None:
                if self._open.end is not None:
                    yield from self._complete(self._open)
            case Lag() if self._has_turns:
                yield from self._completed_in_silence(message.committed)
            case Notice(code="step_failed"):
                self._current().has_failed = True
            case Finalized():
                yield from self._flushed(message.time)

    def fail(self) -> Iterator[Event]:
        """Say of all that is open that there will be no transcript."""
        waiting = [item.id for item in (*self._asked, self._open) if item is not None]
        yield from map(self._failed, dict.fromkeys(waiting))
        self._asked.clear()
        self._open = None

    def _current(self) -> Item:
        """Return the item that what is heard now belongs to."""
        if not self._has_turns and self._asked:
            return self._asked[0] or Item()  # one that nobody will see
        self._open = self._open or Item()
        return self._open

    def _heard(self, words: tuple[WireWord, ...]) -> Iterator[Event]:
        if self._asked and self._asked[0] is None:
            return
        item = self._current()
        if self._has_turns or item.end is not None:
            yield from self._deltas(item, words)
        else:
            item.unsaid.extend(words)

    def _flushed(self, time: float) -> Iterator[Event]:
        """Take note that a flush is done: what was asked for with it is complete."""
        item = self._asked.popleft() if self._asked else None
        if item is None or (self._has_turns and item is not self._open):
            return
        if item.end is None:
            item.end = time
            yield from self._committed(item)
        yield from self._complete(item)

    def _completed_in_silence(self, time: float) -> Iterator[Event]:
        """Complete a turn in which no word was found, once all up to its end was heard."""
        item = self._open
        if item is not None and item.end is not None and time >= item.end:
            yield from self._complete(item)

    def _committed(self, item: Item) -> Iterator[Event]:
        told = {"item_id": item.id, "previous_item_id": self._previous}
        yield {"type": "input_audio_buffer.committed", **told}
        content = {"type": "input_audio", "transcript": None}
        shown = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [content],
        }
        names = ("created",) if self._is_beta else ("added", "done")
        for name in names:
            yield {
                "type": f"conversation.item.{name}",
                "previous_item_id": self._previous,
                "item": shown,
            }
        self._previous = item.id

    def _deltas(self, item: Item, words: tuple[WireWord, ...] | list[WireWord]) -> Iterator[Event]:
        text = "".join(word.text for word in words)
        delta = text if item.text else text.lstrip()
        if not delta:
            return
        item.text += delta
        item.words.extend(words)
        told = {"item_id": item.id, "content_index": 0, "delta": delta}
        yield {"type": f"{TRANSCRIPTION}.delta", **told, **self._logprobs(words)}

    def _complete(self, item: Item) -> Iterator[Event]:
        if item is self._open:
            self._open = None
        if item.has_failed:
            yield self._failed(item.id)
            return
        length = round(max(0.0, (item.end or item.start) - item.start), 3)
        yield {
            "type": f"{TRANSCRIPTION}.completed",
            "item_id": item.id,
            "content_index": 0,
            "transcript": item.text,
            "usage": {"type": "duration", "seconds": length},
            **self._logprobs(item.words),
        }

    def _failed(self, item_id: str) -> Event:
        error = {
            "type": "server_error",
            "code": "audio_unintelligible",
            "message": "This stretch of speech could not be recognised.",
            "param": None,
        }
        return {"type": f"{TRANSCRIPTION}.failed", "item_id": item_id, "content_index": 0, "error": error}

    def _logprobs(self, words: tuple[WireWord, ...] | list[WireWord]) -> Event:
        if not self.settings.wants_logprobs:
            return {}
        return {
            "logprobs": [
                {
                    "token": word.text,
                    "logprob": round(math.log(max(word.probability, 1e-4)), 4),
                    "bytes": list(word.text.encode()),
                }
                for word in words
            ]
        }
