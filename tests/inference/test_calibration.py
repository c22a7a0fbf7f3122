"""What a typical decode takes: measured by the real process, kept, and measured again for another machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from live_asr.inference import calibration
from live_asr.inference.ipc import Load
from live_asr.inference.local_engine import LocalEngine
from live_asr.models.whisper import WhisperRecognizer


@pytest.fixture
def load(recognizer_dir: Path, detector_file: Path, tmp_path: Path) -> Load:
    return Load(
        recognizer_name="tiny.en",
        recognizer_folder=recognizer_dir,
        detector_name="silero-vad",
        detector_file=detector_file,
        device="cpu",
        compute_type="int8",
        workers=1,
        beam_size=1,
        measured_file=tmp_path / "models" / "measured.json",
    )


async def loaded_step(load: Load) -> float | None:
    engine = LocalEngine(load)
    try:
        return (await engine.start()).step_seconds
    finally:
        await engine.close()


async def test_the_process_measures_a_step_once_and_keeps_what_it_took(load: Load) -> None:
    assert load.measured_file is not None
    first = await loaded_step(load)
    kept = json.loads(load.measured_file.read_text())
    assert first is not None and 0.001 < first < 60
    (entry,) = kept.values()
    assert entry["seconds"] == pytest.approx(first, abs=1e-5) and entry["load"] >= 0
    # What stands there is believed: nothing is measured. The first versions kept the seconds alone.
    for believed in (12.5, {"seconds": 12.5, "load": 0.1}):
        load.measured_file.write_text(json.dumps({calibration.key_of(load): believed}))
        assert await loaded_step(load) == 12.5


@pytest.mark.parametrize(("kept", "then"), [(1e-6, 1e-6), (900.0, None)])
def test_what_was_measured_on_a_busy_machine_is_mended_on_a_quiet_one(
    load: Load, monkeypatch: pytest.MonkeyPatch, kept: float, then: float | None
) -> None:
    assert load.measured_file is not None
    monkeypatch.setattr(calibration, "load_now", lambda: 0.0)
    calibration.keep(load.measured_file, calibration.key_of(load), {"seconds": kept, "load": 3.0})
    recognizer = WhisperRecognizer(load.recognizer_folder, name="tiny.en", workers=1, beam_size=1)
    found = calibration.measured(load, recognizer)
    assert found == then if then is not None else found is not None and found < 60
    entry = json.loads(load.measured_file.read_text())[calibration.key_of(load)]
    assert entry == {"seconds": round(found or 0.0, 5), "load": 0.0}


async def test_who_does_not_want_to_know_has_nothing_measured(load: Load) -> None:
    assert await loaded_step(replace(load, measured_file=None)) is None


def test_it_is_measured_again_where_model_arithmetic_or_machine_is_another(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        calibration.key_of(one)
        for one in (
            load,
            replace(load, recognizer_name="base"),
            replace(load, compute_type="float32"),
            replace(load, workers=2),
            replace(load, device="cuda"),
        )
    }
    monkeypatch.setattr(calibration, "_processor", lambda: "Another CPU @ 9 GHz")
    keys.add(calibration.key_of(load))
    assert len(keys) == 6


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.write_text("{half of it"), id="cut off"),
        pytest.param(lambda file: file.write_text("[]"), id="something else"),
        pytest.param(lambda file: file.mkdir(), id="a folder in its place"),
    ],
)
def test_a_file_that_cannot_be_read_costs_a_measurement_and_no_more(
    load: Load, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    assert load.measured_file is not None
    load.measured_file.parent.mkdir()
    spoil(load.measured_file)
    recognizer = WhisperRecognizer(load.recognizer_folder, name="tiny.en", workers=1, beam_size=1)
    with caplog.at_level(logging.WARNING):
        seconds = calibration.measured(load, recognizer)
    assert seconds is not None and seconds > 0
    assert bool(caplog.records) is load.measured_file.is_dir()
