"""The nouns. Frozen, slotted, with the unit under every field.

Time in `core` is an integer: the index of a sample at 16 kHz, counted from the session's first sample.
Seconds appear only in what goes out on the wire and to files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

SAMPLE_RATE_HZ = 16_000
"""The one rate that everything behind the decoder runs at."""
CHUNK_SAMPLES = 512
"""Speech is judged in steps of 32 ms."""


def seconds(samples: int) -> float:
    """Convert a sample index or count to seconds, rounded to the wire's three decimals."""
    return round(samples / SAMPLE_RATE_HZ, 3)


def samples(duration: float) -> int:
    """Convert seconds to a whole number of samples."""
    return round(duration * SAMPLE_RATE_HZ)


SpeakerLabel = str
"""`S1`, `S2` … while the session is live; `SPEAKER_00` … after the full pass."""
NUMBERED_LABEL = re.compile(r"(S|SPEAKER_)(\d{1,4})")


def speaker_number(label: SpeakerLabel) -> int | None:
    """Return the number of a label, 0 for `S1` and for `SPEAKER_00`; None for one that has none."""
    found = NUMBERED_LABEL.fullmatch(label)
    if found is None:
        return None
    number = int(found[2])
    return max(0, number - 1) if found[1] == "S" else number


def as_built(value: Any) -> tuple[type, tuple[Any, ...]]:
    """Have a dataclass with slots pickled as a call that makes it, as its `__reduce__`.

    Left to itself it is taken apart and put together field by field, which costs more than all else that
    goes between the server and the processes that compute.
    """
    return type(value), tuple(getattr(value, name) for name in value.__slots__)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a hypothesis or of the transcript."""

    text: str
    """As decoded: a leading space where the language writes one, punctuation attached."""
    start_sample: int
    """First sample."""
    end_sample: int
    """One past the last sample."""
    probability: float
    """Mean probability of its tokens, 0 to 1."""
    tokens: tuple[int, ...] = ()
    """Token ids as decoded, so that the word can be forced on the decoder again."""
    speaker: SpeakerLabel | None = None
    """Who said it; None until known."""
    source: str | None = None
    """In a final result, where it comes from if not from the first reading: `live`, or `again` for one that
    was decoded once more."""

    __reduce__ = as_built


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What the recogniser makes of one window of audio, after the forced words."""

    words: tuple[Word, ...]
    """The new words, in order; the forced ones are not repeated."""
    end_sample: int
    """One past the last sample heard."""
    no_speech_probability: float = 0.0
    """The model's own belief that there is nothing to write, 0 to 1."""
    mean_log_probability: float = 0.0
    """Mean natural-log probability of the decoded tokens, at most 0."""
    capped: bool = False
    """The decoder was stopped by the token cap and had not ended by itself."""
    out_of_room: bool = False
    """It was stopped earlier than the cap wanted, for want of room in the decoder."""
    insisted: bool = False
    """The decoder's first answer was that nothing follows; it was asked again for at least one word."""
    language: str | None = None
    """The language decoded in, as the model detected it or as it was asked."""
    language_probability: float = 1.0
    """Belief in `language`, 0 to 1; 1 where it was asked for."""
    language_beliefs: tuple[tuple[str, float], ...] = ()
    """The likeliest languages of what the request wanted judged and how much each is believed in, 0 to 1, the
    likeliest first; empty where nothing was judged."""
    vocabulary_count: int | None = None
    """So many of the words to expect found room; None where that is not known."""

    __reduce__ = as_built


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One window of audio to recognise, and what the decoder is told beforehand."""

    start_sample: int
    """First sample of the window."""
    end_sample: int
    """One past the last sample of the window."""
    prefix: tuple[int, ...]
    """Token ids of the committed words inside the window: forced, and not repeated in the hypothesis."""
    max_new_tokens: int
    """The decoder is stopped after this many tokens beyond the prefix."""
    min_window_samples: int
    """The window is filled with zeros to at least this length (30 s is the model's full window)."""
    padding_samples: int
    """At least this many zeros follow the audio."""
    language: str | None = None
    """Code as Whisper spells it; None to detect."""
    languages: tuple[str, ...] = ()
    """Those to choose from when one is detected; empty for all that the model knows."""
    judged_from_sample: int | None = None
    """The language is judged by what is heard from here on, even where one is asked for; where this is None,
    it is detected from the whole window, and only if none is asked for."""
    task: str = "transcribe"
    """`transcribe`, or `translate` into English."""
    vocabulary: tuple[str, ...] = ()
    """Words to expect."""
    new_speech_samples: int = 0
    """How much of the window holds speech that is not in the prefix."""
    final: bool = False
    """The utterance has ended: somebody waits for this one."""
    timestamps: bool = False
    """Let the decoder write when its phrases begin and end: it leaves out less of a long window, and errs
    otherwise elsewhere."""

    __reduce__ = as_built


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech between two pauses, complete."""

    index: int
    """0, 1, 2 … in the session; `commit.utterance` refers to it."""
    start_sample: int
    """Start of its first word."""
    end_sample: int
    """End of its last word."""
    words: tuple[Word, ...]
    """Its words, in order."""
    speaker: SpeakerLabel | None = None
    """Who said it; None until known."""
    language: str | None = None
    """ISO 639-1 code as Whisper spells it."""

    @property
    def text(self) -> str:
        """Its words as one line, without the leading space."""
        return "".join(word.text for word in self.words).strip()


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of time in which somebody speaks. Turns of several speakers may overlap."""

    start_sample: int
    """First sample."""
    end_sample: int
    """One past the last sample."""
    speaker: SpeakerLabel
    """Who speaks."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the transcript as it is shown: one speaker, one stretch of time."""

    start_sample: int
    """First sample."""
    end_sample: int
    """One past the last sample."""
    words: tuple[Word, ...]
    """Its words, in order."""
    speaker: SpeakerLabel | None = None
    """Who said it; None where nobody knows."""

    @property
    def text(self) -> str:
        """Its words as one line, without the leading space."""
        return "".join(word.text for word in self.words).strip()
