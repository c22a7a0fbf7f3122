"""One file for what all sessions write: it is synced in one go, and costs the same however many they are.

What waits is written to the sessions' own files, which the system brings to disk when it likes, and to the
log, which is synced. Every `SETTLE_INTERVAL` the own files are synced, too, and the log begins anew. After a
power cut the next run writes into the sessions' files what the log has.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import orjson

from live_asr.storage.files import (
    AUDIO_FILE,
    CHECK,
    CHECKS_FILE,
    FLAC_FILE,
    MESSAGES_FILE,
    append,
    check_of,
    sync_folder,
    sync_session,
    with_checksum,
    write_all,
)
from live_asr.storage.repair import repair
from live_asr.storage.spool import Batch

log = logging.getLogger(__name__)

SETTLE_INTERVAL = 10.0
"""Seconds after which the log begins anew."""
MOST_BYTES = 64 * 1024 * 1024
"""What it holds about at most."""
NAME = ".log-"
"""Before the name of a log: then comes its run, and a number that grows."""
FRAME = struct.Struct("<II")
"""Before each entry: its bytes, and their CRC-32."""


class WriteAheadLog:
    """The log of one run, below a folder that holds a folder for each session. All of it blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run = secrets.token_hex(4)
        self._number = 0
        self._descriptor: int | None = None
        """Of the file that is added to; None before there is one."""
        self._paths: list[Path] = []
        """Files that are there, the one that is added to among them."""
        self._dirty: set[Path] = set()
        """Folders of sessions whose own files may not be on disk."""
        self._bytes = 0
        self._due_at = 0.0
        self._lock = Lock()

    @property
    def is_due(self) -> bool:
        """Whether it should begin anew."""
        return bool(self._dirty) and (time.monotonic() >= self._due_at or self._bytes > MOST_BYTES)

    def hasten(self) -> None:
        """Have it begin anew soon: something in it was erased elsewhere."""
        self._due_at = 0.0

    def append(self, written: Sequence[tuple[Path, Batch]]) -> None:
        """Bring to disk what was written of these sessions, each named by its folder. Raises OSError.

        Where it does, their own files have to be synced in its place.
        """
        content = b"".join(_entry(folder.name, batch) for folder, batch in written)
        with self._lock:
            if not self._dirty:
                self._due_at = time.monotonic() + SETTLE_INTERVAL
            self._dirty.update(folder for folder, _ in written)
            try:
                if self._descriptor is None:
                    self._descriptor = self._begun()
                write_all(self._descriptor, content)
                os.fdatasync(self._descriptor)
                self._bytes += len(content)
            except OSError:
                self._end()  # what came behind half an entry would not be read
                raise

    def settle(self) -> dict[Path, OSError]:
        """Sync the own files of all sessions, and begin anew; return of which sessions that failed.

        Then the log stays for the next run: what the disk has of their files nobody knows any more.
        """
        with self._lock:
            self._end()
            paths, dirty = self._paths, self._dirty
            self._paths, self._dirty, self._bytes = [], set(), 0
        faults: dict[Path, OSError] = {}
        for folder in dirty:
            try:
                sync_session(folder)
            except OSError as error:
                faults[folder] = error
        if not faults:
            for path in paths:
                path.unlink(missing_ok=True)
        return faults

    def _begun(self) -> int:
        self._number += 1
        path = self._folder / f"{NAME}{self._run}-{self._number}"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            self._paths.append(path)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # which the kernel lets go of when this process ends
            sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _end(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)


def replay(folder: Path) -> None:
    """Write into the sessions' own files what logs of earlier runs have, sync them, and erase those logs.

    Doing it again changes nothing. Blocks. Raises OSError.
    """
    for path in folder.glob(f"{NAME}*"):
        with path.open("rb") as reading:
            try:
                fcntl.flock(reading, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # of a run that goes on
                continue
            said: dict[Path, dict[int, bytes]] = {}
            for session_id, batch in _entries(reading):
                session = folder / session_id
                if session.is_dir():
                    _write_audio(session, batch)
                    first = batch.count - len(batch.messages) + 1
                    said.setdefault(session, {}).update(enumerate(batch.messages, first))
        for session, messages in said.items():
            _write_messages(session, messages)
        path.unlink()


def _write_audio(session: Path, batch: Batch) -> None:
    """Have the audio of a batch where it belongs, with its check, unless it was erased or compressed."""
    path = session / AUDIO_FILE
    if not batch.audio or not path.exists() or (session / FLAC_FILE).exists():
        return
    with path.open("r+b", buffering=0) as file:
        file.seek(batch.position_bytes - len(batch.audio))
        write_all(file.fileno(), batch.audio)
    checks = session / CHECKS_FILE
    with suppress(FileNotFoundError):
        os.truncate(checks, checks.stat().st_size // CHECK.size * CHECK.size)
    append(checks, check_of(batch.audio, batch.position_bytes))  # once more, perhaps: `repair` sees to that


def _write_messages(session: Path, messages: dict[int, bytes]) -> None:
    """Add the messages that follow on those that a session's file has; they come by their `seq`."""
    count = repair(session).message_count
    missing: list[bytes] = []
    while (message := messages.get(count + len(missing) + 1)) is not None:
        missing.append(with_checksum(message))
    if missing:
        append(session / MESSAGES_FILE, b"".join(missing))
        log.info("session %s: %d messages were in the log alone", session.name, len(missing))
    sync_session(session)


def _entry(session_id: str, batch: Batch) -> bytes:
    about = orjson.dumps([session_id, batch.position_bytes, len(batch.audio), batch.count])
    content = b"\n".join([about, batch.audio + b"\n".join(batch.messages)])
    return FRAME.pack(len(content), zlib.crc32(content)) + content


def _entries(reading: BinaryIO) -> Iterator[tuple[str, Batch]]:
    """Yield what a log holds, up to the first entry that is not whole."""
    while len(frame := reading.read(FRAME.size)) == FRAME.size:
        size, crc = FRAME.unpack(frame)
        content = reading.read(size)
        if len(content) < size or zlib.crc32(content) != crc:
            return
        about, _, rest = content.partition(b"\n")
        session_id, position_bytes, audio_bytes, count = orjson.loads(about)
        messages = tuple(rest[audio_bytes:].split(b"\n")) if len(rest) > audio_bytes else ()
        yield session_id, Batch(rest[:audio_bytes], messages, None, position_bytes, count)
