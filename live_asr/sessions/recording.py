"""A session's audio as the full pass reads it: the client's bytes, decoded once more into a file of PCM."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import BinaryIO

import numpy as np

from live_asr.core.audio import Samples
from live_asr.core.messages import AudioFormat
from live_asr.core.types import SAMPLE_RATE_HZ
from live_asr.errors import MediaError
from live_asr.sessions.decoding import AudioDecoder, open_decoder

log = logging.getLogger(__name__)

PIECE_BYTES = 256 * 1024
"""So much is decoded at a time: a few seconds of PCM, a minute of what browsers record."""


async def write_pcm(source: Path, audio: AudioFormat, target: Path) -> int:
    """Decode `source`, what a client sent as `audio`, into `target`: raw pcm_s16le, 16 kHz, mono.

    Returns the number of samples, which are those that the live session heard: any chunking gives the same.
    Works in threads, at most half of the time, since live sessions want the machine too. What cannot be read
    to its end is written as far as it goes. Raises OSError when the disk refuses.
    """
    loop = asyncio.get_running_loop()
    decoder = open_decoder(audio, target.parent)
    count = 0
    try:
        with (
            await asyncio.to_thread(source.open, "rb") as reading,
            await asyncio.to_thread(target.open, "wb") as writing,
        ):
            is_whole = False
            while not is_whole:
                began = loop.time()
                data = await asyncio.to_thread(reading.read, PIECE_BYTES)
                is_whole = not data
                try:
                    count += await _decode(decoder, data, writing)
                except MediaError as error:
                    log.info("%s can be read for %.1f s: %s", source, count / SAMPLE_RATE_HZ, error)
                    break
                await asyncio.sleep(loop.time() - began)
    finally:
        decoder.close()
    return count


async def _decode(decoder: AudioDecoder, data: bytes, writing: BinaryIO) -> int:
    """Write what the decoder makes of these bytes, none for the end; return the number of samples."""
    count = 0
    samples = await (decoder.feed(data) if data else decoder.finish())
    while True:
        count += samples.size
        await asyncio.to_thread(_write, samples, writing)
        if not decoder.has_more:
            return count
        samples = await (decoder.feed(b"") if data else decoder.finish())


def _write(samples: Samples, writing: BinaryIO) -> None:
    writing.write(np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes())
