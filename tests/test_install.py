"""What `pip install live-asr` brings: a wheel, built here and installed where nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import wave
from pathlib import Path
from typing import Any

import pytest

from tests.started import ROOT, Server

SPEECH = slice(14 * 16_000, 18 * 16_000)
SAY = """
import asyncio, sys
import live_asr.client as client

async def main(url, speech):
    async with client.connect(url, language="en", pace="fast", final_pass=False) as session:
        await session.send(open(speech, "rb").read())
        print((await session.stop()).text)

asyncio.run(main(*sys.argv[1:]))
"""


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    without_ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [str(word) for word in command]
    return subprocess.run(arguments, capture_output=True, text=True, env=without_ours, **options)


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the package alone."""
    folder = tmp_path_factory.mktemp("light")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("live_asr-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", check=True)
    python = folder / "venv" / "bin" / "python"
    installed = run(*pip, "--python", python, "install", "-c", ROOT / "constraints.txt", wheel)
    assert installed.returncode == 0, installed.stderr
    return python.parent


def test_the_package_alone_is_light_and_typed_and_its_client_works(
    light: Path, server: Server, sample_pcm: bytes, tmp_path: Path
) -> None:
    listed = run(
        light / "python",
        "-c",
        "import importlib.metadata as m; print(*(d.name for d in m.distributions()))",
        cwd=tmp_path,
    )
    brought = {name.lower() for name in listed.stdout.split()}
    assert "live-asr" in brought
    assert not brought & {"torch", "pyannote-audio", "ctranslate2", "onnxruntime", "fastapi", "sqlalchemy"}
    typed = run(
        light / "python",
        "-c",
        "import live_asr, pathlib; print(pathlib.Path(live_asr.__file__).parent)",
        cwd=tmp_path,
    )
    package = Path(typed.stdout.strip())
    assert (package / "py.typed").exists()
    assert (package / "web" / "index.html").exists()

    speech = tmp_path / "speech.pcm"
    speech.write_bytes(sample_pcm[2 * SPEECH.start : 2 * SPEECH.stop])
    said = run(light / "python", "-c", SAY, server.url, speech, cwd=tmp_path)
    assert "Sheila" in said.stdout, said.stderr


def test_replay_against_a_server_elsewhere_needs_no_more(
    light: Path, server: Server, sample_pcm: bytes, tmp_path: Path
) -> None:
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sample_pcm[2 * SPEECH.start : 2 * SPEECH.stop])
    done = run(light / "live-asr", "replay", "talk.wav", "--url", server.url, "--no-final-pass", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Sheila" in (tmp_path / "talk.txt").read_text()


@pytest.mark.parametrize("command", [["serve"], ["replay", "talk.wav"], ["doctor"]])
def test_what_needs_the_server_says_in_one_sentence_what_to_install(
    light: Path, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "talk.wav").touch()
    done = run(light / "live-asr", *command, cwd=tmp_path)
    assert done.returncode == 1
    told = [line for line in (done.stdout + done.stderr).splitlines() if "live-asr[server]" in line]
    assert len(told) == 1
    assert "Traceback" not in done.stderr
    if command[0] != "doctor":
        assert done.stderr.splitlines() == told


def test_the_extras_are_what_the_makefile_and_the_container_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: " ".join(needs) for name, needs in project["optional-dependencies"].items()}
    assert "torch" in extras["server"] and "nvidia-cublas-cu12" in extras["cuda"]
    assert "EXTRAS ?= server\n" in (ROOT / "Makefile").read_text()
    assert "make install LOCKED=1 EXTRAS=server,cuda" in (ROOT / "Dockerfile").read_text()
