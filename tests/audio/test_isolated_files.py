"""Files that lie on the disk, decoded where they lie."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest

from live_asr.audio import isolated_files as guarded_files
from live_asr.audio.isolated_files import duration_of
from live_asr.audio.recording import write_file_pcm
from live_asr.core.errors import DecoderError, MediaError

LONG = 10**9


def encoded(wav: Path, target: Path, codec: str, **options: str) -> Path:
    """Write a recording in another container."""
    with av.open(str(wav)) as reading, av.open(str(target), "w", options=options) as writing:
        stream = writing.add_stream(codec, rate=16_000)
        for frame in reading.decode(audio=0):
            writing.mux(stream.encode(frame))
        writing.mux(stream.encode(None))
    return target


@pytest.mark.parametrize(
    ("name", "codec", "options", "container"),
    [
        ("talk.mp4", "aac", {}, "mov,mp4,m4a,3gp,3g2,mj2"),
        ("talk.m4a", "aac", {"movflags": "faststart"}, "mov,mp4,m4a,3gp,3g2,mj2"),
        ("talk.mkv", "flac", {}, "matroska"),
        ("talk.mp3", "mp3", {}, "mp3"),
        ("talk.flac", "flac", {}, "flac"),
    ],
)
def test_every_container_gives_the_recording_whole_and_nothing_is_copied(
    sample_wav: Path,
    sample_pcm: bytes,
    tmp_path: Path,
    name: str,
    codec: str,
    options: dict[str, str],
    container: str,
) -> None:
    source = encoded(sample_wav, tmp_path / name, codec, **options)
    target = tmp_path / "work" / "audio.pcm"
    target.parent.mkdir()
    count, found = write_file_pcm(source, target, longest_samples=LONG)
    assert found == container
    assert count == pytest.approx(len(sample_pcm) // 2, abs=4000)
    heard, said = (np.frombuffer(raw, "<i2").astype(float) for raw in (target.read_bytes(), sample_pcm))
    length = min(heard.size, said.size) - 4000
    likeness = max(
        np.corrcoef(heard[shift : shift + length], said[:length])[0, 1] for shift in range(0, 4000, 16)
    )
    assert likeness > 0.9
    assert list(target.parent.iterdir()) == [target]


def test_what_is_longer_than_allowed_is_refused_when_it_is(sample_wav: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        write_file_pcm(sample_wav, tmp_path / "audio.pcm", longest_samples=10 * 16_000)
    assert caught.value.code == "too_long"


@pytest.mark.parametrize(
    "content", [b"", b"rubbish" * 1000, b"PK\x03\x04" + bytes(100), b"\x00\x00\x00\x20ftypisom"]
)
def test_what_holds_no_sound_is_no_recording(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "talk").write_bytes(content)
    with pytest.raises(MediaError) as caught:
        write_file_pcm(tmp_path / "talk", tmp_path / "audio.pcm", longest_samples=LONG)
    assert caught.value.code == "not_audio"


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_file_that_kills_its_decoder_is_tried_once_more_and_harms_nobody_else(
    sample_wav: Path, sample_pcm: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start, answer = guarded_files.start_worker, guarded_files.answer_of

    def keeping(*arguments: str, stdin: object) -> subprocess.Popen[bytes]:
        started.append(start(*arguments, stdin=stdin))  # type: ignore[arg-type]
        return started[-1]

    def dying(pipe: object, most_bytes: int) -> object:
        if len(started) <= deaths:
            os.kill(started[-1].pid, signal.SIGKILL)
            started[-1].wait()
            raise EOFError("what it leaves in the pipe is not looked at")
        return answer(pipe, most_bytes)  # type: ignore[arg-type]

    monkeypatch.setattr(guarded_files, "start_worker", keeping)
    monkeypatch.setattr(guarded_files, "answer_of", dying)
    target = tmp_path / "audio.pcm"
    if deaths == 1:
        assert write_file_pcm(sample_wav, target, longest_samples=LONG) == (len(sample_pcm) // 2, "wav")
        assert target.read_bytes() == sample_pcm
    else:
        with pytest.raises(MediaError, match="broken their decoder"):
            write_file_pcm(sample_wav, target, longest_samples=LONG)
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)


def test_whoever_stops_leaves_no_process_behind(
    sample_wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = guarded_files.start_worker

    def keeping(*arguments: str, stdin: object) -> subprocess.Popen[bytes]:
        started.append(start(*arguments, stdin=stdin))  # type: ignore[arg-type]
        return started[-1]

    monkeypatch.setattr(guarded_files, "start_worker", keeping)
    count, _ = write_file_pcm(sample_wav, tmp_path / "audio.pcm", longest_samples=LONG, stopped=lambda: True)
    assert 0 < count < 3 * 16_000
    assert [process.returncode is not None for process in started] == [True]


def test_where_no_process_can_be_started_nothing_is_said_of_the_file(
    sample_wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(DecoderError):
        write_file_pcm(sample_wav, tmp_path / "audio.pcm", longest_samples=LONG)
    with sample_wav.open("rb") as file:
        assert duration_of(file) is None


def test_how_long_a_file_says_that_it_is_and_who_reads_it_meanwhile_keeps_the_place(
    sample_wav: Path, sample_pcm: bytes
) -> None:
    with tempfile.SpooledTemporaryFile(max_size=2**30) as spooled, sample_wav.open("rb") as lying:
        spooled.write(sample_wav.read_bytes())
        for file in (spooled, lying):
            file.seek(1000)
            assert duration_of(file) == pytest.approx(len(sample_pcm) / 32_000)  # type: ignore[arg-type]
            assert file.read() == sample_wav.read_bytes()[1000:]
    with tempfile.SpooledTemporaryFile() as rubbish:
        rubbish.write(b"rubbish" * 1000)
        assert duration_of(rubbish) is None  # type: ignore[arg-type]
