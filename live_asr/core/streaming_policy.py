"""The streaming policy: audio, speech probabilities and hypotheses in; committed words out.

Composes Segmenter, RollingWindow, LocalAgreement and the guards. The policy lives on a clock of its own,
the audio it has consumed: at a decode it stops consuming until the hypothesis is there. So what it
decides depends on the audio alone, not on how it was cut into chunks nor on how fast it came — unless
steps are skipped because the recogniser cannot follow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from live_asr.core.agreement import LocalAgreement
from live_asr.core.audio import AudioBuffer
from live_asr.core.checkpoint import Course
from live_asr.core.expectation import MOST_EXPECTED, Expectations
from live_asr.core.guards import (
    copied,
    drop_after_speech,
    drop_echo,
    drop_squeezed,
    drops_what_was_shown,
    going_on,
    going_on_later,
    in_order,
    is_guess,
    is_noise,
    is_unplaced,
    up_to_copies,
    without_loops,
    without_marks,
    without_stammer,
)
from live_asr.core.language import LOOK_BACK_SAMPLES, LanguageVote
from live_asr.core.passages import ends_sentence
from live_asr.core.relief import NO_RELIEF, SURE_EDGE_SAMPLES
from live_asr.core.segmenter import Segmenter, SegmenterOptions, SpeechEnded, SpeechStarted
from live_asr.core.speech import SpeechTrack, clamped
from live_asr.core.types import CHUNK_SAMPLES, DecodeRequest, Hypothesis, Utterance, Word, samples
from live_asr.core.window import RollingWindow, WindowOptions


@dataclass(frozen=True, slots=True)
class StreamingPolicyOptions:
    """Everything that tunes the streaming policy."""

    segmenter: SegmenterOptions = field(default_factory=SegmenterOptions)
    window: WindowOptions = field(default_factory=WindowOptions)
    agreement_depth: int = 2
    """So many consecutive hypotheses must agree."""
    doubt_probability: float = 0.7
    """A word below it needs one hypothesis more."""
    edge_guard_samples: int = samples(0.5)
    """Words that end so close to the edge of what was heard are not committed yet."""
    longest_utterance_samples: int = samples(30.0)
    """An utterance that goes on for longer is ended at the next end of a sentence, or of half as much
    again at any word; the window runs on, so that this costs nothing."""
    longest_hold_samples: int = samples(6.0)
    """First words that nothing tells the language of wait so long for what is said next."""
    longest_held_samples: int = samples(5.0)
    """Where there are more of them they do not: the window has to hold both."""
    skip_behind_samples: int = samples(2.1)
    """A session that is so far behind skips steps rather than fall back further, if it may."""
    longest_skip_samples: int = samples(12.0)
    """No step is skipped that would let the window grow beyond this."""

    @property
    def memory_samples(self) -> int:
        """Audio kept through silence: what the next utterance may look back at, and what shows its begin."""
        onset = self.segmenter.onset_chunks * CHUNK_SAMPLES + self.segmenter.pre_roll_samples
        window = self.window
        return max(window.carry_samples, window.look_back_samples) + window.lead_samples + onset


FloatArray = NDArray[np.float32]
MarkName = Literal["finalize", "silence", "pause", "stop", "update"]


@dataclass(frozen=True, slots=True)
class Committed:
    """Words were appended to the transcript."""

    words: tuple[Word, ...]
    utterance: int


@dataclass(frozen=True, slots=True)
class TailChanged:
    """The uncommitted tail is now this."""

    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class LanguageChanged:
    """What is said now is in another language than what was said before: `sample` is where that began."""

    language: str
    before: str
    sample: int


@dataclass(frozen=True, slots=True)
class VocabularyShortened:
    """Of `count` words to expect, at most `used` are expected at a time."""

    used: int
    count: int


@dataclass(frozen=True, slots=True)
class MarkReached:
    """Everything before it is committed; or, from an `update` on, something is different."""

    name: MarkName
    sample: int


Event = (
    SpeechStarted
    | SpeechEnded
    | Committed
    | TailChanged
    | Utterance
    | LanguageChanged
    | VocabularyShortened
    | MarkReached
)


@dataclass(slots=True)
class _Step:
    """The decode that the policy waits for."""

    request: DecodeRequest
    speech_end_sample: int
    full_window: bool = False
    is_full: bool = False
    """There was more to say than the decoder had room for."""
    asked: str | None = None
    """The language that it was to be decoded in whatever the session's is."""


