"""The audio that is kept of sessions, as players read it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from live_asr.core.audio import SAMPLE_BYTES
from live_asr.core.messages import AudioFormat
from live_asr.storage.files import format_in
from live_asr.storage.journal import Journal

WAV_FORMATS = {"pcm_s16le": 1, "pcm_f32le": 3, "alaw": 6, "mulaw": 7}
WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
LARGEST_WAV_BYTES = 2**32 - 1
CONTAINERS = (
    (b"\x1aE\xdf\xa3", 0, "video/webm"),
    (b"OggS", 0, "audio/ogg"),
    (b"fLaC", 0, "audio/flac"),
    (b"RIFF", 0, "audio/wav"),
    (b"ID3", 0, "audio/mpeg"),
    (b"\xff\xfb", 0, "audio/mpeg"),
    (b"ftyp", 4, "video/mp4"),
)
"""What containers begin with, at which byte, and what they are called on the web."""


@dataclass(frozen=True, slots=True)
class Playable:
    """A file that a player reads: a header that is made up, then what is kept."""

    size_bytes: int
    """Of what is kept."""
    media_type: str
    path: Path | None
    """Where what is kept is a file."""
    header: bytes = b""
    object_key: str | None = None
    """Where it is in the object store, if it is there."""


def playable(journal: Journal, session_id: str) -> Playable | None:
    """Return the audio that is kept of a session that is over; None where none is. Blocks."""
    kept = journal.kept_audio(session_id)
    if kept is None:
        return None
    if kept.is_compressed:
        return Playable(kept.size_bytes, "audio/flac", kept.path)
    try:
        audio = format_in(journal.about(session_id))
    except KeyError:  # erased in the meantime
        return None
    if audio is None:
        return None
    if audio.encoding == "container":
        return Playable(kept.size_bytes, _media_type(kept.beginning), kept.path)
    return Playable(kept.size_bytes, "audio/wav", kept.path, _wav_header(audio, kept.size_bytes))


def _media_type(beginning: bytes) -> str:
    known = (name for magic, at, name in CONTAINERS if beginning[at:].startswith(magic))
    return next(known, "application/octet-stream")


def _wav_header(audio: AudioFormat, size_bytes: int) -> bytes:
    """Return what makes raw samples a WAV; one that is too long for the format says the most that it can."""
    sample_bytes = SAMPLE_BYTES[audio.encoding]
    frame_bytes = sample_bytes * audio.channels
    rest_bytes = WAV_HEADER.size - 8
    data_bytes = min(size_bytes, LARGEST_WAV_BYTES - rest_bytes)
    return WAV_HEADER.pack(
        *(b"RIFF", data_bytes + rest_bytes, b"WAVE", b"fmt ", 16),
        *(WAV_FORMATS[audio.encoding], audio.channels, audio.sample_rate),
        *(audio.sample_rate * frame_bytes, frame_bytes, 8 * sample_bytes, b"data", data_bytes),
    )
