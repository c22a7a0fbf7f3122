"""Raw audio that is not what was declared."""

from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from live_asr.core.audio import SAMPLE_BYTES, alaw_table, mulaw_table
from live_asr.core.declaration import Declaration
from live_asr.core.messages import AudioFormat

Pcm = NDArray[np.int16]


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> Pcm:
    """The call from where somebody speaks."""
    return np.frombuffer(sample_pcm, "<i2")[16_000 * 6 :]


def said(data: bytes, encoding: str = "pcm_s16le", *, rate: int = 16_000, channels: int = 1) -> str | None:
    """Return what a client is told that declares this, fed as frames of 100 ms."""
    declaration = Declaration(AudioFormat(encoding, rate, channels))
    size = rate // 10 * SAMPLE_BYTES[encoding] * channels
    told = [declaration.look(data[first : first + size]) for first in range(0, len(data), size)]
    notices = [notice for notice in told if notice is not None]
    assert len(notices) <= 1
    return notices[0].message if notices else None


def companded(speech: Pcm, encoding: str) -> bytes:
    table = (mulaw_table() if encoding == "mulaw" else alaw_table()).astype(np.float64)
    table = table * 32768 if np.abs(table).max() <= 1 else table
    order = np.argsort(table)
    return order[np.clip(np.searchsorted(table[order], speech), 0, 255)].astype(np.uint8).tobytes()


def in_container(speech: Pcm, name: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=name) as container:
        stream = container.add_stream(codec, rate=48_000 if codec == "libopus" else 16_000)
        frame = av.AudioFrame.from_ndarray(speech[None], "s16", "mono")
        frame.sample_rate = 16_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


@pytest.mark.parametrize("level", [1.0, 0.1, 0.01])
def test_speech_that_is_as_declared_is_not_doubted(speech: Pcm, level: float) -> None:
    quiet = (speech * level).astype("<i2")
    assert said(quiet.tobytes()) is None
    assert said((quiet / 32768).astype("<f4").tobytes(), "pcm_f32le") is None
    assert said(np.repeat(quiet, 2).tobytes(), channels=2) is None
    assert said(companded(quiet, "mulaw"), "mulaw") is None
    assert said(companded(quiet, "alaw"), "alaw") is None


@pytest.mark.parametrize("encoding", list(SAMPLE_BYTES))
def test_silence_noise_and_tones_are_not_doubted(encoding: str) -> None:
    time = np.arange(16_000 * 5) / 16_000
    sounds = (
        np.zeros(time.size),
        np.random.default_rng(0).normal(0, 0.05, time.size),
        0.3 * np.sin(2 * np.pi * 440 * time),
    )
    for sound in sounds:
        pcm = (sound * 32767).astype("<i2")
        if encoding == "pcm_f32le":
            assert said(sound.astype("<f4").tobytes(), encoding) is None
        else:
            data = pcm.tobytes() if encoding == "pcm_s16le" else companded(pcm, encoding)
            assert said(data, encoding) is None


def test_what_it_looks_like_is_told_once_with_what_to_do(speech: Pcm) -> None:
    floats = (speech / 32768).astype("<f4").tobytes()
    assert "pcm_f32le: declare `audio.encoding` as pcm_f32le" in str(said(floats))
    assert "declare `audio.encoding` as pcm_s16le" in str(said(speech.tobytes(), "pcm_f32le"))
    assert "big-endian" in str(said(speech.astype(">i2").tobytes()))
    assert "floats that are not from -1 to 1" in str(said(speech.astype("<f4").tobytes(), "pcm_f32le"))
    assert "mulaw or alaw" in str(said(companded(speech, "mulaw")))
    assert "declare `audio.channels` as 2" in str(said(np.repeat(speech, 2).astype("<i2").tobytes()))
    assert "base64" in str(said(base64.b64encode(speech.tobytes())))


@pytest.mark.parametrize(
    ("name", "codec", "told"),
    [
        ("webm", "libopus", "WebM or Matroska"),
        ("ogg", "libopus", "Ogg"),
        ("wav", "pcm_s16le", "WAV"),
        ("flac", "flac", "FLAC"),
        ("mp3", "libmp3lame", "MP3"),
        ("adts", "aac", "MP3 or AAC"),
    ],
)
def test_a_file_is_known_by_how_it_begins(speech: Pcm, name: str, codec: str, told: str) -> None:
    found = str(said(in_container(speech[: 16_000 * 5], name, codec)))
    assert told in found
    assert "declare `audio.encoding` as container" in found
