"""A container's decoder in a process of its own: what breaks it costs its session an error, and nobody else
anything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from live_asr.audio.decoder import AudioDecoder, open_decoder
from live_asr.audio.decoder_worker import FEED, FINISH, LENGTH, STREAM
from live_asr.audio.formats import HINT
from live_asr.core.audio import Samples
from live_asr.core.errors import DecoderDied, DecoderError, DiskFull, LiveAsrError, MediaError, StorageError
from live_asr.core.messages import AudioFormat, Notice

WORKER = "live_asr.audio.decoder_worker"
FAULTS: dict[str, type[LiveAsrError]] = {
    "MediaError": MediaError,
    "StorageError": StorageError,
    "DiskFull": DiskFull,
}
LARGEST_HEAD_BYTES = 1024 * 1024
LARGEST_ANSWER_BYTES = 1024**3
INHERITED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
"""What it gets of the environment, in which there are secrets."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def open_guarded_decoder(
    audio: AudioFormat, spool_directory: Path | None = None, *, channels: int = 1
) -> AudioDecoder:
    """Return the decoder for what `start` announced, as `open_decoder` does; on the event loop."""
    if audio.encoding == "container":
        return GuardedDecoder(spool_directory, audio.channel, channels)
    return open_decoder(audio, spool_directory, channels=channels)


class GuardedDecoder:
    """Decode one pushed stream of media in another process; see `decoder.AudioDecoder` for the methods.

    A thread of its own talks to the process, one question at a time; a call that is cancelled loses nothing,
    the next one returns what it left.
    """

    def __init__(
        self, spool_directory: Path | None = None, channel: int | None = None, channels: int = 1
    ) -> None:
        self.has_more = False
        self.skipped_packets = 0
        self.notices: deque[Notice] = deque()
        self._arguments = (str(spool_directory or ""), "" if channel is None else str(channel), str(channels))
        self._shape = (-1,) if channels == 1 else (channels, -1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guarded-decoder")
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._left: asyncio.Future[Samples] | None = None
        """A call that was cancelled: what it brings belongs to the next one."""

    async def feed(self, data: bytes) -> Samples:
        """Take the next bytes. Raises DecoderDied where the process is gone, DecoderError without one."""
        return await self._call(FEED, data)

    async def finish(self) -> Samples:
        """Say that no bytes follow. Raises as `feed` does."""
        return await self._call(FINISH, b"")

    def close(self) -> None:
        """End the process, whatever it does; idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._process is not None:
            self._process.kill()
        self._thread.submit(self._end)
        # What it is asked ends with the process, which takes a moment; before there is one, nobody waits.
        self._thread.shutdown(wait=self._process is not None)

    async def _call(self, letter: bytes, data: bytes) -> Samples:
        left = self._shaped(b"")
        if self._closed:
            return left
        if self._left is not None:
            left, self._left = await asyncio.shield(self._left), None
        asking = asyncio.get_running_loop().run_in_executor(self._thread, self._ask, letter, data)
        try:
            samples = await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._left = asking
            asking.add_done_callback(_retrieve)
            raise
        return np.concatenate((left, samples), axis=-1) if left.size else samples

    # The thread's side -------------------------------------------------------------------------------

    def _ask(self, letter: bytes, data: bytes) -> Samples:
        try:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(letter + LENGTH.pack(len(data)) + data)
            process.stdin.flush()
            about, body = answer_of(process.stdout)
            return self._taken(about, body)
        except (OSError, EOFError) as error:
            if self._closed:
                return self._shaped(b"")
            raise DecoderDied("The process that decodes this session's audio has ended.") from error
        except (ValueError, TypeError, KeyError) as error:  # whoever answers so is no decoder any more
            raise broken() from error

    def _taken(self, about: dict[str, Any], body: bytes) -> Samples:
        """Take note of what goes with an answer. Raises the fault that it tells of."""
        self.has_more = bool(about.get("more"))
        self.skipped_packets = int(about.get("skipped") or 0)
        for code, message in about.get("notices") or ():
            self.notices.append(Notice(str(code), str(message)))
        if about.get("fault"):
            raise fault_of(about)
        return self._shaped(body)

    def _shaped(self, body: bytes) -> Samples:
        return np.frombuffer(body, np.float32).reshape(self._shape)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = start_worker(STREAM, *self._arguments)
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()


def broken() -> MediaError:
    """Return the refusal of bytes that no decoder survives."""
    return MediaError("These bytes have broken their decoder.", HINT)


def fault_of(about: dict[str, Any]) -> LiveAsrError:
    """Return the fault that an answer tells of. Raises ValueError and TypeError where it is none."""
    kind, message, hint = about["fault"]
    return FAULTS.get(str(kind), MediaError)(str(message), str(hint))


def start_worker(*arguments: str, stdin: int | IO[bytes] = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Start the process, which reads `stdin`. Raises DecoderError where the system does not let it."""
    environment = {name: value for name, value in os.environ.items() if name in INHERITED}
    package = str(Path(__file__).resolve().parents[2])
    paths = filter(None, (package, environment.get("PYTHONPATH")))
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER, *arguments],  # -P: no modules of the current folder
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | ONE_THREAD,
            start_new_session=True,  # Ctrl-C and a kill of the server's group are not for it
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DecoderError(f"The process that decodes audio cannot be started: {error}.") from error


def answer_of(pipe: IO[bytes], most_bytes: int = LARGEST_ANSWER_BYTES) -> tuple[dict[str, Any], bytes]:
    """Read one answer. Raises EOFError at the end, ValueError for what is none."""
    (length,) = LENGTH.unpack(_exactly(pipe, LENGTH.size))
    if length > LARGEST_HEAD_BYTES:
        raise ValueError("an answer without end")
    about = orjson.loads(_exactly(pipe, length))
    size = about.get("size") if isinstance(about, dict) else None
    if not isinstance(size, int) or not 0 <= size <= most_bytes or size % 4:
        raise ValueError("an answer of no such size")
    return about, _exactly(pipe, size)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError("the decoder has ended")
    return data


def _retrieve(asking: asyncio.Future[Samples]) -> None:
    """Look at what became of a call that nobody may come back to."""
    if not asking.cancelled():
        asking.exception()
