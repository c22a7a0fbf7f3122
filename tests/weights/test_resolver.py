"""Which models are brought: what the settings name, what is here, and what if it is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from live_asr.config.settings import Settings, load_settings
from live_asr.core.errors import WeightsError
from live_asr.full_pass.diarization import LocalPipeline, PretrainedPipeline
from live_asr.weights import store as weights
from live_asr.weights.onnx_conversion import converted
from live_asr.weights.resolver import ModelResolver, ModelSet, Voices, full_pass_load
from live_asr.weights.store import resolve

Bring = Callable[..., ModelSet]


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


def settings_with(models_dir: Path, **values: Any) -> Settings:
    """Make settings with these values, `section__key`, and `tiny.en` as the recogniser."""
    given = {"models.dir": models_dir, "models.recognizer": "tiny.en", "inference.device": "cpu"}
    given |= {key.replace("__", "."): value for key, value in values.items()}
    return load_settings(flags=given, environment={}).settings


@pytest.fixture
def bring_with(
    models_dir: Path, recognizer_dir: Path, detector_file: Path, local_pipeline: LocalPipeline
) -> Bring:
    """Bring all that settings with these values use; the weights of the defaults are here."""
    assert all(path.exists() for path in (recognizer_dir, detector_file, local_pipeline.encoder_file))
    return lambda **values: ModelResolver(settings_with(models_dir, **values)).bring_all()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder as somebody copies it who has fetched community-1 elsewhere."""
    folder = tmp_path / "local" / "community-1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("pipeline: {}\n", encoding="utf-8")
    return folder


def test_what_packages_ship_tells_speakers_apart_unless_settings_say_otherwise(
    bring_with: Bring, models_dir: Path, local_pipeline: LocalPipeline, encoder_file: Path
) -> None:
    brought = bring_with()
    segmentation_file = converted(resolve("segmentation-3.0", models_dir=models_dir))
    assert brought.voices == Voices("segmentation-3.0 + campplus", segmentation_file, encoder_file)
    assert brought.pipeline == local_pipeline
    assert list(brought.lacks()) == []


def test_a_server_whose_workers_recognise_brings_no_recogniser_and_needs_no_gpu(
    bring_with: Bring, models_dir: Path
) -> None:
    """The model is one that is not here, and the arithmetic one that no CPU does."""
    asked = {
        "models__recognizer": "large-v3",
        "inference__device": "cuda",
        "inference__compute_type": "float16",
    }
    cluster = {"inference__engine": "ray://head:10001"}
    brought = bring_with(**asked, **cluster)
    assert {brought.recognizer.name, brought.final_recognizer.name} == {"large-v3"}
    assert "large-v3" not in {weights.name for weights in brought.weights}
    assert full_pass_load(settings_with(models_dir, **asked, **cluster), brought).device == "cpu"
    own_passes = bring_with(**cluster, cluster__full_passes=0)
    assert own_passes.final_recognizer.folder == resolve("tiny.en", models_dir=models_dir).folder


def test_what_several_need_is_told_once(bring_with: Bring) -> None:
    names = [each.name for each in bring_with(final__recognizer="tiny.en").weights]
    assert names == ["tiny.en", "silero-vad", "segmentation-3.0", "campplus"]


def test_all_that_the_full_pass_needs_is_told_too(bring_with: Bring, published: Path) -> None:
    brought = bring_with(models__local=published.parent)
    assert brought.weights[-1].folder == published


def test_the_live_recogniser_does_the_full_pass_unless_another_is_named(
    bring_with: Bring, recognizer_dir: Path, tmp_path: Path
) -> None:
    assert bring_with().final_recognizer.folder == recognizer_dir
    shutil.copytree(recognizer_dir, tmp_path / "mine")
    brought = bring_with(final__recognizer=str(tmp_path / "mine"))
    assert (brought.recognizer.name, brought.final_recognizer.name) == ("tiny.en", "mine")
    with pytest.raises(WeightsError, match="no model named"):
        bring_with(final__recognizer="tinny")


