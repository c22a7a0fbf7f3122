"""From settings and models to the streaming policy."""

from __future__ import annotations

from dataclasses import replace

from live_asr.config.settings import Settings
from live_asr.core.checkpoint import Models
from live_asr.core.messages import Start
from live_asr.core.segmenter import SegmenterOptions
from live_asr.core.speaker_clusters import SpeakerOptions
from live_asr.core.streaming_policy import StreamingPolicyOptions
from live_asr.core.types import samples
from live_asr.core.window import WindowOptions
from live_asr.inference.ipc import Loaded


def caption_options(settings: Settings) -> StreamingPolicyOptions:
    """Return the streaming policy that the settings describe."""
    streaming = settings.streaming
    return StreamingPolicyOptions(
        segmenter=SegmenterOptions(
            on_probability=streaming.vad_threshold,
            off_probability=_off_probability(streaming.vad_threshold),
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


def options_of(options: StreamingPolicyOptions, start: Start) -> StreamingPolicyOptions:
    """Return the server's policy as a session wants it."""
    segmenter = options.segmenter
    if start.end_silence is not None:
        segmenter = replace(segmenter, end_silence_samples=samples(start.end_silence))
    if start.vad_threshold is not None:
        threshold = start.vad_threshold
        segmenter = replace(segmenter, on_probability=threshold, off_probability=_off_probability(threshold))
    return options if segmenter is options.segmenter else replace(options, segmenter=segmenter)


def _off_probability(on_probability: float) -> float:
    """Return from where speech goes on: hysteresis, as what goes on may be less clear than what begins."""
    return max(0.01, on_probability - 0.15)


def models_of(loaded: Loaded | None) -> Models:
    """Return the names of the models whose work a checkpoint holds."""
    return Models() if loaded is None else Models(loaded.recognizer.name, loaded.speaker_encoder_name)


def speaker_options_of(loaded: Loaded | None) -> SpeakerOptions | None:
    """Return how speakers are told apart; None where nothing loaded can."""
    equal_error_distance = None if loaded is None else loaded.equal_error_distance
    return None if equal_error_distance is None else SpeakerOptions.of_encoder(equal_error_distance)
