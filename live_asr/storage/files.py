"""The files of a session: their names, and how they are written and read back."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import re
import shutil
import struct
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from live_asr.core.errors import ClientError, DiskFull, StorageError, Superseded
from live_asr.core.messages import AudioFormat, Start, client_from_dict
from live_asr.core.types import Turn, samples, seconds
from live_asr.storage.spool import Batch

log = logging.getLogger(__name__)

SEAL = re.compile(rb'\{"crc":"([0-9a-f]{8})",')
"""What the line of a kept message begins with."""
UNSEALED = b'{"type":'
"""What it began with before there were seals."""
RESERVE_BYTES = 256 * 1024 * 1024
"""What work that can wait leaves free on the disk: sessions that go on need it more."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a disk without room says."""
PIECE_BYTES = 64 * 1024
"""Audio is read back in pieces of this size."""
AUDIO_FILE = "audio.bin"
CHECKS_FILE = "audio.crc"
"""A record for each batch of audio, from the first on; see `check_of`."""
SPAN = struct.Struct("<QI")
"""Where a batch of audio ends in its file, and its length in bytes."""
CHECK = struct.Struct("<QII")
"""The same, and the CRC-32 of that and of the audio."""
FLAC_FILE = "audio.flac"
"""Replaces both where audio that is kept is compressed."""
UNFINISHED_FILE = "audio.flac.new"
"""Says that the session is done and its audio to be compressed: whoever finds it goes on with that."""
DECODED_FILE = "audio.pcm"
"""The recording decoded, for as long as the full pass takes; `erase_audio` finds it if it is left over."""
MESSAGES_FILE = "messages.jsonl"
ABOUT_FILE = "session.json"
TURNS_FILE = "turns.json"
LIVE_TURNS_FILE = "turns-live.json"
STATE_FILE = "state.json"
"""What the messages do not tell; always written with those that go with it, and replaced by the next."""
EPOCH_FILE = "epoch"
"""Which of the session's writers may write, as a number; there is none before somebody has taken it over."""


def write_batch(folder: Path, batch: Batch, epoch: int) -> None:
    """Write what waits of a session, the audio first: no message tells of audio that is not there.

    It is not synced yet. Blocks. Raises OSError, and Superseded where the session has a newer writer.
    """
    with check_epoch(folder, epoch):
        if batch.audio:
            append(folder / AUDIO_FILE, batch.audio)
            append(folder / CHECKS_FILE, check_of(batch.audio, batch.position_bytes))
        if batch.messages:
            append(folder / MESSAGES_FILE, b"".join(map(with_checksum, batch.messages)))
        if batch.state is not None:
            # An older one does, and whatever else is wrong the next batch will meet.
            with suppress(OSError):
                replace_file(folder / STATE_FILE, batch.state)


def sync_session(folder: Path) -> None:
    """Sync what `write_batch` has written of a session and was not erased. Blocks. Raises OSError."""
    for file in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE):
        with suppress(FileNotFoundError):
            sync_file(folder / file)


@contextmanager
def check_epoch(folder: Path, epoch: int) -> Iterator[None]:
    """Keep others from taking a session over for as long as the block lasts. Blocks.

    Raises Superseded where somebody has, and OSError.
    """
    with _locked(folder, fcntl.LOCK_SH):
        if read_epoch(folder) != epoch:
            raise superseded()
        yield


@contextmanager
def raise_epoch(folder: Path) -> Iterator[int]:
    """Take a session over; give the new epoch, which is in force once the block has come to its end. Blocks.

    What its older writer has begun is written before. In the block, see that it is on disk: from then on
    nobody looks for it in a log. Raises OSError.
    """
    with _locked(folder, fcntl.LOCK_EX):
        epoch = read_epoch(folder) + 1
        yield epoch
        unfinished = folder / f"{EPOCH_FILE}.new"
        unfinished.unlink(missing_ok=True)
        append_synced(unfinished, b"%d\n" % epoch)
        unfinished.replace(folder / EPOCH_FILE)
        sync_folder(folder)


def read_epoch(folder: Path) -> int:
    """Return which writer of a session is the one that may write; 1 where none has taken it over."""
    try:
        return int((folder / EPOCH_FILE).read_bytes())
    except FileNotFoundError:
        return 1
    except ValueError:  # a disk that lost it, which the folder's lock makes up for
        log.warning("%s has an epoch that cannot be read", folder)
        return 1


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def prepare(folder: Path) -> None:
    """Make the folder and try to write in it. Blocks. Raises StorageError when that cannot be done."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _try_writing(folder, 8)
    except OSError as error:
        raise StorageError(
            f"Nothing can be written in {folder}: {error.strerror or error}.",
            "Use --data to name a folder that this user can write to, on a disk with free space.",
        ) from error


def check_write(folder: Path, size_bytes: int) -> None:
    """Refuse where so much cannot be written now. Blocks. Raises DiskFull or another StorageError."""
    try:
        _try_writing(folder, size_bytes)
    except OSError as error:
        raise storage_error(error) from error


def _try_writing(folder: Path, size_bytes: int) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(size_bytes))
        file.flush()
        os.fsync(file.fileno())


def check_room(folder: Path, needed_bytes: int) -> None:
    """Refuse work that can wait where the disk has no room for it beside `RESERVE_BYTES`. Blocks.

    Raises DiskFull, and OSError where it cannot be told.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + RESERVE_BYTES:
        needed, free, reserve = (round(count / 1e6, 1) for count in (needed_bytes, free_bytes, RESERVE_BYTES))
        raise DiskFull(
            f"The server's disk has no room for {needed} MB: {free} MB are free, of which {reserve} are for "
            "live sessions.",
            "The operator has to free some space.",
        )