def test_the_gpus_default_falls_back_to_what_is_here(
    models_dir: Path,
    recognizer_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # tiny.en stands in for base, so that the test need not bring 150 MB.
    monkeypatch.setattr(weights, "CPU_MODEL", "tiny.en")

    found = ModelResolver(settings_with(models_dir)).bring_recognizer("auto", "cuda")

    assert found.folder == recognizer_dir
    assert "large-v3-turbo" in caplog.text
    assert "Using tiny.en instead" in caplog.text


def test_the_speech_detector_may_come_from_a_folder(
    bring_with: Bring, detector_file: Path, tmp_path: Path
) -> None:
    shutil.copy(detector_file, tmp_path)
    assert bring_with(models__speech_detector=str(tmp_path)).detector.folder == tmp_path


def test_live_voices_that_are_not_to_be_had_cost_the_speakers_and_no_more(bring_with: Bring) -> None:
    brought = bring_with(models__speaker_encoder="wespeaker", models__offline=True)
    assert isinstance(brought.voices, WeightsError)
    assert isinstance(brought.pipeline, LocalPipeline), "it has its own"
    (lack,) = brought.lacks()
    assert "Speakers are not told apart live. The weights of wespeaker are not on this machine" in lack


def test_live_voices_that_cannot_be_converted_cost_the_speakers_and_no_more(
    bring_with: Bring, tmp_path: Path
) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"no weights")
    brought = bring_with(models__segmentation=str(tmp_path))
    assert brought.recognizer.name == "tiny.en"
    assert f"{tmp_path.name} could not be converted" in next(brought.lacks())


def test_a_name_that_nothing_has_is_refused_where_live_sessions_would_use_it(bring_with: Bring) -> None:
    with pytest.raises(WeightsError, match="Did you mean segmentation-3"):
        bring_with(models__segmentation="segmentation-4")


def test_community_1_is_used_where_it_is_here(bring_with: Bring, published: Path) -> None:
    brought = bring_with(models__local=published.parent)
    assert brought.pipeline == PretrainedPipeline(str(published), "community-1")


def test_local_is_local_even_where_community_1_is_here(
    bring_with: Bring, published: Path, local_pipeline: LocalPipeline
) -> None:
    (published.parent / "other").mkdir()
    assert bring_with(models__local=published.parent, final__pipeline="local").pipeline == local_pipeline


@pytest.mark.parametrize("name", ["community-1", "pyannote/speaker-diarization-community-1"])
def test_community_1_is_known_by_both_its_names(bring_with: Bring, published: Path, name: str) -> None:
    brought = bring_with(models__local=published.parent, final__pipeline=name)
    assert brought.pipeline == PretrainedPipeline(str(published), "community-1")


def test_a_folder_may_hold_the_pipeline(bring_with: Bring, published: Path) -> None:
    elsewhere = published.rename(published.with_name("mine"))
    assert bring_with(final__pipeline=str(elsewhere)).pipeline == PretrainedPipeline(str(elsewhere), "mine")


def test_another_pipeline_of_the_hub_is_left_to_pyannote(bring_with: Bring) -> None:
    pipeline = bring_with(final__pipeline="someone/diarization@abc123", models__offline=True).pipeline
    assert pipeline == PretrainedPipeline(
        "someone/diarization", "someone/diarization@abc123", offline=True, revision="abc123"
    )
    assert pipeline.is_local


def test_another_pipeline_of_the_hub_is_named_with_its_revision(bring_with: Bring) -> None:
    brought = bring_with(final__pipeline="someone/diarization")
    assert isinstance(brought.pipeline, WeightsError)
    assert "names no revision" in brought.pipeline.message
    assert "someone/diarization@COMMIT" in brought.pipeline.hint


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("community-1", "cannot be fetched"),
        ("/nowhere/at/all", "There is no folder"),
        ("community-2", "Did you mean community-1"),
    ],
)
def test_a_pipeline_that_is_not_to_be_had_costs_the_speakers_and_no_more(
    bring_with: Bring, pipeline: str, reason: str
) -> None:
    brought = bring_with(final__pipeline=pipeline)
    assert isinstance(brought.voices, Voices)
    assert isinstance(brought.pipeline, WeightsError)
    (lack,) = brought.lacks()
    assert "keep the live labels" in lack
    assert reason in lack


def test_segmentation_may_come_from_a_folder(
    bring_with: Bring, local_pipeline: LocalPipeline, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(local_pipeline.segmentation_file.parent, folder)  # with its conversion, if there is one
    brought = bring_with(models__segmentation=str(folder))
    assert isinstance(brought.pipeline, LocalPipeline)
    assert brought.pipeline.segmentation_file == folder / "pytorch_model.bin"
    assert isinstance(brought.voices, Voices)
    assert brought.voices.segmentation_file.parent == folder
