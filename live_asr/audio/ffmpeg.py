"""Containers and codecs: bytes of a media file or stream to samples, through FFmpeg's libraries.

Everything here runs in the thread of one session (see `container`) and blocks while its source has no
bytes. Bytes from strangers meet FFmpeg here, so what it may do with them is bounded: it sees no seekable
file unless the container needs one, opens nothing by name, and knows only formats that hold sound.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer

from live_asr.audio.formats import BOXES, HEAD_BYTES, HINT, MAGIC, id3_bytes, refuse_strangers
from live_asr.audio.resampler import Apart, Together
from live_asr.core.audio import Samples, floats
from live_asr.core.downmix import mono_weights
from live_asr.core.errors import MediaError
from live_asr.core.messages import Notice
from live_asr.core.timeline import Timeline
from live_asr.core.types import SAMPLE_RATE_HZ
from live_asr.storage.files import check_room, storage_error

FORMATS = (
    "matroska,webm,ogg,mp3,mov,mp4,m4a,3gp,3g2,mj2,wav,w64,flac,aac,aiff,au,caf,avi,mpegts,mpeg,"
    "flv,asf,amr,ac3,eac3,wv,tta"
)
"""No playlists among them: those would make FFmpeg open files and addresses of the client's choosing."""
CODECS = (
    "aac,aac_latm,mp3,mp3float,mp2,mp2float,mp1,mp1float,opus,vorbis,flac,alac,wavpack,tta,speex,ac3,"
    "eac3,dca,mlp,truehd,s302m,amrnb,amrwb,ilbc,gsm,gsm_ms,g722,g726,g726le,g729,wmav1,wmav2,wmapro,"
    "wmalossless,wmavoice,nellymoser,qdm2,qcelp,mace3,mace6,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,"
    "adpcm_swf,adpcm_yamaha,truespeech,pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd,pcm_f16le,pcm_f24le,"
    "pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_s8,pcm_s8_planar,pcm_s16be,pcm_s16be_planar,pcm_s16le,"
    "pcm_s16le_planar,pcm_s24be,pcm_s24le,pcm_s24le_planar,pcm_s32be,pcm_s32le,pcm_s32le_planar,"
    "pcm_s64be,pcm_s64le,pcm_u8,pcm_u16be,pcm_u16le,pcm_u24be,pcm_u24le,pcm_u32be,pcm_u32le"
)
"""FFmpeg's decoders that are let run: what recordings hold. None for pictures, or of old games and modems."""

PROBED_BYTES = 256 * 1024
"""So much is looked at before bytes of no known format are refused."""
LARGEST_TAG_BYTES = 16 * 1024 * 1024
"""An ID3 tag, with its pictures, stands before the audio and is read first."""
MAX_SILENT_BYTES = 32 * 1024 * 1024
"""So many bytes in a row may give no audio: more than a second of any video."""
MAX_SPOOLED_BYTES = 4 * 1024**3
"""The largest file that is kept on disk because its index comes last."""
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 384_000
MAX_CHANNELS = 24
MAX_ODD_FRAMES = 8
"""So many frames of an impossible form may come before the first good one."""
MAX_ERRORS_IN_A_ROW = 64
"""A demuxer that keeps failing without moving on is given up."""


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


