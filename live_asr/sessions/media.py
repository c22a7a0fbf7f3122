"""Containers and codecs: bytes of a media file or stream to samples, through FFmpeg's libraries.

Everything here runs in the thread of one session (see `container`) and blocks while its source has no
bytes. Bytes from strangers meet FFmpeg here, so what it may do with them is bounded: it sees no seekable
file unless the container needs one, opens nothing by name, and knows only formats that hold sound.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from numpy.typing import NDArray

from live_asr.core.audio import Samples, bounded
from live_asr.errors import MediaError
from live_asr.sessions.resampling import Resampler
from live_asr.storage.files import check_room, storage_error

FORMATS = (
    "matroska,webm,ogg,mp3,mov,mp4,m4a,3gp,3g2,mj2,wav,w64,flac,aac,aiff,au,caf,avi,mpegts,mpeg,"
    "flv,asf,amr,ac3,eac3"
)
"""No playlists among them: those would make FFmpeg open files and addresses of the client's choosing."""

PROBED_BYTES = 256 * 1024
"""So much is looked at before bytes of no known format are refused."""
LARGEST_TAG_BYTES = 16 * 1024 * 1024
"""An ID3 tag, with its pictures, stands before the audio and is read first."""
MOST_SILENT_BYTES = 32 * 1024 * 1024
"""So many bytes in a row may give no audio: more than a second of any video."""
MOST_SPOOLED_BYTES = 4 * 1024**3
"""The largest file that is kept on disk because its index comes last."""
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 384_000
MOST_CHANNELS = 24
MOST_ODD_FRAMES = 8
"""So many frames of an impossible form may come before the first good one."""
MOST_ERRORS_IN_A_ROW = 64
"""A demuxer that keeps failing without moving on is given up."""

BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"sidx", b"pdin")
"""The boxes that an MP4 or QuickTime file begins with."""

MAGIC = ((b"\x1a\x45\xdf\xa3", "matroska"), (b"OggS", "ogg"), (b"fLaC", "flac"))
"""Formats told from their first bytes, which saves waiting for the 2 KiB that a probe wants."""

STRANGERS = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"<!doctype", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML document"),
    (b"#extm3u", "a playlist"),
    (b"{", "JSON"),
)
"""What people send by mistake, by first bytes in lower case or as they are."""

HINT = (
    "Send a file or recording with an audio track (WebM, Ogg, MP3, MP4/M4A, WAV, FLAC), from its first byte "
    "on; for raw samples set `audio.encoding` to pcm_s16le, pcm_f32le, mulaw or alaw."
)


