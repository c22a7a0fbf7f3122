"""A client's audio bytes to samples at 16 kHz, whatever the client sends."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Protocol

from live_asr.audio.resampler import Apart, Together
from live_asr.core.audio import PcmDecoder, Samples
from live_asr.core.declaration import Declaration
from live_asr.core.messages import AudioFormat, Notice

INLINE_BYTES = 16 * 1024
"""Raw audio up to this size, at most 2 s, is decoded on the event loop, which takes 5 ms at most."""


class AudioDecoder(Protocol):
    """Decode one session's audio.

    Methods are called one at a time, from the event loop, which they never hold for long. Any chunking of
    the same bytes gives the same samples.
    """

    @property
    def has_more(self) -> bool:
        """Whether the last call left samples, or an error, behind: call `feed(b"")` or `finish()` again."""

    @property
    def skipped_packets(self) -> int:
        """How many corrupt packets were passed over so far."""

    @property
    def notices(self) -> deque[Notice]:
        """What the client should know of its audio, in order; whoever tells of one removes it."""

    async def feed(self, data: bytes) -> Samples:
        """Take the next bytes; return what is decoded so far, float32, 16 kHz, maybe empty.

        Its shape is (samples,), or (channels, samples) where channels are heard apart.

        Raises MediaError `not_audio` (close code 1003) where the bytes turn out to hold no audio, and
        StorageError where the disk refuses to keep a file until it is complete; the decoder is then of no
        further use.
        """

    async def finish(self) -> Samples:
        """Say that no bytes follow; return what is left, about a minute at most; repeat while `has_more`.

        Raises MediaError as `feed` does.
        """

    def close(self) -> None:
        """Free everything, at once and whatever is going on; idempotent."""


def open_decoder(
    audio: AudioFormat, spool_directory: Path | None = None, *, channels: int = 1
) -> AudioDecoder:
    """Return the decoder for what `start` announced; `close` it in the end.

    With several `channels` the first so many are heard apart; else they are mixed, or one is chosen.

    Files whose index comes last are kept in `spool_directory` until they are complete, unseen and unnamed;
    without one, where the system keeps temporary files.
    """
    if audio.encoding == "container":
        # Not at the top: a server has this done in another process, and never loads FFmpeg itself for it.
        from live_asr.audio.container import ContainerDecoder

        return ContainerDecoder(spool_directory, audio.channel, channels)
    return PcmStreamDecoder(audio, channels)


class PcmStreamDecoder:
    """Decode raw audio and resample it; see `AudioDecoder`."""

    has_more = False
    skipped_packets = 0

    def __init__(self, audio: AudioFormat, channels: int = 1) -> None:
        self._declaration = Declaration(audio)
        self._decoder = PcmDecoder(audio.encoding, audio.channels)
        self._line = Apart(channels, audio.sample_rate) if channels > 1 else _mixed(audio)
        self._channel = audio.channel
        self.notices: deque[Notice] = deque()

    async def feed(self, data: bytes) -> Samples:
        """Return the samples that `data` completes; a large piece is decoded in a thread."""
        if len(data) <= INLINE_BYTES:
            return self._decode(data)
        return await asyncio.to_thread(self._decode, data)

    async def finish(self) -> Samples:
        """Return what the filters hold; bytes of an unfinished sample are dropped."""
        return self._line.finish()

    def close(self) -> None:
        """Do nothing: memory is all that is held."""

    def _decode(self, data: bytes) -> Samples:
        notice = self._declaration.look(data)
        if notice is not None:
            self.notices.append(notice)
        channels = self._decoder.feed(data)
        if self._channel is not None:
            channels = channels[self._channel : self._channel + 1]
        return self._line.feed(channels)


def _mixed(audio: AudioFormat) -> Together:
    mixed = audio.channels if audio.channel is None else 1
    return Together((1 / mixed,) * mixed, audio.sample_rate)
