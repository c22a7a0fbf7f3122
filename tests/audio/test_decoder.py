"""Real speech in every form a client may send it, and what is not speech at all."""

from __future__ import annotations

import asyncio
import gc
import io
import random
import shutil
import struct
import tempfile
import threading
import wave
from collections.abc import AsyncIterator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live_asr.audio import container
from live_asr.audio import ffmpeg as media
from live_asr.audio.decoder import INLINE_BYTES, AudioDecoder, open_decoder
from live_asr.core.audio import Samples
from live_asr.core.errors import DiskFull, MediaError, StorageError
from live_asr.core.messages import AudioFormat
from live_asr.storage.files import RESERVE_BYTES

CONTAINER = AudioFormat("container")
EXCERPT_SECONDS = 8

FORMS: dict[str, dict[str, Any]] = {
    "recorder.webm": {"format": "webm", "codec": "libopus", "rate": 48_000, "live": True},
    "file.webm": {"format": "webm", "codec": "libopus", "rate": 48_000},
    "opus.ogg": {"format": "ogg", "codec": "libopus", "rate": 48_000},
    "music.mp3": {"format": "mp3", "codec": "libmp3lame", "rate": 44_100},
    "index-last.m4a": {"format": "mp4", "codec": "aac", "rate": 44_100},
    "index-first.m4a": {
        "format": "mp4",
        "codec": "aac",
        "rate": 44_100,
        "options": {"movflags": "faststart"},
    },
    "fragments.mp4": {
        "format": "mp4",
        "codec": "aac",
        "rate": 44_100,
        "options": {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"},
        "live": True,
    },
    "plain.wav": {"format": "wav", "codec": "pcm_s16le", "rate": 16_000},
    "stereo.wav": {"format": "wav", "codec": "pcm_s16le", "rate": 44_100, "layout": "stereo"},
    "lossless.flac": {"format": "flac", "codec": "flac", "rate": 48_000},
    "surround.flac": {"format": "flac", "codec": "flac", "rate": 48_000, "layout": "5.1"},
    "stream.aac": {"format": "adts", "codec": "aac", "rate": 44_100},
    "broadcast.ts": {"format": "mpegts", "codec": "aac", "rate": 48_000},
    "film.mp4": {"format": "mp4", "codec": "aac", "rate": 48_000, "video": "mpeg4"},
    "camera.webm": {"format": "webm", "codec": "libopus", "rate": 48_000, "video": "libvpx", "live": True},
}


class Unseekable:
    """A file that a muxer can only write to, as a recorder's network connection is."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def encode(
    speech: Samples,
    path: Path,
    *,
    format: str,
    codec: str | None,
    rate: int,
    layout: str = "mono",
    live: bool = False,
    options: dict[str, str] | None = None,
    video: str | None = None,
) -> bytes:
    """Write 16 kHz speech as a media file and return its bytes."""
    sink = Unseekable()
    with av.open(sink if live else str(path), "w", format=format, options=options or {}) as output:
        picture: Any = output.add_stream(video, rate=10) if video else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound: Any = output.add_stream(codec, rate=rate) if codec else None
        if sound is not None:
            sound.layout = layout
            sound.bit_rate = 64_000
            convert = av.AudioResampler(sound.codec_context.format.name, layout, rate)
        for start in range(0, len(speech), 1600):
            if picture is not None:
                output.mux(picture.encode(av.VideoFrame(64, 48, "yuv420p")))
            if sound is not None:
                frame = av.AudioFrame.from_ndarray(speech[None, start : start + 1600], "flt", "mono")
                frame.sample_rate = 16_000
                for converted in convert.resample(frame):
                    output.mux(sound.encode(converted))
        if sound is not None:
            for converted in convert.resample(None):
                output.mux(sound.encode(converted))
            output.mux(sound.encode(None))
        if picture is not None:
            output.mux(picture.encode(None))
    return bytes(sink.data) if live else path.read_bytes()


@pytest.fixture(scope="module")
def speech(sample_wav: Path) -> Samples:
    """The first seconds of a real conversation, 16 kHz."""
    with wave.open(str(sample_wav)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        frames = file.readframes(EXCERPT_SECONDS * 16_000)
    return np.frombuffer(frames, "<i2").astype(np.float32) / 32768


@pytest.fixture(scope="module")
def files(speech: Samples, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("media")
    return {name: encode(speech, folder / name, **form) for name, form in FORMS.items()}


@pytest.fixture(autouse=True)
def no_thread_outlives_its_session() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "container-decoder":
            thread.join(10)
            assert not thread.is_alive()


async def pieces(audio: AudioFormat, chunks: Sequence[bytes]) -> AsyncIterator[Samples]:
    decoder = open_decoder(audio)
    try:
        for chunk in chunks:
            yield await decoder.feed(chunk)
            while decoder.has_more:
                yield await decoder.feed(b"")
        yield await decoder.finish()
        while decoder.has_more:
            yield await decoder.finish()
    finally:
        decoder.close()


async def decode(data: bytes, sizes: Sequence[int] = (4096,), audio: AudioFormat = CONTAINER) -> Samples:
    chunks, start = [], 0
    while start < len(data):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(data[start : start + size])
        start += size
    found = [piece async for piece in pieces(audio, chunks)]
    assert all(piece.dtype == np.float32 and piece.ndim == 1 for piece in found)
    return np.concatenate(found)


def likeness(found: Samples, original: Samples) -> tuple[float, int]:
    """Return the best correlation of two recordings, and by how many samples the first is late."""
    size = 1 << (len(found) + len(original)).bit_length()
    product = np.fft.rfft(found, size) * np.conj(np.fft.rfft(original, size))
    correlation = np.fft.irfft(product, size) / (np.linalg.norm(found) * np.linalg.norm(original))
    late = int(np.argmax(correlation))
    return float(correlation[late]), late if late < size // 2 else late - size


# Containers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
async def test_speech_in_a_container_comes_out_as_it_went_in(
    name: str, files: dict[str, bytes], speech: Samples
) -> None:
    found = await decode(files[name])
    likest, late = likeness(found, speech)
    assert abs(len(found) - len(speech)) < 0.1 * 16_000
    assert likest > 0.95
    assert 0 <= late < 0.05 * 16_000


@pytest.mark.parametrize("name", FORMS)
async def test_any_chunking_of_a_container_gives_the_same_samples(name: str, files: dict[str, bytes]) -> None:
    data = files[name]
    whole = await decode(data, [len(data)])
    np.testing.assert_array_equal(await decode(data, [1, 7, 1000, 50_000, 333]), whole)
    np.testing.assert_array_equal(await decode(data, [977]), whole)


async def test_a_recording_fed_byte_by_byte_gives_the_same_samples(files: dict[str, bytes]) -> None:
    data = files["recorder.webm"][:20_000]
    np.testing.assert_array_equal(await decode(data, [1]), await decode(data, [len(data)]))


@pytest.mark.parametrize("name", ["recorder.webm", "camera.webm", "fragments.mp4", "opus.ogg"])
async def test_a_live_recording_is_heard_while_it_is_made(name: str, files: dict[str, bytes]) -> None:
    data, decoder = files[name], open_decoder(CONTAINER)
    try:
        heard_samples = 0
        for start in range(0, len(data), 512):
            heard_samples += len(await decoder.feed(data[start : start + 512]))
            due = (start + 512) / len(data) * EXCERPT_SECONDS - 2
            assert heard_samples / 16_000 > min(due, EXCERPT_SECONDS - 2)
    finally:
        decoder.close()


async def test_raw_and_contained_audio_give_the_same_samples(
    files: dict[str, bytes], speech: Samples
) -> None:
    np.testing.assert_array_equal(await decode(files["plain.wav"]), speech)
    with wave.open(io.BytesIO(files["stereo.wav"])) as file:
        raw = file.readframes(file.getnframes())
    expected = await decode(raw, audio=AudioFormat("pcm_s16le", 44_100, 2))
    np.testing.assert_allclose(await decode(files["stereo.wav"]), expected, atol=1e-6)


@pytest.mark.parametrize("encoding", ["pcm_s16le", "container"])
async def test_one_channel_is_heard_alone(encoding: str, speech: Samples) -> None:
    sides = np.stack((np.zeros_like(speech), speech), axis=1)
    raw = (sides * 32767).astype("<i2").tobytes()
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((2, 2, 16_000, 0, "NONE", ""))
        file.writeframes(raw)
    data = out.getvalue() if encoding == "container" else raw
    left, right = [await decode(data, audio=AudioFormat(encoding, channels=2, channel=c)) for c in (0, 1)]
    assert not left.any()
    np.testing.assert_allclose(right, speech, atol=1e-4)


async def test_a_channel_that_there_is_not_is_told_as_such(files: dict[str, bytes]) -> None:
    with pytest.raises(MediaError, match="There is no channel 1"):
        await decode(files["plain.wav"], audio=AudioFormat("container", channel=1))


@pytest.mark.parametrize("name", sorted(set(FORMS) - {"index-last.m4a", "film.mp4"}))
async def test_a_file_cut_off_gives_what_it_holds(
    name: str, files: dict[str, bytes], speech: Samples
) -> None:
    found = await decode(files[name][: len(files[name]) * 2 // 3])
    assert 0.4 * len(speech) < len(found) < 0.8 * len(speech)
    assert likeness(found, speech[: len(found)])[0] > 0.9


@pytest.mark.parametrize("name", ["recorder.webm", "music.mp3", "opus.ogg", "stream.aac", "broadcast.ts"])
async def test_damage_in_the_middle_is_passed_over(
    name: str, files: dict[str, bytes], speech: Samples
) -> None:
    data = bytearray(files[name])
    middle = len(data) // 2
    data[middle : middle + 500] = random.Random(1).randbytes(500)
    found = await decode(bytes(data))
    assert len(found) > 0.8 * len(speech)
    assert likeness(found[:48_000], speech[:48_000])[0] > 0.9


@pytest.fixture(scope="module")
def two_rates(speech: Samples, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Speech at 22 kHz, and once more at 44 kHz."""
    folder = tmp_path_factory.mktemp("rates")
    forms = ({"format": "adts", "codec": "aac", "rate": rate} for rate in (22_050, 44_100))
    return b"".join(encode(speech, folder / "part.aac", **form) for form in forms)


async def test_a_stream_that_changes_its_rate_is_followed(two_rates: bytes, speech: Samples) -> None:
    found = await decode(two_rates)
    assert abs(len(found) - 2 * len(speech)) < 0.2 * 16_000
    for half in (found[: len(found) // 2], found[len(found) // 2 :]):
        assert likeness(half, speech)[0] > 0.9


async def test_a_stream_whose_rate_turns_impossible_keeps_what_came_before(
    two_rates: bytes, speech: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "HIGHEST_RATE_HZ", 30_000)
    found = await decode(two_rates)
    assert abs(len(found) - len(speech)) < 0.2 * 16_000


async def test_corrupt_packets_are_counted(files: dict[str, bytes]) -> None:
    data, noise = bytearray(files["stream.aac"]), random.Random(2)
    for start in range(4000, len(data) - 300, 1000):
        data[start + 20 : start + 120] = noise.randbytes(100)
    decoder = open_decoder(CONTAINER)
    try:
        assert len(await decoder.feed(bytes(data))) > 0
        await decoder.finish()
        assert decoder.skipped_packets > 0
    finally:
        decoder.close()


# A file's own clock ------------------------------------------------------------------------------


def timed(speech: Samples, path: Path, *, format: str, codec: str, begins: float, gap: float) -> bytes:
    """Write two halves of speech as a file whose clock begins late and has a gap in the middle."""
    rate = 48_000
    convert = av.AudioResampler("flt" if codec == "libopus" else "fltp", "mono", rate)
    with av.open(str(path), "w", format=format) as output:
        sound: Any = output.add_stream(codec, rate=rate)
        sound.layout = "mono"
        half, at = len(speech) // 2, 0
        for start in range(0, len(speech), 1600):
            frame = av.AudioFrame.from_ndarray(speech[None, start : start + 1600], "flt", "mono")
            frame.sample_rate = 16_000
            for converted in convert.resample(frame):
                after = begins + (gap if start >= half else 0.0)
                converted.pts = round(after * rate) + at
                converted.time_base = Fraction(1, rate)
                at += converted.samples
                output.mux(sound.encode(converted))
        output.mux(sound.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("format", "codec"), [("matroska", "libopus"), ("webm", "libopus"), ("mp4", "aac"), ("matroska", "aac")]
)
async def test_what_is_heard_is_where_the_files_clock_has_it(
    format: str, codec: str, speech: Samples, tmp_path: Path
) -> None:
    data = timed(speech, tmp_path / "timed", format=format, codec=codec, begins=4.0, gap=3.0)
    found = await decode(data)
    half = len(speech) // 2  # the second one holds what is said
    alike, late = likeness(found, speech[half:])
    assert alike > 0.7
    assert abs(late / 16_000 - (4.0 + half / 16_000 + 3.0)) < 0.1
    assert not found[: 16_000 * 3].any()
    assert abs(len(found) / 16_000 - (len(speech) / 16_000 + 7.0)) < 0.2


async def test_any_chunking_gives_the_same_silence(speech: Samples, tmp_path: Path) -> None:
    data = timed(speech, tmp_path / "timed", format="webm", codec="libopus", begins=1.0, gap=30.0)
    np.testing.assert_array_equal(await decode(data), await decode(data, [1, 977, 13, 4096]))


async def test_a_broadcast_that_was_joined_late_begins_at_once(speech: Samples, tmp_path: Path) -> None:
    data = timed(speech, tmp_path / "timed", format="mpegts", codec="aac", begins=40_000.0, gap=0.0)
    assert abs(len(await decode(data)) - len(speech)) < 16_000 * 0.3


async def test_much_audio_in_few_bytes_is_handed_over_in_pieces(tmp_path: Path) -> None:
    quiet = np.zeros(200 * 16_000, np.float32)
    data = encode(quiet, tmp_path / "quiet.flac", format="flac", codec="flac", rate=16_000)
    assert len(data) < 100_000
    found = [len(piece) async for piece in pieces(CONTAINER, [data])]
    assert sum(found) == len(quiet)
    assert max(found) < 62 * 16_000


async def test_bytes_that_decode_to_more_than_anyone_takes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "MAX_QUEUED_BYTES", 60_000)
    quiet = np.zeros(400 * 16_000, np.float32)
    data = encode(quiet, tmp_path / "quiet.flac", format="flac", codec="flac", rate=16_000)
    decoder = open_decoder(CONTAINER)
    try:
        with pytest.raises(MediaError, match="far more audio"):
            for _ in range(20):
                await decoder.feed(data)
    finally:
        decoder.close()


async def test_a_stream_without_a_byte_is_silent() -> None:
    assert len(await decode(b"")) == 0


# What is not audio -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "a JPEG image"),
        (b"%PDF-1.7\n" + bytes(100), "a PDF document"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"\n <!DOCTYPE html><p>hello", "an HTML page"),
        (b"<html><body>hello", "an HTML page"),
        (b'{"type": "start"}', "JSON"),
        (b"#EXTM3U\n#EXTINF:9,\n/etc/passwd\n", "a playlist"),
    ],
)
async def test_well_known_files_without_sound_are_refused_by_name_at_once(data: bytes, named: str) -> None:
    decoder = open_decoder(CONTAINER)
    try:
        with pytest.raises(MediaError, match=named) as caught:
            await decoder.feed(data)
    finally:
        decoder.close()
    assert (caught.value.code, caught.value.close_code) == ("not_audio", 1003)
    assert "WebM" in caught.value.hint


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"hello world, this is no audio\n" * 50,
        b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n" * 100,
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        bytes(5000),
        b"\xff" * 5000,
        b"RIFF\x00\x00",
        b"OggS" + bytes(200),
        b"ID3\x04\x00\x00\x00\x00\x0f\x00" + bytes(100),
        b"\x1a\x45\xdf\xa3" + bytes(200),
        struct.pack(">I4s", 8, b"free") * 100_000,
        struct.pack(">I4sQ", 1, b"mdat", 2**60) + bytes(5000),
    ],
    ids=lambda data: repr(data[:12]),
)
async def test_what_is_no_media_is_refused_when_it_ends(data: bytes) -> None:
    with pytest.raises(MediaError) as caught:
        await decode(data)
    assert caught.value.code == "not_audio"