class ByteSource(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return 1 to `size` bytes, waiting for them; none only at the end of the stream."""


class PeekableSource:
    """A byte source whose beginning can be looked at before it is read."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._kept = bytearray()
        self.read_bytes = 0

    def peek(self, start: int, end: int) -> bytes:
        """Return bytes `start` to `end` of what follows, as far as there are any, and keep all for `read`."""
        while len(self._kept) < end:
            more = self._source.read(end - len(self._kept))
            if not more:
                break
            self._kept += more
        return bytes(self._kept[start:end])

    def read(self, size: int) -> bytes:
        """Return 1 to `size` bytes, none only at the end."""
        if self._kept:
            data = bytes(self._kept[:size])
            del self._kept[: len(data)]
        else:
            data = self._source.read(size)
        self.read_bytes += len(data)
        return data


class MediaReader:
    """Decode one media stream to 16 kHz mono.

    `skipped_packets` counts the corrupt ones that were passed over. The first audio track is taken.
    """

    def __init__(self, source: ByteSource, spool_directory: Path | None = None) -> None:
        self._source = PeekableSource(source)
        self._spool_directory = spool_directory
        self._mixer = Mixer()
        self.skipped_packets = 0

    def samples(self) -> Iterator[Samples]:
        """Yield samples as they are decoded: shape (samples,), float32, mono, 16 kHz.

        Raises MediaError `not_audio` where the bytes are no media, have no audio track, or end before any
        audio could be decoded, StorageError where the disk refuses a file that has to be kept. A stream
        without a single byte yields nothing. One that is cut off or damaged yields what can be decoded.
        """
        head = self._source.peek(0, 16)
        if not head:
            return
        refuse_strangers(head)
        if head[4:8] in BOXES and index_comes_last(self._source):
            with spooled(self._source, self._spool_directory) as file:
                yield from self._decoded(file, head)
        else:
            yield from self._decoded(self._source, head)

    def _decoded(self, source: Any, head: bytes) -> Iterator[Samples]:
        with open_container(source, head) as container:
            if not container.streams.audio:
                found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
                fault = f"The {container.format.long_name} stream has no audio track, only {found}."
                raise MediaError(fault, HINT)
            heard = False
            for frame in self._frames(container):
                try:
                    mixed = self._mixer.feed(frame)
                except MediaError:
                    self.skipped_packets += 1
                    if not heard and self.skipped_packets >= MOST_ODD_FRAMES:
                        raise
                    continue
                heard = True
                if len(mixed):
                    yield mixed
            if not heard:
                fault = f"No audio could be decoded from the {container.format.long_name} stream."
                raise MediaError(f"{fault} It ends too early or is damaged.", HINT)
        last = self._mixer.finish()
        if len(last):
            yield last

    def _frames(self, container: InputContainer) -> Iterator[AudioFrame]:
        """Decode the first audio track, passing over what is corrupt."""
        heard_at_bytes = self._source.read_bytes
        errors_in_a_row = 0
        stream = container.streams.audio[0]
        packets: Any = container.demux(stream)
        try:
            while errors_in_a_row < MOST_ERRORS_IN_A_ROW:
                try:
                    packet = next(packets)
                except StopIteration:
                    return
                except (av.error.FFmpegError, IndexError):  # the latter for tracks that turn up on the way
                    # A generator that raised is over; the demuxer may go on.
                    packets = container.demux(stream)
                    errors_in_a_row += 1
                    continue
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    self.skipped_packets += 1
                    frames = []
                for frame in frames:
                    yield frame
                    heard_at_bytes, errors_in_a_row = self._source.read_bytes, 0
                if self._source.read_bytes - heard_at_bytes > MOST_SILENT_BYTES:
                    fault = f"{MOST_SILENT_BYTES // 2**20} MiB in a row held no audio."
                    raise MediaError(fault, HINT)
        finally:
            packets.close()  # one that is merely forgotten takes 150 bytes of PyAV's along


class Mixer:
    """Bring decoded frames of any format, layout and rate to 16 kHz mono float32.

    Two channels are averaged and soxr resamples, so that the same audio gives the same samples whether it
    comes raw or in a container. Before that, swresample brings more channels to two, since it knows what
    each is for; only then, because PyAV wraps it in a filter graph, which starts a thread for each core.
    """

    def __init__(self) -> None:
        self._form: tuple[str, str, int] | None = None
        self._to_stereo: AudioResampler | None = None
        self._resampler = Resampler(16_000)

    def feed(self, frame: AudioFrame) -> Samples:
        """Return what is ready at 16 kHz; a change of rate flushes the filter.

        Raises MediaError for a rate or a number of channels that no recording has.
        """
        rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ or not 1 <= channels <= MOST_CHANNELS:
            fault = f"The stream claims a sample rate of {rate_hz} Hz and {channels} channels."
            raise MediaError(fault, f"Rates from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz can be read.")
        form = (frame.format.name, frame.layout.name, rate_hz)
        flushed: list[Samples] = []
        if form != self._form:
            if self._form is None or self._form[2] != rate_hz:
                flushed.append(self._resampler.finish())
                self._resampler = Resampler(rate_hz)
            self._to_stereo = None
            if channels > 2:
                self._to_stereo = AudioResampler(format="fltp", layout="stereo", rate=rate_hz)
            self._form = form
        return joined(flushed + [self._resampler.feed(averaged(part)) for part in self._mixed(frame)])

    def _mixed(self, frame: AudioFrame) -> list[NDArray[Any]]:
        """Return the frame's samples as one or two channels, shape (channels, samples)."""
        frame.pts = None  # samples follow each other; a jump in time is not to be filled
        try:
            frames = [frame] if self._to_stereo is None else self._to_stereo.resample(frame)
            return [floats(one) for one in frames]
        except (av.error.FFmpegError, ValueError) as error:
            self._form = None  # the next frame gets a mixer that has not failed
            fault = f"Audio with the channels '{frame.layout.name}' cannot be mixed."
            raise MediaError(fault, "Send mono or stereo.") from error

    def finish(self) -> Samples:
        """Return what the filter still holds."""
        return self._resampler.finish()


def refuse_strangers(head: bytes) -> None:
    """Raise MediaError where the first bytes are those of something well known that holds no sound."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, name in STRANGERS:
        if start.startswith(magic) or start.lower().startswith(magic):
            raise MediaError(f"The bytes are {name}, not audio.", HINT)


def index_comes_last(source: PeekableSource) -> bool:
    """Tell whether an MP4 or QuickTime stream begins with its media data, so that its index comes later.

    Such a file cannot be decoded as it comes. The boxes are walked (ISO/IEC 14496-12, 4.2) as far as the
    first `moov` or `mdat`; a stream with other things there for a MiB is left to FFmpeg.
    """
    position = 0
    while position < 2**20:
        header = source.peek(position, position + 16)
        kind, size_bytes = header[4:8], int.from_bytes(header[:4], "big")
        if kind == b"mdat":
            return True
        if size_bytes == 1:
            size_bytes = int.from_bytes(header[8:16], "big")
        if kind == b"moov" or kind not in BOXES or size_bytes < 8:
            return False
        position += size_bytes
    return False


def spooled(source: ByteSource, directory: Path | None) -> IO[bytes]:
    """Copy all of a source to a temporary file, which vanishes when it is closed.

    Raises MediaError where it is longer than a disk should be asked to keep, StorageError where the disk
    refuses or has no room for it: that is no fault of the file.
    """
    folder = directory or Path(tempfile.gettempdir())
    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise storage_error(error) from error
    try:
        while data := source.read(2**18):
            check_room(folder, len(data))
            file.write(data)
            if file.tell() > MOST_SPOOLED_BYTES:
                fault = f"The file's index comes after more than {MOST_SPOOLED_BYTES // 2**30} GiB."
                raise MediaError(fault, "Write it with the index first (ffmpeg -movflags +faststart).")
        file.seek(0)
    except OSError as error:
        with contextlib.suppress(OSError):  # it flushes, which fails again
            file.close()
        raise storage_error(error) from error
    except BaseException:
        file.close()
        raise
    return file


def open_container(source: Any, head: bytes) -> InputContainer:
    """Open a file-like object as media; raises MediaError where it is none that can hold sound."""
    name = next((name for magic, name in MAGIC if head.startswith(magic)), None)
    probed_bytes = PROBED_BYTES
    if head.startswith(b"ID3"):
        probed_bytes += min(id3_bytes(head), LARGEST_TAG_BYTES)
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "none",
        "formatprobesize": str(probed_bytes),
        "probesize": "1000000",  # bytes read to learn the tracks' parameters
        "analyzeduration": "1000000",  # the same in microseconds of media
    }
    try:
        container: InputContainer = av.open(source, "r", format=name, options=options)
    except (av.error.FFmpegError, ValueError) as error:
        fault = "The bytes are in no format that holds audio, or end before their audio begins."
        raise MediaError(fault, HINT) from error
    return container


def id3_bytes(head: bytes) -> int:
    """Return the length of the ID3v2 tag that `head`, at least 10 bytes, begins with."""
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))


def floats(frame: AudioFrame) -> NDArray[Any]:
    """Return a frame's samples: shape (channels, samples), float32. Raises ValueError for odd formats."""
    found = frame.to_ndarray()
    if not frame.format.is_planar:
        found = found.reshape(-1, frame.layout.nb_channels).T
    if not np.issubdtype(found.dtype, np.integer):
        with np.errstate(over="ignore"):
            return found.astype(np.float32, copy=False)
    full_scale = np.float32(2 ** (8 * found.itemsize - 1))
    zero = full_scale if np.issubdtype(found.dtype, np.unsignedinteger) else np.float32(0)
    scaled: NDArray[Any] = (found.astype(np.float32) - zero) / full_scale
    return scaled


def averaged(channels: NDArray[Any]) -> Samples:
    """Return the mean of one or two channels, shape (channels, samples), without what is out of bounds."""
    with np.errstate(invalid="ignore", over="ignore"):  # a damaged stream may hold infinities
        total = channels[0] + channels[1] if len(channels) > 1 else channels[0].copy()
    return bounded((total / np.float32(len(channels))).astype(np.float32, copy=False))


def joined(pieces: list[Samples]) -> Samples:
    """Return pieces one after the other: shape (samples,), float32."""
    return np.concatenate(pieces) if pieces else np.empty(0, np.float32)
