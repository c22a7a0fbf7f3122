"""RollingWindow: when to decode, which samples, with which prefix, where to trim.

One rule decides how faithful short windows are: an utterance must not start a fresh one. The window
carries up to 5 s of earlier audio with it, and the words already committed in there are forced on the
decoder, so that it neither starts cold nor says them again. It is only ever cut at the start of a
committed word. Two kinds of decodes look further back: the last one of an utterance, which is the last
chance to mend its words, and one that follows on doubt: more context, and another one, settles it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from live_asr.core.types import DecodeRequest, Word, samples

DENSE = frozenset(["am", "as", "bn", "bo", "gu", "ka", "km", "kn", "lo", "ml", "my", "pa", "si", "te"])
"""Languages in whose scripts a letter takes two or three tokens."""


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """The constants of the recipe (docs/decisions); all lengths in samples at 16 kHz."""

    first_step_samples: int = samples(0.8)
    """First decode, counted from the start of the utterance's audio."""
    step_samples: int = samples(0.7)
    """New audio between two decodes."""
    resume_step_samples: int = samples(0.2)
    """First decode after a pause within an utterance."""
    trim_above_samples: int = samples(7.0)
    """A longer window is trimmed once something was committed."""
    keep_committed_samples: int = samples(2.0)
    """Committed audio that stays in front after a trim."""
    carry_samples: int = samples(5.0)
    """Earlier audio taken along into an utterance."""
    carry_gap_samples: int = samples(3.0)
    """A longer pause carries nothing: its words have become another context."""
    look_back_samples: int = samples(15.0)
    """Audio that the last decode of an utterance sees, words committed in it forced, or the window where that
    is longer."""
    doubt_look_back_samples: int = samples(11.0)
    """The same for a step that follows on doubt; no more than the last decode's."""
    look_back_tokens: int = 120
    """They look back at no more than so many forced tokens: the decoder's other room is for new ones."""
    lead_samples: int = samples(0.02)
    """The window starts so much before its first word."""
    min_window_samples: int = samples(10.0)
    """Shorter windows run away."""
    padding_samples: int = samples(2.0)
    """Zeros behind the audio: without them the decoder does not find the end."""
    longest_samples: int = samples(16.0)
    """A window in which nothing can be committed is cut by force."""
    english_tokens_per_second: float = 6.0
    """Cap on the new tokens, by new audio, in English."""
    tokens_per_second: float = 20.0
    """The same in other languages: Hindi takes three times as many tokens for what is said in a second."""
    dense_tokens_per_second: float = 45.0
    """The same in the densest: Malayalam, Burmese or Georgian take 30 to 40."""
    most_tokens: int = 200
    """Cap on the new tokens, whatever the audio: the decoder has no room for more."""
    spare_tokens: int = 10
    """Cap on the new tokens, on top."""


