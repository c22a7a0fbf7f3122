"""The process in which FFmpeg reads one stranger's bytes: with no secret in it, and not much of the machine.

It is asked over its standard input and answers over its standard output. A request is a letter, `f` for bytes
and `e` for the end of them, a length and the bytes; an answer is a length, JSON, and float32 by channel.
Nothing that it says is believed to be more than that: whoever takes it over has not got the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import orjson

from live_asr.errors import LiveAsrError

if TYPE_CHECKING:
    from live_asr.core.audio import Samples
    from live_asr.sessions.container import ContainerDecoder

LENGTH = struct.Struct("!I")
FEED, FINISH = b"f", b"e"
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
            fault = [type(error).__name__, error.message, error.hint]
        told = []
        while decoder.notices:
            notice = decoder.notices.popleft()
            told.append([notice.code, notice.message])
        body = samples.tobytes() if samples is not None else b""
        about = orjson.dumps(
            {
                "size": len(body),
                "more": decoder.has_more,
                "skipped": decoder.skipped_packets,
                "notices": told,
                "fault": fault,
            }
        )
        answers.write(LENGTH.pack(len(about)) + about + body)
        answers.flush()


def main(folder: str, channel: str, channels: str) -> None:
    """Decode one stream, its `channels` apart where there are several.

    `folder` is where files are kept whose index comes last; it and `channel` may be empty.
    """
    # What asks the server to end may reach all that it has started. It brings its sessions to an end first,
    # and this process ends with its input.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)
    # Not before that: FFmpeg and NumPy take their time.
    from live_asr.sessions.container import ContainerDecoder

    confine()
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # nobody else writes there
    decoder = ContainerDecoder(
        Path(folder) if folder else None, int(channel) if channel else None, int(channels)
    )
    asyncio.run(answer_all(decoder, sys.stdin.buffer, answers))


if __name__ == "__main__":
    main(*sys.argv[1:4])
