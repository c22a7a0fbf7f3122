"""What the processes are told to load, and what the server says that it runs on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from live_asr.config.settings import load_settings
from live_asr.core.errors import WeightsError
from live_asr.core.messages import RecognizerInfo
from live_asr.full_pass.diarization import PretrainedPipeline
from live_asr.inference.ipc import Loaded
from live_asr.server.run import banner, full_pass_load, load_of
from live_asr.weights.resolver import ModelSet, Voices
from live_asr.weights.store import Weights

SETTINGS = load_settings(flags={"inference.device": "cpu"}, environment={}).settings
NOT_HERE = WeightsError("The weights of community-1 are not on this machine.", "Run `live-asr models pull`.")
LOADED = Loaded(RecognizerInfo("tiny.en", ("en",), "cpu", "int8"), "silero-vad")


def weights(name: str) -> Weights:
    return Weights(name, Path(name), "here", "MIT")


@pytest.fixture
def brought() -> ModelSet:
    """All that there may be."""
    return ModelSet(
        recognizer=weights("tiny.en"),
        detector=weights("silero-vad"),
        voices=Voices("segmentation-3.0 + ge2e", Path("segmentation"), Path("voices")),
        final_recognizer=weights("base"),
        pipeline=PretrainedPipeline("folder", "community-1"),
        weights=(),
    )


def test_without_models_that_tell_speakers_apart_the_rest_is_loaded(brought: ModelSet) -> None:
    load = load_of(SETTINGS, replace(brought, voices=NOT_HERE))
    assert (load.segmentation_file, load.encoder_file) == (None, None)
    assert load.recognizer_name == "tiny.en"

    final = full_pass_load(SETTINGS, replace(brought, pipeline=NOT_HERE))
    assert final.pipeline is None
    assert final.recognizer_name == "base"


def test_each_process_is_told_its_own_models(brought: ModelSet) -> None:
    load, final = load_of(SETTINGS, brought), full_pass_load(SETTINGS, brought)
    assert (load.segmentation_file, load.encoder_file) == (Path("segmentation"), Path("voices"))
    assert (load.recognizer_folder, final.recognizer_folder) == (Path("tiny.en"), Path("base"))
    assert final.pipeline == brought.pipeline
    assert (final.device, final.compute_type) == ("cpu", "int8")


def told(brought: ModelSet, **flags: bool) -> dict[str, str]:
    """What the server says under each heading."""
    settings = load_settings(flags=flags, environment={}).settings
    first, *lines = banner(settings, brought, LOADED, address="http://localhost:1", workers=2).splitlines()
    assert first == "live-asr: serving at http://localhost:1"
    return {line[2:19].rstrip(): line[19:] for line in lines}


def test_a_server_names_all_its_models(brought: ModelSet) -> None:
    said = told(brought)
    assert said["recogniser"] == "tiny.en (int8, on cpu, 2 windows at once; from here)"
    assert said["speech detector"] == "silero-vad (from here)"
    assert said["speakers live"] == "told apart by segmentation-3.0 + ge2e"
    assert said["full pass"] == "base; speakers told apart by community-1"


def test_a_server_names_no_recogniser_for_a_full_pass_that_keeps_the_live_words(brought: ModelSet) -> None:
    assert told(brought, **{"final.recognize": False})["full pass"] == "speakers told apart by community-1"


def test_a_server_says_why_it_does_not_tell_speakers_apart(brought: ModelSet) -> None:
    said = told(replace(brought, voices=NOT_HERE, pipeline=NOT_HERE))
    why = "not told apart: The weights of community-1 are not on this machine."
    assert said["speakers live"] == why
    assert said["full pass"] == f"base; speakers {why}"
