"""What tunes the streaming policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from live_asr.core.segmenter import CHUNK_SAMPLES, SegmenterOptions
from live_asr.core.types import samples
from live_asr.core.window import WindowOptions


@dataclass(frozen=True, slots=True)
class CaptionOptions:
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
