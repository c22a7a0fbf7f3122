"""What of a session its kept messages do not tell, and what it needs to go on after its server died.

It is written beside the messages, each time some are. Without it a session goes on all the same, from the
last committed word, with an empty prefix and voices that have to be learnt anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from live_asr.core.speaker_timeline import live_label
from live_asr.core.transcript import Transcript
from live_asr.core.types import Turn, Word, seconds


@dataclass(frozen=True, slots=True)
class Models:
    """Which models a session is heard by; None where there is none."""

    recognizer: str | None = None
    speaker_encoder: str | None = None


STEP = (0, None, False, False)
"""A decode that nobody waits for."""
LENGTHS = (len(STEP), 10, 5, 8, 7)
"""Of `Course`'s step, utterance, segmenter, window and vote."""


@dataclass(frozen=True, slots=True)
class Course:
    """Where the captions of a channel had come to, to the chunk: a captioner that is given this, the words of
    the `Memory` that it belongs to and the audio goes on as if nothing had been."""

    consumed_sample: int
    """One past the last sample considered."""
    step: tuple[Any, ...] | None
    """The decode that was waited for: its end, the language it asked for, whether it was the utterance's last
    one, and whether it took the full window; None where none was."""
    utterance: tuple[Any, ...]
    """What `StreamingPolicy` knows of the utterance, and of what it has shown."""
    segmenter: tuple[Any, ...]
    window: tuple[Any, ...]
    vote: tuple[Any, ...]
    hypotheses: tuple[tuple[Word, ...], ...]
    """The last ones, beyond what was committed of them."""
    begun: tuple[Word, ...]
    """The utterance's first word, once it is committed."""
    held: tuple[Word, ...] | None
    """The words of an utterance that waits for the next one to tell its language."""

    def to_list(self) -> list[Any]:
        """Return it as JSON has it."""
        *plain, hypotheses, begun, held = (getattr(self, field.name) for field in fields(self))
        listed = [_listed(words) for words in hypotheses]
        return [*plain, listed, _listed(begun), None if held is None else _listed(held)]

    @classmethod
    def from_list(cls, value: Sequence[Any]) -> Course:
        """Read it back. Raises TypeError and ValueError where that is not possible."""
        consumed_sample, step, utterance, segmenter, window, vote, hypotheses, begun, held = value
        if tuple(map(len, (step or STEP, utterance, segmenter, window, vote))) != LENGTHS:
            raise ValueError("another version's captioner knew other things")
        return cls(
            int(consumed_sample),
            None if step is None else tuple(step),
            tuple(utterance),
            tuple(segmenter),
            tuple(window),
            tuple(vote),
            tuple(map(_words, hypotheses)),
            _words(begun),
            None if held is None else _words(held),
        )


def _course(value: Sequence[Any] | None) -> Course | None:
    """Read one, None where there is none or it is another version's: the rest is good without it."""
    try:
        return Course.from_list(value) if value is not None else None
    except (TypeError, ValueError):
        return None


def _listed(words: Iterable[Word]) -> list[list[Any]]:
    return [[w.text, w.start_sample, w.end_sample, w.probability, w.tokens] for w in words]


