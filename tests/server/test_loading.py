"""What the inference process is told to load."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from live_asr.config import load_settings
from live_asr.inference.weights import LiveWeights, Weights
from live_asr.server.run import load_of


def weights(name: str, folder: Path) -> Weights:
    return Weights(name, folder, "here", "MIT")


def test_without_models_that_tell_speakers_apart_captions_are_loaded_alone(tmp_path: Path) -> None:
    load = load_of(
        load_settings(environment={}).settings,
        LiveWeights(weights("tiny.en", tmp_path), weights("silero-vad", tmp_path)),
    )
    assert (load.segmentation_file, load.encoder_file) == (None, None)
    assert load.recognizer_name == "tiny.en"


def test_models_that_cannot_be_converted_cost_the_speakers_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"no weights")
    broken = weights("segmentation-3.0", tmp_path)
    with caplog.at_level(logging.WARNING):
        load = load_of(
            load_settings(environment={}).settings,
            LiveWeights(
                weights("tiny.en", tmp_path),
                weights("silero-vad", tmp_path),
                broken,
                weights("campplus", tmp_path),
            ),
        )
    assert (load.segmentation_file, load.encoder_file) == (None, None)
    assert "segmentation-3.0 could not be converted" in caplog.text
