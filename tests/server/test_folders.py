"""Users without a home, and folders that cannot be written: what can work does, all else is one sentence."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from talking import call

from live_asr.models.prefix_prompt import KEPT
from live_asr.weights.onnx_conversion import CHECKPOINTS, MODEL_FILE, RECEIPT
from tests.started import MODEL, ROOT, StartServer

SECOND_BYTES = 32_000
UNPRIVILEGED = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.getuid() == 0 else []
"""Without these root may write wherever it likes."""
TIMEOUT = 900.0
"""Seconds: on a machine with other work a full pass, which is in the system's idle class, waits for it."""
SERVE = [sys.executable, "-m", "live_asr.cli", "serve", "--port", "0", "--model", MODEL, "--device", "cpu"]
Forbid = Callable[..., None]

pytestmark = pytest.mark.skipif(
    bool(UNPRIVILEGED) and shutil.which("setpriv") is None, reason="root may write anywhere without setpriv"
)


@pytest.fixture
def forbid() -> Iterator[Forbid]:
    """Take permissions away until the test is over."""
    before: list[tuple[Path, int]] = []

    def change(path: Path, mode: int) -> None:
        before.append((path, path.stat().st_mode))
        path.chmod(mode)

    yield change
    for path, mode in reversed(before):
        path.chmod(mode)


@pytest.fixture
def read_only_models(models_dir: Path, tmp_path: Path, forbid: Forbid) -> Path:
    """A folder of all weights in which nothing can be made, not even a lock."""
    folder = tmp_path / "models"
    folder.mkdir()
    for weights in models_dir.iterdir():
        if not weights.name.startswith("."):
            (folder / weights.name).symlink_to(weights)
    forbid(folder, 0o555)
    return folder


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_DATA_HOME")}
    return subprocess.run(
        command,
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )


async def test_a_user_without_a_home_and_with_weights_that_are_read_only_gets_captions_and_speakers(
    start_server: StartServer, read_only_models: Path, tmp_path: Path, sample_pcm: bytes
) -> None:
    server = start_server(
        before=UNPRIVILEGED,
        cwd=tmp_path,
        without=("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"),
        PYTHONPATH=os.pathsep.join([str(ROOT / "tests" / "no_home"), str(ROOT)]),
        LIVE_ASR_MODELS__DIR=str(read_only_models),
    )
    log = server.log.read_text()
    assert f"this user has no home folder, so {tmp_path} is taken for it; set HOME" in log
    assert "not told apart" not in log
    async with call(server.stream) as caller:
        await caller.start(pace="fast", final_pass=True)
        await caller.send(sample_pcm[14 * SECOND_BYTES : 24 * SECOND_BYTES])
        await caller.say("stop")
        async with asyncio.timeout(TIMEOUT):
            while not caller.all("final"):  # noqa: ASYNC110 - the caller's own patience is for what is quick
                await asyncio.sleep(0.1)
    (final,) = caller.all("final")
    assert final["labels"] == "full"
    assert "Chicago" in final["text"]


@pytest.mark.parametrize("command", [["config"], ["models", "list"]])
def test_other_commands_do_without_a_home_too(tmp_path: Path, command: list[str]) -> None:
    path = os.pathsep.join([str(ROOT / "tests" / "no_home"), str(ROOT)])
    done = run([sys.executable, "-m", "live_asr.cli", *command], tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_home_of_a_user_that_there_is_not_is_refused_as_a_value(tmp_path: Path) -> None:
    done = run([*SERVE, "--data", "~nobody-of-this-name/data"], tmp_path)
    assert done.returncode == 2
    assert "there is no such home folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_weights_that_are_read_only_are_converted_for_as_long_as_the_server_runs(
    models_dir: Path, encoder_file: Path, tmp_path: Path, forbid: Forbid
) -> None:
    folder = tmp_path / "campplus"
    shutil.copytree(models_dir / "campplus", folder, ignore=shutil.ignore_patterns(MODEL_FILE, RECEIPT))
    assert (folder / CHECKPOINTS["campplus"]).exists()
    forbid(folder, 0o555)
    code = (
        "import sys; from pathlib import Path; from live_asr.weights.onnx_conversion import converted; "
        "from live_asr.weights.store import Weights; "
        "file = converted(Weights('campplus', Path(sys.argv[1]), 'here', '')); "
        "print(file, file.stat().st_size)"
    )
    done = run([*UNPRIVILEGED, sys.executable, "-c", code, str(folder)], tmp_path)
    assert done.returncode == 0, done.stderr
    path, size = done.stdout.split()
    assert int(size) == encoder_file.stat().st_size
    assert not Path(path).exists(), "it went with the process"


def test_a_recogniser_whose_folder_is_read_only_computes_prefixes_at_once_and_leaves_nothing(
    recognizer_dir: Path, tmp_path: Path, forbid: Forbid
) -> None:
    folder, scratch = tmp_path / "tiny.en", tmp_path / "scratch"
    shutil.copytree(recognizer_dir, folder, ignore=shutil.ignore_patterns(f"{KEPT}*"))
    scratch.mkdir()
    before = sorted(folder.iterdir())
    forbid(folder, 0o555)
    code = (
        "import sys; from pathlib import Path; from live_asr.models.ctranslate2_whisper import WhisperModel; "
        "model = WhisperModel(Path(sys.argv[1]), device='cpu', compute_type='int8', workers=1, beam_size=1); "
        "print(model.prefix_at_once)"
    )
    done = run([*UNPRIVILEGED, sys.executable, "-c", code, str(folder)], tmp_path, TMPDIR=str(scratch))
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert (list(scratch.iterdir()), sorted(folder.iterdir())) == ([], before)


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        (".", 0o555, "Nothing can be written in"),
        ("sessions", 0o500, "Nothing can be written in"),
        ("live-asr.db", 0o000, "unable to open database file"),
        ("webhook.secret", 0o000, "The key of the webhooks cannot be kept in"),
        (".server.lock", 0o000, "Nothing can be written in"),
    ],
)
def test_data_that_is_read_only_or_somebody_elses_is_said_in_a_sentence(
    models_dir: Path, tmp_path: Path, forbid: Forbid, name: str, mode: int, said: str
) -> None:
    data = tmp_path / "data"
    (data / "sessions").mkdir(parents=True)
    if not (data / name).exists():
        (data / name).touch()
    forbid(data / name, mode)
    command = [*UNPRIVILEGED, *SERVE, "--data", str(data)]
    done = run(command, tmp_path, HOME=str(tmp_path), LIVE_ASR_MODELS__DIR=str(models_dir))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert said in error
    assert str(data) in error
