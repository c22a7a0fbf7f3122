"""Transcripts as files beside their recording: what they are called, and that nothing of others is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from live_asr.core.errors import StorageError
from live_asr.core.export import FORMATS, Record


def targets_of(recordings: Sequence[Path], output: Path | None) -> dict[Path, Path]:
    """Say where each file's transcripts go, as a path without extension; `output` is a folder for them all.

    That is the file's name without its own extension, where players look for subtitles; or with it, where
    the name would clash with another file's transcripts, or overwrite what nobody here has written.
    """
    targets: dict[Path, Path] = {}
    for path in recordings:
        folder = output or path.parent
        target = folder / path.stem
        if target in targets.values() or not _may_overwrite(target):
            target = folder / path.name
        targets[path] = target
    return targets


def _may_overwrite(target: Path) -> bool:
    if not any(with_extension(target, extension).exists() for extension in FORMATS):
        return True
    try:
        content = json.loads(with_extension(target, "json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"session", "revision", "segments"} <= content.keys()


def with_extension(target: Path, extension: str) -> Path:
    """Return the file of a transcript in one format."""
    return target.with_name(f"{target.name}.{extension}")


def write_transcripts(record: Record, turns: str | None, target: Path) -> list[Path]:
    """Write a record in all formats, `turns` as its RTTM where they are given; return the files.

    The JSON comes last: where it is there, all are; and none is there in part. Blocks. Raises StorageError.
    """
    contents = {extension: rendering.render(record) for extension, rendering in FORMATS.items()}
    if turns is not None:
        contents["rttm"] = turns
    paths = []
    try:
        for extension in sorted(contents, key=lambda extension: extension == "json"):
            if extension == "rttm" and not contents[extension]:
                continue  # nobody was told apart
            path = with_extension(target, extension)
            unfinished = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                unfinished.write_text(contents[extension], encoding="utf-8", newline="\n")
                unfinished.replace(path)
            except OSError:
                unfinished.unlink(missing_ok=True)
                raise
            paths.append(path)
    except OSError as error:
        raise StorageError(
            f"{error.filename or target} cannot be written: {error.strerror}.", "Try another --output."
        ) from error
    order = list(FORMATS)
    return sorted(paths, key=lambda path: order.index(path.suffix[1:]))
