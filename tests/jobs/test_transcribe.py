"""The command `transcribe`, as a user runs it: files, folders, exit statuses, and who is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import srt
import webvtt

from benchmarks.inbox import Inbox
from tests.jobs.conftest import SECRET, TIMEOUT
from tests.started import MODEL, ROOT


def command(*arguments: object, data: Path, models_dir: Path, **more: str) -> subprocess.Popen[str]:
    """Start the command."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "live_asr.cli", "transcribe", *map(str, arguments)),
            *("--model", MODEL, "--device", "cpu", "--data", str(data)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=data.parent,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "LIVE_ASR_MODELS__DIR": str(models_dir),
            "LIVE_ASR_WEBHOOK__SECRET": SECRET,
            **more,
        },
    )


@pytest.fixture
def talks(tmp_path: Path, recording: bytes) -> Iterator[Path]:
    """A folder with two recordings, one of them deeper, and what is none."""
    folder = tmp_path / "talks"
    (folder / "deeper").mkdir(parents=True)
    (folder / "call.wav").write_bytes(recording)
    (folder / "deeper" / "again.wav").write_bytes(recording)
    (folder / "broken.mp3").write_bytes(b"<html>not found</html>")
    (folder / "notes.txt").write_text("These are no transcripts.")
    yield folder


def test_a_folder_is_written_down_told_of_and_left_alone_the_next_time(
    talks: Path, tmp_path: Path, models_dir: Path, platform: Inbox
) -> None:
    data = tmp_path / "data"
    first = command(talks, "--webhook", platform.url, "--lanes", 2, data=data, models_dir=models_dir)
    said, _ = first.communicate(timeout=TIMEOUT)
    assert first.returncode == 1, said
    assert "2 written down, 0 already written down, 1 failed" in said
    assert "broken.mp3: The bytes are an HTML page" in said

    for path in (talks / "call", talks / "deeper" / "again"):
        written = json.loads(path.with_suffix(".json").read_text())
        assert "Sheila" in written["text"]
        assert {one["speaker"] for one in written["segments"]} == {"SPEAKER_00", "SPEAKER_01"}
        assert "Sheila" in path.with_suffix(".txt").read_text()
        assert len(list(webvtt.read(str(path.with_suffix(".vtt"))))) > 3
        assert len(list(srt.parse(path.with_suffix(".srt").read_text()))) > 3
        assert path.with_suffix(".rttm").read_text().startswith("SPEAKER ")
    told = {Path(str(one.body["jobId"])).name: one.body for one in platform.told}
    assert {name: body["status"] for name, body in told.items()} == {
        "call.wav": "success",
        "again.wav": "success",
        "broken.mp3": "failed",
    }
    assert told["broken.mp3"]["error"]["code"] == "not_audio"
    assert len(told["call.wav"]["diarization"]) == 2
    assert (talks / "notes.txt").read_text() == "These are no transcripts."

    (talks / "broken.mp3").unlink()
    second = command(talks, data=data, models_dir=models_dir)
    said, _ = second.communicate(timeout=TIMEOUT)
    assert second.returncode == 0, said
    assert "0 written down, 2 already written down, 0 failed" in said


@pytest.mark.parametrize("is_configured", [True, False])
def test_the_bearer_goes_to_the_address_of_the_settings_alone(
    tmp_path: Path, models_dir: Path, platform: Inbox, is_configured: bool
) -> None:
    (tmp_path / "broken.mp3").write_bytes(b"<html>not found</html>")
    running = command(
        tmp_path / "broken.mp3",
        *("--no-diarize", "--webhook", platform.url),
        data=tmp_path / "data",
        models_dir=models_dir,
        LIVE_ASR_WEBHOOK__BEARER="s3cret",
        LIVE_ASR_WEBHOOK__URL=platform.url if is_configured else "https://hooks.example.com/asr",
    )
    said, _ = running.communicate(timeout=TIMEOUT)
    (told,) = platform.told
    assert told.authorization == ("Bearer s3cret" if is_configured else None), said


def test_a_folder_that_is_watched_is_written_down_as_recordings_come(
    tmp_path: Path, recording: bytes, models_dir: Path
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    out = tmp_path / "out"
    watching = command(
        folder,
        *("--watch", "--no-diarize", "--output", out),
        data=tmp_path / "data",
        models_dir=models_dir,
    )
    try:
        # It comes in two pieces, as a copy over a slow line does.
        with (folder / "late.wav").open("wb") as file:
            file.write(recording[:500_000])
            file.flush()
            file.write(recording[500_000:])
        deadline = time.monotonic() + TIMEOUT
        while not (out / "late.json").exists():
            assert watching.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)  # between two looks at another process
        assert "Sheila" in json.loads((out / "late.json").read_text())["text"]
        watching.send_signal(signal.SIGINT)
        said, _ = watching.communicate(timeout=TIMEOUT)
        assert watching.returncode == 0, said
        assert "1 written down" in said
    finally:
        watching.kill()


def test_what_is_not_there_is_said_before_anything_is_loaded(tmp_path: Path, models_dir: Path) -> None:
    done = command(tmp_path / "none.mp3", data=tmp_path / "data", models_dir=models_dir)
    said, _ = done.communicate(timeout=TIMEOUT)
    assert done.returncode == 2
    assert said.startswith("Error: There is no ")