class RollingWindow:
    """The stretch of audio that is decoded again at each step."""

    def __init__(self, options: WindowOptions | None = None) -> None:
        self._options = options or WindowOptions()
        self._committed: deque[Word] = deque()
        self._before: deque[Word] = deque()
        """Committed words that have left the window, and that a decode may still look back at."""
        self._horizon_sample = 0
        """No decode looks back further than this, wherever the aligner puts a word."""
        self.told: Sequence[Word] = ()
        """The committed words that were forced in the last request, oldest first."""
        self.start_sample = 0
        """First sample of the window."""
        self.next_step_sample = 0
        """The next step is due once so much audio was heard."""
        self.heard_sample = 0
        """One past the last sample of the last decode."""
        self.committed_end_sample = 0
        """End of the last committed word, inside the window or not; 0 before the first."""
        self._waiting_for_speech = False
        self._is_dense = False
        """Whether a second of what is spoken takes many tokens."""

    def restore(self, sample: int, words: Sequence[Word] = ()) -> None:
        """Begin at `sample`; `words` are the last ones committed before it, and are still to be forced."""
        self._committed = deque(words)
        self.committed_end_sample = sample
        self.start_sample = words[0].start_sample - self._options.lead_samples if words else sample
        self.start_sample = max(0, self.start_sample)
        self._forget_before()

    def state(self) -> tuple[Any, ...]:
        """Return all that it knows beside the words that it carries, for `resume`."""
        return (
            len(self._before),
            self._horizon_sample,
            self.start_sample,
            self.next_step_sample,
            self.heard_sample,
            self.committed_end_sample,
            self._waiting_for_speech,
            self._is_dense,
        )

    def resume(self, state: Sequence[Any], carried: Sequence[Word]) -> None:
        """Be where another one was."""
        before_count, self._horizon_sample, self.start_sample, self.next_step_sample, *others = state
        self.heard_sample, self.committed_end_sample, self._waiting_for_speech, self._is_dense = others
        self._before, self._committed = deque(carried[:before_count]), deque(carried[before_count:])

    def open(self, start_sample: int) -> None:
        """Begin an utterance whose audio starts at `start_sample`, carrying what lies close before it."""
        options = self._options
        # A session that was taken up after a pause has last heard a word before that pause.
        heard_until = self.carried[-1].end_sample if self.carried else self.committed_end_sample
        if start_sample - heard_until > options.carry_gap_samples:
            self._committed.clear()
            self._before.clear()
        while self._committed and self._committed[0].start_sample < start_sample - options.carry_samples:
            self._before.append(self._committed.popleft())
        self._bound_tokens()
        first = self._committed[0].start_sample - options.lead_samples if self._committed else start_sample
        # Never back: what the window has left behind it has heard often enough.
        self.start_sample = max(self.start_sample, min(start_sample, first))
        if not self._before:
            self._horizon_sample = self.start_sample
        self.heard_sample = start_sample
        self.next_step_sample = start_sample + options.first_step_samples
        self._waiting_for_speech = False

    def due(self, now_sample: int, speech_end_sample: int) -> bool:
        """Tell whether to decode now, given where the last speech was.

        A step without new speech is postponed until speech resumes.
        """
        if now_sample < self.next_step_sample:
            return False
        if speech_end_sample <= self.heard_sample:
            self._waiting_for_speech = True
            return False
        if self._waiting_for_speech:
            self._waiting_for_speech = False
            self.next_step_sample = now_sample + self._options.resume_step_samples
            return False
        return True

    def postpone(self, now_sample: int, step_samples: int | None = None) -> None:
        """Set the next step, counted from `now_sample`."""
        self.next_step_sample = now_sample + (step_samples or self._options.step_samples)

    def request(
        self,
        end_sample: int,
        speech_end_sample: int,
        *,
        language: str | None = None,
        likely: str | None = None,
        doubted: bool = False,
        final: bool = False,
        full_window: bool = False,
    ) -> DecodeRequest:
        """Describe the decode of everything up to `end_sample`; `doubted` is what is to be heard again.

        `likely` is the language that is probably spoken where none is to be asked for.
        """
        options = self._options
        self.heard_sample = end_sample
        look_back = options.doubt_look_back_samples if doubted else 0
        if final:
            look_back = options.look_back_samples
        earlier = self._looked_back(end_sample - look_back) if not full_window else ()
        start_sample = self._start_at(earlier[0]) if earlier else self.start_sample
        self.told = (*earlier, *self._committed)
        prefix = tuple(token for word in self.told for token in word.tokens)
        new_from = max(self.start_sample, self.committed_end_sample)
        new_samples = max(0, min(end_sample, speech_end_sample + samples(0.2)) - new_from)
        self._is_dense = (language or likely) in DENSE
        rate = options.english_tokens_per_second if language == "en" else options.tokens_per_second
        if self._is_dense:
            rate = options.dense_tokens_per_second
        cap = min(int(rate * new_samples / samples(1.0)) + options.spare_tokens, options.most_tokens)
        return DecodeRequest(
            start_sample=start_sample,
            end_sample=end_sample,
            prefix=prefix,
            max_new_tokens=cap,
            min_window_samples=samples(30.0) if full_window else options.min_window_samples,
            padding_samples=options.padding_samples,
            language=language,
            new_speech_samples=max(0, min(end_sample, speech_end_sample) - new_from),
            final=final,
        )

    @property
    def committed(self) -> Sequence[Word]:
        """The committed words inside the window, oldest first."""
        return tuple(self._committed)

    @property
    def carried(self) -> Sequence[Word]:
        """The committed words that a decode may still be told, oldest first."""
        return (*self._before, *self._committed)

    @property
    def kept_from_sample(self) -> int:
        """Nothing before this is needed again."""
        return self._start_at(self._before[0]) if self._before else self.start_sample

    def commit(self, words: Sequence[Word], end_sample: int) -> None:
        """Take note of newly committed words, and trim what the window no longer needs."""
        if not words:
            return
        self._committed.extend(words)
        self.committed_end_sample = words[-1].end_sample
        options = self._options
        while (
            self._before
            and self._before[0].start_sample < self.committed_end_sample - options.look_back_samples
        ):
            self._before.popleft()
        if not self._before:
            self._horizon_sample = self.start_sample  # what lies before the window is not kept any more
        is_short = end_sample - self.start_sample <= min(options.trim_above_samples, options.longest_samples)
        if is_short and self._told_tokens <= options.look_back_tokens:
            return
        keep_from = self.committed_end_sample - options.keep_committed_samples
        while not is_short and self._committed and self._committed[0].start_sample < keep_from:
            self._before.append(self._committed.popleft())
        self._bound_tokens()
        first = self._committed[0].start_sample if self._committed else words[-1].end_sample
        self.start_sample = max(self.start_sample, first - options.lead_samples)

    def is_stuck(self, end_sample: int) -> bool:
        """Tell whether the window has grown beyond its bound without a commit.

        Where a second takes many tokens, that is as much new audio as the decoder has room for.
        """
        options = self._options
        if self._is_dense:
            new_samples = end_sample - max(self.start_sample, self.committed_end_sample)
            if new_samples > samples(options.most_tokens / options.dense_tokens_per_second):
                return True
        return end_sample - self.start_sample > options.longest_samples

    def cut(self, start_sample: int) -> None:
        """Start the window at `start_sample` by force, without any committed word.

        It starts no earlier than the last committed word ends: that one is not to be heard again.
        """
        self._committed.clear()
        self.start_sample = max(self.start_sample, start_sample, self.committed_end_sample)
        self._forget_before()

    def _start_at(self, word: Word) -> int:
        """Return where a window starts whose first word is one from before this window."""
        start_sample = min(word.start_sample - self._options.lead_samples, self.start_sample)
        return max(self._horizon_sample, start_sample)

    def _forget_before(self) -> None:
        """Look back no further than this window from now on."""
        self._before.clear()
        self._horizon_sample = self.start_sample

    @property
    def _told_tokens(self) -> int:
        return sum(len(word.tokens) for word in self._committed)

    def _bound_tokens(self) -> None:
        """Keep no more committed words in the window than the decoder can be told beside new ones."""
        count = self._told_tokens
        while count > self._options.look_back_tokens:
            count -= len(self._committed[0].tokens)
            self._before.append(self._committed.popleft())

    def _looked_back(self, from_sample: int) -> Sequence[Word]:
        """Return the words before the window that a decode looks back at, none from before `from_sample`."""
        room = self._options.look_back_tokens - self._told_tokens
        earlier: deque[Word] = deque()
        for word in reversed(self._before):
            room -= len(word.tokens)
            if room < 0 or word.start_sample < from_sample:
                break
            earlier.appendleft(word)
        return earlier
