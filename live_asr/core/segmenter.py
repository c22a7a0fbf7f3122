"""Speech probabilities in, utterances out: hysteresis, hangover, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from live_asr.core.types import CHUNK_SAMPLES, samples


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """When speech begins and ends."""

    on_probability: float = 0.5
    """A chunk at or above it may begin an utterance."""
    off_probability: float = 0.35
    """A chunk at or above it goes on with one."""
    onset_chunks: int = 2
    """So many chunks in a row begin an utterance; a single click does not."""
    pre_roll_samples: int = samples(0.3)
    """Audio taken along from before the first speech chunk: onsets are soft."""
    end_silence_samples: int = samples(0.5)
    """So much silence ends an utterance."""
    post_roll_samples: int = samples(0.3)
    """Audio taken along from after the last speech chunk."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """An utterance has begun."""

    start_sample: int
    """First sample of its audio, pre-roll included."""


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """An utterance is over."""

    end_sample: int
    """One past the last sample of its audio, post-roll included."""


class Segmenter:
    """Follow the probability of speech chunk by chunk and find where utterances begin and end."""

    def __init__(self, options: SegmenterOptions | None = None) -> None:
        self._options = options or SegmenterOptions()
        self._now_sample = 0
        self._onset_chunks = 0
        self._earliest_sample = 0
        self.in_speech = False
        self.speech_end_sample = 0
        """One past the last chunk that held speech."""

    def restore(self, now_sample: int, earliest_sample: int) -> None:
        """Begin at the chunk that starts at `now_sample`; no utterance starts before `earliest_sample`."""
        self._now_sample, self._earliest_sample = now_sample, earliest_sample

    def state(self) -> tuple[int, int, int, bool, int]:
        """Return all that it knows, for `resume`."""
        return (
            self._now_sample,
            self._onset_chunks,
            self._earliest_sample,
            self.in_speech,
            self.speech_end_sample,
        )

    def resume(self, state: Sequence[Any]) -> None:
        """Be where another one was."""
        now, onset, earliest, self.in_speech, self.speech_end_sample = state
        self._now_sample, self._onset_chunks, self._earliest_sample = now, onset, earliest

    @property
    def safe_sample(self) -> int:
        """No utterance that is yet to begin starts before it; outside of speech."""
        onset = self._options.onset_chunks * CHUNK_SAMPLES + self._options.pre_roll_samples
        return max(self._earliest_sample, self._now_sample - onset)

    def push(self, probability: float) -> SpeechStarted | SpeechEnded | None:
        """Take the next chunk's probability of speech, 0 to 1; say what it began or ended."""
        options = self._options
        chunk_start = self._now_sample
        self._now_sample += CHUNK_SAMPLES
        if not self.in_speech:
            self._onset_chunks = self._onset_chunks + 1 if probability >= options.on_probability else 0
            if self._onset_chunks < options.onset_chunks:
                return None
            first_chunk = chunk_start - (options.onset_chunks - 1) * CHUNK_SAMPLES
            self.in_speech = True
            self.speech_end_sample = self._now_sample
            return SpeechStarted(max(self._earliest_sample, first_chunk - options.pre_roll_samples))
        if probability >= options.off_probability:
            self.speech_end_sample = self._now_sample
        elif self._now_sample - self.speech_end_sample >= options.end_silence_samples:
            return self.end()
        return None

    def end(self) -> SpeechEnded:
        """End the utterance here, as silence would; the next one starts no earlier than its end."""
        end_sample = min(self._now_sample, self.speech_end_sample + self._options.post_roll_samples)
        self.in_speech = False
        self._onset_chunks = 0
        self._earliest_sample = end_sample
        return SpeechEnded(end_sample)
