"""The command line, run as people run it: in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from live_asr import __version__
from live_asr.models.device import look_for_gpu


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `live-asr` in `folder`, with these LIVE_ASR_ variables and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIVE_ASR_")}
    return subprocess.run(
        [sys.executable, "-m", "live_asr.cli", *arguments],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_version_is_printed(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout == f"live-asr {__version__}\n"


def test_help_names_every_command(tmp_path: Path) -> None:
    shown = run(tmp_path, "--help").stdout
    assert all(command in shown for command in ("serve", "replay", "models", "config", "doctor"))


def test_the_command_line_starts_without_the_models_libraries(tmp_path: Path) -> None:
    code = (
        "import sys, live_asr.cli.main, live_asr.config.settings, live_asr.weights.store\n"
        "heavy = {'ctranslate2', 'faster_whisper', 'onnxruntime', 'av', 'huggingface_hub', 'torch'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("serve", "--port", "70000"), 2, "server.port cannot be 70000"),
        (("serve", "--device", "gpu"), 2, "'auto', 'cpu' or 'cuda'"),
        (("serve", "--config", "none.toml"), 2, "none.toml cannot be read"),
        (("serve", "--nonsense"), 2, "--nonsense"),
        (("serve", "--model", "bse"), 1, "Did you mean base"),
        (("models", "pull", "tiny.eng"), 1, "Did you mean tiny.en"),
        (("models", "path", "tiny.en"), 1, "live-asr models pull tiny.en"),
        (("models", "verify", "tiny.en"), 1, "live-asr models pull"),
    ],
)
def test_an_error_is_a_sentence_and_not_a_traceback(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run(tmp_path, *arguments, LIVE_ASR_MODELS__DIR=str(tmp_path))
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_config_shows_values_with_origins(tmp_path: Path) -> None:
    (tmp_path / "live-asr.toml").write_text("[server]\nport = 9000\n")
    result = run(tmp_path, "config", LIVE_ASR_SERVER__TOKEN="hunter-2-and-3")
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert rows["server.port"].split() == ["9000", "live-asr.toml"]
    assert rows["server.token"].split() == ["********", "LIVE_ASR_SERVER__TOKEN"]
    assert rows["server.max_sessions"].split() == ["unset", "default"]


def test_models_are_pulled_listed_verified_and_found(tmp_path: Path) -> None:
    environment = {"LIVE_ASR_MODELS__DIR": str(tmp_path / "models")}

    pulled = run(tmp_path, "models", "pull", "test-call", **environment)
    assert pulled.returncode == 0, pulled.stderr
    assert "test-call" in pulled.stdout
    assert "Taking test-call from pyannote.audio==4.0.7" in pulled.stderr

    listed = run(tmp_path, "models", "list", **environment).stdout
    states = {line.split()[0]: line.split()[1] for line in listed.splitlines()}
    assert states["test-call"] == "here"
    assert states["base"] == "-"

    folder = Path(run(tmp_path, "models", "path", "test-call", **environment).stdout.strip())
    assert (folder / "sample.wav").stat().st_size == 960_104

    assert run(tmp_path, "models", "verify", **environment).stdout == "test-call: good\n"
    os.truncate(folder / "sample.wav", 1000)
    damaged = run(tmp_path, "models", "verify", **environment)
    assert damaged.returncode == 1
    assert "sample.wav (1000 bytes)" in damaged.stdout


def test_what_the_settings_use_is_pulled_and_what_is_not_to_be_had_is_told(
    tmp_path: Path, models_dir: Path, recognizer_dir: Path, encoder_file: Path
) -> None:
    pulled = run(
        tmp_path,
        *("models", "pull"),
        LIVE_ASR_MODELS__DIR=str(models_dir),
        LIVE_ASR_MODELS__RECOGNIZER=recognizer_dir.name,
        LIVE_ASR_FINAL__PIPELINE=str(tmp_path / "none"),
    )
    assert pulled.returncode == 0, pulled.stderr
    names = [line.partition(":")[0] for line in pulled.stdout.splitlines()]
    assert names == [recognizer_dir.name, "silero-vad", "segmentation-3.0", encoder_file.parent.name]
    assert "live-asr: The full pass cannot tell speakers apart" in pulled.stderr
    assert f"There is no folder {tmp_path / 'none'}" in pulled.stderr


def test_the_doctor_decodes_one_second_with_the_real_models(tmp_path: Path, models_dir: Path) -> None:
    result = run(
        tmp_path,
        *("doctor", "--model", "tiny.en", "--data", str(tmp_path / "data"), "--port", "0"),
        LIVE_ASR_MODELS__DIR=str(models_dir),
        LIVE_ASR_INFERENCE__DEVICE="cpu",
    )
    states = {line[6:].partition(":")[0]: line[:4].strip() for line in result.stdout.splitlines()}
    assert states["decode one second"] == "ok", result.stdout
    assert states["detect speech"] == "ok"
    assert result.returncode == 0
    assert not (tmp_path / "data").exists()  # it looks, and leaves nothing


def test_the_doctor_says_what_to_do_about_each_fault(tmp_path: Path, models_dir: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(models_dir / "silero-vad", models / "silero-vad")
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run(
            tmp_path,
            *("doctor", "--model", "tiny.en", "--data", str(tmp_path / "file" / "data"), "--port", port),
            LIVE_ASR_MODELS__DIR=str(models),
            LIVE_ASR_INFERENCE__DEVICE="cpu",
        )
    assert result.returncode == 1
    assert "warn  recogniser: tiny.en is not here yet" in result.stdout
    assert "`live-asr serve` or `live-asr models pull tiny.en` brings it (" in result.stdout
    assert "fail  data folder" in result.stdout
    assert "--data or LIVE_ASR_STORAGE__DATA" in result.stdout
    assert f"warn  port: 127.0.0.1:{port} cannot be used" in result.stdout


def test_missing_weights_are_a_fault_only_where_fetching_is_off(tmp_path: Path) -> None:
    environment = {
        "LIVE_ASR_MODELS__DIR": str(tmp_path / "models"),
        "LIVE_ASR_STORAGE__DATA": str(tmp_path / "data"),
        "LIVE_ASR_INFERENCE__DEVICE": "cpu",
    }
    fresh = run(tmp_path, "doctor", "--port", "0", **environment)
    assert fresh.returncode == 0, fresh.stdout
    assert "warn  recogniser: base is not here yet" in fresh.stdout
    assert "off" not in fresh.stdout
    offline = run(tmp_path, "doctor", "--port", "0", LIVE_ASR_MODELS__OFFLINE="true", **environment)
    assert offline.returncode == 1
    assert "fail  recogniser: The weights of base are not on this machine" in offline.stdout


@pytest.mark.skipif(look_for_gpu().is_there, reason="there is a GPU here")
@pytest.mark.parametrize("arguments", [("serve",), ("replay", "talk.wav")])
def test_a_gpu_that_is_not_there_is_said_before_anything_is_fetched(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = run(tmp_path, *arguments, "--device", "cuda", LIVE_ASR_MODELS__DIR=str(tmp_path / "models"))
    assert result.returncode == 2
    assert (
        result.stderr
        == "Error: There is no CUDA GPU here. Use --device cpu (or auto), or install the NVIDIA driver.\n"
    )
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_told_to_stop_says_so_and_ends_well(
    tmp_path: Path, models_dir: Path, number: signal.Signals
) -> None:
    command = ["serve", "--port", "0", "--model", "tiny.en", "--data", str(tmp_path / "data")]
    process = subprocess.Popen(
        [sys.executable, "-m", "live_asr.cli", *command],
        env={**os.environ, "LIVE_ASR_MODELS__DIR": str(models_dir), "LIVE_ASR_INFERENCE__DEVICE": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert any("speech detector" in line for line in process.stdout)
        os.killpg(process.pid, number)  # as a terminal does
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert output.splitlines()[-1] == "live-asr: stopped"
    assert "Traceback" not in errors
    assert "Error" not in errors
