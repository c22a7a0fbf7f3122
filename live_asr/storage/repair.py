"""What of a session's files can be believed after a crash; what cannot is cut off.

A torn tail, a stretch that the disk lost and a flipped bit are all found by checksums: each kept message
has its own, and audio has those of `CHECKS_FILE`, one for what was written at once.
"""

from __future__ import annotations

import logging
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from live_asr.core.audio import SAMPLE_BYTES
from live_asr.storage.files import (
    AUDIO_FILE,
    CHECK,
    CHECKS_FILE,
    FLAC_FILE,
    MESSAGES_FILE,
    PIECE_BYTES,
    SPAN,
    UNFINISHED_FILE,
    check_of,
    format_of,
    sync_folder,
    sync_session,
    unsealed,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IntactPrefix:
    """What of a session's files can be believed."""

    audio_bytes: int
    message_count: int


def repair(folder: Path) -> IntactPrefix:
    """Cut a session's messages and its audio behind the last of each that is intact, and sync them. Blocks.

    Afterwards both can be added to; doing it again changes nothing. Raises OSError.
    """
    intact = IntactPrefix(_repair_audio(folder), repair_messages(folder / MESSAGES_FILE))
    # A server that was killed may have written what it did not get to sync: it is read, and would be
    # acknowledged, but a power cut now would take it.
    sync_session(folder)
    sync_folder(folder)
    return intact


def repair_messages(path: Path) -> int:
    """Cut behind the last message that is whole and follows on those before it; return how many there are.

    Blocks. Raises OSError.
    """
    kept = path.read_bytes() if path.exists() else b""
    whole_bytes = count = 0
    for line in kept.splitlines(keepends=True):
        message = unsealed(line)
        if message is None or _seq_of(message) != count + 1:
            break
        count += 1
        whole_bytes += len(line)
    _cut(path, len(kept), whole_bytes)
    return count


def _seq_of(text: bytes) -> object:
    try:
        message = orjson.loads(text)
    except ValueError:
        return None
    return message.get("seq") if isinstance(message, dict) else None


def _repair_audio(folder: Path) -> int:
    """Cut behind the last batch that is as it was written; return how many bytes there are.

    Where nothing tells which are, all of it is believed.
    """
    if (folder / UNFINISHED_FILE).exists() or (folder / FLAC_FILE).exists():
        return 0  # the session is done, and the compressor may be at its audio at this moment
    audio, checks = folder / AUDIO_FILE, folder / CHECKS_FILE
    size_bytes = audio.stat().st_size if audio.exists() else 0
    if not checks.exists():  # of a version that made none: its audio is believed
        if audio.exists():
            _make_checks(audio, checks)
        return size_bytes
    kept = checks.read_bytes()  # 300 kB an hour
    sound_bytes = sound_count = 0
    if size_bytes:
        with audio.open("rb") as reading:
            sound_bytes, sound_count = _sound_audio(reading, size_bytes, kept, folder)
        if not sound_count:
            # The disk lost the checks, or a crash came before the first one: then it is the beginning of a
            # batch that nobody was told of, some noise at worst. Acknowledged audio is nowhere else by now.
            log.warning("%s: no check matches any of %d bytes, which stay, unchecked", audio, size_bytes)
            _make_checks(audio, checks)
            return size_bytes
    _cut(audio, size_bytes, sound_bytes)
    _cut(checks, len(kept), sound_count * CHECK.size)
    return sound_bytes


def _sound_audio(reading: BinaryIO, size_bytes: int, kept: bytes, folder: Path) -> tuple[int, int]:
    """Return where the last intact batch ends, in the audio and among the checks.

    What does not match but has intact audio behind it is told of and stays as it is.
    """
    sound_bytes = sound_count = 0
    whole = kept[: len(kept) // CHECK.size * CHECK.size]
    for number, (end_bytes, length_bytes, crc) in enumerate(CHECK.iter_unpack(whole), 1):
        start_bytes = end_bytes - length_bytes
        if not sound_bytes <= start_bytes < end_bytes <= size_bytes:
            continue
        if _crc_of(reading, end_bytes, length_bytes) != crc:
            continue
        if start_bytes > sound_bytes:
            where = f"bytes {sound_bytes} to {start_bytes}{_time_of(folder, sound_bytes, start_bytes)}"
            log.warning("%s: %s are not as they were written, and stay as they are", folder, where)
        sound_bytes, sound_count = end_bytes, number
    return sound_bytes, sound_count


def _crc_of(reading: BinaryIO, end_bytes: int, length_bytes: int) -> int:
    """Return the checksum that a batch has by what is on the disk now, reading a piece at a time."""
    crc = zlib.crc32(SPAN.pack(end_bytes, length_bytes))
    reading.seek(end_bytes - length_bytes)
    while length_bytes > 0 and (piece := reading.read(min(PIECE_BYTES, length_bytes))):
        crc = zlib.crc32(piece, crc)
        length_bytes -= len(piece)
    return crc


def _time_of(folder: Path, start_bytes: int, end_bytes: int) -> str:
    """Say where in the recording bytes are; nothing where that cannot be told, as in a container."""
    audio = format_of(folder)
    if audio is None or audio.encoding not in SAMPLE_BYTES:
        return ""
    rate_bytes = SAMPLE_BYTES[audio.encoding] * audio.channels * audio.sample_rate
    return f" ({start_bytes / rate_bytes:.2f} s to {end_bytes / rate_bytes:.2f} s)"


def _make_checks(audio: Path, checks: Path) -> None:
    """Check audio from here on that had no checks so far: all of it, or none where that is interrupted."""
    unfinished = checks.with_suffix(".new")
    end_bytes = 0
    with audio.open("rb") as reading, unfinished.open("wb") as writing:
        while piece := reading.read(PIECE_BYTES):
            end_bytes += len(piece)
            writing.write(check_of(piece, end_bytes))
        writing.flush()
        os.fsync(writing.fileno())
    unfinished.replace(checks)
    sync_folder(checks.parent)


def _cut(path: Path, size_bytes: int, sound_bytes: int) -> None:
    if sound_bytes < size_bytes:
        log.warning("%s: the last %d bytes cannot be trusted and are cut off", path, size_bytes - sound_bytes)
        os.truncate(path, sound_bytes)
