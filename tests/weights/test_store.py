"""Weights: where they come from, and that nothing unchecked is used."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from live_asr.core.errors import WeightsError
from live_asr.weights import sources
from live_asr.weights.manifest import ManifestEntry, load_manifest, parse_manifest
from live_asr.weights.store import (
    Weights,
    default_model,
    resolve,
    resolve_here,
    verify,
)

ROOT = Path(__file__).parent.parent.parent
NOWHERE = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave neither hub nor registry within reach, whatever this machine's pip is configured to ask."""
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOWHERE}/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")


@pytest.fixture(scope="session")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which the test call was really pulled from its package."""
    folder = tmp_path_factory.mktemp("pulled")
    resolve("test-call", models_dir=folder)
    return folder


@pytest.fixture
def held(pulled: Path, tmp_path: Path) -> Path:
    """Return a copy of `pulled` that a test may damage."""
    folder = tmp_path / "models"
    shutil.copytree(pulled, folder)
    return folder


# The manifest


def test_every_model_names_a_source_and_a_licence() -> None:
    for entry in load_manifest().values():
        assert entry.licence
        assert entry.hub or entry.packages
        for package in entry.packages:
            assert all("==" in wheel for wheel in package.wheels)
            assert all(len(file.sha256) == 64 and file.size_bytes > 0 for file in package.files)


def test_the_docs_name_every_model_with_its_sources_and_licence() -> None:
    rows = [
        row
        for row in (ROOT / "docs" / "models.md").read_text(encoding="utf-8").splitlines()
        if row.startswith("| `")
    ]
    for entry in load_manifest().values():
        (row,) = (row for row in rows if f"`{entry.name}`" in row.split("|")[1])
        assert entry.licence in row
        assert entry.hub is None or f"`{entry.hub}`" in row
        for package in entry.packages:
            assert f"`{package.wheels[0].partition('==')[0]}`" in row


def test_the_default_is_turbo_on_a_gpu_and_base_on_a_cpu() -> None:
    assert default_model("cuda") == "large-v3-turbo"
    assert default_model("cpu") == "base"


@pytest.mark.parametrize(("wrong", "nearest"), [("bse", "base"), ("large-v3-trubo", "large-v3-turbo")])
def test_an_unknown_model_is_answered_with_the_nearest_names(
    wrong: str, nearest: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError) as caught:
        resolve(wrong, models_dir=tmp_path)
    assert caught.value.code == "model_unknown"
    assert nearest in caught.value.hint


# Packages


def test_a_pull_unpacks_just_the_named_files_and_shows_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    found = resolve("silero-vad", models_dir=tmp_path, on_progress=lambda *step: seen.append(step))

    assert found.folder == tmp_path / "silero-vad"
    assert found.model_file.name == "silero_vad_16k_sequence.onnx"
    assert sorted(path.name for path in found.folder.iterdir()) == [
        "LICENSE",
        "silero_vad_16k_sequence.onnx",
        "verified.json",
    ]
    done_bytes, total_bytes, what = seen[-1]
    assert what == "silero-vad==6.2.3"
    assert done_bytes == total_bytes or total_bytes == 0  # an old pip tells no progress
    assert not list(tmp_path.glob(".pull-*"))


@pytest.mark.usefixtures("no_network")
def test_a_verified_copy_needs_no_network(held: Path) -> None:
    assert resolve("test-call", models_dir=held).folder == held / "test-call"


def test_a_file_with_another_digest_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    entry = load_manifest()["test-call"]
    text = _as_toml(entry).replace(entry.packages[0].files[1].sha256, "0" * 64)

    with pytest.raises(WeightsError, match=r"sample\.rttm .* has digest d78fe62c69d8…, not 000000000000…"):
        resolve("test-call", models_dir=tmp_path, manifest=parse_manifest(text))

    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_package_without_the_file_is_refused(tmp_path: Path) -> None:
    text = _as_toml(load_manifest()["test-call"]).replace("sample/sample.stm", "sample/other.stm")

    with pytest.raises(WeightsError, match=r"does not hold pyannote/audio/sample/other\.stm"):
        resolve("test-call", models_dir=tmp_path, manifest=parse_manifest(text))


def test_the_second_package_is_used_where_the_first_is_gone(tmp_path: Path) -> None:
    text = _as_toml(load_manifest()["test-call"])
    package = text[text.index("[[model.package]]") :]
    gone = package.replace("==4.0.7", "==0.0.0.dev0")

    found = resolve(
        "test-call", models_dir=tmp_path, manifest=parse_manifest(text.replace(package, gone + package))
    )

    assert found.source == "packages pyannote.audio==4.0.7"


def test_a_pull_that_died_leaves_nothing_for_the_next_one(tmp_path: Path) -> None:
    with subprocess.Popen(
        _puller(tmp_path, "wait"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as puller:
        assert puller.stdout is not None
        assert puller.stdout.readline() == b"pulling\n"
        assert list(tmp_path.glob(".pull-test-call-*"))
        os.killpg(puller.pid, signal.SIGKILL)  # and its pip, as a power cut does
    assert list(tmp_path.glob(".pull-test-call-*"))
    assert not (tmp_path / "test-call").exists()

    resolve("test-call", models_dir=tmp_path)

    assert not list(tmp_path.glob(".pull-*"))
    assert verify("test-call", models_dir=tmp_path) == (True, [])


def test_of_two_processes_that_pull_at_once_one_pulls_and_both_have_it(tmp_path: Path) -> None:
    pullers = [subprocess.Popen(_puller(tmp_path, "go"), stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [puller.communicate()[0].decode().split() for puller in pullers]

    assert [puller.returncode for puller in pullers] == [0, 0]
    assert sorted(len(output) for output in outputs) == [1, 2]  # "pulling" is said once
    assert verify("test-call", models_dir=tmp_path) == (True, [])


@pytest.mark.usefixtures("no_network")
def test_without_network_and_copy_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        resolve("base", models_dir=tmp_path)
    assert caught.value.code == "weights_unreachable"
    assert "the hub cannot be reached" in caught.value.message
    assert "the package registry cannot be reached" in caught.value.message
    assert "live-asr models pull base" in caught.value.hint
    assert "--model DIR" in caught.value.hint


def test_offline_without_a_copy_is_refused_without_trying(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not on this machine, and models\.offline forbids"):
        resolve("base", models_dir=tmp_path / "none", offline=True)
    assert not (tmp_path / "none").exists()


def test_a_full_disk_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(WeightsError) as caught:
        resolve("test-call", models_dir=tmp_path)
    assert caught.value.code == "disk_full"
    assert "MB are needed" in caught.value.message


def test_a_models_folder_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(WeightsError, match="cannot be written to"):
        resolve("test-call", models_dir=tmp_path / "models")


# What is kept


def test_a_truncated_file_is_found_by_verify(held: Path) -> None:
    recording = held / "test-call" / "sample.wav"
    os.truncate(recording, 1000)

    is_there, problems = verify("test-call", models_dir=held)

    assert is_there
    assert len(problems) == 1
    assert problems[0].startswith("sample.wav (1000 bytes)")


def test_verify_hashes_anew_even_where_size_and_time_are_unchanged(held: Path) -> None:
    recording = held / "test-call" / "sample.wav"
    before = recording.stat()
    content = bytearray(recording.read_bytes())
    content[5000] ^= 1
    recording.write_bytes(content)
    os.utime(recording, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert len(verify("test-call", models_dir=held)[1]) == 1


def test_verify_of_a_model_that_is_not_here_finds_no_copy_and_no_fault(tmp_path: Path) -> None:
    assert verify("tiny", models_dir=tmp_path) == (False, [])


@pytest.mark.usefixtures("no_network")
def test_a_damaged_copy_is_not_used(held: Path, caplog: pytest.LogCaptureFixture) -> None:
    (held / "test-call" / "sample.rttm").write_text("SPEAKER nobody\n")
    with pytest.raises(WeightsError, match="cannot be fetched"):
        resolve("test-call", models_dir=held)
    assert "is damaged: sample.rttm" in caplog.text


def test_a_damaged_copy_is_replaced_by_a_good_one(held: Path) -> None:
    (held / "test-call" / "sample.stm").unlink()
    resolve("test-call", models_dir=held)
    assert verify("test-call", models_dir=held) == (True, [])
    assert not list(held.glob(".pull-*"))


@pytest.mark.parametrize("receipt", [None, "", "[]", '{"files": {"sample.wav": 3}}'])
def test_a_copy_without_a_readable_receipt_is_hashed_and_gets_one(held: Path, receipt: str | None) -> None:
    path = held / "test-call" / "verified.json"
    path.unlink() if receipt is None else path.write_text(receipt)

    resolve("test-call", models_dir=held, offline=True)

    assert set(json.loads(path.read_text())["files"]) == {
        "sample.wav",
        "sample.rttm",
        "sample.stm",
        "LICENSE",
    }


def test_a_receipt_with_a_digest_of_its_own_does_not_make_a_file_good(held: Path) -> None:
    folder = held / "test-call"
    (folder / "sample.stm").write_text("something else")
    receipt = json.loads((folder / "verified.json").read_text())
    status = (folder / "sample.stm").stat()
    receipt["files"]["sample.stm"] = {
        "sha256": hashlib.sha256(b"something else").hexdigest(),
        "size_bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
    (folder / "verified.json").write_text(json.dumps(receipt))

    with pytest.raises(WeightsError):
        resolve("test-call", models_dir=held, offline=True)


# Folders that someone names


def _whisper_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.json"):
        (folder / name).write_text("{}")
    return folder


def test_a_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = _whisper_folder(tmp_path / "mine")
    assert resolve(str(folder), models_dir=tmp_path) == Weights("mine", folder, f"folder {folder}", "")


def test_a_folder_that_lacks_a_file_is_refused_by_that_files_name(tmp_path: Path) -> None:
    folder = _whisper_folder(tmp_path / "mine")
    (folder / "vocabulary.json").unlink()
    with pytest.raises(WeightsError, match=r"holds no vocabulary\.\*"):
        resolve(str(folder), models_dir=tmp_path)


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no folder"):
        resolve(str(tmp_path / "nowhere"), models_dir=tmp_path)


def test_a_local_folder_comes_before_every_other_source(held: Path, tmp_path: Path) -> None:
    local = tmp_path / "local"
    shutil.copytree(held / "test-call", local / "test-call")
    assert resolve("test-call", models_dir=held, local=local).folder == local / "test-call"


# The hub, spoken to over HTTP


FILES = {
    "model.bin": b"numbers" * 1000,
    "config.json": b"{}",
    "tokenizer.json": b'{"model": {}}',
    "vocabulary.json": b"[]",
    "README.md": b"not wanted",
}
PIPELINE_FILES = {
    "config.yaml": b"pipeline: {}",
    "segmentation/pytorch_model.bin": b"segmentation",
    "embedding/pytorch_model.bin": b"embedding",
    "plda/plda.npz": b"plda",
    "images/drawing.png": b"not wanted",
}
REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """As much of the hub as a download needs: a repository's files with their digests, and the files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.listed = dict(FILES)
        self.served = dict(FILES)
        self.asked: list[str] = []
        self.gated = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def hold(self, files: dict[str, bytes]) -> None:
        """Hold a repository of these files instead."""
        self.listed, self.served = dict(files), dict(files)


