"""Corrections by hand: a result, what people want changed in it, and the result that follows.

Segments are counted as in the result before all changes of one call, so that those who ask need not think
of what the one before does to the next. Words that stay as they are keep their times; new ones share the
time of those that they replace.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import accumulate
from typing import TypeAlias

from live_asr.core.attribution import turns_of, with_unheard
from live_asr.core.messages import Final
from live_asr.core.result import Result, final_label, speakers_of, wire_segment
from live_asr.core.transcript import final_segments_of
from live_asr.core.types import Segment, SpeakerLabel, Turn, Word, speaker_number

REVISION = 2
"""Of what people made of a result; 1 is the result itself."""
MAX_SPEAKERS = 64
UNSHOWN = ("Cc", "Cs", "Zl", "Zp")
"""Categories of characters that no line of a caption may hold; joiners, which some scripts need, are none."""
BY_HAND = "hand"
"""The source of a word that somebody wrote."""


class EditError(ValueError):
    """A change that cannot be made; its text is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Reword:
    """Have a segment say something else, or one word of it; an empty text takes it out."""

    segment: int
    """Counted from 0."""
    text: str
    word: int | None = None
    """Which word, counted from 0; None for the whole segment."""


@dataclass(frozen=True, slots=True)
class Reassign:
    """Give a segment to another speaker: one that there is, or one more with the next number."""

    segment: int
    speaker: SpeakerLabel


@dataclass(frozen=True, slots=True)
class Merge:
    """Give all that one speaker says to another one: they are the same."""

    speaker: SpeakerLabel
    into: SpeakerLabel


Edit: TypeAlias = Reword | Reassign | Merge


def edited(final: Final, turns: Sequence[Turn], edits: Iterable[Edit]) -> Result:
    """Return a result with changes made to it, one after the other; what is handed in stays as it is.

    `turns` say who speaks when; without them they are those of the words. Raises EditError.
    """
    draft = _Draft(final, turns)
    for edit in edits:
        match edit:
            case Reword():
                draft.reword(edit)
            case Reassign():
                draft.reassign(edit)
            case Merge():
                draft.merge(edit)
    return draft.result()


