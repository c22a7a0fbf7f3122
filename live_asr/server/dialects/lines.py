"""Committed words as lines that never change: for clients that keep what they were shown.

Our own clients are told when a word turns out to be somebody else's. Who knows lines alone cannot be told, so
a line is given out once its words and their speaker are settled; what follows is another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from live_asr.core.messages import (
    Commit,
    Label,
    Partial,
    ServerMessage,
    Stopped,
    UtteranceMessage,
    WireWord,
)
from live_asr.core.passages import columns_of, ends_sentence

WIDEST_LINE = 84
"""Columns after which a line ends with a word though its sentence goes on: two lines of a caption."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one speaker said on end."""

    words: tuple[WireWord, ...]
    speaker: str | None
    """As live sessions name them; None where nobody is told apart."""
    language: str | None

    @property
    def text(self) -> str:
        """The words without the space that goes before them."""
        return text_of(self.words)

    @property
    def start(self) -> float:
        """Where it begins, in seconds."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """Where it ends, in seconds."""
        return self.words[-1].end


class Lines:
    """Make lines of what a session says.

    With `waits_for_speakers` a word waits for its speaker, to the end of its utterance at most.
    """

    def __init__(self, *, waits_for_speakers: bool, language: str | None = None) -> None:
        self.waits_for_speakers = waits_for_speakers
        self._language = language
        self._speaker: str | None = None
        self._tail: tuple[WireWord, ...] = ()
        self._committed_until = 0.0
        self.pending: list[WireWord] = []
        """Committed words that are in no line yet."""

    @property
    def tail(self) -> tuple[WireWord, ...]:
        """The words behind all committed ones, which may still change."""
        return tuple(word for word in self._tail if (word.start + word.end) / 2 >= self._committed_until)

    def apply(self, message: ServerMessage) -> tuple[Line, ...]:
        """Take the next message of a session; return the lines that are complete with it."""
        match message:
            case Partial():
                self._tail = message.words
            case Commit():
                self.pending.extend(message.words)
                self._committed_until = message.words[-1].end if message.words else self._committed_until
            case Label():
                self.pending = [
                    replace(word, speaker=message.speaker)
                    if message.from_ <= (word.start + word.end) / 2 <= message.to
                    else word
                    for word in self.pending
                ]
            case UtteranceMessage():
                self._language = message.language or self._language
                self.pending = [
                    replace(word, speaker=word.speaker or message.speaker) for word in self.pending
                ]
            case Stopped():
                self._tail = ()
            case _:
                return ()
        return tuple(self._settled(is_over=isinstance(message, UtteranceMessage | Stopped)))

    def _settled(self, *, is_over: bool) -> Iterator[Line]:
        """Take out the lines that nothing can be added to; all of them where the utterance is over."""
        first = end = 0
        for end, word in enumerate(self.pending):
            if first < end and self._is_break(self.pending[first:end], word):
                yield self._line(self.pending[first:end])
                first = end
            if self.waits_for_speakers and word.speaker is None and not is_over:
                break
        if is_over and self.pending[first:]:
            yield self._line(self.pending[first:])
            first = len(self.pending)
        del self.pending[:first]

    def _line(self, words: list[WireWord]) -> Line:
        self._speaker = words[0].speaker or self._speaker
        return Line(tuple(words), self._speaker, self._language)

    def _is_break(self, line: list[WireWord], word: WireWord) -> bool:
        """Tell whether a line ends before `word`, which it never does within what is written as one word."""
        if not word.text[:1].isspace() and columns_of(word.text[:1]) < 2:
            return False
        text = text_of(line)
        is_other = word.speaker is not None and word.speaker != (line[0].speaker or word.speaker)
        return is_other or ends_sentence(text) or columns_of(text) >= WIDEST_LINE


def text_of(words: list[WireWord] | tuple[WireWord, ...]) -> str:
    """Return words as they are written, without the space that goes before them."""
    return "".join(word.text for word in words).strip()
