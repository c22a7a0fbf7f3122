"""Recordings in folders: which there are, which are written down already, and which have just come."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from live_asr.jobs.downloads import Fetched
from live_asr.storage.transcripts import with_extension

_ENDINGS = """
3g2 3gp aac ac3 aif aiff amr asf au avi caf flac flv m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg mts oga ogg
ogv opus ts w64 wav webm wma wmv
"""
ENDINGS = frozenset(_ENDINGS.split())
"""What names of recordings end with; a file that is named itself may be called as it likes."""
HASHED_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class State:
    """By what a file is known to be the same as before."""

    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> State | None:
        """Look at a file; None where there is none to be read, or it is empty."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns) if found.st_size else None


def recordings_in(places: Iterable[Path]) -> Iterator[Path]:
    """Yield the files that are named, and the recordings below the folders that are, in order; each once."""
    seen: set[Path] = set()
    for place in places:
        found = sorted(_below(place)) if place.is_dir() else [place]
        for path in found:
            if path not in seen:
                seen.add(path)
                yield path


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        is_recording = path.suffix[1:].lower() in ENDINGS and path.is_file()
        if is_recording and not any(part.startswith(".") for part in parts):
            yield path


def is_written(path: Path, target: Path) -> bool:
    """Tell whether a recording's transcripts are there, and no older than it. The JSON is written last."""
    written = State.of(with_extension(target, "json"))
    recorded = State.of(path)
    return written is not None and recorded is not None and written.changed_ns >= recorded.changed_ns


def looked_at(path: Path) -> Fetched:
    """Return a file as a recording, with its digest. Blocks. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASHED_BYTES):
            digest.update(piece)
        return Fetched(path, path.name, file.tell(), digest.hexdigest())
