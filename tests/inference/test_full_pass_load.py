"""Which models the full pass uses: what the settings name, what is here, and what if it is not."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from live_asr.config import Settings, load_settings
from live_asr.errors import WeightsError
from live_asr.inference.diarization import LocalPipeline, PretrainedPipeline
from live_asr.inference.full_pass import FullPassLoad
from live_asr.inference.full_pass_load import full_pass_load
from live_asr.inference.weights import resolve

MakeLoad = Callable[..., FullPassLoad]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave neither hub nor registry within reach, and no cache of the hub."""
    from huggingface_hub import constants

    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_ENDPOINT", nowhere)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{nowhere}/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")


@pytest.fixture
def load_for(models_dir: Path, local_pipeline: LocalPipeline, caplog: pytest.LogCaptureFixture) -> MakeLoad:
    """What is loaded with these settings; the local pipeline's weights are here."""
    caplog.set_level(logging.INFO)
    assert local_pipeline.encoder_file.is_file()

    def load(**values: Any) -> FullPassLoad:
        flags = {key.replace("__", "."): value for key, value in values.items()}
        settings: Settings = load_settings(flags={"models.dir": models_dir, **flags}, environment={}).settings
        return full_pass_load(
            settings,
            resolve("tiny.en", models_dir=models_dir),
            resolve("silero-vad", models_dir=models_dir),
        )

    return load


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder as somebody copies it who has fetched community-1 elsewhere."""
    folder = tmp_path / "local" / "community-1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("pipeline: {}\n", encoding="utf-8")
    return folder


def test_the_live_recogniser_and_detector_are_used_again(
    load_for: MakeLoad, recognizer_dir: Path, detector_file: Path
) -> None:
    load = load_for()
    assert (load.recognizer_name, load.recognizer_folder) == ("tiny.en", recognizer_dir)
    assert load.detector_file == detector_file
    assert (load.device, load.compute_type) == ("cpu", "int8")


def test_another_recogniser_may_do_the_full_pass(load_for: MakeLoad, models_dir: Path) -> None:
    resolve("tiny.en", models_dir=models_dir)
    assert load_for(final__recognizer="tiny.en").recognizer_name == "tiny.en"
    with pytest.raises(WeightsError, match="no model named"):
        load_for(final__recognizer="tinny")


def test_what_packages_ship_is_used_where_community_1_is_not_here(
    load_for: MakeLoad, local_pipeline: LocalPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_for().pipeline == local_pipeline
    assert "with segmentation-3.0 + campplus" in caplog.text


def test_community_1_is_used_where_it_is_here(load_for: MakeLoad, published: Path) -> None:
    load = load_for(models__local=published.parent)
    assert load.pipeline == PretrainedPipeline(str(published), "community-1")


def test_local_is_local_even_where_community_1_is_here(
    load_for: MakeLoad, published: Path, local_pipeline: LocalPipeline
) -> None:
    (published.parent / "other").mkdir()
    assert load_for(models__local=published.parent, final__pipeline="local").pipeline == local_pipeline


@pytest.mark.parametrize("name", ["community-1", "pyannote/speaker-diarization-community-1"])
def test_community_1_is_known_by_both_its_names(load_for: MakeLoad, published: Path, name: str) -> None:
    load = load_for(models__local=published.parent, final__pipeline=name)
    assert load.pipeline == PretrainedPipeline(str(published), "community-1")


def test_a_folder_may_hold_the_pipeline(load_for: MakeLoad, published: Path) -> None:
    elsewhere = published.rename(published.with_name("mine"))
    assert load_for(final__pipeline=str(elsewhere)).pipeline == PretrainedPipeline(str(elsewhere), "mine")


def test_another_pipeline_of_the_hub_is_left_to_pyannote(load_for: MakeLoad) -> None:
    load = load_for(final__pipeline="someone/diarization", models__offline=True)
    assert load.pipeline == PretrainedPipeline("someone/diarization", "someone/diarization", offline=True)
    assert load.pipeline is not None and load.pipeline.is_local


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"final__pipeline": "community-1"}, "cannot be fetched"),
        ({"final__pipeline": "/nowhere/at/all"}, "There is no folder"),
        ({"models__segmentation": "segmentation-4"}, "Did you mean segmentation-3.0"),
    ],
)
def test_a_pipeline_that_is_not_to_be_had_costs_the_speakers_and_no_more(
    load_for: MakeLoad, caplog: pytest.LogCaptureFixture, settings: dict[str, str], reason: str
) -> None:
    load = load_for(**settings)
    assert load.pipeline is None
    assert load.recognizer_name == "tiny.en"
    assert reason in caplog.text
    assert "keep the live labels" in caplog.text


def test_segmentation_may_come_from_a_folder(
    load_for: MakeLoad, local_pipeline: LocalPipeline, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(local_pipeline.segmentation_file, folder)
    pipeline = load_for(models__segmentation=str(folder)).pipeline
    assert isinstance(pipeline, LocalPipeline)
    assert pipeline.segmentation_file == folder / "pytorch_model.bin"
