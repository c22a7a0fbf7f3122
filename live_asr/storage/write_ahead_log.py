"""One file for what all sessions write: it is synced in one go, and costs the same however many they are.

What waits is written to the sessions' own files, which the system brings to disk when it likes, and to the
log, which is synced. Every `SETTLE_INTERVAL` the own files are synced, too, and the log begins anew. After a
power cut the next run writes into the sessions' files what the logs have.
"""

from __future__ import annotations

import logging
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import orjson

from live_asr.core.errors import StorageError
from live_asr.storage.files import (
    AUDIO_FILE,
    CHECK,
    CHECKS_FILE,
    FLAC_FILE,
    MESSAGES_FILE,
    append,
    check_of,
    read_epoch,
    sync_folder,
    sync_session,
    with_checksum,
    write_all,
)
from live_asr.storage.repair import repair_messages
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


@dataclass(frozen=True, slots=True)
class Written:
    """What was written of one session in one go, by the writer of an epoch."""

    folder: Path
    epoch: int
    batch: Batch


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
        self._done: list[Path] = []
        """Files that are to be erased."""
        self._dirty: set[Path] = set()
        """Folders of sessions whose own files may not be on disk."""
        self._distrusted: set[Path] = set()
        """And of those whose own files could not be brought there."""
        self._bytes = 0
        """Of all files."""
        self._sound_bytes = 0
        """Of the one that is added to."""
        self._due_at = 0.0
        self._lock = Lock()

    @property
    def is_due(self) -> bool:
        """Whether it should begin anew."""
        return bool(self._dirty) and (time.monotonic() >= self._due_at or self._bytes > MOST_BYTES)

    def hasten(self) -> None:
        """Have it begin anew soon: something in it was erased elsewhere."""
        self._due_at = 0.0

    def append(self, written: Sequence[Written]) -> None:
        """Bring to disk what was written. Raises OSError: then the own files have to be synced instead."""
        content = b"".join(map(_entry, written))
        with self._lock:
            if not self._dirty:
                self._due_at = time.monotonic() + SETTLE_INTERVAL
            self._dirty.update(one.folder for one in written)
            try:
                if self._descriptor is None:
                    self._descriptor, self._sound_bytes = self._begun(), 0
                write_all(self._descriptor, content)
                os.fdatasync(self._descriptor)
            except OSError:
                self._give_up()
                raise
            self._sound_bytes += len(content)
            self._bytes += len(content)

    def distrust(self, folder: Path) -> None:
        """Keep what the logs have of a session for the next run: its own files could not be synced.

        The system tells that once, and would say the next time that all of them is on disk.
        """
        with self._lock:
            self._distrusted.add(folder)

    def settle(self) -> dict[Path, OSError]:
        """Sync the own files of all sessions, and begin anew; return of which sessions that failed."""
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
                self.distrust(folder)
        if not dirty & self._distrusted:
            self._done += paths
        left, self._done = self._done, []
        for path in left:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s cannot be erased yet: %s", path, error)
                self._done.append(path)
        return faults

    def _begun(self) -> int:
        self._number += 1
        path = self._folder / f"{NAME}{self._run}-{self._number}"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        self._paths.append(path)
        try:
            sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _give_up(self) -> None:
        """Add no more to a file that did not take what it was to: behind half an entry nothing is read."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._sound_bytes)
                if not self._sound_bytes:
                    self._paths.pop().unlink()
        self._end()

    def _end(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)


def replay(folder: Path) -> None:
    """Write into the sessions' own files what logs of earlier runs have, sync them, and erase those logs.

    Doing it again changes nothing. A session of which it fails is told of, and the logs stay for the next
    start. Blocks. Raises StorageError where a log cannot be read.
    """
    paths = [path for path in folder.glob(f"{NAME}*") if path.is_file()]
    missing: dict[Path, _Missing] = {}
    failed: set[Path] = set()
    for session_id, epoch, batch in (entry for path in paths for entry in _entries(path)):
        session = folder / session_id
        try:
            # What an older writer has written was synced before another one took over.
            if session not in failed and session.is_dir() and epoch >= read_epoch(session):
                missing.setdefault(session, _Missing()).take(session, batch)
        except OSError as error:
            failed.add(session)
            log.error("session %s: what the log has of it cannot be written: %s", session_id, error)
    for session, what in missing.items():
        try:
            what.write(session)
        except OSError as error:
            failed.add(session)
            log.error("session %s: what the log has of it cannot be written: %s", session.name, error)
    if not failed:
        for path in paths:
            path.unlink()


@dataclass(slots=True)
class _Missing:
    """What logs have of one session besides its audio."""

    checks: dict[bytes, None] = field(default_factory=dict)
    messages: dict[int, bytes] = field(default_factory=dict)

    def take(self, session: Path, batch: Batch) -> None:
        """Write the audio of a batch where it belongs, unless it was erased or compressed; note the rest."""
        self.messages.update(enumerate(batch.messages, batch.count - len(batch.messages) + 1))
        path = session / AUDIO_FILE
        if batch.audio and path.exists() and not (session / FLAC_FILE).exists():
            with path.open("r+b", buffering=0) as file:
                file.seek(batch.position_bytes - len(batch.audio))
                write_all(file.fileno(), batch.audio)
            self.checks[check_of(batch.audio, batch.position_bytes)] = None

    def write(self, session: Path) -> None:
        """Add the checks that the file has not, and the messages that follow on its last one; sync all."""
        if self.checks:
            path = session / CHECKS_FILE
            kept = path.read_bytes() if path.exists() else b""
            whole = len(kept) // CHECK.size * CHECK.size
            known = {kept[at : at + CHECK.size] for at in range(0, whole, CHECK.size)}
            if whole < len(kept):
                os.truncate(path, whole)
            append(path, b"".join(check for check in self.checks if check not in known))
        count = repair_messages(session / MESSAGES_FILE)
        lines: list[bytes] = []
        while (message := self.messages.get(count + len(lines) + 1)) is not None:
            lines.append(with_checksum(message))
        append(session / MESSAGES_FILE, b"".join(lines))
        sync_session(session)


def _entry(written: Written) -> bytes:
    batch = written.batch
    about = [written.folder.name, written.epoch, batch.position_bytes, len(batch.audio), batch.count]
    content = b"\n".join([orjson.dumps(about), batch.audio + b"\n".join(batch.messages)])
    return FRAME.pack(len(content), zlib.crc32(content)) + content


def _entries(path: Path) -> Iterator[tuple[str, int, Batch]]:
    """Yield what a log holds, of which session and epoch, as far as it is whole.

    Raises StorageError where it cannot be read.
    """
    with _readable(path) as reading:
        left_bytes = os.fstat(reading.fileno()).st_size
        while len(frame := reading.read(FRAME.size)) == FRAME.size:
            size, crc = FRAME.unpack(frame)
            left_bytes -= FRAME.size + size
            if not size or left_bytes < 0:  # zeros, as some file systems have where nothing came to disk
                return
            content = reading.read(size)
            if zlib.crc32(content) != crc:
                log.warning("%s: an entry is not as it was written, and passed over", path)
                continue
            about, _, rest = content.partition(b"\n")
            session_id, epoch, position_bytes, audio_bytes, count = orjson.loads(about)
            messages = tuple(rest[audio_bytes:].split(b"\n")) if len(rest) > audio_bytes else ()
            yield session_id, epoch, Batch(rest[:audio_bytes], messages, None, position_bytes, count)


@contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    try:
        reading = path.open("rb")
    except OSError as error:
        raise StorageError(
            f"{path}, which sessions of an earlier run are to go on from, cannot be read: {error.strerror}.",
            "Make it readable for this user; or move it away, if what it alone has of them may be lost.",
        ) from error
    with reading:
        yield reading
