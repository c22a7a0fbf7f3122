"""A session's audio as the full pass reads it: the client's bytes, decoded once more into a file of PCM."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import numpy as np

from live_asr.audio.decoder import AudioDecoder
from live_asr.audio.isolated_decoder import broken, open_guarded_decoder
from live_asr.audio.isolated_files import file_samples
from live_asr.core.audio import Samples
from live_asr.core.errors import DecoderDied, MediaError
from live_asr.core.messages import AudioFormat
from live_asr.core.types import SAMPLE_RATE_HZ
from live_asr.storage.files import FULL, check_room, storage_error

log = logging.getLogger(__name__)

SAMPLE_BYTES = 2
ROOM_SAMPLES = 10 * SAMPLE_RATE_HZ
"""After so much it is looked whether there is room for more; it takes 320 kB."""
PIECE_BYTES = 256 * 1024
"""So much is decoded at a time: a few seconds of PCM, a minute of what browsers record."""


async def write_pcm(
    source: Path, audio: AudioFormat, target: Path, expected_samples: int, *, channels: int = 1
) -> int:
    """Decode `source`, what a client sent as `audio`, into `target`: raw pcm_s16le, 16 kHz.

    It is mono, or has so many `channels` interleaved that are heard apart. Returns the number of samples of
    each, which are those that the live session heard: any chunking gives the same. Works in threads, at most
    half of the time, since live sessions want the machine too. What cannot be read to its end is written as
    far as it goes; a decoder whose process dies has a second one, which gives up where it dies there again.
    Raises DiskFull when there is no room for what is expected, StorageError or OSError when the disk refuses,
    DecoderError when no decoder can be started.
    """
    try:
        needed_bytes = SAMPLE_BYTES * channels * expected_samples
        if audio.encoding == "container":  # one whose index comes last is copied before it is decoded
            needed_bytes += (await asyncio.to_thread(source.stat)).st_size
        await asyncio.to_thread(check_room, target.parent, needed_bytes)
        with (
            await asyncio.to_thread(source.open, "rb") as reading,
            await asyncio.to_thread(target.open, "wb") as writing,
        ):
            pcm = _Pcm(writing, target.parent, expected_samples, channels)
            died_at_bytes = -1
            while not await _write_all(reading, audio, pcm):
                if reading.tell() <= died_at_bytes:
                    log.warning("%s has broken its decoder twice at one place", source)
                    break
                died_at_bytes = reading.tell()
                await asyncio.to_thread(pcm.restart)
                await asyncio.to_thread(reading.seek, 0)
    except OSError as error:
        if error.errno in FULL:
            raise storage_error(error) from error
        raise
    return pcm.count


def write_file_pcm(
    source: Path, target: Path, *, longest_samples: int, stopped: Callable[[], bool] = lambda: False
) -> tuple[int, str]:
    """Decode a file into `target`: raw pcm_s16le, 16 kHz, mono. Returns its samples and its format's name.

    Nothing is copied: FFmpeg may go back in the file, and memory stays bounded, however long it is. It works
    in a process of its own, which is replaced once where it dies. Blocks; `stopped` says that nobody wants it
    any more, then what is there counts. Raises MediaError `not_audio`, also where the process dies twice at
    one place, or `too_long` beyond `longest_samples`, DiskFull when there is no room, StorageError when the
    disk refuses, DecoderError when no process can be started.
    """
    try:
        with source.open("rb") as reading, target.open("wb") as writing:
            pcm = _Pcm(writing, target.parent, 0, 1)
            died_at_sample = -1
            while True:
                try:
                    name = _write_file(reading, pcm, longest_samples, stopped)
                    break
                except DecoderDied as error:
                    if pcm.count <= died_at_sample:
                        raise broken() from error
                    log.warning("%s after %.1f s: %s", source.name, pcm.count / SAMPLE_RATE_HZ, error)
                    died_at_sample = pcm.count
                    pcm.restart()
    except OSError as error:
        raise storage_error(error) from error
    if not pcm.count:
        raise MediaError("The recording is empty.", "Send one that holds sound.")
    return pcm.count, name


def _write_file(reading: BinaryIO, pcm: _Pcm, longest_samples: int, stopped: Callable[[], bool]) -> str:
    """Write what can be decoded of a file; return its format's name. Blocks. Raises as `write_file_pcm`, and
    DecoderDied."""
    name = ""
    with closing(file_samples(reading)) as pieces:
        for heard, name in pieces:  # noqa: B007 - the last one is returned
            if pcm.count + heard.size > longest_samples:
                raise MediaError(
                    f"The recording is longer than {longest_samples / SAMPLE_RATE_HZ / 3600:g} hours.",
                    "Send it in parts; the operator can allow more by jobs.max_hours.",
                    code="too_long",
                )
            pcm.write(heard)
            if stopped():
                break
    return name


class _Pcm:
    """The recording as far as it is written; what is missing has to have room."""

    def __init__(self, writing: BinaryIO, folder: Path, expected_samples: int, channels: int) -> None:
        self._writing = writing
        self.folder = folder
        self.channels = channels
        self._expected_samples = expected_samples
        self.count = 0
        """Samples so far."""
        self._checked = 0

    def restart(self) -> None:
        """Forget what was written. Blocks. Raises OSError."""
        self._writing.seek(0)
        self._writing.truncate()
        self.count = self._checked = 0

    def write(self, heard: Samples) -> None:
        """Add what was decoded. Blocks. Raises DiskFull and OSError."""
        if self.count >= self._checked:
            missing_samples = max(heard.shape[-1], self._expected_samples - self.count)
            check_room(self.folder, SAMPLE_BYTES * self.channels * missing_samples)
            self._checked = self.count + ROOM_SAMPLES
        self._writing.write(_to_bytes(heard))
        self.count += heard.shape[-1]


async def _write_all(reading: BinaryIO, audio: AudioFormat, pcm: _Pcm) -> bool:
    """Decode all that can be read; return False where the decoder's process died on the way."""
    loop = asyncio.get_running_loop()
    decoder = open_guarded_decoder(audio, pcm.folder, channels=pcm.channels)
    try:
        is_whole = False
        while not is_whole:
            began = loop.time()
            data = await asyncio.to_thread(reading.read, PIECE_BYTES)
            is_whole = not data
            try:
                await _decode(decoder, data, pcm)
            except MediaError as error:
                log.info("%s can be read for %.1f s: %s", reading.name, pcm.count / SAMPLE_RATE_HZ, error)
                break
            except DecoderDied as error:
                log.warning("%s: %s", reading.name, error)
                return False
            await asyncio.sleep(loop.time() - began)
        return True
    finally:
        decoder.close()


async def _decode(decoder: AudioDecoder, data: bytes, pcm: _Pcm) -> None:
    """Write what the decoder makes of these bytes, none for the end."""
    heard = await (decoder.feed(data) if data else decoder.finish())
    while True:
        await asyncio.to_thread(pcm.write, heard)
        if not decoder.has_more:
            return
        heard = await (decoder.feed(b"") if data else decoder.finish())


def _to_bytes(heard: Samples) -> bytes:
    return np.clip(np.rint(heard.T * 32768), -32768, 32767).astype("<i2").tobytes()
