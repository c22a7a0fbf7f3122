"""Inputs for the fuzzer: real messages and real media files, and what can be made of them.

All chance comes from one generator, so that a seed gives the same inputs as long as they come to the same.
"""

from __future__ import annotations

import json
import random
import re
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import av

from benchmarks.fuzz_target import FIELDS, SEED_BYTES
from benchmarks.report import ROOT
from benchmarks.speech import RATE_HZ, Samples
from live_asr.core.messages import CLIENT_TYPES, ENCODINGS, SERVER_TYPES

LARGEST_FRAME_BYTES = 1024 * 1024
"""A server takes no larger frame."""
LARGEST_FILE_BYTES = 192 * 1024
MAX_KEPT = 400
MAX_KEPT_BYTES = 8 * 1024 * 1024
"""So much is kept beside the seeds: enough to go on from, and memory of a fixed size."""


@dataclass(slots=True)
class Corpus:
    """What inputs are made of: seeds, and those made so far that had come to something new."""

    seeds: list[bytes]
    kept: list[bytes] = field(default_factory=list)

    def pick(self, chance: random.Random) -> bytes:
        """Return one, a seed as often as not."""
        return chance.choice(self.kept if self.kept and chance.random() < 0.5 else self.seeds)

    def keep(self, data: bytes, chance: random.Random) -> None:
        """Add one that is not much larger than the seeds; where there are too many, some others go."""
        if len(data) > 2 * max(map(len, self.seeds)):
            return
        self.kept.append(data)
        while len(self.kept) > MAX_KEPT or sum(map(len, self.kept)) > MAX_KEPT_BYTES:
            self.kept.pop(chance.randrange(len(self.kept)))


# Of any bytes ------------------------------------------------------------------------------------


def place(data: bytes, chance: random.Random) -> int:
    """Return a position, in the head, where formats are told, as often as anywhere."""
    return chance.randrange(min(len(data), 400) if chance.random() < 0.5 else len(data)) if data else 0