DETECTOR_MEMORY_SAMPLES = samples(120.0)
"""What a detector has heard longer ago changes no judgement: after a minute one of 10,000 is another one."""
CUT_OFF_SAMPLES = samples(0.1)
"""Where the sound stops so soon after speech, the speech has not ended."""
UNHEARD_SAMPLES = samples(2.0)
"""So much speech behind the forced words is not left without any of its own."""
MOST_HEARD = 24
"""So many words of the tail tell which of a long list are expected: it is long where nothing is sure."""
MAX_REFUSALS = 2
"""A hypothesis that drops half of what was shown is refused so many times in a row."""


class StreamingPolicy:
    """Decide for one session what to decode and what to commit."""

    def __init__(
        self,
        options: StreamingPolicyOptions | None = None,
        *,
        language: str | None = None,
        languages: Sequence[str] = (),
        task: str = "transcribe",
        vocabulary: Sequence[str] = (),
    ) -> None:
        self.options = options or StreamingPolicyOptions()
        self._vote = LanguageVote(language, languages)
        self._words_language: str | None = None
        """The language of the last committed words; None where that is not known."""
        self._language_heard: str | None = None
        """That of the last hypothesis."""
        self.step_samples = self.options.window.step_samples
        """New audio between two decodes; may be changed at any time, to spare a loaded recogniser."""
        self.overloaded = False
        """The recogniser cannot follow: steps may be skipped. A recorded file is better served by waiting."""
        self.relief = NO_RELIEF
        """What else is left out, to spare it."""
        self.horizon_sample: int | None = None
        """No audio beyond it is considered; None: all that there is."""
        self._task = task
        self._vocabulary = tuple(vocabulary)
        self._room = MOST_EXPECTED
        """For so many words to expect there is room at once, as far as is known."""
        self._expectations: Expectations | None = None
        """They, where they are too many."""
        self._buffer = AudioBuffer()
        self._segmenter = Segmenter(self.options.segmenter)
        self._speech = SpeechTrack()
        self._window = RollingWindow(self.options.window)
        self._agreement = self._new_agreement()
        self._probabilities: deque[float] = deque()
        self._judged_sample = 0
        self._consumed_sample = 0
        self._marks: deque[tuple[MarkName, int]] = deque()
        self._updates: deque[tuple[LanguageVote | None, tuple[str, ...] | None]] = deque()
        """What is to be in force from each mark of an `update` on; None for what stays as it is."""
        self._step: _Step | None = None
        self._step_issued = False
        self._resumed_step: tuple[Any, ...] | None = None
        """The one that another captioner waited for, until this one has heard as much."""
        self._ending = False
        self._end_event = SpeechEnded(0)
        self._understood_sample = 0
        self._utterance_start_sample = 0
        self._utterance_words: list[Word] = []
        self._utterance_index = 0
        self._refusals = 0
        self._held: tuple[Word, ...] | None = None
        """The words of an utterance that has ended and waits for the next one to tell its language."""
        self._pause_samples = 0
        """How much of the utterance lies between such a one and the next."""
        self._shown_tail = False
        self._events: list[Event] = []

    def restore(self, sample: int, words: Sequence[Word] = (), language: str | None = None) -> int:
        """Begin at `sample`, after `words` with their tokens; return the first sample to be handed in.

        `language` is theirs, where that was clear.
        """
        self._vote.find(language)
        self._words_language = language
        chunk_sample = sample // CHUNK_SAMPLES * CHUNK_SAMPLES
        self._window.restore(sample, words)
        self._segmenter.restore(chunk_sample, sample)
        self._speech = SpeechTrack(chunk_sample)
        self._judged_sample = self._consumed_sample = chunk_sample
        self._buffer = AudioBuffer(min(self._window.kept_from_sample, chunk_sample))
        return self._buffer.start_sample

    def course(self) -> Course:
        """Return where it is, for `resume`: all that depends on what was heard, but for the words it carries.

        What it was asked for and has not come to (`mark`, `update`) is not in it.
        """
        step = self._step
        return Course(
            consumed_sample=self._consumed_sample,
            step=None
            if step is None
            else (step.request.end_sample, step.asked, step.request.final, step.full_window),
            utterance=(
                self._utterance_start_sample,
                self._utterance_index,
                self._understood_sample,
                self._ending,
                self._end_event.end_sample,
                self._refusals,
                self._pause_samples,
                self._shown_tail,
                self._words_language,
                self._language_heard,
            ),
            segmenter=self._segmenter.state(),
            window=self._window.state(),
            vote=self._vote.state(),
            hypotheses=self._agreement.hypotheses,
            begun=tuple(self._utterance_words[:1]),
            held=self._held,
        )

    def resume(self, course: Course, words: Sequence[Word]) -> int:
        """Go on where another captioner of this session was; return the first sample to be handed in.

        `words` are those it carried. It says and wants from here on what the other one would have: speech is
        judged once more from `DETECTOR_MEMORY_SAMPLES` before, so that the detector knows as much.
        """
        self._window.resume(course.window, words)
        self._segmenter.resume(course.segmenter)
        self._vote.resume(course.vote)
        self._agreement.resume(course.hypotheses)
        self._held = course.held
        self._utterance_start_sample, self._utterance_index, *others = course.utterance
        self._understood_sample, self._ending, end_sample, *others = others
        self._refusals, self._pause_samples, self._shown_tail, *others = others
        self._words_language, self._language_heard = others
        self._end_event = SpeechEnded(end_sample)
        if course.begun:  # of the words between it and those that are carried, nothing is asked any more
            first = course.begun[0]
            later = [word for word in words if word.start_sample > first.start_sample]
            self._utterance_words = [first, *later]
        self._consumed_sample = course.consumed_sample
        self._resumed_step = course.step
        start_sample = min(self._window.kept_from_sample, self._consumed_sample - DETECTOR_MEMORY_SAMPLES)
        start_sample = max(0, start_sample) // CHUNK_SAMPLES * CHUNK_SAMPLES
        self._judged_sample = start_sample
        self._speech = SpeechTrack(start_sample)
        self._buffer = AudioBuffer(start_sample)
        return start_sample

    # What arrives ----------------------------------------------------------------------------------

    def receive_audio(self, audio: FloatArray) -> None:
        """Take audio, shape (n,), 16 kHz mono in -1 … 1, any n."""
        self._buffer.append(audio)

    def receive_probabilities(self, probabilities: Iterable[float]) -> None:
        """Take the answer to `unjudged()`: the probability of speech of each chunk, in order."""
        judged = [float(probability) for probability in probabilities]
        known = max(0, self._consumed_sample - self._judged_sample) // CHUNK_SAMPLES
        self._judged_sample += len(judged) * CHUNK_SAMPLES
        self._speech.extend(judged[:known])  # as another captioner has heard already
        self._probabilities.extend(judged[known:])
        self._advance()

    def receive_hypothesis(self, hypothesis: Hypothesis) -> None:
        """Take the answer to `decode()`. Raises RuntimeError when none was asked for."""
        step = self._answered()
        room = hypothesis.vocabulary_count
        if room is not None and step.request.vocabulary == self._vocabulary and room < len(self._vocabulary):
            self._room = room
        self._judge_language(hypothesis, step)
        if self._is_foreign(hypothesis, step):
            if self._words_language not in (None, self._vote.likely):
                self._start_over()
            self._want_step(
                step.request.end_sample,
                language=self._vote.likely,
                final=step.request.final,
                full_window=step.full_window,
            )
            return
        self._language_heard = hypothesis.language
        step.is_full = self._is_full(hypothesis, step)
        if step.is_full:  # the last word may be half a one
            hypothesis = replace(hypothesis, words=hypothesis.words[:-1])
        words = self._guarded(hypothesis, step)
        if words is not None and drops_what_was_shown(words, self._agreement.tail):
            self._refusals += 1
            if step.request.final or self._refusals <= MAX_REFUSALS:
                words = None
        if words is None:
            self._retry_or_skip(step)
        else:
            self._refusals = 0
            self._understood_sample = step.request.end_sample
            self._take(words, step)
        self._advance()

    def receive_failure(self) -> None:
        """Learn that the recogniser could not do what `decode()` asked for; go on without it."""
        step = self._answered()
        step.full_window = True
        self._retry_or_skip(step)
        self._advance()

    def advance_to(self, sample: int) -> None:
        """Consider audio up to this sample, and none beyond it."""
        self.horizon_sample = sample
        self._advance()

    def mark(self, name: Literal["finalize", "silence", "pause", "stop"]) -> None:
        """Ask for everything received so far to be committed; `MarkReached` tells when it is."""
        self._mark(name)

    def update(
        self,
        language: LanguageVote | None = None,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        """Go on in another way behind the audio received so far; None stays as it is.

        `MarkReached` tells when that is so. What is not committed by then is decoded again.
        """
        self._updates.append((language, None if vocabulary is None else tuple(vocabulary)))
        self._mark("update")

    def _mark(self, name: MarkName) -> None:
        self._marks.append((name, self._buffer.end_sample))
        self._advance()

    # What is wanted --------------------------------------------------------------------------------

    def unjudged(self, most_samples: int = samples(4.0)) -> FloatArray | None:
        """Return the audio whose probability of speech is wanted next, whole 32 ms chunks; None if none is.

        The same audio is returned until `receive_probabilities` has answered for it.
        """
        count = min(self._buffer.end_sample - self._judged_sample, most_samples) // CHUNK_SAMPLES
        if count <= 0:
            return None
        return self._buffer.slice(self._judged_sample, self._judged_sample + count * CHUNK_SAMPLES)

    @property
    def has_unjudged(self) -> bool:
        """Whether `unjudged()` returns anything."""
        return self._buffer.end_sample - self._judged_sample >= CHUNK_SAMPLES

    @property
    def wants_decode(self) -> bool:
        """Whether `decode()` returns anything."""
        return self._step is not None and not self._step_issued

    def decode(self) -> tuple[DecodeRequest, FloatArray] | None:
        """Return the window that is wanted next, with its audio, once; None if none is."""
        if self._step is None or self._step_issued:
            return None
        self._step_issued = True
        request = self._step.request
        return request, self._buffer.slice(request.start_sample, request.end_sample)

    def newest(self) -> tuple[DecodeRequest, FloatArray] | None:
        """Return what to decode instead of the window that `decode()` returned, if nobody has begun with it.

        That is the same one, but where this session is overloaded and behind: then steps are skipped, as they
        are wherever it is behind when an answer comes. None where nothing is wanted any more. Raises
        RuntimeError when no decode was asked for.
        """
        step = self._answered()
        is_plain = (
            not (step.request.final or step.full_window) and step.request.language == self._vote.language
        )
        if is_plain and self._may_skip():
            self._window.postpone(self._consumed_sample, self.step_samples)
            self._advance()
        else:
            self._step = step
        self._step_issued = False
        return self.decode()

    def events(self) -> list[Event]:
        """Return what has happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    @property
    def is_waiting(self) -> bool:
        """Whether a decode is wanted, asked for or not."""
        return self._step is not None

    @property
    def language(self) -> str | None:
        """The language of what was said last, or that is most likely spoken; None until anything is."""
        return self._words_language or self._vote.likely

    @property
    def received_sample(self) -> int:
        """One past the last sample received."""
        return self._buffer.end_sample

    @property
    def consumed_sample(self) -> int:
        """One past the last sample considered."""
        return self._consumed_sample

    @property
    def settled_sample(self) -> int:
        """Everything before this is committed, or was no speech."""
        if self._segmenter.in_speech or self._ending:
            given_up = self._window.start_sample
            return max(self._utterance_start_sample, self._window.committed_end_sample, given_up)
        return self._consumed_sample

    @property
    def safe_sample(self) -> int:
        """Where another captioner could take this session up: nothing before it is to be heard again."""
        if self._segmenter.in_speech or self._ending:
            return self.settled_sample
        return max(self._segmenter.safe_sample, self._window.committed_end_sample)

    @property
    def carried(self) -> tuple[Word, ...]:
        """The last committed words, with their tokens."""
        return tuple(self._window.carried)

    @property
    def sure_language(self) -> str | None:
        """The language that was given, or found beyond doubt."""
        return self._vote.language

    @property
    def kept_samples(self) -> int:
        """Audio held in memory; bounded, as long as what is wanted is answered."""
        return len(self._buffer)

    @property
    def backlog_samples(self) -> int:
        """Audio that has been received and not yet consumed."""
        return self._buffer.end_sample - min(self._consumed_sample, self._judged_sample)

    # The policy ------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Consume chunks until a decode is wanted, or there are none left."""
        if self._judged_sample < self._consumed_sample:  # it was resumed, and has not come to where it is yet
            if self.has_unjudged or not self._marks:
                self._discard()
                return
            self._do_without_audio()
        if self._resumed_step is not None:
            (end_sample, language, final, full_window), self._resumed_step = self._resumed_step, None
            self._want_step(end_sample, language=language, final=final, full_window=full_window)
        while self._step is None:
            if self._marks and self._consumed_sample + CHUNK_SAMPLES > self._marks[0][1]:
                self._pass_mark()
            elif self._probabilities and not self._is_at_horizon:
                self._consume(self._probabilities.popleft())
            else:
                break
        self._discard()

    def _discard(self) -> None:
        """Forget audio that nobody asks for again."""
        keep = self._window.kept_from_sample
        if not (self._segmenter.in_speech or self._ending):
            keep = max(keep, self._consumed_sample - self.options.memory_samples)
        self._buffer.discard_before(min(keep, self._judged_sample, self._consumed_sample))
        self._speech.discard_before(self._buffer.start_sample)

    def _do_without_audio(self) -> None:
        """End the utterance, if one is open, with what another captioner made of audio that is not there."""
        self._resumed_step = None
        if self._segmenter.in_speech:
            self._ending, self._end_event = True, self._segmenter.end()
        if self._ending:
            self._finish(self._agreement.tail)

    @property
    def _is_at_horizon(self) -> bool:
        return self.horizon_sample is not None and self._consumed_sample >= self.horizon_sample

    def _consume(self, probability: float) -> None:
        self._consumed_sample += CHUNK_SAMPLES
        self._speech.extend((probability,))
        event = self._segmenter.push(probability)
        if isinstance(event, SpeechStarted) and self._held is not None:
            self._go_on(event)
        elif isinstance(event, SpeechStarted):
            self._open(event)
        elif isinstance(event, SpeechEnded):
            self._begin_end(event)
        elif self._held is not None:
            if self._consumed_sample - self._segmenter.speech_end_sample >= self.options.longest_hold_samples:
                self._release()
        elif self._segmenter.in_speech and self._window.due(
            self._consumed_sample, self._segmenter.speech_end_sample
        ):
            if self._may_skip():
                self._window.postpone(self._consumed_sample, self.step_samples)
            else:
                self._want_step(self._consumed_sample)

    def _may_skip(self) -> bool:
        behind = self._judged_sample - self._consumed_sample
        grown = self._consumed_sample + self.step_samples - self._window.start_sample
        return (
            self.overloaded
            and behind >= (self.step_samples if self.relief.agreement else self.options.skip_behind_samples)
            and grown <= self.options.longest_skip_samples
        )

    def _pass_mark(self) -> None:
        """Come to a mark; unless it is an `update`, end the utterance there first, if one is open."""
        name, sample = self._marks[0]
        if self._held is not None:
            self._release()
        if name == "update":
            self._update(*self._updates.popleft())
        elif self._segmenter.in_speech:
            self._begin_end(self._segmenter.end())
            return
        self._marks.popleft()
        self._events.append(MarkReached(name, sample))

    def _update(self, vote: LanguageVote | None, vocabulary: tuple[str, ...] | None) -> None:
        if vocabulary is not None:
            self._vocabulary, self._room, self._expectations = vocabulary, MOST_EXPECTED, None
        if vote is not None:
            if self._vote.given is None:
                vote.find(self._vote.language)
            self._vote = vote
            if vote.language not in (None, self._words_language):
                self._start_over()

    def _open(self, event: SpeechStarted) -> None:
        self._events.append(event)
        self._vote.begin_utterance()
        self._agreement = self._new_agreement()
        self._window.open(event.start_sample)
        if self.relief.first_words:
            first = self.options.window.first_step_samples + self.step_samples
            self._window.postpone(event.start_sample, first)
        self._utterance_start_sample = event.start_sample
        self._understood_sample = event.start_sample
        self._utterance_words = []
        self._pause_samples = 0

    def _go_on(self, event: SpeechStarted) -> None:
        """Take what begins for a part of the utterance that is held."""
        self._events.append(event)
        self._held = None
        self._ending = False
        self._pause_samples += event.start_sample - self._end_event.end_sample
        self._window.postpone(event.start_sample, self.options.window.first_step_samples)

    def _begin_end(self, event: SpeechEnded) -> None:
        """End the utterance: with what is known if that is sure and everything, else after a last decode."""
        self._ending = True
        self._end_event = event
        heard_all = self._understood_sample >= self._segmenter.speech_end_sample + samples(0.02)
        is_sure = self._vote.language is not None and not self._vote.is_doubtful
        if heard_all and is_sure and not self._agreement.in_doubt:
            self._finish(self._agreement.tail)
        else:
            self._want_step(event.end_sample, final=True)

    def _want_step(
        self,
        end_sample: int,
        *,
        language: str | None = None,
        final: bool = False,
        full_window: bool = False,
    ) -> None:
        judged_from_sample = None
        speech_samples = self._spoken_samples(self._segmenter.speech_end_sample)
        if language is None and self._vote.wants_beliefs(speech_samples, final=final):
            judged_from_sample = max(self._utterance_start_sample, end_sample - LOOK_BACK_SAMPLES)
        request = self._window.request(
            end_sample,
            self._segmenter.speech_end_sample,
            language=language or self._vote.language,
            likely=self._vote.likely,
            doubted=self._agreement.in_doubt and not (self.overloaded or self.relief.look_back),
            final=final,
            full_window=full_window,
        )
        if not final:
            self._window.postpone(end_sample, self.step_samples)
        request = replace(
            request,
            languages=self._vote.choice,
            judged_from_sample=judged_from_sample,
            task=self._task,
            vocabulary=self._expected(),
        )
        self._step = _Step(request, self._segmenter.speech_end_sample, full_window, asked=language)
        self._step_issued = False

    def _answered(self) -> _Step:
        if self._step is None or not self._step_issued:
            raise RuntimeError("no decode was asked for")
        step, self._step = self._step, None
        return step

    def _expected(self) -> tuple[str, ...]:
        """Return the words to expect in a window: of a long list those that look like what was heard last."""
        if len(self._vocabulary) <= self._room:
            return self._vocabulary
        if self._expectations is None:
            self._expectations = Expectations(self._vocabulary)
            self._events.append(VocabularyShortened(self._room, len(self._vocabulary)))
        return self._expectations.resembling([word.text for word in self._agreement.tail[-MOST_HEARD:]])

    def _judge_language(self, hypothesis: Hypothesis, step: _Step) -> None:
        """Count what a hypothesis tells of the language, where it is of words that somebody said."""
        beliefs = hypothesis.language_beliefs
        if not beliefs and step.request.language is None and hypothesis.language is not None:
            beliefs = ((hypothesis.language, hypothesis.language_probability),)
        speech_samples = self._spoken_samples(step.speech_end_sample)
        if not hypothesis.words or is_noise(hypothesis, speech_samples, final=False):
            return
        before = self._vote.language
        if self._vote.add(beliefs, speech_samples) and before is not None:
            sample = max(self._utterance_start_sample, self._window.committed_end_sample)
            self._events.append(LanguageChanged(self._vote.likely or before, before, sample))

    def _spoken_samples(self, speech_end_sample: int) -> int:
        return speech_end_sample - self._utterance_start_sample - self._pause_samples

    def _is_foreign(self, hypothesis: Hypothesis, step: _Step) -> bool:
        """Tell whether a hypothesis is in another language than the session turns out to speak.

        Or behind words that were: those force theirs on what follows.
        """
        if not hypothesis.words or hypothesis.language is None:
            return False
        if hypothesis.language != self._vote.likely:
            return step.request.final or self._vote.language is not None
        return bool(self._window.told) and self._words_language not in (None, hypothesis.language)

    def _start_over(self) -> None:
        """Go on behind the last committed word as if nothing had been heard: it was in another language."""
        self._close_utterance()
        self._window.cut(self._utterance_start_sample)
        self._agreement = self._new_agreement()
        self._refusals = 0
        self._utterance_start_sample = max(self._utterance_start_sample, self._window.committed_end_sample)
        self._understood_sample = self._utterance_start_sample
        self._words_language = None

    def _guarded(self, hypothesis: Hypothesis, step: _Step) -> tuple[Word, ...] | None:
        """Return what can be believed of a hypothesis; None when it is of no use at all."""
        speech_samples = step.speech_end_sample - self._utterance_start_sample
        if is_noise(hypothesis, speech_samples, final=step.request.final):
            return ()
        knows_language = self._vote.language is not None and not self._vote.is_doubtful
        if is_guess(hypothesis) and knows_language:  # else it may be speech in another one
            return ()
        told, end_sample = self._window.told, step.request.end_sample
        heard = without_stammer(without_marks(hypothesis.words), self._speech)
        since_sample = told[-1].end_sample if told else 0
        written = clamped(heard, self._speech, since_sample, copied(heard, told))
        words = without_loops(written, told, self._speech)
        shortened = up_to_copies(words, told)
        if is_unplaced(written):
            # Behind the full window nothing is left to try: the first copies are the best there is.
            words = shortened or words
            if not step.full_window or is_unplaced(words):
                return None
        # In the full window nothing runs away but loops: there a capped hypothesis is just a long one. So is
        # one of more than the decoder has room for.
        elif hypothesis.capped and not step.full_window and not step.is_full:
            looped = len(words) < len(written)
            # At the end no further hypothesis brings back what is left out here: it is decoded once more.
            usable = looped and shortened is None if step.request.final else looped or shortened is not None
            if not usable:
                return None
            words = shortened or words
        words = drop_after_speech(words, step.speech_end_sample, end_sample)
        words = drop_echo(drop_squeezed(words, self._speech), told, self._speech)
        return in_order(words, self._window.committed_end_sample, end_sample)

    def _is_full(self, hypothesis: Hypothesis, step: _Step) -> bool:
        """Tell whether there was more to say than the decoder has room for: what it wrote is sound."""
        is_long = step.request.max_new_tokens >= self.options.window.most_tokens
        return len(hypothesis.words) > 1 and hypothesis.capped and (is_long or hypothesis.out_of_room)

    def _take(self, words: tuple[Word, ...], step: _Step) -> None:
        goes_on = bool(words) and words[-1].end_sample > self._window.committed_end_sample
        if step.request.final and step.is_full and goes_on:  # the rest of it comes with another decode
            self._commit(words, step.request.end_sample)
            self._agreement = self._new_agreement()
            self._want_step(step.request.end_sample, final=True, full_window=step.full_window)
            return
        if self._hears_nothing(words, step):
            self._window.cut(self._window.committed_end_sample)
            self._agreement = self._new_agreement()
            self._want_step(step.request.end_sample, final=step.request.final)
            return
        if step.request.final:
            self._finish(words)
            return
        end_sample = step.request.end_sample
        # Nothing is committed while the language is not clear: it would stay in the wrong one.
        is_clear = self._vote.language is not None and not self._vote.is_doubtful
        agreed_until = end_sample if is_clear else 0
        held = going_on(words, self._window.told)
        if held is not None:
            agreed_until = min(agreed_until, held + self.options.edge_guard_samples)
        sure_until = agreed_until - SURE_EDGE_SAMPLES if self.relief.agreement else 0
        self._commit(self._agreement.receive(words, agreed_until, sure_until=sure_until), end_sample)
        self._unstick(end_sample)
        self._show(self._agreement.tail)

    def _hears_nothing(self, words: tuple[Word, ...], step: _Step) -> bool:
        """Tell whether speech goes on behind the forced words and the decoder takes them for its end.

        Where what is forced is wrong, or was put behind what it says, nothing seems to follow, however much
        is said. Heard without them, it does.
        """
        end_sample, committed = step.request.end_sample, self._window.committed_end_sample
        spoken = self._speech.samples_within(committed, end_sample) if self._window.told else 0
        return not words and spoken >= UNHEARD_SAMPLES

    def _retry_or_skip(self, step: _Step) -> None:
        """A hypothesis was of no use: skip the step, or do a last decode again in the full window."""
        if not step.request.final:
            self._unstick(step.request.end_sample)
        elif step.full_window:
            self._finish(self._agreement.tail)
        else:
            self._want_step(step.request.end_sample, final=True, full_window=True)

    def _unstick(self, end_sample: int) -> None:
        """Bound the window where nothing can be agreed upon."""
        if not self._window.is_stuck(end_sample):
            return
        self._commit(self._agreement.take(end_sample - samples(1.0)), end_sample)
        if self._window.is_stuck(end_sample):
            self._agreement = self._new_agreement()
            self._window.cut(end_sample - samples(4.0))
        self._show(self._agreement.tail)

    def _commit(self, words: tuple[Word, ...], end_sample: int) -> None:
        if not words:
            return
        self._window.commit(words, end_sample)
        self._words_language = self._language_heard
        start = 0
        for index, word in enumerate(words, 1):
            self._utterance_words.append(word)
            if self._is_too_long(word):
                self._events.append(Committed(words[start:index], self._utterance_index))
                self._close_utterance()
                start = index
        if start < len(words):
            self._events.append(Committed(words[start:], self._utterance_index))

    def _is_too_long(self, word: Word) -> bool:
        longest = self.options.longest_utterance_samples
        length = word.end_sample - self._utterance_words[0].start_sample
        return length > longest * 1.5 or (length > longest and ends_sentence(word.text))

    def _finish(self, words: tuple[Word, ...]) -> None:
        """Commit these last words and close the utterance, unless the next is to tell their language."""
        is_short = self._end_event.end_sample - self._window.start_sample < self.options.longest_held_samples
        if words and self._vote.is_blind and is_short:
            self._show(words)
            self._events.append(self._end_event)
            self._held = words
            return
        self._conclude(words)
        self._events.append(self._end_event)

    def _release(self) -> None:
        """Wait no longer for what tells the language of an utterance."""
        words, self._held = self._held or (), None
        self._conclude(words)

    def _conclude(self, words: tuple[Word, ...]) -> None:
        words = self._agreement.conclude(words)
        self._commit(going_on_later(words) if self._is_cut_off else words, self._end_event.end_sample)
        self._show(())
        self._close_utterance()
        self._ending = False

    @property
    def _is_cut_off(self) -> bool:
        """Whether the utterance ends because no more audio came, in the midst of speech."""
        if not self._marks:
            return False
        name, sample = self._marks[0]
        return name == "silence" and sample - self._segmenter.speech_end_sample < CUT_OFF_SAMPLES

    def _close_utterance(self) -> None:
        if not self._utterance_words:
            return
        words = tuple(self._utterance_words)
        self._events.append(
            Utterance(
                index=self._utterance_index,
                start_sample=words[0].start_sample,
                end_sample=words[-1].end_sample,
                words=words,
                language=self.language,
            )
        )
        self._utterance_index += 1
        self._utterance_words = []

    def _show(self, words: tuple[Word, ...]) -> None:
        if words or self._shown_tail:
            self._events.append(TailChanged(words))
        self._shown_tail = bool(words)

    def _new_agreement(self) -> LocalAgreement:
        return LocalAgreement(
            depth=self.options.agreement_depth,
            guard_samples=self.options.edge_guard_samples,
            doubt=self.options.doubt_probability,
        )