class _Draft:
    """A result while it is changed."""

    def __init__(self, final: Final, turns: Sequence[Turn]) -> None:
        self._final = final
        self._segments = list(final_segments_of(final))
        words = [word for segment in self._segments for word in segment.words]
        self._turns = list(turns or turns_of(words))
        self._labels = {speaker.label for speaker in final.speakers} | {turn.speaker for turn in self._turns}
        self._heirs: dict[SpeakerLabel, SpeakerLabel] = {}
        """Who got what somebody says, last."""
        # Languages that write no spaces have no pieces of words, only words.
        self._writes_spaces = 2 * sum(word.text[:1].isspace() for word in words) > len(words)

    def reword(self, edit: Reword) -> None:
        """Change what a segment says."""
        segment = self._segment(edit.segment)
        if any(unicodedata.category(character) in UNSHOWN for character in edit.text):
            raise EditError(f"The text for segment {edit.segment} holds line breaks or control characters.")
        words = segment.words
        if edit.word is None:
            words = self._aligned(words, edit.text)
        elif edit.word < len(words):
            before = words[edit.word]
            parts = self._parts(edit.text, before)
            words = (*words[: edit.word], *_spread(parts, (before,)), *words[edit.word + 1 :])
        else:
            raise EditError(f"Segment {edit.segment} has no word {edit.word}; it has {len(words)} words.")
        self._segments[edit.segment] = replace(segment, words=words)

    def reassign(self, edit: Reassign) -> None:
        """Give a segment to a speaker."""
        segment = self._segment(edit.segment)
        self._admit(edit.speaker)
        if segment.speaker == edit.speaker:
            return
        if segment.speaker is not None:
            self._heirs[segment.speaker] = edit.speaker
        self._segments[edit.segment] = _said_by(segment, edit.speaker)
        self._turns = [
            part
            for turn in self._turns
            for part in (_without(turn, segment) if turn.speaker == segment.speaker else [turn])
        ]
        self._turns.append(Turn(segment.start_sample, segment.end_sample, edit.speaker))

    def merge(self, edit: Merge) -> None:
        """Give all of one speaker to another."""
        for label in (edit.speaker, edit.into):
            if label not in self._labels:
                raise EditError(f"There is no speaker {label}; there are: {', '.join(sorted(self._labels))}.")
        if edit.speaker == edit.into:
            raise EditError(f"{edit.speaker} cannot be merged into the same speaker.")
        self._heirs[edit.speaker] = edit.into
        self._labels.discard(edit.speaker)
        self._segments = [
            _said_by(segment, edit.into) if segment.speaker == edit.speaker else segment
            for segment in self._segments
        ]
        self._turns = [
            replace(turn, speaker=edit.into) if turn.speaker == edit.speaker else turn for turn in self._turns
        ]

    def result(self) -> Result:
        """Return what it has come to."""
        segments = [_fitted(segment) for segment in self._segments if segment.words]
        words = [word for segment in segments for word in segment.words]
        turns = with_unheard(_joined(self._turns), words)
        final = replace(
            self._final,
            revision=REVISION,
            text="".join(word.text for word in words),
            segments=tuple(map(wire_segment, segments)),
            speakers=speakers_of(turns, self._mapped({turn.speaker for turn in turns})),
        )
        return Result(final, turns)

    def _segment(self, index: int) -> Segment:
        if index >= len(self._segments):
            raise EditError(f"There is no segment {index}; there are {len(self._segments)}.")
        return self._segments[index]

    def _admit(self, label: SpeakerLabel) -> None:
        if label in self._labels:
            return
        numbers = [number for one in self._labels if (number := speaker_number(one)) is not None]
        following = final_label(max(numbers, default=-1) + 1)
        if label != following:
            raise EditError(f"There is no speaker {label}; the next new one would be {following}.")
        if len(self._labels) >= MAX_SPEAKERS:
            raise EditError(f"A transcript has at most {MAX_SPEAKERS} speakers.")
        self._labels.add(label)

    def _aligned(self, words: tuple[Word, ...], text: str) -> tuple[Word, ...]:
        """Return the words for a text, with those before as far as they are the same."""
        if not words:
            return ()
        if not self._writes_spaces:
            return _within(words, "".join(self._parts(text, words[0])))
        made: list[Word] = []
        at = 0
        for first, last, texts in _changes(words, self._parts(text, words[0])):
            made += [*words[at:first], *_spread(texts, words[first:last])]
            at = last
        return (*made, *words[at:])

    def _parts(self, text: str, first: Word) -> list[str]:
        """Return the words of a text as they concatenate; the first is spaced as the one it stands for."""
        parts = [f" {part}" for part in text.split()] if self._writes_spaces else [text.strip()]
        space = first.text[: len(first.text) - len(first.text.lstrip())]
        return [space + parts[0].strip(), *parts[1:]] if text.strip() else []

    def _mapped(self, left: set[SpeakerLabel]) -> Mapping[SpeakerLabel, SpeakerLabel]:
        """Return what became of every label that was ever shown, those that are gone now too."""
        mapped: dict[SpeakerLabel, SpeakerLabel] = {}
        for speaker in self._final.speakers:
            heir: SpeakerLabel | None = speaker.label
            passed: set[SpeakerLabel] = set()
            while heir is not None and heir not in left and heir not in passed:
                passed.add(heir)
                heir = self._heirs.get(heir)
            if heir is None or heir not in left:
                continue
            others = () if heir == speaker.label else (speaker.label,)
            mapped |= dict.fromkeys((*speaker.live_labels, *others), heir)
        return mapped


def _said_by(segment: Segment, speaker: SpeakerLabel) -> Segment:
    words = tuple(replace(word, speaker=speaker) for word in segment.words)
    return replace(segment, words=words, speaker=speaker)


