"""From settings to the streaming policy."""

from __future__ import annotations

from dataclasses import replace

from live_asr.config.settings import load_settings
from live_asr.core.messages import Start
from live_asr.core.streaming_policy import StreamingPolicyOptions
from live_asr.core.types import samples
from live_asr.sessions.policy import caption_options, options_of


def test_a_server_without_settings_runs_the_recipe_that_was_measured() -> None:
    assert caption_options(load_settings(environment={}).settings) == StreamingPolicyOptions()


def test_a_setting_changes_the_policy_and_nothing_else_in_it() -> None:
    settings = load_settings(environment={"LIVE_ASR_STREAMING__STEP": "1.5"}).settings
    recipe = StreamingPolicyOptions()
    window = replace(recipe.window, step_samples=samples(1.5))
    assert caption_options(settings) == replace(recipe, window=window)


def test_a_session_may_want_another_silence_and_another_threshold_than_its_server_has() -> None:
    recipe = StreamingPolicyOptions()
    wanted = options_of(recipe, Start(end_silence=1.2, vad_threshold=0.8))
    assert wanted.segmenter.end_silence_samples == samples(1.2)
    assert (wanted.segmenter.on_probability, wanted.segmenter.off_probability) == (0.8, 0.65)
    assert wanted == replace(recipe, segmenter=wanted.segmenter)
    assert options_of(recipe, Start()) is recipe