def stretch(data: bytes, chance: random.Random) -> slice:
    """Return a stretch: mostly a short one."""
    start = place(data, chance)
    return slice(start, start + int(2 ** chance.uniform(0, max(1, len(data)).bit_length())))


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Flip some bits."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 50)) if data else 0):
        changed[place(data, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(data: bytes, chance: random.Random) -> bytes:
    """Take a stretch out."""
    where = stretch(data, chance)
    return data[: where.start] + data[where.stop :]


def ended(data: bytes, chance: random.Random) -> bytes:
    """Let it end too early."""
    return data[: chance.randrange(len(data) + 1)]


def zeroed(data: bytes, chance: random.Random) -> bytes:
    """Overwrite a stretch with zeros, or ones."""
    where = stretch(data, chance)
    length = len(data[where])
    return data[: where.start] + chance.choice((b"\0", b"\xff")) * length + data[where.start + length :]


def noisy(data: bytes, chance: random.Random) -> bytes:
    """Overwrite a stretch with noise."""
    where = stretch(data, chance)
    length = min(len(data[where]), 64)
    return data[: where.start] + chance.randbytes(length) + data[where.start + length :]


def repeated(data: bytes, chance: random.Random) -> bytes:
    """Say a stretch several times."""
    where = stretch(data, chance)
    return data[: where.stop] + data[where] * chance.choice((1, 2, 20)) + data[where.stop :]


def swapped(data: bytes, chance: random.Random) -> bytes:
    """Move a stretch elsewhere."""
    where = stretch(data, chance)
    rest = data[: where.start] + data[where.stop :]
    to = place(rest, chance)
    return rest[:to] + data[where] + rest[to:]


def spliced(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Go on with another input in the middle of it, or put a stretch of that in."""
    at, where = place(data, chance), stretch(other, chance)
    if chance.random() < 0.5:
        return data[:at] + other[where.start :]
    return data[:at] + other[where] + data[at:]


BYTEWISE = (flipped, cut, ended, zeroed, noisy, repeated, swapped)


# Of messages -------------------------------------------------------------------------------------

WORDS = (*CLIENT_TYPES, *SERVER_TYPES, *ENCODINGS, "fast", "realtime", "translate", "started", "ended")
ODD = (
    *(b"null", b"true", b"false", b"0", b"-1", b"-0.0", b"0.0005", b"16000.0", b"1e308", b"1e400", b"5e-324"),
    *(b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"1e19", b"NaN", b"-Infinity"),
    *(b'""', b'"\\ud800"', b'"\\udfff\\ud800"', b'"\xed\xa0\x80"', '"\U0001f600"'.encode(), b'"\\u0000"'),
    *(
        b'"\\',
        b'"\xff"',
        b'"\n"',
        b"'a'",
        b"\xef\xbb\xbf",
        b"/**/0",
        b"01",
        b"+1",
        b"[]",
        b"{}",
        b"[{}]",
        b"[[]]",
    ),
    *(
        b'0,"type":"start"',
        b'{"a":1,"a":2}',
        b'"http://[::1"',
        b'"http://a:0/"',
        b'"https://\\u0001@a:99999"',
    ),
    *(b"1" * 4300, b"1" * 4301, b"[" * 900 + b"]" * 900, b'{"a":' * 500 + b"0" + b"}" * 500),
)
"""What stands where it should not, as it is written: also what no JSON library would write."""
HUGE = (
    *(b"1" * 400_000, b"0." + b"3" * 400_000, b"-" * 100_000, b"[" * 400_000, b'{"a":' * 100_000),
    *(b'"' + b"x" * 400_000 + b'"', b'"' + b"\\ud83d\\ude00" * 30_000 + b'"', b"[" + b"0," * 200_000 + b"0]"),
    b"{" + b",".join(b'"k%d":0' % number for number in range(30_000)) + b"}",
    b"{" + b",".join(b'"typ%d":0' % number for number in range(30_000)) + b"}",
)
MARK = "@here@"


def documented() -> list[bytes]:
    """Return the messages that the documentation shows: all kinds, all fields."""
    document = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    shown = re.findall(r"^```json\n(.*?)^```", document, re.DOTALL | re.MULTILINE)
    return [json.dumps(json.loads(block), ensure_ascii=False).encode() for block in shown]


def message(corpus: Corpus, chance: random.Random) -> bytes:
    """Make a frame that is nearly a message."""
    data = corpus.pick(chance)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        kind = chance.random()
        if kind < 0.6:
            data = retold(data, chance)
        elif kind < 0.7:
            data = spliced(data, corpus.pick(chance), chance)
        else:
            data = chance.choice(BYTEWISE)(data, chance)
    return data[:LARGEST_FRAME_BYTES]


def retold(data: bytes, chance: random.Random) -> bytes:
    """Change a message where a program would: a value, a key, the length of an array."""
    try:
        value = json.loads(data)
        holders = [value] if isinstance(value, dict | list) else []
        for holder in holders:  # grows while it is walked
            holders += [one for one in parts_of(holder) if isinstance(one, dict | list)]
        holders = [holder for holder in holders if holder]
        if not holders:
            return chance.choice(ODD)
        change(chance.choice(holders), chance)
        text = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return chance.choice(BYTEWISE)(data, chance)
    put = chance.choice(HUGE if chance.random() < 0.001 else ODD)
    return text.replace(f'"{MARK}"'.encode(), put, 1)


def parts_of(holder: dict[str, Any] | list[Any]) -> list[Any]:
    """Return what an object or array holds."""
    return list(holder.values()) if isinstance(holder, dict) else holder[:50]


def change(holder: dict[str, Any] | list[Any], chance: random.Random) -> None:
    """Change one thing in an object or array that holds something."""
    key: Any = chance.choice(list(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
    what = chance.randrange(8)
    if what < 3:
        holder[key] = MARK
    elif what == 3:
        holder[key] = chance.choice(WORDS)
    elif what == 4:
        del holder[key]
    elif what == 5:
        holder[key] = chance.choice((0, 1, -1, 2**31, 2**63, 0.1, 1e-9, 1e300)) * chance.choice((1, 1.5))
    elif isinstance(holder, list):
        holder.extend([holder[key]] * chance.choice((1, 3, 250)))
    elif what == 6:
        holder[chance.choice(sorted(FIELDS))] = holder[key]
    else:
        holder[misspelt(key, chance)] = holder.pop(key)


def misspelt(name: str, chance: random.Random) -> str:
    """Return a name that is nearly this one."""
    at = chance.randrange(len(name) + 1)
    return (
        name[:at] + chance.choice(("", "_", "s", "\ud800", "é", "`", "\0")) + name[at + chance.randrange(2) :]
    )


# Of containers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """How FFmpeg is to write a recording: names as it has them."""

    format: str
    codec: str
    rate_hz: int
    layout: str = "mono"
    live: bool = False
    """As it comes from a recorder: nothing is gone back to."""
    options: dict[str, str] = field(default_factory=dict)
    video: str | None = None
    seconds: float = 1.0


FORMS = {
    "recorder.webm": Form("webm", "libopus", 48_000, live=True),
    "file.webm": Form("webm", "libopus", 48_000),
    "camera.webm": Form("webm", "libopus", 48_000, live=True, video="libvpx"),
    "vorbis.webm": Form("webm", "vorbis", 44_100, layout="stereo"),
    "pcm.mkv": Form("matroska", "pcm_s16le", 16_000),
    "opus.ogg": Form("ogg", "libopus", 48_000),
    "vorbis.ogg": Form("ogg", "vorbis", 44_100, layout="stereo"),
    "music.mp3": Form("mp3", "libmp3lame", 44_100),
    "index-last.m4a": Form("mp4", "aac", 44_100),
    "index-first.m4a": Form("mp4", "aac", 44_100, options={"movflags": "faststart"}),
    "fragments.mp4": Form(
        "mp4",
        "aac",
        44_100,
        live=True,
        options={"movflags": "frag_keyframe+empty_moov", "frag_duration": "200000"},
    ),
    "film.mp4": Form("mp4", "aac", 48_000, video="mpeg4"),
    "alac.mov": Form("mov", "alac", 16_000),
    "plain.wav": Form("wav", "pcm_s16le", 16_000),
    "stereo.wav": Form("wav", "pcm_f32le", 44_100, layout="stereo", seconds=0.2),
    "adpcm.wav": Form("wav", "adpcm_ima_wav", 16_000),
    "law.au": Form("au", "pcm_mulaw", 8_000),
    "plain.aiff": Form("aiff", "pcm_s16be", 16_000),
    "plain.caf": Form("caf", "pcm_s16le", 16_000),
    "plain.w64": Form("w64", "pcm_s16le", 16_000),
    "lossless.flac": Form("flac", "flac", 16_000),
    "surround.flac": Form("flac", "flac", 48_000, layout="5.1", seconds=0.3),
    "stream.aac": Form("adts", "aac", 44_100),
    "broadcast.ts": Form("mpegts", "aac", 48_000),
    "program.mpg": Form("mpeg", "mp2", 48_000),
    "flash.flv": Form("flv", "aac", 44_100),
    "windows.wma": Form("asf", "wmav2", 44_100),
    "old.avi": Form("avi", "libmp3lame", 44_100),
    "phone.amr": Form("amr", "libopencore_amrnb", 8_000),
    "dolby.ac3": Form("ac3", "ac3", 48_000),
    "dolby.eac3": Form("eac3", "eac3", 48_000),
}
"""Every format that a session takes; what a build of FFmpeg cannot write is left out."""
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


class Unseekable:
    """A file that a muxer can only write to, as a recorder's connection is."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self.data += data
        return len(data)


def media(speech: Samples) -> dict[str, bytes]:
    """Write speech, 16 kHz, in every form that this build of FFmpeg can write."""
    found = {}
    for name, form in FORMS.items():
        sink = Unseekable()
        # By name, since a muxer that puts its index first opens the file again.
        with tempfile.NamedTemporaryFile() as file, suppress(av.error.FFmpegError, ValueError):
            record(sink if form.live else file.name, speech, form)
            found[name] = bytes(sink.data) if form.live else file.read()
    return found


def record(sink: Any, speech: Samples, form: Form) -> None:
    """Write the beginning of some speech to a file, given as its name or as an object."""
    with av.open(sink, "w", format=form.format, options=form.options) as output:
        picture: Any = output.add_stream(form.video, rate=10) if form.video else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound: Any = output.add_stream(form.codec, rate=form.rate_hz)
        sound.layout, sound.bit_rate = form.layout, 12_200 if form.codec == "libopencore_amrnb" else 64_000
        sound.codec_context.options = {"strict": "experimental"}  # as FFmpeg calls its encoder of Vorbis
        convert = av.AudioResampler(sound.codec_context.format.name, form.layout, form.rate_hz)
        for start in range(0, int(form.seconds * RATE_HZ), RATE_HZ // 10):
            if picture is not None:
                output.mux(picture.encode(av.VideoFrame(64, 48, "yuv420p")))
            frame = av.AudioFrame.from_ndarray(speech[None, start : start + RATE_HZ // 10], "s16", "mono")
            frame.sample_rate = RATE_HZ
            for converted in convert.resample(frame):
                output.mux(sound.encode(converted))
        for stream in filter(None, (sound, picture)):
            output.mux(stream.encode(None))


def container(corpus: Corpus, chance: random.Random) -> bytes:
    """Make a file that is nearly a recording, with the seed of its chunks before it."""
    data = corpus.pick(chance)[SEED_BYTES:]
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        kind = chance.random()
        if kind < 0.25:
            data = numbered(data, chance)
        elif kind < 0.4:
            data = spliced(data, corpus.pick(chance)[SEED_BYTES:], chance)
        else:
            data = chance.choice(BYTEWISE)(data, chance)
    return chance.randbytes(SEED_BYTES) + data[:LARGEST_FILE_BYTES]


def numbered(data: bytes, chance: random.Random) -> bytes:
    """Overwrite what may be a length, a count or a rate with another number."""
    at, form = place(data, chance), chance.choice((">H", "<H", ">I", "<I", ">Q", "<Q"))
    size = struct.calcsize(form)
    near = int.from_bytes(data[at : at + size], "big" if form[0] == ">" else "little")
    number = chance.choice((*NUMBERS, near + 1, near - 1, near * 2, near // 2)) % 2 ** (8 * size)
    return data[:at] + struct.pack(form, number) + data[at + size :]


@dataclass(frozen=True, slots=True)
class Source:
    """What a target's inputs are made of, and how."""

    seeds: list[bytes]
    make: Callable[[Corpus, random.Random], bytes]


def messages() -> Source:
    """Return the source of messages."""
    return Source(documented(), message)


def containers(speech: Samples) -> Source:
    """Return the source of containers: speech is 16 kHz, some seconds."""
    return Source([bytes(SEED_BYTES) + data for data in media(speech).values()], container)
