"""Compresses the audio that is kept of sessions that are over: raw samples become FLAC, which loses none.

The original goes only when what was written has been read back and is the same. What came in a container
is compressed already, and floats do not fit into FLAC's integers: both stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from live_asr.core.audio import SAMPLE_BYTES, alaw_table, mulaw_table
from live_asr.core.errors import DiskFull
from live_asr.core.messages import AudioFormat
from live_asr.storage.files import (
    AUDIO_FILE,
    CHECKS_FILE,
    FLAC_FILE,
    UNFINISHED_FILE,
    check_room,
    format_of,
    sync_file,
    sync_folder,
)

log = logging.getLogger(__name__)

PIECE_FRAMES = 64 * 1024
"""So much is compressed at a time: a few seconds, in a few milliseconds."""

TABLES = {"mulaw": mulaw_table, "alaw": alaw_table}
"""G.711's samples, 13 or 14 bits of them, fit into 16."""
COMPRESSED = ("pcm_s16le", *TABLES)

Pause = Callable[[float], bool]
"""Waits so many seconds, less when the work is to be given up; returns whether it is."""


class GivenUp(Exception):
    """The work was interrupted; what was there is there."""


def compress(folder: Path, pause: Pause) -> bool:
    """Replace the raw audio of a session that is over by FLAC; return whether it is by now. Blocks.

    Works half of the time. A crash at any instant leaves one good copy, and another call goes on from there.
    Audio that would not get smaller stays. Raises GivenUp, DiskFull, OSError, and whatever FFmpeg's binding
    does.
    """
    source, target, unfinished = folder / AUDIO_FILE, folder / FLAC_FILE, folder / UNFINISHED_FILE
    if not target.exists():
        audio = compressible(folder)
        if audio is None:
            return False
        size_bytes = source.stat().st_size
        check_room(folder, size_bytes)
        write_flac(source, unfinished, audio, pause)
        if unfinished.stat().st_size >= size_bytes:
            unfinished.unlink()
            return False
        sync_file(unfinished)
        unfinished.replace(target)
        sync_folder(folder)
    (folder / CHECKS_FILE).unlink(missing_ok=True)  # FLAC has checksums of its own
    source.unlink(missing_ok=True)
    unfinished.unlink(missing_ok=True)  # marked again by a run that did not see the work done
    return True


def write_flac(source: Path, target: Path, audio: AudioFormat, pause: Pause) -> None:
    """Write raw audio as FLAC, and see that it can be read back. Blocks.

    Raises GivenUp, ValueError where it cannot be, OSError, and whatever FFmpeg's binding does.
    """
    written = _encode(source, target, audio, pause)
    if _read_back(target, pause) != written:
        raise ValueError("what was read back is not what was written")


def compressible(folder: Path) -> AudioFormat | None:
    """Return what the raw audio of a session is; None where there is none to be compressed. Blocks."""
    audio, source = format_of(folder), folder / AUDIO_FILE
    if audio is None or not source.exists():
        return None
    return audio if fits_flac(audio, source.stat().st_size) else None


def fits_flac(audio: AudioFormat, size_bytes: int) -> bool:
    """Tell whether so much raw audio can be FLAC without loss: a frame of it, at least, as integers."""
    if audio.encoding not in COMPRESSED:
        return False
    return size_bytes >= SAMPLE_BYTES[audio.encoding] * audio.channels


def _encode(source: Path, target: Path, audio: AudioFormat, pause: Pause) -> int:
    """Write raw audio as FLAC, at the client's rate and channels; return the CRC-32 of its samples."""
    import av  # not at the top: FFmpeg's libraries take 16 MB of who has nothing to write
    from av.audio.frame import AudioFrame

    crc = position_frames = 0
    layout = "mono" if audio.channels == 1 else "stereo"
    with av.open(str(target), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=audio.sample_rate, layout=layout, format="s16")
        for piece in _samples_of(source, audio):
            began = time.monotonic()
            frame = AudioFrame.from_ndarray(piece.reshape(1, -1), format="s16", layout=layout)
            frame.sample_rate, frame.pts = audio.sample_rate, position_frames
            container.mux(stream.encode(frame))
            position_frames += len(piece) // audio.channels
            crc = zlib.crc32(piece.tobytes(), crc)
            _rest(began, pause)
        container.mux(stream.encode(None))
    return crc