def _fitted(segment: Segment) -> Segment:
    """Return a segment that begins and ends with its words."""
    start = min(word.start_sample for word in segment.words)
    end = max(word.end_sample for word in segment.words)
    return replace(segment, start_sample=start, end_sample=end)


def _changes(words: Sequence[Word], texts: Sequence[str]) -> list[tuple[int, int, list[str]]]:
    """Return where texts differ from words: the first word that goes, one past the last, and what comes.

    Between two words there may be no time for another one: where none goes, one beside it is taken in.
    """
    changes: list[tuple[int, int, list[str]]] = []
    matcher = SequenceMatcher(None, [word.text for word in words], texts, autojunk=False)
    for kind, first, last, begin, end in matcher.get_opcodes():
        new = list(texts[begin:end])
        if kind == "equal":
            continue
        if first < last:
            changes.append((first, last, new))
        elif changes and changes[-1][1] == first:
            changes[-1] = (changes[-1][0], first, changes[-1][2] + new)
        elif first > 0:
            changes.append((first - 1, first, [words[first - 1].text, *new]))
        else:
            changes.append((0, 1, [*new, words[0].text]))
    return changes


def _spread(texts: Sequence[str], words: Sequence[Word]) -> list[Word]:
    """Return words for these texts in the time of others: one for one, or shared by how long they are."""
    if len(texts) == len(words):
        pairs = zip(texts, words, strict=True)
        return [_by_hand(text, word, word.start_sample, word.end_sample) for text, word in pairs]
    if not texts:
        return []
    start, length = words[0].start_sample, words[-1].end_sample - words[0].start_sample
    ends = list(accumulate(max(1, len(text.strip())) for text in texts))
    begins = [0, *ends[:-1]]
    return [
        _by_hand(text, words[0], start + length * begin // ends[-1], start + length * end // ends[-1])
        for text, begin, end in zip(texts, begins, ends, strict=True)
    ]


def _within(words: tuple[Word, ...], text: str) -> tuple[Word, ...]:
    """Return words for a text that has no spaces: all that differs, from the first to the last, is one."""
    first, last = 0, len(words)
    while first < last and text.startswith(words[first].text):
        text = text[len(words[first].text) :]
        first += 1
    while last > first and text.endswith(words[last - 1].text):
        last -= 1
        text = text[: -len(words[last].text)]
    if not text:
        return words[:first] + words[last:]
    if first == last and first > 0:  # as in `_changes`
        first -= 1
        text = words[first].text + text
    elif first == last:
        last = 1
        text += words[0].text
    return (*words[:first], *_spread([text], words[first:last]), *words[last:])


def _by_hand(text: str, word: Word, start_sample: int, end_sample: int) -> Word:
    if text == word.text and (start_sample, end_sample) == (word.start_sample, word.end_sample):
        return word
    return Word(text, start_sample, end_sample, 1.0, (), word.speaker, BY_HAND)


def _without(turn: Turn, segment: Segment) -> list[Turn]:
    """Return what is left of a turn outside a segment."""
    before = replace(turn, end_sample=min(turn.end_sample, segment.start_sample))
    after = replace(turn, start_sample=max(turn.start_sample, segment.end_sample))
    return [part for part in (before, after) if part.end_sample > part.start_sample]


def _joined(turns: Iterable[Turn]) -> list[Turn]:
    """Return turns in order of their start, a speaker's own that touch or overlap as one."""
    joined: list[Turn] = []
    newest: dict[SpeakerLabel, int] = {}
    for turn in sorted(turns, key=lambda turn: (turn.start_sample, turn.end_sample, turn.speaker)):
        at = newest.get(turn.speaker)
        if at is not None and turn.start_sample <= joined[at].end_sample:
            joined[at] = replace(joined[at], end_sample=max(joined[at].end_sample, turn.end_sample))
        else:
            newest[turn.speaker] = len(joined)
            joined.append(turn)
    return joined
