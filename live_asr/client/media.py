"""Files that hold audio: what they are, and their sound as the bytes that a session takes.

Whatever FFmpeg reads is read, video included. Reading blocks, so callers on an event loop use a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from live_asr.core.audio import Samples, floats
from live_asr.core.downmix import Downmixer, mono_weights
from live_asr.core.errors import MediaError
from live_asr.core.timeline import SkippedGap, Timeline, origin
from live_asr.core.types import SAMPLE_RATE_HZ

PCM_BYTES_PER_SECOND = 2 * SAMPLE_RATE_HZ
_STREAMABLE = frozenset({"wav", "flac", "mp3", "ogg", "webm", "matroska", "aac"})
"""Formats that can be decoded while they arrive; MP4 and its kin often have their index at the end."""


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file that was opened once and found to hold audio."""

    path: Path
    size_bytes: int
    duration: float | None
    """Seconds; None where the file does not say."""
    is_streamable: bool
    """Its own bytes can be sent as `container`: audio alone, in a format without a table at its end."""

    @classmethod
    def probe(cls, path: Path) -> MediaFile:
        """Look into the file at `path`.

        Raises MediaError when there is none, it may not be read, is not media, or holds no audio.
        """
        with _opened(path) as file, _reading(path), _container(file) as container:
            audio = _audio_stream(path, container)
            formats = set(container.format.name.split(","))
            return cls(
                path=path,
                size_bytes=path.stat().st_size,
                duration=_duration(container, audio),
                is_streamable=bool(formats & _STREAMABLE) and not any(map(_is_film, container.streams.video)),
            )

    def file_chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """Yield the file as it is; raises MediaError where it can no longer be read."""
        with _opened(self.path) as file, _reading(self.path):
            while chunk := file.read(chunk_bytes):
                yield chunk

    def pcm_chunks(self, chunk_bytes: int, skipped: list[SkippedGap] | None = None) -> Iterator[bytes]:
        """Yield the audio as PCM, s16le, 16 kHz, mono; all chunks but the last have `chunk_bytes`.

        Times are the file's: there is silence where it has none. Gaps too long for that are added to
        `skipped`. Damaged packets are passed over, as players do; raises MediaError when nothing is left.
        """
        pending = bytearray()
        for samples in self._decoded([] if skipped is None else skipped):
            pending += samples
            while len(pending) >= chunk_bytes:
                yield bytes(pending[:chunk_bytes])
                del pending[:chunk_bytes]
        if pending:
            yield bytes(pending)

    def _decoded(self, skipped: list[SkippedGap]) -> Iterator[bytes]:
        import av

        is_damaged = has_audio = False
        with _opened(self.path) as file, _reading(self.path), _container(file) as container:
            stream = _audio_stream(self.path, container)
            timeline: Timeline[Any] = Timeline(container.format.name, _start(container))
            timeline.skipped = skipped
            mixer = _Mixer()
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    is_damaged = True
                    continue
                size_bytes = packet.size
                for frame in frames:
                    has_audio = True
                    length = frame.samples / frame.sample_rate
                    for silence, placed in timeline.place(frame, frame.time, length, size_bytes):
                        yield from mixer.feed(placed, silence)
                    size_bytes = 0
            for silence, placed in timeline.finish():
                yield from mixer.feed(placed, silence)
            yield mixer.finish()
        if is_damaged and not has_audio:
            raise MediaError(f"{self.path} is damaged: none of its audio can be decoded.")


class _Mixer:
    """Bring decoded frames to PCM, s16le, 16 kHz, mono, as the server would."""

    def __init__(self) -> None:
        self._form: tuple[tuple[str, ...], int] | None = None
        self._downmixer = Downmixer((1.0,), SAMPLE_RATE_HZ)
        self._resampler: Any = None

    def feed(self, frame: Any, silence: float) -> Iterator[bytes]:
        """Yield so many seconds of silence and the frame."""
        import av

        rate_hz, names = frame.sample_rate, tuple(channel.name for channel in frame.layout.channels)
        if (names, rate_hz) != self._form:
            yield self.finish()
            self._form = (names, rate_hz)
            self._downmixer = Downmixer(mono_weights(names), rate_hz)
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
        missing = round(silence * rate_hz)
        while missing > 0:
            count = min(missing, rate_hz)
            yield self._resampled(self._downmixer.feed(np.zeros((len(names), count), np.float32)))
            missing -= count
        channels = floats(frame.to_ndarray(), len(names), is_planar=frame.format.is_planar)
        yield self._resampled(self._downmixer.feed(channels))

    def finish(self) -> bytes:
        """Return what the filters still hold."""
        if self._resampler is None:
            return b""
        last = self._resampled(self._downmixer.finish())
        return last + b"".join(out.to_ndarray().tobytes() for out in self._resampler.resample(None))

    def _resampled(self, samples: Samples) -> bytes:
        import av

        if not self._form or not samples.size:
            return b""
        frame = av.AudioFrame.from_ndarray(samples[None], "flt", "mono")
        frame.sample_rate = self._form[1]
        return b"".join(out.to_ndarray().tobytes() for out in self._resampler.resample(frame))


def _start(container: Any) -> float | None:
    return None if container.start_time is None else container.start_time / 1_000_000


def _duration(container: Any, audio: Any) -> float | None:
    """Return how much will be heard of a file, in seconds; None where it does not say."""
    start = _start(container) or 0.0
    begin = origin(container.format.name, start)
    if audio.duration is not None:
        return float((audio.start_time or 0) * audio.time_base + audio.duration * audio.time_base) - begin
    if container.duration is None:
        return None
    # Matroska writes where it ends, the others how long they are.
    is_end = "matroska" in container.format.name
    return float(container.duration) / 1_000_000 + (0.0 if is_end else start) - begin


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise MediaError(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise MediaError(f"{path} is a folder.", "Name the files in it.") from None
    except OSError as error:
        raise MediaError(f"{path} cannot be opened: {error.strerror}.") from None
    with file:
        yield file


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise MediaError(f"{path} is not audio or video that can be read: {reason}.") from None
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror or error}.") from None


def _container(file: IO[bytes]) -> Any:
    import av

    # A file object and not a name: FFmpeg would take "http:…" or "concat:…" for addresses.
    return av.open(file, mode="r", metadata_errors="replace")


def _audio_stream(path: Path, container: Any) -> Any:
    stream = container.streams.best("audio")
    if stream is None:
        raise MediaError(f"{path} holds no audio.")
    return stream


def _is_film(video_stream: Any) -> bool:
    from av.stream import Disposition

    return not video_stream.disposition & Disposition.attached_pic
