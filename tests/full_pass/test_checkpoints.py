"""A checkpoint in a folder that somebody names runs no code, whatever it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from live_asr.core.errors import WeightsError
from live_asr.full_pass.diarization import LocalPipeline, check_checkpoint, import_pyannote, load_segmentation

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
    import_pyannote()
    check_checkpoint(local_pipeline.segmentation_file)


def test_one_that_would_run_code_is_refused_before_it_does(
    local_pipeline: LocalPipeline, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    file = forged(local_pipeline.segmentation_file, tmp_path, hook=Trap(mark))
    with pytest.raises(WeightsError, match="holds more than weights"):
        load_segmentation(file)
    assert not mark.exists()


def test_so_is_one_that_names_a_module_of_anybodys(local_pipeline: LocalPipeline, tmp_path: Path) -> None:
    other = {"architecture": {"module": "antigravity", "class": "Model"}, "versions": {}}
    file = forged(local_pipeline.segmentation_file, tmp_path, **{"pyannote.audio": other})
    with pytest.raises(WeightsError, match="not pyannote's own"):
        load_segmentation(file)


@pytest.mark.parametrize("content", [b"", b"no pickle at all", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="or none of pyannote's"):
        load_segmentation(file)
