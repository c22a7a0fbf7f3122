"""The manifest: which weights there are, what their files must be, and where they come from."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from live_asr.core.errors import WeightsError


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a model, as it must be when it is unpacked."""

    name: str
    """Its name in the model's folder."""
    size_bytes: int
    sha256: str
    """64 lower-case hexadecimal digits."""
    parts: tuple[str, ...]
    """Members of the package's wheels that make up the file, in order."""


@dataclass(frozen=True, slots=True)
class PackageSource:
    """Wheels of the package registry that carry a model's files as data."""

    wheels: tuple[str, ...]
    """Pinned requirements, `NAME==VERSION`."""
    files: tuple[ManifestFile, ...]
    platform: str
    """Platform tag to ask for: only data is taken, so any that the registry has will do."""

    @property
    def size_bytes(self) -> int:
        """The unpacked files together."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One model."""

    name: str
    kind: str
    """`recognizer`, `speech_detector`, `speaker_encoder`, `segmentation`, `pipeline` (of pyannote, whole), or
    `speech` for recordings that tests use."""
    about: str
    licence: str
    """SPDX identifier."""
    hub: str | None
    """Repository on the hub; None where it has none."""
    packages: tuple[PackageSource, ...]
    """In the order in which they are tried."""


def load_manifest() -> dict[str, ManifestEntry]:
    """Read the manifest that ships with live-asr: name → entry, in the manifest's order."""
    text = resources.files(__package__).joinpath("manifest.toml").read_text(encoding="utf-8")
    return parse_manifest(text)


def parse_manifest(text: str) -> dict[str, ManifestEntry]:
    """Read a manifest from TOML: name → entry.

    Raises KeyError or TypeError where a key is missing or unknown: the manifest is code, not input.
    """
    entries = (_entry(**table) for table in tomllib.loads(text)["model"])
    return {entry.name: entry for entry in entries}


def find_entry(name: str, manifest: Mapping[str, ManifestEntry]) -> ManifestEntry:
    """Look a model up; raise WeightsError with the nearest names where there is none of that name."""
    entry = manifest.get(name)
    if entry is None:
        nearest = difflib.get_close_matches(name.lower(), manifest, n=3, cutoff=0.5)
        hint = (
            f"Did you mean {' or '.join(nearest)}?"
            if nearest
            else "`live-asr models list` shows all there are."
        )
        raise WeightsError(f"There is no model named {name!r}.", hint, code="model_unknown")
    return entry


def _entry(
    *,
    name: str,
    kind: str,
    about: str,
    licence: str,
    hub: str | None = None,
    package: list[dict[str, Any]] | None = None,
) -> ManifestEntry:
    return ManifestEntry(name, kind, about, licence, hub, tuple(_package(**table) for table in package or []))


def _package(*, wheels: list[str], files: list[dict[str, Any]], platform: str = "any") -> PackageSource:
    return PackageSource(tuple(wheels), tuple(_file(**table) for table in files), platform)


def _file(*, name: str, size_bytes: int, sha256: str, parts: list[str]) -> ManifestFile:
    return ManifestFile(name, size_bytes, sha256, tuple(parts))
