"""From settings and models to the streaming policy."""

from __future__ import annotations

from live_asr.config import Settings
from live_asr.core.caption_options import CaptionOptions
from live_asr.core.segmenter import SegmenterOptions
from live_asr.core.snapshot import Models
from live_asr.core.types import samples
from live_asr.core.voices import SpeakerOptions
from live_asr.core.window import WindowOptions
from live_asr.inference.channel import Loaded


def caption_options(settings: Settings) -> CaptionOptions:
    """Return the streaming policy that the settings describe."""
    streaming = settings.streaming
    return CaptionOptions(
        segmenter=SegmenterOptions(
            on_probability=streaming.vad_threshold,
            # Hysteresis: what goes on may be less clear than what begins.
            off_probability=max(0.01, streaming.vad_threshold - 0.15),
            end_silence_samples=samples(streaming.end_silence),
        ),
        window=WindowOptions(
            first_step_samples=samples(streaming.first_step),
            step_samples=samples(streaming.step),
            trim_above_samples=samples(streaming.window),
            carry_samples=samples(streaming.carry),
        ),
        doubt_probability=streaming.doubt,
        edge_guard_samples=samples(streaming.edge_guard),
        longest_utterance_samples=samples(streaming.max_utterance),
    )


def models_of(loaded: Loaded | None) -> Models:
    """Return the names of the models whose work a snapshot holds."""
    return Models() if loaded is None else Models(loaded.recognizer.name, loaded.speaker_encoder_name)


def speaker_options_of(loaded: Loaded | None) -> SpeakerOptions | None:
    """Return how speakers are told apart; None where nothing loaded can."""
    indifference = None if loaded is None else loaded.voice_indifference
    return None if indifference is None else SpeakerOptions.of_encoder(indifference)
