"""Files of models run no code, whatever they hold: neither checkpoints nor pipelines of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from live_asr.core.errors import WeightsError
from live_asr.full_pass.diarization import (
    Diarizer,
    LocalPipeline,
    PretrainedPipeline,
    import_pyannote,
    load_segmentation,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # pyannote's own


class Trap:
    """What a pickle of it does when it is read."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self._mark,)


def forged(genuine: Path, folder: Path, **changes: Any) -> Path:
    """Return a checkpoint like the genuine one, with something else in it."""
    import torch

    import_pyannote()
    loaded = torch.load(genuine, map_location="cpu", weights_only=False)
    file = folder / "pytorch_model.bin"
    torch.save(loaded | changes, file)
    return file


def test_the_published_one_is_loaded(local_pipeline: LocalPipeline) -> None:
    assert load_segmentation(local_pipeline.segmentation_file).specifications.classes[0] == "speaker#1"


def test_one_that_would_run_code_is_refused_before_it_does(
    local_pipeline: LocalPipeline, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    file = forged(local_pipeline.segmentation_file, tmp_path, hook=Trap(mark))
    with pytest.raises(WeightsError, match="holds more than weights"):
        load_segmentation(file)
    assert not mark.exists()


def test_so_is_one_that_names_a_module_of_anybodys(local_pipeline: LocalPipeline, tmp_path: Path) -> None:
    other = {"architecture": {"module": "antigravity", "class": "Model"}, "versions": {"pyannote.audio": "4"}}
    file = forged(local_pipeline.segmentation_file, tmp_path, **{"pyannote.audio": other})
    with pytest.raises(WeightsError, match="not pyannote's own"):
        load_segmentation(file)


@pytest.mark.parametrize("content", [b"", b"no pickle at all", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="or none of pyannote's"):
        load_segmentation(file)


def pipeline(folder: Path, config: str) -> PretrainedPipeline:
    """Return a pipeline of the folder with this configuration."""
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    return PretrainedPipeline(str(folder), "forged")


def test_a_checkpoint_that_would_run_code_is_refused_in_a_whole_pipeline_too(
    local_pipeline: LocalPipeline, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    file = forged(local_pipeline.segmentation_file, tmp_path, hook=Trap(mark))
    config = (
        "pipeline:\n  name: pyannote.audio.pipelines.VoiceActivityDetection\n"
        f"  params:\n    segmentation: {file}\n"
    )
    with pytest.raises(WeightsError, match=r"forged holds more than weights.*getattr") as caught:
        Diarizer(pipeline(tmp_path, config))
    assert "its weights alone" in caught.value.hint
    assert not mark.exists()


def test_whoever_asks_torch_for_more_than_weights_gets_no_more(tmp_path: Path) -> None:
    import torch

    import_pyannote()
    mark = tmp_path / "mark"
    torch.save(Trap(mark), tmp_path / "trap.bin")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "trap.bin", weights_only=False)
    assert not mark.exists()


@pytest.mark.parametrize(
    "named",
    [
        "pipeline:\n  name: subprocess.Popen\n",
        "pipeline:\n  name: pyannote.audio.pipelines.speaker_verification.Path\n",
        "pipeline:\n  name: pyannote.audio.pipelines.pyannoteai.sdk.SDK\n  params:\n    token: abc\n",
        "pipeline:\n  name: pyannote.audio.pipelines.SpeakerDiarization2\n",
    ],
)
def test_a_pipeline_that_names_a_class_of_anybodys_is_refused(tmp_path: Path, named: str) -> None:
    with pytest.raises(WeightsError, match="names a class that is not pyannote's own"):
        Diarizer(pipeline(tmp_path, named))


def test_so_is_one_that_names_a_program_to_run_on_the_audio(
    local_pipeline: LocalPipeline, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    config = (
        "pipeline:\n  name: pyannote.audio.pipelines.VoiceActivityDetection\n"
        f"  params:\n    segmentation: {local_pipeline.segmentation_file}\n"
        f"preprocessors:\n  audio:\n    name: subprocess.run\n    params:\n      args: [touch, {mark}]\n"
    )
    with pytest.raises(WeightsError, match=r"pyannote's own: subprocess\.run"):
        Diarizer(pipeline(tmp_path, config))
    assert not mark.exists()