def append(path: Path, data: bytes) -> None:
    """Add to a file. Blocks. Raises OSError."""
    # Without Python's files around it: each session does this some ten times a second.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def append_synced(path: Path, data: bytes) -> None:
    """Add to a file and sync it. Blocks. Raises OSError."""
    append(path, data)
    sync_file(path)


def write_all(descriptor: int, data: bytes) -> None:
    """Write to an open file. Blocks. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


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


def format_of(folder: Path) -> AudioFormat | None:
    """Return what a session's client said its audio would be; None where that cannot be read. Blocks."""
    return format_in(read_object(folder / ABOUT_FILE))


def format_in(about: Mapping[str, Any]) -> AudioFormat | None:
    """Return the same from what is remembered of a session."""
    try:
        start = client_from_dict(about.get("start"))
    except ClientError:
        return None
    return start.audio if isinstance(start, Start) else None


def replace_file(path: Path, data: bytes) -> None:
    """Replace a small file as a whole. It is not synced: who finds none, or a torn one, can do without."""
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def turns_as_json(turns: Iterable[Turn]) -> bytes:
    """Return who spoke when as it is kept."""
    return orjson.dumps(
        [
            {"start": seconds(turn.start_sample), "end": seconds(turn.end_sample), "speaker": turn.speaker}
            for turn in turns
        ]
    )


def turns_from_json(kept: bytes) -> tuple[Turn, ...]:
    """Read who spoke when. Raises ValueError, KeyError and TypeError."""
    return tuple(
        Turn(samples(row["start"]), samples(row["end"]), row["speaker"]) for row in orjson.loads(kept)
    )


def write_turns(path: Path, turns: Iterable[Turn]) -> None:
    """Replace a file by who spoke when, and sync it: all of it is there, or what was. Raises OSError."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    append_synced(unfinished, turns_as_json(turns))
    unfinished.replace(path)
    sync_folder(path.parent)


def read_turns(path: Path) -> tuple[Turn, ...]:
    """Return who spoke when; nothing where the file is not there or cannot be read."""
    try:
        return turns_from_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return ()


def sync_file(path: Path) -> None:
    """Sync what is written in a file, by whomever. Blocks. Raises OSError."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Sync which files there are in a folder. Blocks. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def erase_audio(folder: Path) -> bool:
    """Erase a session's audio, in all its forms; return whether there was any. Blocks. Raises OSError."""
    erased = False
    while paths := list(folder.glob("audio.*")):  # again: it may be being compressed, and get another name
        for path in paths:
            path.unlink(missing_ok=True)
        erased = True
    if erased:
        sync_folder(folder)
    return erased


def made(folder: Path) -> Path:
    """Return a folder, made for this user alone where it was not there. Blocks. Raises StorageError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error) from error
    return folder


def storage_error(error: Exception) -> StorageError:
    """Say for people that the disk refused; as DiskFull where it has no room."""
    reason = getattr(error, "strerror", None) or str(error)
    kind = DiskFull if getattr(error, "errno", None) in FULL else StorageError
    return kind(
        f"The server cannot write its files: {reason}.",
        "The operator has to make room or give the server a folder that it may write (--data).",
    )


def superseded() -> Superseded:
    """Return the refusal of a writer whose session has a newer one."""
    return Superseded("Another writer has taken this session over.", "Resume the session.")


def check_of(audio: bytes, end_bytes: int) -> bytes:
    """Return the record that tells whether a batch of audio, which ends there, is as it was written.

    It says itself where the batch begins, so that one that is changed puts no other in doubt.
    """
    span = SPAN.pack(end_bytes, len(audio))
    return CHECK.pack(end_bytes, len(audio), zlib.crc32(audio, zlib.crc32(span)))


def with_checksum(message: bytes) -> bytes:
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


async def pieces_of(path: Path, end_bytes: int, position_bytes: int = 0) -> AsyncIterator[bytes]:
    """Yield a file in pieces, from a position to `end_bytes`. Raises StorageError where it cannot be read."""
    try:
        with await asyncio.to_thread(path.open, "rb") as file:
            file.seek(position_bytes)
            while position_bytes < end_bytes:
                piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, end_bytes - position_bytes))
                if not piece:
                    return
                position_bytes += len(piece)
                yield piece
    except OSError as error:
        raise storage_error(error) from error