class SeekableSource(PeekableSource):
    """A file on the disk, in which whoever reads may go to and fro."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._file = file

    def peek(self, start: int, end: int) -> bytes:
        """Return bytes `start` to `end` of the file."""
        self._file.seek(start)
        found = self._file.read(end - start)
        self._file.seek(0)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the file; return which one."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()


class MediaReader:
    """Decode one media stream to 16 kHz: mono, or so many `channels` apart.

    `skipped_packets` counts the corrupt ones that were passed over, `notices` are what to tell the client.
    The first audio track is taken. Where it begins late, or its timestamps leave a gap, there is silence, so
    that a sample's place says when it sounds; see `Timeline`. `channel` is the one that is heard; None mixes.
    """

    def __init__(
        self,
        source: ByteSource,
        spool_directory: Path | None = None,
        channel: int | None = None,
        channels: int = 1,
    ) -> None:
        self._source: PeekableSource = PeekableSource(source)
        self._spool_directory = spool_directory
        self._mixer = Mixer(channel, channels)
        self._has_told = False
        self.skipped_packets = 0
        self.notices: deque[Notice] = deque()
        self.format = ""
        """What FFmpeg calls the container's format, once it is open."""

    @classmethod
    def of_file(cls, file: IO[bytes]) -> MediaReader:
        """Decode a file that lies on the disk, from its beginning: nothing of it has to be kept elsewhere."""
        reader = cls(file)
        reader._source = SeekableSource(file)
        return reader

    def samples(self) -> Iterator[Samples]:
        """Yield samples as they are decoded: float32, 16 kHz, shape (samples,) or (channels, samples).

        Raises MediaError `not_audio` where the bytes are no media, have no audio track, or end before any
        audio could be decoded, StorageError where the disk refuses a file that has to be kept. A stream
        without a single byte yields nothing. One that is cut off or damaged yields what can be decoded.
        """
        head = self._source.peek(0, HEAD_BYTES)
        if not head:
            return
        refuse_strangers(head)
        if isinstance(self._source, SeekableSource):
            yield from self._decoded(self._source, head)
        elif (head[4:8] in BOXES and index_comes_last(self._source)) or table_comes_last(self._source):
            with spooled(self._source, self._spool_directory) as file:
                yield from self._decoded(file, head)
        else:
            yield from self._decoded(self._source, head)

    def _decoded(self, source: Any, head: bytes) -> Iterator[Samples]:
        with open_container(source, head) as container:
            self.format = container.format.name
            if not container.streams.audio:
                found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
                fault = f"The {container.format.long_name} stream has no audio track, only {found}."
                raise MediaError(fault, HINT)
            codec = container.streams.audio[0].codec_context
            if codec is None or codec.name not in CODECS.split(","):
                what = "an unknown codec" if codec is None else f"the codec {codec.name}"
                fault = (
                    f"The {container.format.long_name} stream's audio is in {what}, which is not read here."
                )
                raise MediaError(fault, HINT)
            heard = False
            for silence, frame in self._placed(container):
                try:
                    yield from self._mixer.feed(frame, silence)
                except MediaError:
                    self.skipped_packets += 1
                    if not heard and self.skipped_packets >= MAX_ODD_FRAMES:
                        raise
                    continue
                if not heard and self._mixer.lacks_channels:
                    text = "The audio has one channel: all of it is the first speaker's."
                    self.notices.append(Notice("one_channel", text))
                heard = True
            if not heard:
                fault = f"No audio could be decoded from the {container.format.long_name} stream."
                raise MediaError(f"{fault} It ends too early or is damaged.", HINT)
        yield self._mixer.finish()

    def _placed(self, container: InputContainer) -> Iterator[tuple[float, AudioFrame]]:
        """Decode, and yield each frame with the seconds of silence that the file's clock wants before it."""
        start = container.start_time
        timeline: Timeline[AudioFrame] = Timeline(
            container.format.name, None if start is None else start / av.time_base
        )
        for frame, size_bytes in self._frames(container):
            yield from timeline.place(
                frame, frame.time, frame.samples / max(frame.sample_rate, 1), size_bytes
            )
            self._tell_of(timeline)
        yield from timeline.finish()
        self._tell_of(timeline)

    def _tell_of(self, timeline: Timeline[AudioFrame]) -> None:
        if timeline.skipped:
            if not self._has_told:
                self.notices.append(timeline.skipped[0].notice())
            self._has_told = True
            timeline.skipped.clear()

    def _frames(self, container: InputContainer) -> Iterator[tuple[AudioFrame, int]]:
        """Decode the first audio track, passing over what is corrupt; with the bytes that a frame took."""
        heard_at_bytes = self._source.read_bytes
        errors_in_a_row = 0
        stream = container.streams.audio[0]
        packets: Any = container.demux(stream)
        try:
            while errors_in_a_row < MAX_ERRORS_IN_A_ROW:
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
                size_bytes = packet.size
                for frame in frames:
                    yield frame, size_bytes
                    size_bytes = 0
                    heard_at_bytes, errors_in_a_row = self._source.read_bytes, 0
                if self._source.read_bytes - heard_at_bytes > MAX_SILENT_BYTES:
                    fault = f"{MAX_SILENT_BYTES // 2**20} MiB in a row held no audio."
                    raise MediaError(fault, HINT)
        finally:
            packets.close()  # one that is merely forgotten takes 150 bytes of PyAV's along


