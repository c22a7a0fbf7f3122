"""Which kernels a CPU computes with: tried by real processes, and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from live_asr.inference import kernels
from live_asr.inference.calibration import key_of
from live_asr.inference.ipc import Load
from live_asr.inference.kernels import Trial, choices, choose, environment_of, try_out

INTEL = "model name: Intel\nflags : fpu avx2 avx512f avx512bw avx512cd avx512dq avx512vl\n"
AMD = "vendor_id : AuthenticAMD\nflags : fpu avx2\n"


@pytest.fixture
def load(recognizer_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    for name in kernels.KERNELS:
        monkeypatch.delenv(name, raising=False)
    return Load(
        recognizer_name="tiny.en",
        recognizer_folder=recognizer_dir,
        detector_name="none",
        detector_file=Path(),
        device="cpu",
        compute_type="int8",
        workers=1,
        beam_size=1,
        kernels_file=tmp_path / "measured.json",
    )


def test_there_is_a_choice_where_the_processor_has_more_than_the_library_takes() -> None:
    assert list(choices("")) == ["plain"]
    assert list(choices(INTEL)) == ["plain", "AVX-512"]
    assert list(choices(AMD)) == ["plain", "MKL"]
    assert list(choices(INTEL.replace("avx512bw", ""))) == ["plain"]


def test_a_trial_decodes_in_a_process_of_its_own_and_a_hopeless_one_ends(load: Load) -> None:
    plain = try_out(load, {})
    assert plain is not None and plain.seconds > 0 and len(plain.written) == 3
    assert try_out(load, {}, hopeless=1e-9) is None
    assert try_out(replace(load, recognizer_folder=Path("/nowhere")), {}) is None


@pytest.mark.parametrize(
    ("other", "choice"),
    [
        (Trial(0.08, ("a",)), "AVX-512"),
        (Trial(0.099, ("a",)), "plain"),
        (Trial(0.01, ("b",)), "plain"),
        (None, "plain"),
    ],
)
def test_the_fastest_that_writes_the_same_words_is_taken(
    load: Load, monkeypatch: pytest.MonkeyPatch, other: Trial | None, choice: str
) -> None:
    def tried(load: Load, variables: Mapping[str, str], hopeless: float = 0.0) -> Trial | None:
        return other if variables else Trial(0.1, ("a",))

    monkeypatch.setattr(kernels, "try_out", tried)
    assert choose(load, choices(INTEL))[0] == choice


def test_a_choice_is_kept_and_whoever_has_made_one_is_asked_nothing(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load.kernels_file is not None
    monkeypatch.setattr(kernels, "cpu_info", lambda: INTEL)
    monkeypatch.setattr(kernels, "load_now", lambda: 9.0)
    assert environment_of(load) == {}, "nothing is tried beside other work"
    monkeypatch.setattr(kernels, "load_now", lambda: 0.1)
    asked: list[Mapping[str, str]] = []

    def tried(load: Load, variables: Mapping[str, str], hopeless: float = 0.0) -> Trial:
        asked.append(variables)
        return Trial(0.05 if variables else 0.1, ("a",))

    monkeypatch.setattr(kernels, "try_out", tried)
    assert environment_of(load) == environment_of(load) == {"CT2_FORCE_CPU_ISA": "AVX512"}
    assert len(asked) == 2
    entry = json.loads(load.kernels_file.read_text())[f"kernels {key_of(load)}"]
    assert (entry["choice"], entry["seconds"]) == ("AVX-512", {"plain": 0.1, "AVX-512": 0.05})
    assert environment_of(replace(load, kernels_file=None)) == {}
    assert environment_of(replace(load, device="cuda")) == {}
    monkeypatch.setenv("CT2_FORCE_CPU_ISA", "AVX2")
    assert environment_of(load) == {}
