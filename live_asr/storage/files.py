"""The files of a session: their names, and how they are written, read back and mended."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import tempfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from live_asr.errors import StorageError

log = logging.getLogger(__name__)

SEAL = re.compile(rb'\{"crc":"([0-9a-f]{8})",')
"""What the line of a kept message begins with."""
UNSEALED = b'{"type":'
"""What it began with before there were seals."""
PIECE_BYTES = 64 * 1024
"""Audio is read back in pieces of this size."""
AUDIO_FILE = "audio.bin"
MESSAGES_FILE = "messages.jsonl"
ABOUT_FILE = "session.json"
TURNS_FILE = "turns.json"
LIVE_TURNS_FILE = "turns-live.json"
STATE_FILE = "state.json"
"""What the messages do not tell; always written with those that go with it, and replaced by the next."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is written to one session's files in one go."""

    folder: Path
    audio: bytes
    messages: bytes
    state: bytes | None
    position_bytes: int
    """Audio that is safe once this is on disk."""
    count: int
    """Messages that are kept then."""

    def write(self) -> OSError | None:
        """Write and sync it, the audio first: no message tells of audio that is not there. Blocks."""
        try:
            if self.audio:
                append_synced(self.folder / AUDIO_FILE, self.audio)
            if self.messages:
                append_synced(self.folder / MESSAGES_FILE, self.messages)
            if self.state is not None:
                replace_file(self.folder / STATE_FILE, self.state)
        except OSError as error:
            return error
        return None


def prepare(folder: Path) -> None:
    """Make the folder and try to write in it. Blocks. Raises StorageError when that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"live-asr")
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"Nothing can be written in {folder}: {error.strerror or error}.",
            "Name a folder that this user may write, on a disk that has room, with --data.",
        ) from error


def append_synced(path: Path, data: bytes) -> None:
    """Add to a file and sync it. Blocks. Raises OSError."""
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is none that can be read."""
    try:
        value = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return {}
    return value if isinstance(value, dict) else {}


def replace_file(path: Path, data: bytes) -> None:
    """Replace a small file as a whole. It is not synced: who finds none, or a torn one, can do without."""
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def sync_folder(folder: Path) -> None:
    """Sync which files there are in a folder. Blocks. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_error(error: Exception) -> StorageError:
    """Say for people that the disk refused."""
    reason = getattr(error, "strerror", None) or str(error)
    return StorageError(
        f"The server cannot write its files: {reason}.",
        "The operator has to make room or give the server a folder that it may write (--data).",
    )


@dataclass(frozen=True, slots=True)
class Sound:
    """What of a session's files can be believed."""

    audio_bytes: int
    message_count: int


def sealed(message: bytes) -> bytes:
    """Return a message, a JSON object, as a line whose first key is its CRC-32: it tells what was changed."""
    rest = message[1:]
    return b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)


def unsealed(line: bytes) -> bytes | None:
    """Return the message of a line; None where it is torn or changed."""
    found = SEAL.match(line)
    if not line.endswith(b"\n"):
        return None
    if found is None:  # of a version that did not seal
        return line[:-1] if line.startswith(UNSEALED) else None
    rest = line[found.end() : -1]
    return b"{" + rest if zlib.crc32(rest) == int(found[1], 16) else None


def mend(folder: Path) -> Sound:
    """Cut a session's messages behind the last one that is whole, and follows on those before it. Blocks.

    A torn tail, a stretch that the disk lost and a flipped bit are alike: what comes behind them is no record
    any more. Raises OSError.
    """
    audio, messages = folder / AUDIO_FILE, folder / MESSAGES_FILE
    kept = messages.read_bytes() if messages.exists() else b""
    whole_bytes = count = 0
    for line in kept.splitlines(keepends=True):
        message = unsealed(line)
        if message is None or _seq_of(message) != count + 1:
            break
        count += 1
        whole_bytes += len(line)
    if whole_bytes < len(kept):
        log.warning("%s: the last %d bytes cannot be read and are cut", messages, len(kept) - whole_bytes)
        os.truncate(messages, whole_bytes)
    return Sound(audio.stat().st_size if audio.exists() else 0, count)


def _seq_of(text: bytes) -> object:
    try:
        message = orjson.loads(text)
    except ValueError:
        return None
    return message.get("seq") if isinstance(message, dict) else None


async def pieces_of(path: Path, length_bytes: int) -> AsyncIterator[bytes]:
    """Yield the first `length_bytes` of a file in pieces. Raises StorageError where it cannot be read."""
    position_bytes = 0
    try:
        with await asyncio.to_thread(path.open, "rb") as file:
            while position_bytes < length_bytes:
                piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, length_bytes - position_bytes))
                if not piece:
                    return
                position_bytes += len(piece)
                yield piece
    except OSError as error:
        raise storage_error(error) from error