class Mixer:
    """Bring decoded frames of any format, layout and rate to 16 kHz float32: mono, or channels apart.

    Channels are mixed and soxr resamples here and for raw audio alike, so that the same audio gives the same
    samples whether it comes raw or in a container.
    """

    def __init__(self, channel: int | None = None, channels: int = 1) -> None:
        self._channel = channel
        self._channels = channels
        self._form: tuple[tuple[str, ...], int] | None = None
        self._line: Together | Apart = self._line_of(("FC",), SAMPLE_RATE_HZ)

    @property
    def lacks_channels(self) -> bool:
        """Whether channels are wanted that are not there."""
        return self._form is not None and len(self._form[0]) < self._channels

    def _line_of(self, names: Sequence[str], rate_hz: int) -> Together | Apart:
        if self._channels > 1:
            return Apart(self._channels, rate_hz)
        return Together(mono_weights(names), rate_hz)

    def feed(self, frame: AudioFrame, silence: float = 0.0) -> Iterator[Samples]:
        """Yield what is ready at 16 kHz of so many seconds of silence and the frame.

        A change of rate or channels flushes what was before. Raises MediaError for a rate or a number of
        channels that no recording has, and for samples that cannot be read.
        """
        rate_hz, names = frame.sample_rate, tuple(channel.name for channel in frame.layout.channels)
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ or not 1 <= len(names) <= MAX_CHANNELS:
            fault = f"The stream claims a sample rate of {rate_hz} Hz and {len(names)} channels."
            raise MediaError(fault, f"Rates from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz can be read.")
        try:
            channels = floats(frame.to_ndarray(), len(names), is_planar=frame.format.is_planar)
        except (av.error.FFmpegError, ValueError) as error:
            fault = f"Audio with the channels '{frame.layout.name}' cannot be read."
            raise MediaError(fault, "Send mono or stereo.") from error
        if self._channel is not None:
            if self._channel >= len(names):
                fault = f"There is no channel {self._channel}: the audio has {len(names)}, counted from 0."
                raise MediaError(fault, "Leave `audio.channel` out to hear all of them mixed.")
            taken = slice(self._channel, self._channel + 1)
            names, channels = names[taken], channels[taken]
        if (names, rate_hz) != self._form:
            yield self.finish()
            self._form = (names, rate_hz)
            self._line = self._line_of(names, rate_hz)
        missing = round(silence * rate_hz)
        while missing > 0:
            count = min(missing, rate_hz)
            yield self._line.feed(np.zeros((len(names), count), np.float32))
            missing -= count
        yield self._line.feed(channels)

    def finish(self) -> Samples:
        """Return what the filters still hold."""
        return self._line.finish()


def duration_of(file: IO[bytes]) -> float | None:
    """Return how many seconds a file says that it lasts; None where it does not, or is no media.

    Blocks, and goes back to the file's beginning.
    """
    try:
        file.seek(0)
        head = file.read(HEAD_BYTES)
        file.seek(0)
        with open_container(file, head) as container:
            return None if container.duration is None else container.duration / av.time_base
    except MediaError:
        return None
    finally:
        file.seek(0)


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


def table_comes_last(source: PeekableSource) -> bool:
    """Tell whether a stream is in Apple's Core Audio Format with packets of varying size.

    The table of their sizes may come behind them, and FFmpeg reads it only where it can go back.
    """
    # The header of the file has 8 bytes; the description comes first: 12 of its own header, then the rate in
    # 8, the codec in 4, flags in 4, and the size of a packet, which is 0 where it varies.
    head = source.peek(0, 40)
    return head[:4] == b"caff" and head[8:12] == b"desc" and head[36:40] == bytes(4)


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
            if file.tell() > MAX_SPOOLED_BYTES:
                fault = f"The file's index comes after more than {MAX_SPOOLED_BYTES // 2**30} GiB."
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
        "codec_whitelist": CODECS,  # for what is looked at while it is opened
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


def joined(pieces: list[Samples]) -> Samples:
    """Return pieces one after the other, float32: shape (samples,), or (channels, samples) as theirs is."""
    return np.concatenate(pieces, axis=-1) if pieces else np.empty(0, np.float32)