@pytest.mark.parametrize("seed", range(4))
async def test_noise_is_refused_before_a_mebibyte_of_it_was_sent(seed: int) -> None:
    decoder, noise = open_decoder(CONTAINER), random.Random(seed)
    try:
        with pytest.raises(MediaError):
            for _ in range(16):
                await decoder.feed(noise.randbytes(65_536))
    finally:
        decoder.close()


async def test_a_film_without_sound_is_refused_with_what_it_holds(tmp_path: Path, speech: Samples) -> None:
    form: dict[str, Any] = {"format": "webm", "codec": None, "rate": 0, "video": "libvpx"}
    with pytest.raises(MediaError, match="no audio track, only video"):
        await decode(encode(speech, tmp_path / "mute.webm", **form))


@pytest.mark.parametrize(("rate_hz", "channels"), [(1, 1), (100, 1), (2**31 - 1, 1), (16_000, 255)])
async def test_a_rate_or_channels_that_no_recording_has_is_refused(rate_hz: int, channels: int) -> None:
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, min(rate_hz * 2, 2**32 - 1), 2 * channels, 16)
    head = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", len(form)) + form + b"data\xff\xff\xff\xff"
    with pytest.raises(MediaError):
        await decode(head + bytes(200_000))


async def test_a_file_too_long_to_keep_is_refused(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "MAX_SPOOLED_BYTES", 10_000)
    with pytest.raises(MediaError, match="index") as caught:
        await decode(files["index-last.m4a"])
    assert "faststart" in caught.value.hint