def _words(value: Iterable[Sequence[Any]]) -> tuple[Word, ...]:
    return tuple(
        Word(text, start, end, probability, tuple(tokens)) for text, start, end, probability, tokens in value
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of one channel beyond the record."""

    safe_sample: int = 0
    """Nothing before it has to be heard again."""
    language: str | None = None
    """The language spoken, once it is sure."""
    words: tuple[Word, ...] = ()
    """The last committed words, with their tokens: what the decoder is told before it goes on."""
    course: Course | None = None
    """Where the captions were, for whom the record has every message that was written before this."""

    def beside(self, end_sample: int, *, is_ahead: bool) -> Memory:
        """Return what of it holds beside a record whose words end there, or that it is ahead of."""
        if is_ahead:
            return replace(self, safe_sample=end_sample, words=(), course=None)
        words = self.words
        # A record has its times as the wire tells them, these words to the sample.
        if not words or seconds(words[-1].end_sample) != seconds(end_sample):
            words = ()
        course = self.course if words == self.words else None
        return replace(self, safe_sample=max(self.safe_sample, end_sample), words=words, course=course)

    def to_list(self) -> list[Any]:
        """Return it as JSON has it."""
        return [self.safe_sample, self.language, _listed(self.words)]

    @classmethod
    def from_list(cls, value: Sequence[Any]) -> Memory:
        """Read it back. Raises TypeError and ValueError where that is not possible."""
        safe_sample, language, words = value
        return cls(int(safe_sample), language, _words(words))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A session's memory beyond its record."""

    last_seq: int = 0
    """The kept messages that it goes with."""
    safe_sample: int = 0
    """Nothing before it has to be heard again."""
    language: str | None = None
    """The language spoken, once it is sure."""
    words: tuple[Word, ...] = ()
    """The last committed words, with their tokens: what the decoder is told before it goes on."""
    voices: tuple[tuple[float, ...], ...] = ()
    """The centroid of each live speaker's voice, weighted; S1's first."""
    started_at: str | None = None
    """When the session's first audio came: ISO 8601, UTC."""
    models: Models = Models()
    """Whose tokens and whose voices these are."""
    others: tuple[Memory, ...] = ()
    """Of several channels that are heard by themselves, all but the first."""
    course: Course | None = None
    """Where the captions were, of one channel; of several only where they may go on is known."""

    @property
    def first(self) -> Memory:
        """What is known of the first channel, or of the only one."""
        return Memory(self.safe_sample, self.language, self.words, self.course)

    @property
    def memories(self) -> tuple[Memory, ...]:
        """What is known of each channel."""
        return (self.first, *self.others)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "last_seq": self.last_seq,
            **dict(zip(("safe_sample", "language", "words"), self.first.to_list(), strict=True)),
            "voices": self.voices,
            "started_at": self.started_at,
            "models": [self.models.recognizer, self.models.speaker_encoder],
            **({"others": [memory.to_list() for memory in self.others]} if self.others else {}),
            **({"course": self.course.to_list()} if self.course else {}),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Checkpoint:
        """Read it back; an empty one where that is not possible."""
        try:
            recognizer, speaker_encoder = value["models"]
            first = Memory.from_list([value[name] for name in ("safe_sample", "language", "words")])
            return cls(
                last_seq=int(value["last_seq"]),
                safe_sample=first.safe_sample,
                language=first.language,
                words=first.words,
                voices=tuple(tuple(map(float, voice)) for voice in value["voices"]),
                started_at=started_at if isinstance(started_at := value.get("started_at"), str) else None,
                models=Models(recognizer, speaker_encoder),
                others=tuple(map(Memory.from_list, value.get("others", ()))),
                course=_course(value.get("course")),
            )
        except (KeyError, TypeError, ValueError):
            return cls()

    def made_by(self, models: Models) -> Checkpoint:
        """Return it with the names of the models that it was made with."""
        return replace(self, models=models)

    def for_models(self, models: Models) -> Checkpoint:
        """Return what of it holds for these models: tokens and voices mean nothing to others."""
        held = self.made_by(models)
        if models.recognizer != self.models.recognizer:
            others = tuple(replace(memory, words=(), language=None) for memory in held.others)
            held = replace(held, words=(), language=None, others=others, course=None)  # which it may not know
        if models.speaker_encoder != self.models.speaker_encoder:
            held = replace(held, voices=())
        return held

    def beside(self, transcript: Transcript, channels: int = 1) -> Checkpoint:
        """Return what of it holds beside a record: all, where it was written with its last message.

        Voices hold in any case. Where the record is shorter or longer it goes on from its last word, on each
        of so many channels.
        """
        known = self.memories + (Memory(),) * (channels - len(self.memories))
        ends = [transcript.words_end_sample]
        if channels > 1:
            ends = [transcript.words_end_sample_of(live_label(number + 1)) for number in range(channels)]
        is_ahead = self.last_seq > transcript.last_seq
        if self.last_seq != transcript.last_seq or channels > 1:
            known = tuple(replace(memory, course=None) for memory in known)
        first, *others = [
            memory.beside(max(end, 0), is_ahead=is_ahead) for memory, end in zip(known, ends, strict=False)
        ]
        return replace(
            self,
            safe_sample=first.safe_sample,
            language=first.language,
            words=first.words,
            others=tuple(others),
            course=first.course,
        )


def voices_of(sums: Sequence[Any]) -> tuple[tuple[float, ...], ...]:
    """Return centroids as numbers that JSON holds."""
    return tuple(tuple(np.asarray(total, np.float64).round(5).tolist()) for total in sums)


def speaker_count(transcript: Transcript) -> int:
    """Return how many live speakers were named: the highest number of a label."""
    return max((int(label[1:]) for label in transcript.live_labels if label[1:].isdecimal()), default=0)


def shown_turns(transcript: Transcript) -> list[Turn]:
    """Return who said the words so far, which is what is kept of who spoke when."""
    return [
        Turn(segment.start_sample, segment.end_sample, segment.speaker)
        for segment in transcript.live_segments()
        if segment.speaker is not None
    ]