class HubRequest(BaseHTTPRequestHandler):
    """One request to the hub."""

    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        name = path.partition("/resolve/")[2].partition("/")[2]
        if path.startswith("/api/models/"):
            siblings = [_sibling(name, content) for name, content in self.server.listed.items()]
            body = json.dumps({"id": "someone/whisper", "sha": REVISION, "siblings": siblings}).encode()
            etag = "api"
        elif self.server.gated:
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        elif name in self.server.served:
            body = self.server.served[name]
            etag = _digest(name, self.server.listed[name])
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _digest(name: str, content: bytes) -> str:
    if name.endswith("model.bin"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sibling(name: str, content: bytes) -> dict[str, object]:
    sibling: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": _digest(name, content)}
    if name.endswith("model.bin"):
        sibling["lfs"] = {"sha256": _digest(name, content), "size": len(content), "pointerSize": 130}
    return sibling


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Serve a hub on this machine, and let the library keep its cache in the test's folder."""
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        close_session()
        server.shutdown()
        thread.join()


def test_a_pull_from_the_hub_checks_and_records_the_hubs_digests(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    found = resolve("tiny", models_dir=tmp_path, on_progress=lambda *step: seen.append(step))

    assert found.source == f"hub Systran/faster-whisper-tiny at {REVISION[:12]}"
    assert (found.folder / "model.bin").read_bytes() == FILES["model.bin"]
    assert not (found.folder / "README.md").exists()
    receipt = json.loads((found.folder / "verified.json").read_text())
    assert receipt["files"]["model.bin"]["sha256"] == _digest("model.bin", FILES["model.bin"])
    assert seen[-1][0] == seen[-1][1] == sum(len(FILES[name]) for name in FILES if name != "README.md")
    assert verify("tiny", models_dir=tmp_path) == (True, [])


@pytest.mark.parametrize("name", ["model.bin", "config.json"])
def test_a_file_that_is_not_what_the_hub_says_is_refused(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.served[name] = FILES[name][::-1]
    with pytest.raises(WeightsError, match=f"is not tiny: {name}"):
        resolve("tiny", models_dir=tmp_path)
    assert not (tmp_path / "tiny").exists()


def test_a_damaged_file_from_the_hub_is_found_by_verify(hub: Hub, tmp_path: Path) -> None:
    folder = resolve("tiny", models_dir=tmp_path).folder
    os.truncate(folder / "model.bin", 10)
    assert len(verify("tiny", models_dir=tmp_path)[1]) == 1


def test_the_hubs_cache_serves_where_the_hub_is_gone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve("tiny", models_dir=tmp_path / "first")
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)

    found = resolve("tiny", models_dir=tmp_path / "second")

    assert found.source.endswith("cached")
    assert verify("tiny", models_dir=tmp_path / "second") == (True, [])


def test_a_pipeline_of_pyannote_is_kept_with_its_folders_and_found_again_without_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_here("community-1", models_dir=tmp_path) is None
    hub.hold(PIPELINE_FILES)
    pulled = resolve("community-1", models_dir=tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)

    assert (pulled.folder / "segmentation" / "pytorch_model.bin").read_bytes() == b"segmentation"
    assert not (pulled.folder / "images").exists()
    assert verify("community-1", models_dir=tmp_path) == (True, [])
    assert resolve_here("community-1", models_dir=tmp_path) == pulled
    cached = resolve_here("community-1", models_dir=tmp_path / "other")
    assert cached is not None and cached.source.endswith("cached")


def test_what_the_hub_gives_only_to_some_is_explained(hub: Hub, tmp_path: Path) -> None:
    hub.hold(PIPELINE_FILES)
    hub.gated = True
    with pytest.raises(WeightsError, match=r"accepted its conditions.*HF_TOKEN"):
        resolve("community-1", models_dir=tmp_path)


def test_a_hub_that_breaks_off_is_not_fatal_where_a_package_ships_the_model(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    del hub.served["model.bin"]
    text = _as_toml(load_manifest()["test-call"]).replace(
        "[[model.package]]", 'hub = "a/b"\n[[model.package]]'
    )

    found = resolve("test-call", models_dir=tmp_path, manifest=parse_manifest(text))

    assert found.source == "packages pyannote.audio==4.0.7"
    assert "The hub broke off at model.bin" in caplog.text
    assert "Taking test-call from pyannote.audio==4.0.7" in caplog.text


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = threading.Event()
    monkeypatch.setattr(sources, "HUB_TIMEOUT", 0.05)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: release.wait())
    try:
        with pytest.raises(WeightsError, match="no answer within"):
            resolve("tiny", models_dir=tmp_path)
    finally:
        release.set()


def _puller(models_dir: Path, mode: str) -> list[str]:
    """Return a command that pulls the test call and says so; with `wait` it never gets past that."""
    code = """
import sys
from pathlib import Path
from live_asr.weights.store import resolve
said = False
def on_progress(*step):
    global said
    if not said:
        said = True
        print("pulling", flush=True)
        if sys.argv[2] == "wait":
            sys.stdin.read()
resolve("test-call", models_dir=Path(sys.argv[1]), on_progress=on_progress)
print("done", flush=True)
"""
    return [sys.executable, "-c", code, str(models_dir), mode]


def _as_toml(entry: ManifestEntry) -> str:
    """Write a manifest with one model, for a test to change."""
    package = entry.packages[0]
    files = "\n".join(
        f'    {{ name = "{file.name}", size_bytes = {file.size_bytes}, sha256 = "{file.sha256}", '
        f"parts = {json.dumps(file.parts)} }},"
        for file in package.files
    )
    return (
        f'[[model]]\nname = "{entry.name}"\nkind = "{entry.kind}"\nabout = "{entry.about}"\n'
        f'licence = "{entry.licence}"\n[[model.package]]\nwheels = {json.dumps(package.wheels)}\n'
        f"files = [\n{files}\n]\n"
    )
