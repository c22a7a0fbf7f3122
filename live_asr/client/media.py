"""Files that hold audio: what they are, and their sound as the bytes that a session takes.

Whatever FFmpeg reads is read, video included. Reading blocks, so callers on an event loop use a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from live_asr.core.types import SAMPLE_RATE_HZ
from live_asr.errors import MediaError

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
            if container.duration is not None:
                duration: float | None = container.duration / 1_000_000
            elif audio.duration is not None:
                duration = float(audio.duration * audio.time_base)
            else:
                duration = None
            formats = set(container.format.name.split(","))
            return cls(
                path=path,
                size_bytes=path.stat().st_size,
                duration=duration,
                is_streamable=bool(formats & _STREAMABLE) and not any(map(_is_film, container.streams.video)),
            )

    def file_chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """Yield the file as it is; raises MediaError where it can no longer be read."""
        with _opened(self.path) as file, _reading(self.path):
            while chunk := file.read(chunk_bytes):
                yield chunk

    def pcm_chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """Yield the audio as PCM, s16le, 16 kHz, mono; all chunks but the last have `chunk_bytes`.

        Damaged packets are passed over, as players do; raises MediaError when nothing else is left.
        """
        pending = bytearray()
        for samples in self._decoded():
            pending += samples
            while len(pending) >= chunk_bytes:
                yield bytes(pending[:chunk_bytes])
                del pending[:chunk_bytes]
        if pending:
            yield bytes(pending)

    def _decoded(self) -> Iterator[bytes]:
        import av

        is_damaged = has_audio = False
        with _opened(self.path) as file, _reading(self.path), _container(file) as container:
            stream = _audio_stream(self.path, container)
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    is_damaged = True
                    continue
                for frame in (out for decoded in frames for out in resampler.resample(decoded)):
                    has_audio = True
                    yield frame.to_ndarray().tobytes()
            if has_audio:
                for frame in resampler.resample(None):
                    yield frame.to_ndarray().tobytes()
        if is_damaged and not has_audio:
            raise MediaError(f"{self.path} is damaged: none of its audio can be decoded.")


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