async def test_a_disk_that_refuses_to_keep_a_file_is_told_as_such_and_not_as_a_fault_of_the_file(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    decoder = open_decoder(CONTAINER, tmp_path / "gone")
    try:
        with pytest.raises(StorageError) as caught:
            await decoder.feed(files["index-last.m4a"])
    finally:
        decoder.close()
    assert caught.value.code == "storage_full" and caught.value.hint


@pytest.mark.parametrize("room_bytes", [10_000, 2**30])
async def test_a_file_is_kept_only_where_sessions_that_go_on_have_room_beside_it(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room_bytes: int
) -> None:
    usage, kept = shutil.disk_usage(tmp_path), tempfile.TemporaryFile

    def look(_: Path) -> Any:
        written = sum(file.tell() for file in opened)
        return usage._replace(free=RESERVE_BYTES + room_bytes - written)

    def opening(**options: Any) -> Any:
        opened.append(kept(**options))
        return opened[-1]

    opened: list[Any] = []
    monkeypatch.setattr(shutil, "disk_usage", look)
    monkeypatch.setattr(tempfile, "TemporaryFile", opening)
    decoder = open_decoder(CONTAINER, tmp_path)
    data = files["index-last.m4a"]
    try:
        if room_bytes > len(data):
            await decoder.feed(data)
            assert len(await decoder.finish()) > 0
            return
        for start in range(0, 5000, 1000):
            await decoder.feed(data[start : start + 1000])
        with pytest.raises(DiskFull, match="MB are free") as caught:
            await decoder.feed(data[5000:])
        assert caught.value.code == "storage_full" and caught.value.hint
        assert opened[0].closed, "what it took is free again"
    finally:
        decoder.close()


async def test_samples_beyond_all_bounds_are_silence_in_stereo_too() -> None:
    sound = np.zeros((16_000, 2), "<f4")
    sound[100], sound[200], sound[300] = (np.inf, -np.inf), (np.nan, 0.5), (3e38, 3e38)
    form = struct.pack("<HHIIHH", 3, 2, 16_000, 128_000, 8, 32)
    head = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", len(form)) + form + b"data\xff\xff\xff\xff"
    found = await decode(head + sound.tobytes())
    assert len(found) == 16_000
    assert not found.any()


async def test_audio_that_never_comes_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "MAX_SILENT_BYTES", 20_000)
    path, noise = tmp_path / "empty-track.mkv", random.Random(3)
    with av.open(str(path), "w", format="matroska") as output:
        picture: Any = output.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt, picture.bit_rate = 320, 240, "yuv420p", 8_000_000
        output.add_stream("pcm_s16le", rate=16_000)
        for _ in range(40):
            pixels = np.frombuffer(noise.randbytes(240 * 320 * 3), np.uint8).reshape(240, 320, 3)
            output.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        output.mux(picture.encode(None))
    with pytest.raises(MediaError):
        await decode(path.read_bytes())


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=3000),
    magic=st.sampled_from([b"", b"OggS", b"fLaC", b"RIFF", b"ID3", b"\0\0\0 ftyp"]),
)
def test_any_bytes_are_decoded_or_refused(data: bytes, magic: bytes) -> None:
    try:
        asyncio.run(decode(magic + data, [100]))
    except MediaError as error:
        assert error.code == "not_audio" and error.hint


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FORMS)), seed=st.integers(0, 2**32))
def test_a_file_damaged_anywhere_is_decoded_or_refused(name: str, seed: int, files: dict[str, bytes]) -> None:
    dice, data = random.Random(seed), bytearray(files[name][:30_000])
    for _ in range(dice.choice([1, 5, 50])):
        place = dice.choice([dice.randrange(200), dice.randrange(len(data))])
        data[place : place + dice.randrange(8)] = dice.randbytes(dice.randrange(8))
    try:
        found = asyncio.run(decode(bytes(data)))
    except MediaError as error:
        assert error.code == "not_audio" and error.hint
    else:
        assert len(found) < 600 * 16_000


