"""The process in which FFmpeg reads one stranger's bytes: with no secret in it, and not much of the machine.

It is asked over its standard input and answers over its standard output. A request is a letter, `f` for bytes
and `e` for the end of them, a length and the bytes; an answer is a length, JSON, and float32 by channel. Of a
file that lies on the disk, which is its standard input then, it gives all answers without being asked.
Nothing that it says is believed to be more than that: whoever takes it over has not got the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import os
import signal
import struct
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import orjson

from live_asr.audio import syscalls
from live_asr.core.errors import LiveAsrError, MediaError

if TYPE_CHECKING:
    from live_asr.audio.container import ContainerDecoder
    from live_asr.core.audio import Samples

LENGTH = struct.Struct("!I")
FEED, FINISH = b"f", b"e"
STREAM, FILE, DURATION = "stream", "file", "duration"
"""What it can be started for: a session's bytes, a file's samples, how long a file says that it is."""
FILE_PIECE_SAMPLES = 16_000
"""A file's samples are answered in pieces of about this size."""
LARGEST_FILE_BYTES = 4 * 1024**3
"""What is kept of a file whose index comes last."""
MEMORY_BYTES = 3 * 1024**3
"""Of addresses, which are many more than what is in use."""
CPU_SECONDS = 2 * 3600
NO_NEW_PRIVILEGES = 38
"""prctl's number for it."""


def confine() -> None:
    """Give up what decoding does not need; for the rest of the process's life."""
    if sys.platform == "win32":
        return
    import resource

    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, LARGEST_FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(kind)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (bound, bound))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    syscalls.forbid()


async def answer_all(decoder: ContainerDecoder, asked: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    while letter := asked.read(1):
        (length,) = LENGTH.unpack(asked.read(LENGTH.size))
        data = asked.read(length)
        samples: Samples | None = None
        fault: list[str] | None = None
        try:
            samples = await (decoder.feed(data) if letter == FEED else decoder.finish())
        except LiveAsrError as error:
            fault = _told(error)
        told = []
        while decoder.notices:
            notice = decoder.notices.popleft()
            told.append([notice.code, notice.message])
        body = samples.tobytes() if samples is not None else b""
        about = {
            "more": decoder.has_more,
            "skipped": decoder.skipped_packets,
            "notices": told,
            "fault": fault,
        }
        _answer(answers, about, body)


class Standing(io.RawIOBase):
    """A file that is read by its descriptor, with a place of its own in it: its owner's stays where it is."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._place = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as there are and fit; return how many."""
        data = os.pread(self._descriptor, len(buffer), self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; return which one."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place}.get(whence)
        if start is None:
            start = os.fstat(self._descriptor).st_size
        self._place = max(start + offset, 0)
        return self._place


def answer_samples(file: IO[bytes], answers: BinaryIO) -> None:
    """Decode a file, and answer its samples piece by piece, the last one with `done`."""
    from av.error import FFmpegError

    from live_asr.audio.ffmpeg import MediaReader, joined
    from live_asr.audio.formats import HINT
    from live_asr.storage.files import storage_error

    reader = MediaReader.of_file(file)
    pieces: list[Samples] = []
    size = 0
    fault: list[str] | None = None
    try:
        for heard in reader.samples():
            pieces.append(heard)
            size += heard.size
            if size >= FILE_PIECE_SAMPLES:
                _answer(answers, {"format": reader.format}, joined(pieces).tobytes())
                pieces, size = [], 0
    except LiveAsrError as error:
        fault = _told(error)
    except Exception as error:  # whatever FFmpeg's binding makes of hostile bytes
        if isinstance(error, OSError) and not isinstance(error, FFmpegError):
            fault = _told(storage_error(error))
        else:
            fault = _told(MediaError(f"The file cannot be decoded: {type(error).__name__}.", HINT))
    about = {"format": reader.format, "done": True, "fault": fault}
    _answer(answers, about, joined(pieces).tobytes())


def answer_duration(file: IO[bytes], answers: BinaryIO) -> None:
    """Answer how many seconds a file says that it lasts, or null."""
    from live_asr.audio.ffmpeg import duration_of

    _answer(answers, {"duration": duration_of(file)})


def _told(error: LiveAsrError) -> list[str]:
    return [type(error).__name__, error.message, error.hint]


def _answer(answers: BinaryIO, about: dict[str, Any], body: bytes = b"") -> None:
    head = orjson.dumps({**about, "size": len(body)})
    answers.write(LENGTH.pack(len(head)) + head + body)
    answers.flush()


def main(does: str, folder: str = "", channel: str = "", channels: str = "1") -> None:
    """Decode one stream, its `channels` apart where there are several, or one file.

    `folder` is where files are kept whose index comes last; it and `channel` may be empty.
    """
    # What asks the server to end may reach all that it has started. It brings its sessions to an end first,
    # and this process ends with its input.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)
    # Not before that: FFmpeg and NumPy take their time.
    from live_asr.audio.container import ContainerDecoder

    confine()
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nobody else writes there
    if does == STREAM:
        decoder = ContainerDecoder(
            Path(folder) if folder else None, int(channel) if channel else None, int(channels)
        )
        asyncio.run(answer_all(decoder, asked, answers))
        return
    file = asked if sys.platform == "win32" else io.BufferedReader(Standing(asked.fileno()))
    (answer_samples if does == FILE else answer_duration)(file, answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
