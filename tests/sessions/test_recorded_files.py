"""Files that lie on the disk, decoded where they lie."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from live_asr.errors import MediaError
from live_asr.sessions.recording import write_file_pcm

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