# Closing -----------------------------------------------------------------------------------------


def decoder_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "container-decoder"]


@pytest.mark.parametrize("sent_bytes", [0, 10, 5000])
@pytest.mark.parametrize("name", ["recorder.webm", "index-last.m4a"])
async def test_a_closed_decoder_ends_its_thread(name: str, sent_bytes: int, files: dict[str, bytes]) -> None:
    decoder = open_decoder(CONTAINER)
    (thread,) = decoder_threads()
    await decoder.feed(files[name][:sent_bytes])
    decoder.close()
    decoder.close()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    assert len(await decoder.feed(b"late")) == 0


@pytest.mark.parametrize("name", ["plain.wav", "stereo.wav", "lossless.flac", "recorder.webm"])
async def test_an_open_decoder_takes_one_thread_however_many_cores_there_are(
    name: str, files: dict[str, bytes]
) -> None:
    gc.collect()  # what earlier tests have left to it holds threads of its own
    before = psutil.Process().num_threads()
    decoder = open_decoder(CONTAINER)
    try:
        assert len(await decoder.feed(files[name][: len(files[name]) // 2])) > 0
        assert psutil.Process().num_threads() <= before + 1
    finally:
        decoder.close()


async def test_closing_wakes_whoever_waits_for_a_decoder(files: dict[str, bytes]) -> None:
    decoder = open_decoder(CONTAINER)
    feeding = asyncio.create_task(decoder.feed(files["lossless.flac"]))
    await asyncio.sleep(0)
    decoder.close()
    await asyncio.wait_for(feeding, 10)


async def test_a_cancelled_feed_loses_no_samples(files: dict[str, bytes], speech: Samples) -> None:
    data, decoder, found = files["plain.wav"], open_decoder(CONTAINER), []
    try:
        for start in range(0, len(data), 20_000):
            feeding = asyncio.create_task(decoder.feed(data[start : start + 20_000]))
            await asyncio.sleep(0)
            if start % 40_000 and not feeding.done():
                feeding.cancel()
            found += list(await asyncio.gather(feeding, return_exceptions=True))
        found.append(await decoder.finish())
    finally:
        decoder.close()
    whole = np.concatenate([piece for piece in found if isinstance(piece, np.ndarray)])
    np.testing.assert_array_equal(whole, speech)


# Raw audio ---------------------------------------------------------------------------------------


def raw(speech: Samples, audio: AudioFormat) -> bytes:
    """Encode 16 kHz speech as a raw stream of that form, through FFmpeg."""
    codec = {"mulaw": "pcm_mulaw", "alaw": "pcm_alaw"}.get(audio.encoding, audio.encoding)
    context: Any = av.CodecContext.create(codec, "w")
    context.sample_rate, context.layout = audio.sample_rate, ["mono", "stereo"][audio.channels - 1]
    context.format = {"pcm_f32le": "flt"}.get(codec, "s16")
    convert = av.AudioResampler(context.format, context.layout, audio.sample_rate)
    frame = av.AudioFrame.from_ndarray(speech[None, :], "flt", "mono")
    frame.sample_rate = 16_000
    frames = [*convert.resample(frame), *convert.resample(None)]
    return b"".join(bytes(packet) for entry in [*frames, None] for packet in context.encode(entry))


@pytest.mark.parametrize("encoding", ["pcm_s16le", "pcm_f32le", "mulaw", "alaw"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(8000, 1), (16_000, 2), (44_100, 1), (48_000, 2)])
async def test_raw_speech_comes_out_as_it_went_in(
    encoding: str, rate_hz: int, channels: int, speech: Samples
) -> None:
    audio = AudioFormat(encoding, rate_hz, channels)
    found = await decode(raw(speech, audio), audio=audio)
    likest, late = likeness(found, speech)
    assert abs(len(found) - len(speech)) <= 32
    assert likest > 0.97
    assert abs(late) <= 1


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 22_050, 44_100, 48_000])
async def test_any_chunking_of_raw_audio_gives_the_same_samples(rate_hz: int, speech: Samples) -> None:
    audio = AudioFormat("pcm_s16le", rate_hz)
    data = raw(speech, audio)
    whole = await decode(data, [len(data)], audio)
    np.testing.assert_array_equal(await decode(data, [1, 3, 3200, 17], audio), whole)
    np.testing.assert_array_equal(await decode(data, [INLINE_BYTES + 1], audio), whole)


async def test_raw_audio_is_heard_within_150_ms(speech: Samples) -> None:
    audio = AudioFormat("pcm_s16le", 8000)
    decoder: AudioDecoder = open_decoder(audio)
    assert len(await decoder.feed(raw(speech, audio)[: 2 * 1200])) > 0
    assert not decoder.has_more and decoder.skipped_packets == 0
    decoder.close()


# Channels apart ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["pcm_s16le", "container"])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
async def test_channels_are_heard_apart_whatever_the_chunking(
    encoding: str, rate_hz: int, speech: Samples
) -> None:
    sides = np.stack((speech, speech[::-1]), axis=1)
    raw = (sides * 32767).astype("<i2").tobytes()
    data = wav_bytes(raw, 2, rate_hz) if encoding == "container" else raw
    audio = AudioFormat(encoding, rate_hz, 2)
    both = await decoded_apart(audio, data, 4096)
    assert both.shape[0] == 2
    for size in (1001, len(data)):
        np.testing.assert_array_equal(await decoded_apart(audio, data, size), both)
    for channel in (0, 1):
        alone = await decode(data, audio=AudioFormat(encoding, rate_hz, 2, channel))
        np.testing.assert_array_equal(both[channel], alone)


async def test_of_a_file_with_one_channel_the_second_is_silent_and_the_client_told(speech: Samples) -> None:
    decoder = open_decoder(CONTAINER, channels=2)
    try:
        found = [await decoder.feed(wav_bytes((speech * 32767).astype("<i2").tobytes(), 1, 16_000))]
        while decoder.has_more:
            found.append(await decoder.feed(b""))
        found.append(await decoder.finish())
        both = np.concatenate([piece.reshape(2, -1) for piece in found], axis=1)
        assert both.shape == (2, len(speech)) and not both[1].any() and both[0].any()
        assert [notice.code for notice in decoder.notices] == ["one_channel"]
    finally:
        decoder.close()


def wav_bytes(raw: bytes, channels: int, rate_hz: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(raw)
    return out.getvalue()


async def decoded_apart(audio: AudioFormat, data: bytes, size: int) -> Samples:
    decoder = open_decoder(audio, channels=2)
    found = []
    try:
        for start in range(0, len(data), size):
            found.append(await decoder.feed(data[start : start + size]))
            while decoder.has_more:
                found.append(await decoder.feed(b""))
        found.append(await decoder.finish())
        while decoder.has_more:
            found.append(await decoder.finish())
    finally:
        decoder.close()
    return np.concatenate([piece.reshape(2, -1) for piece in found], axis=1)