def _samples_of(source: Path, audio: AudioFormat) -> Iterator[NDArray[np.int16]]:
    """Yield raw audio as samples of 16 bits, channels interleaved; an unfinished frame at the end is none."""
    make_table = TABLES.get(audio.encoding)
    table = None if make_table is None else (make_table() * 32768).astype("<i2")
    frame_bytes = SAMPLE_BYTES[audio.encoding] * audio.channels
    with source.open("rb") as reading:
        while data := reading.read(PIECE_FRAMES * frame_bytes):
            whole = data[: len(data) // frame_bytes * frame_bytes]
            if whole:
                yield np.frombuffer(whole, "<i2") if table is None else table[np.frombuffer(whole, np.uint8)]


def _read_back(path: Path, pause: Pause) -> int:
    """Return the CRC-32 of the samples of a FLAC file."""
    import av

    crc = 0
    began = time.monotonic()
    with av.open(str(path), format="flac") as container:
        for frame in container.decode(audio=0):
            crc = zlib.crc32(frame.to_ndarray().astype("<i2", copy=False).tobytes(), crc)
            if time.monotonic() - began > 0.01:
                _rest(began, pause)
                began = time.monotonic()
    return crc


def _rest(began: float, pause: Pause) -> None:
    if pause(time.monotonic() - began):
        raise GivenUp


class Compressor:
    """Compress the audio of one session after the other, in a thread, beside all else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: asyncio.Queue[Path | None] = asyncio.Queue()
        self._ending = threading.Event()
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work, first on what an earlier run left."""
        self._worker = asyncio.create_task(self._work(), name="audio compression")

    async def close(self) -> None:
        """Stop at once; what is not done is left to the next run. Idempotent."""
        self._ending.set()
        self._waiting.put_nowait(None)
        if self._worker is not None:
            await self._worker
            self._worker = None

    async def mark(self, folder: Path) -> bool:
        """Have the next run compress a session's audio, if it can be; return whether it can."""
        return await asyncio.to_thread(self._mark, folder)

    async def add(self, folder: Path) -> None:
        """Have a session's audio compressed, if it can be, when those before it are; also after a crash."""
        if await self.mark(folder):
            self._waiting.put_nowait(folder)

    async def _work(self) -> None:
        for left in await asyncio.to_thread(self._left):
            self._waiting.put_nowait(left)
        while (folder := await self._waiting.get()) is not None:
            await asyncio.to_thread(self._try, folder)

    def _left(self) -> list[Path]:
        try:
            begun = {path.parent for path in self._folder.glob(f"*/{FLAC_FILE}*")}
            # The name of a folder that is to be erased begins with a dot.
            known = [folder for folder in begun if not folder.name.startswith(".")]
            return sorted(folder for folder in known if (folder / AUDIO_FILE).exists())
        except OSError as error:
            log.warning("audio that is left to be compressed cannot be looked for: %s", error)
            return []

    def _mark(self, folder: Path) -> bool:
        try:
            if compressible(folder) is None:
                return False
            (folder / UNFINISHED_FILE).touch()
            sync_folder(folder)
        except OSError as error:
            log.warning("the audio in %s is not compressed: %s", folder, error)
            return False
        return True

    def _try(self, folder: Path) -> None:
        if self._ending.is_set():
            return
        try:
            if compress(folder, self._ending.wait):
                log.info("the audio in %s is compressed", folder)
        except GivenUp:
            pass  # its mark stays, for the next run
        except DiskFull as error:
            log.warning("the audio in %s is not compressed by this run: %s", folder, error)
        except Exception as error:  # of the disk or of FFmpeg's binding: it is one session's trouble
            with contextlib.suppress(OSError):
                if (folder / AUDIO_FILE).exists():  # else it was erased meanwhile
                    log.warning("the audio in %s is not compressed and stays as it is: %s", folder, error)
                    (folder / UNFINISHED_FILE).unlink(missing_ok=True)
