"""What files and streams of media are told by: their first bytes. Nothing here needs FFmpeg."""

from __future__ import annotations

from live_asr.core.errors import MediaError

HEAD_BYTES = 16
"""So much tells the formats apart that are told by their first bytes."""
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


def refuse_strangers(head: bytes) -> None:
    """Raise MediaError where the first bytes are those of something well known that holds no sound."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, name in STRANGERS:
        if start.startswith(magic) or start.lower().startswith(magic):
            raise MediaError(f"The bytes are {name}, not audio.", HINT)


def is_container(head: bytes) -> bool:
    """Tell whether a stream's first bytes, at least 12, are a container's or another known file's.

    Raw samples that look so are less likely than one in a thousand million streams. MP3 without a tag, and
    what else begins with a few bits only, is not told from them.
    """
    return (
        (head[:4] in (b"RIFF", b"RF64", b"FORM") and head[8:12] in (b"WAVE", b"AIFF", b"AIFC"))
        or head.startswith((b"ID3", b"caff"))
        or head[4:8] in BOXES
        or any(head.startswith(magic) for magic, _ in (*MAGIC, *STRANGERS) if len(magic) >= 4)
    )


def id3_bytes(head: bytes) -> int:
    """Return the length of the ID3v2 tag that `head`, at least 10 bytes, begins with."""
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
