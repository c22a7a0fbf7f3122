"""Which words make a line, and when it may be printed: a printed line cannot change any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from live_asr.core.messages import (
    Commit,
    Final,
    Label,
    Lag,
    ServerMessage,
    Stopped,
    UtteranceMessage,
    WireWord,
)
from live_asr.core.passages import ends_sentence

_LINE_CHARACTERS = 60
"""An utterance may last half a minute: its sentences become lines as soon as they fill one."""
_TIMEOUT = 5.0
"""Seconds of committed speech after which a word without a speaker is printed all the same: a voice that is
heard for two seconds has a label by then, and one that is not may never get any."""


@dataclass(frozen=True, slots=True)
class Line:
    """Words of one speaker in one utterance, on end."""

    start: float
    """When it begins, seconds."""
    speaker: str | None
    """The live label; None where nobody knows, or nobody asked."""
    text: str


@dataclass(slots=True)
class _Word:
    text: str
    start: float
    end: float
    utterance: int
    speaker: str | None

    @classmethod
    def of(cls, wire: WireWord, utterance: int) -> _Word:
        return cls(wire.text, wire.start, wire.end, utterance, wire.speaker)


class Lines:
    """Committed words that are not printed yet, with their speakers as far as known.

    A line is complete where its utterance ends, where somebody else speaks, or with a sentence that fills
    it. One whose speaker is not known yet waits for the label, though not for ever.
    """

    def __init__(self, *, with_speakers: bool = True) -> None:
        self._with_speakers = with_speakers
        self._words: list[_Word] = []
        self._completed = -1
        """The last utterance that is complete."""
        self._position = 0.0
        """How far the speech is committed, seconds."""

    def apply(self, message: ServerMessage) -> list[Line]:
        """Take up a message; return the lines that may be printed now, in order."""
        match message:
            case Commit():
                self._words += [_Word.of(word, message.utterance) for word in message.words]
                self._advance(message.words[-1].end if message.words else 0.0)
            case Label():
                for word in self._words:
                    if message.from_ <= (word.start + word.end) / 2 <= message.to:
                        word.speaker = message.speaker
            case UtteranceMessage():
                self._complete(message)
            case Lag():
                self._advance(message.committed)
            case Stopped() | Final():
                return self.flush()
            case _:
                return []
        return list(self._ready())

    def flush(self) -> list[Line]:
        """Return all that is left, known speaker or not."""
        left, self._words = self.pending, []
        return left

    @property
    def pending(self) -> list[Line]:
        """What is not to be printed yet, as lines that may still change."""
        lines: list[Line] = []
        first = 0
        while first < len(self._words):
            length = self._length(first)
            lines += _line(self._words[first : first + length])
            first += length
        return lines

    def _advance(self, position: float) -> None:
        self._position = max(self._position, position)

    def _complete(self, message: UtteranceMessage) -> None:
        self._completed = max(self._completed, message.utterance)
        for word in self._words:
            if word.utterance == message.utterance and word.speaker is None:
                word.speaker = message.speaker

    def _ready(self) -> Iterator[Line]:
        while self._words:
            length = self._length(0)
            if not (self._is_known(self._words[length - 1]) and self._is_closed(length)):
                return
            words, self._words = self._words[:length], self._words[length:]
            yield from _line(words)

    def _length(self, first: int) -> int:
        """Return how many words the line has that begins with the word at `first`."""
        begin, text = self._words[first], ""
        for length, word in enumerate(self._words[first:]):
            if (word.utterance, word.speaker) != (begin.utterance, begin.speaker):
                return length
            text += word.text
            if len(text.strip()) >= _LINE_CHARACTERS and ends_sentence(text):
                return length + 1
        return len(self._words) - first

    def _is_closed(self, length: int) -> bool:
        """Tell whether the first `length` words stay a line of their own whatever comes."""
        last = self._words[length - 1]
        following = self._words[length] if length < len(self._words) else None
        if last.utterance <= self._completed and (following is None or following.utterance != last.utterance):
            return True
        if following is not None and (following.utterance != last.utterance or self._is_known(following)):
            return True
        text = "".join(word.text for word in self._words[:length])
        return len(text.strip()) >= _LINE_CHARACTERS and ends_sentence(text)

    def _is_known(self, word: _Word) -> bool:
        is_overdue = self._position >= word.end + _TIMEOUT
        return word.speaker is not None or is_overdue or not self._with_speakers


def _line(words: Sequence[_Word]) -> Iterator[Line]:
    if text := "".join(word.text for word in words).strip():
        yield Line(words[0].start, words[0].speaker, text)
