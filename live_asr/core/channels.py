"""The captions of a session: of one channel, or of several whose speakers are told by their channels.

Each channel has a captioner of its own. They go on in step: none considers more audio while another waits
for a decode. So the order in which their words come depends on the audio alone, as with one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from live_asr.core.checkpoint import Memory
from live_asr.core.floor import Floor
from live_asr.core.language import LanguageVote
from live_asr.core.relief import Relief
from live_asr.core.segmenter import SpeechEnded, SpeechStarted
from live_asr.core.speaker_timeline import live_label
from live_asr.core.streaming_policy import (
    Committed,
    Event,
    LanguageChanged,
    MarkReached,
    StreamingPolicy,
    StreamingPolicyOptions,
    TailChanged,
    VocabularyShortened,
)
from live_asr.core.types import (
    CHUNK_SAMPLES,
    DecodeRequest,
    Hypothesis,
    SpeakerLabel,
    Utterance,
    Word,
    speaker_number,
)

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ChannelSpeech:
    """Speech has begun or ended on one of several channels."""

    channel: int
    event: SpeechStarted | SpeechEnded


class Channels:
    """Caption all channels of a session; see `StreamingPolicy` for the methods of both.

    Of several channels words are labelled with their speakers: `S1` for the first, `S2` for the second.
    """

    def __init__(
        self,
        options: StreamingPolicyOptions | None = None,
        *,
        channels: int = 1,
        language: str | None = None,
        languages: Sequence[str] = (),
        task: str = "transcribe",
        vocabulary: Sequence[str] = (),
    ) -> None:
        self._captioners = tuple(
            StreamingPolicy(options, language=language, languages=languages, task=task, vocabulary=vocabulary)
            for _ in range(channels)
        )
        self._wants_from = [0] * channels
        """The first sample that each is to be handed."""
        self._handed_sample = 0
        self._asked: int | None = None
        """Whose decode is outstanding."""
        self._events: list[Event | ChannelSpeech] = []
        self._floor = Floor(channels, lambda channel: self._captioners[channel].language)
        self._tails: list[tuple[Word, ...]] = [()] * channels
        self._shown: tuple[Word, ...] = ()
        self._marks: list[deque[MarkReached]] = [deque() for _ in range(channels)]
        """What each has come to and not all of them."""
        self._shortened: VocabularyShortened | None = None

    @property
    def count(self) -> int:
        """How many channels there are."""
        return len(self._captioners)

    def restore(self, memories: Sequence[Memory]) -> None:
        """Begin where an earlier run ended, with what it knew of each channel."""
        for channel, (captioner, memory) in enumerate(zip(self._captioners, memories, strict=True)):
            if memory.course is not None:
                self._wants_from[channel] = captioner.resume(memory.course, memory.words)
            else:
                self._wants_from[channel] = captioner.restore(
                    memory.safe_sample, memory.words, memory.language
                )

    # What arrives ------------------------------------------------------------------------------------

    def receive_audio(self, audio: FloatArray) -> None:
        """Take audio, shape (n,), or (channels, n) where there are several; from the first sample on."""
        by_channel = audio.reshape(self.count, -1)
        position = self._handed_sample
        self._handed_sample += by_channel.shape[1]
        for captioner, heard, wanted in zip(self._captioners, by_channel, self._wants_from, strict=True):
            # Of a session that was taken up again, most has been dealt with.
            captioner.receive_audio(heard[max(0, wanted - position) :])

    def receive_probabilities(self, probabilities: Iterable[float], channel: int = 0) -> None:
        """Take the answer to `unjudged(channel)`."""
        captioner = self._captioners[channel]
        if self.count > 1:
            captioner.horizon_sample = captioner.consumed_sample
        captioner.receive_probabilities(probabilities)
        self._go_on()

    def receive_hypothesis(self, hypothesis: Hypothesis) -> None:
        """Take the answer to `decode()`."""
        self._answered().receive_hypothesis(hypothesis)
        self._go_on()

    def receive_failure(self) -> None:
        """Learn that what `decode()` asked for cannot be had."""
        self._answered().receive_failure()
        self._go_on()

    def mark(self, name: Literal["finalize", "silence", "pause", "stop"]) -> None:
        """Ask for everything received so far to be committed, on all channels."""
        for captioner in self._captioners:
            captioner.mark(name)
        self._go_on()

    def update(
        self,
        languages: tuple[str | None, Sequence[str]] | None = None,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        """Go on in another way; `languages` are the one that is given and those to choose from."""
        for captioner in self._captioners:
            captioner.update(None if languages is None else LanguageVote(*languages), vocabulary)
        self._go_on()

    def set_step(self, step_samples: int, *, overloaded: bool, relief: Relief) -> None:
        """Decode at each `step_samples` of new audio; `overloaded` lets steps be skipped."""
        for captioner in self._captioners:
            captioner.step_samples = step_samples
            captioner.overloaded = overloaded
            captioner.relief = relief

    # What is wanted ----------------------------------------------------------------------------------

    def unjudged(self, channel: int = 0) -> FloatArray | None:
        """Return the audio of a channel whose probability of speech is wanted next; None if none is."""
        return self._captioners[channel].unjudged()

    def has_unjudged(self, channel: int = 0) -> bool:
        """Tell whether `unjudged(channel)` returns anything."""
        return self._captioners[channel].has_unjudged

    @property
    def wants_decode(self) -> bool:
        """Whether `decode()` returns anything."""
        return self._asked is None and any(captioner.wants_decode for captioner in self._captioners)

    def decode(self) -> tuple[DecodeRequest, FloatArray] | None:
        """Return the window that is wanted next, once; one at a time, whatever the channel."""
        if self._asked is not None:
            return None
        for channel, captioner in enumerate(self._captioners):
            wanted = captioner.decode()
            if wanted is not None:
                self._asked = channel
                return wanted
        return None

    def newest(self) -> tuple[DecodeRequest, FloatArray] | None:
        """Return what to decode instead of what `decode()` returned last; see `StreamingPolicy.newest`."""
        captioner = self._answered()
        wanted = captioner.newest()
        if wanted is None:
            self._go_on()
        else:
            self._asked = self._captioners.index(captioner)
        return wanted

    def events(self) -> list[Event | ChannelSpeech]:
        """Return what has happened since the last call, in order."""
        if self.count == 1:
            return list(self._captioners[0].events())
        self._tell_said()
        events, self._events = self._events, []
        return events

    def language_of(self, speaker: SpeakerLabel | None) -> str | None:
        """Return the language of what a speaker said last, or anybody where there is one channel."""
        number = speaker_number(speaker) if speaker is not None and self.count > 1 else None
        return self._captioners[number or 0].language

    def memories(self) -> tuple[Memory, ...]:
        """Return what `restore` needs of each channel, beside the words that were told."""
        return tuple(self._memory(channel) for channel in range(self.count))

    def _memory(self, channel: int) -> Memory:
        captioner = self._captioners[channel]
        safe_sample, words = captioner.safe_sample, captioner.carried
        waiting = self._floor.waiting(channel)
        if waiting:  # nobody was told of them: they are to be heard again
            safe_sample = min(safe_sample, waiting[0].start_sample)
            words = tuple(word for word in words if word.end_sample <= safe_sample)
        course = captioner.course() if self.count == 1 else None
        return Memory(safe_sample, captioner.sure_language, words, course)

    @property
    def received_sample(self) -> int:
        """One past the last sample received."""
        return self._captioners[0].received_sample

    @property
    def settled_sample(self) -> int:
        """Everything before this is committed, or was no speech, on all channels."""
        settled = [captioner.settled_sample for captioner in self._captioners]
        waiting = [word.start_sample for c in range(self.count) for word in self._floor.waiting(c)[:1]]
        return min(settled + waiting)

    @property
    def backlog_samples(self) -> int:
        """Audio that has been received and not yet considered on all channels."""
        return max(captioner.backlog_samples for captioner in self._captioners)

    # In step -----------------------------------------------------------------------------------------

    def _answered(self) -> StreamingPolicy:
        asked, self._asked = self._asked or 0, None
        return self._captioners[asked]

    def _go_on(self) -> None:
        """Let all channels go on together, until one waits for a decode or there is nothing left."""
        if self.count == 1:
            return
        self._gather()
        while not any(captioner.is_waiting for captioner in self._captioners):
            before = self._consumed_sample
            for captioner in self._captioners:
                captioner.advance_to(before + CHUNK_SAMPLES)
            self._gather()
            if self._consumed_sample == before:
                return

    @property
    def _consumed_sample(self) -> int:
        return min(captioner.consumed_sample for captioner in self._captioners)

    def _gather(self) -> None:
        """Take up what has happened on each channel."""
        for channel, captioner in enumerate(self._captioners):
            for event in captioner.events():
                self._take_up_event(channel, event)

    def _take_up_event(self, channel: int, event: Event) -> None:
        label = live_label(channel + 1)
        match event:
            case SpeechStarted() | SpeechEnded():
                self._events.append(ChannelSpeech(channel, event))
            case Committed(words):
                spoken = tuple(replace(word, speaker=label) for word in words)
                self._floor.put(channel, replace(event, words=spoken), self._consumed_sample)
            case Utterance():
                self._floor.put(channel, event, self._consumed_sample)
            case TailChanged(words):
                self._tails[channel] = tuple(replace(word, speaker=label) for word in words)
            case MarkReached():
                self._marks[channel].append(event)
                self._pass_marks()
            case VocabularyShortened():
                if event != self._shortened:
                    self._events.append(event)
                self._shortened = event
            case LanguageChanged():
                self._events.append(event)

    def _pass_marks(self) -> None:
        while all(self._marks):
            reached, *_ = [marks.popleft() for marks in self._marks]
            self._tell_said(everything=reached.name != "update")
            self._events.append(reached)

    def _tell_said(self, *, everything: bool = False) -> None:
        """Tell what is said in the order in which it is to be read, and what is left as the tail."""
        told = self._floor.take(self._consumed_sample, everything=everything)
        self._events += told
        by_channel = [(*self._floor.waiting(channel), *self._tails[channel]) for channel in range(self.count)]
        in_order = sorted(filter(None, by_channel), key=lambda words: words[0].start_sample)
        tail = tuple(word for words in in_order for word in words)
        if told or tail != self._shown:
            self._events.append(TailChanged(tail))
        self._shown = tail
