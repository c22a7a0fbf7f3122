"""The append-only record and its replaceable tail.

One class serves three: the server applies each message as it sends it, a client as it receives it, and
a finished session is read back by applying the messages that were kept. What was committed only grows;
only labels and the final pass's revision are added to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from types import MappingProxyType

from live_asr.core.errors import LiveAsrError
from live_asr.core.messages import (
    ClockPoint,
    Commit,
    Final,
    KeptMessage,
    Label,
    Partial,
    Paused,
    ServerMessage,
    Stopped,
    Timed,
    Updated,
    UtteranceMessage,
    WireWord,
)
from live_asr.core.types import Segment, SpeakerLabel, Utterance, Word, samples


class RecordError(LiveAsrError):
    """A message does not follow from the ones before it: one is missing, doubled or out of place."""

    code = "record"


@dataclass(slots=True)
class _Utterance:
    index: int
    words: list[Word] = field(default_factory=list)
    complete: bool = False
    language: str | None = None


class Transcript:
    """What has been said in a session, as far as its messages tell.

    It grows by `apply` alone. A message that is refused changes nothing.
    """

    def __init__(self) -> None:
        self._utterances: list[_Utterance] = []
        self._tail: tuple[Word, ...] = ()
        self._last_seq = 0
        self._languages: Counter[str] = Counter()
        """Samples of complete utterances in each language."""
        self._language: str | None = None
        self._stopped: Stopped | None = None
        self._final: Final | None = None
        self._labels: dict[SpeakerLabel, SpeakerLabel | None] = {}
        self._updates: list[Updated] = []
        self._clock: list[ClockPoint] = []
        self._is_paused = False

    def apply(self, message: ServerMessage) -> None:
        """Take up one message: kept ones in the order of their `seq`, partials as they come.

        Other messages say nothing about the record and are ignored, so that a client can apply all it
        receives. Raises RecordError for a `seq` that is not the next one, for words in an utterance
        that is complete, and for words after `stopped`.
        """
        match message:
            case Partial():
                self._tail = tuple(map(_word, message.words))
                return
            case (
                Commit() | Label() | UtteranceMessage() | Updated() | Timed() | Paused() | Stopped() | Final()
            ):
                self._check(message)
            case _:
                return
        match message:
            case Commit():
                self._commit(message)
            case Label():
                self._label(samples(message.from_), samples(message.to), message.speaker)
            case UtteranceMessage():
                self._complete(message)
            case Updated():
                self._updates.append(message)
            case Timed():
                self._clock.append(ClockPoint(message.audio, message.at))
            case Paused():
                self._is_paused = message.paused
            case Stopped():
                self._stopped = message
                self._is_paused = False
                self._tail = ()
            case Final():
                self._final = message
                self._tail = ()
        self._last_seq = message.seq

    def copy(self) -> Transcript:
        """Return one that stays as it is: for another thread to read while this one goes on.

        Takes about a millisecond for an hour of words, which are shared.
        """
        other = Transcript()
        other._utterances = [replace(u, words=u.words.copy()) for u in self._utterances]
        other._tail = self._tail
        other._last_seq = self._last_seq
        other._languages, other._language = self._languages.copy(), self._language
        other._stopped, other._final = self._stopped, self._final
        other._labels = self._labels.copy()
        other._updates = self._updates.copy()
        other._clock = self._clock.copy()
        other._is_paused = self._is_paused
        return other

    # What there is --------------------------------------------------------------------------------

    @property
    def last_seq(self) -> int:
        """`seq` of the last kept message; 0 before the first."""
        return self._last_seq

    @property
    def words(self) -> tuple[Word, ...]:
        """All committed words of the live transcript, in order."""
        return tuple(word for utterance in self._utterances for word in utterance.words)

    @property
    def text(self) -> str:
        """The committed words as they concatenate: each with the space that goes before it."""
        return "".join(word.text for utterance in self._utterances for word in utterance.words)

    @property
    def words_end_sample(self) -> int:
        """One past the last sample of the last committed word; 0 before the first."""
        return next((u.words[-1].end_sample for u in reversed(self._utterances) if u.words), 0)

    def words_end_sample_of(self, speaker: SpeakerLabel) -> int:
        """One past the last sample of a speaker's last committed word; 0 before the first."""
        spoken = (word for u in reversed(self._utterances) for word in reversed(u.words))
        return next((word.end_sample for word in spoken if word.speaker == speaker), 0)

    @property
    def open_utterance(self) -> tuple[int, tuple[Word, ...]]:
        """The number of the utterance that is not complete, or of the next one; and its words so far."""
        if not self._utterances:
            return 0, ()
        last = self._utterances[-1]
        return (last.index + 1, ()) if last.complete else (last.index, tuple(last.words))

    @property
    def tail(self) -> tuple[Word, ...]:
        """The unstable words after the last committed one; the next message may replace them."""
        return self._tail

    @property
    def language(self) -> str | None:
        """The language spoken, as the full pass found it, else as the live transcript has it."""
        return (self._final.language if self._final else None) or self._language

    @property
    def live_language(self) -> str | None:
        """The language of most of what was said, by time; None until the first utterance is complete."""
        return self._language

    @property
    def updates(self) -> tuple[Updated, ...]:
        """The settings that the session went on with, in order; those it began with are in its `start`."""
        return tuple(self._updates)

    @property
    def is_paused(self) -> bool:
        """Whether the talk is paused."""
        return self._is_paused

    @property
    def live_labels(self) -> Mapping[SpeakerLabel, SpeakerLabel | None]:
        """Every speaker label shown live, in the order of appearance.

        Each with the label that took its last corrected word from it; None where it never lost one.
        """
        return MappingProxyType(self._labels)

    @property
    def clock(self) -> tuple[ClockPoint, ...]:
        """When positions of the audio were recorded, as the client said, in their order."""
        return tuple(self._clock)

    @property
    def final(self) -> Final | None:
        """The full pass's result; None until there is one."""
        return self._final

    @property
    def last_speaker(self) -> str | None:
        """Who said most of the last utterance; None where nobody is known."""
        spoken: dict[str, int] = {}
        for word in self._utterances[-1].words if self._utterances else ():
            if word.speaker is not None:
                length = max(1, word.end_sample - word.start_sample)
                spoken[word.speaker] = spoken.get(word.speaker, 0) + length
        return max(spoken, key=lambda speaker: spoken[speaker]) if spoken else None

    @property
    def is_stopped(self) -> bool:
        """Whether the live transcript is complete."""
        return self._stopped is not None

    @property
    def revision(self) -> int:
        """0 for the live record, the full pass's number once there is its result."""
        return self._final.revision if self._final else 0

    @property
    def duration_samples(self) -> int:
        """Length of the session's audio; until it is stopped, the end of the last committed word."""
        if self._final:
            return samples(self._final.duration)
        if self._stopped:
            return samples(self._stopped.duration)
        return max((u.words[-1].end_sample for u in self._utterances[-1:] if u.words), default=0)

    def segments(self) -> tuple[Segment, ...]:
        """Return the best revision there is: the full pass's segments, else `live_segments`."""
        if self._final is None:
            return self.live_segments()
        return final_segments_of(self._final)

    def live_segments(self) -> tuple[Segment, ...]:
        """Return the utterances, the open one included, each cut where its speaker changes; by their start.

        Where channels are speakers, one who spoke at the same time may have been committed later.
        """
        return tuple(sorted(_segments(self._utterances), key=lambda segment: segment.start_sample))

    def utterances(self) -> tuple[Utterance, ...]:
        """Return the live transcript by utterance, the open one included; none of them is empty."""
        return tuple(
            Utterance(
                u.index, u.words[0].start_sample, u.words[-1].end_sample, tuple(u.words), language=u.language
            )
            for u in self._utterances
            if u.words
        )

    # What is applied ------------------------------------------------------------------------------

    def _check(self, message: KeptMessage) -> None:
        if message.seq != self._last_seq + 1:
            raise RecordError(
                f"Message {message.seq} came where {self._last_seq + 1} was expected.",
                "Apply every kept message once and in order; resume from last_seq to get missing ones.",
            )
        if isinstance(message, Commit | UtteranceMessage | Stopped) and self._stopped:
            raise RecordError(f"A `{message.type}` came after `stopped`.")
        if isinstance(message, Commit | UtteranceMessage) and self._utterances:
            last = self._utterances[-1]
            if message.utterance < last.index or (message.utterance == last.index and last.complete):
                raise RecordError(
                    f"A `{message.type}` came for utterance {message.utterance}, which is over."
                )

    def _commit(self, message: Commit) -> None:
        self._utterance(message.utterance).words.extend(map(_word, message.words))
        for word in message.words:
            self._show(word.speaker)
        if message.words:
            # The tail begins where the commit ends; what the commit covers must not be shown twice.
            end_sample = samples(message.words[-1].end)
            self._tail = tuple(word for word in self._tail if _middle_sample(word) >= end_sample)

    def _label(self, from_sample: int, to_sample: int, speaker: str) -> None:
        self._show(speaker)
        for utterance in reversed(self._utterances):
            for index, word in enumerate(utterance.words):
                if from_sample <= _middle_sample(word) <= to_sample:
                    if word.speaker is not None and word.speaker != speaker:
                        self._labels[word.speaker] = speaker
                    utterance.words[index] = replace(word, speaker=speaker)
            if utterance.words and utterance.words[0].end_sample < from_sample:
                break  # labels are for what was said lately; everything further back is earlier still

    def _complete(self, message: UtteranceMessage) -> None:
        utterance = self._utterance(message.utterance)
        utterance.complete = True
        utterance.language = message.language
        if message.language is not None:
            self._count_language(message.language, samples(message.end) - samples(message.start))
        self._show(message.speaker)
        if message.speaker is not None:
            utterance.words = [
                word if word.speaker else replace(word, speaker=message.speaker) for word in utterance.words
            ]

    def _count_language(self, language: str, length_samples: int) -> None:
        """Count an utterance; where two languages were spoken as long, the latest is meant."""
        # The first words of a session are often few, and then the language is hardly more than a guess.
        self._languages[language] += max(1, length_samples)
        if self._languages[language] >= self._languages[self._language or language]:
            self._language = language

    def _show(self, label: SpeakerLabel | None) -> None:
        if label is not None:
            self._labels.setdefault(label, None)

    def _utterance(self, index: int) -> _Utterance:
        if not self._utterances or self._utterances[-1].index != index:
            self._utterances.append(_Utterance(index))
        return self._utterances[-1]


def final_segments_of(final: Final) -> tuple[Segment, ...]:
    """Return the segments of a result as the record has them."""
    return tuple(
        Segment(samples(s.start), samples(s.end), tuple(map(_word, s.words)), s.speaker)
        for s in final.segments
    )


def _word(wire: WireWord) -> Word:
    return Word(
        wire.text, samples(wire.start), samples(wire.end), wire.probability, (), wire.speaker, wire.source
    )


def _middle_sample(word: Word) -> int:
    return (word.start_sample + word.end_sample) // 2


def _segments(utterances: list[_Utterance]) -> Iterator[Segment]:
    for utterance in utterances:
        for speaker, group in groupby(utterance.words, key=lambda word: word.speaker):
            words = tuple(group)
            yield Segment(words[0].start_sample, words[-1].end_sample, words, speaker)
