"""requirements.lock: all that the server needs, at the versions that are tested, by their hashes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-cuda.lock"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)
SMALL = ("langcodes", "orjson", "segno")
"""Packages of the lock that need no others and are small; one is built for each platform."""
UNREACHABLE = re.compile(
    r"Retrying|ConnectionError|Name or service|resolution|No route|Network is unreachable"
)


def name_of(requirement: str) -> str:
    """Return a package's name in the form in which names are compared."""
    match = re.match(r"[\w.-]+", requirement)
    assert match
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def entries(lock: Path) -> dict[str, str]:
    """Return what a lock holds: name → its lines."""
    parts = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name_of(part): part for part in parts[1:]}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_is_pinned_with_hashes_and_without_an_address(lock: Path) -> None:
    for name, entry in entries(lock).items():
        assert PIN.match(entry), name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name
    assert "://" not in lock.read_text(encoding="utf-8")


def test_the_lock_holds_what_the_server_needs_at_the_versions_that_are_tested() -> None:
    tested = {
        name_of(name): version for name, version in PIN.findall((ROOT / "constraints.txt").read_text("utf-8"))
    }
    locked = entries(LOCKS[0])
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["server"], *extras["jobs"]]
    wanted += [*extras["postgres"], *extras["objects"]]
    assert {name_of(one) for one in wanted} <= locked.keys()
    assert {name_of(one) for one in extras["cuda"]} <= entries(LOCKS[1]).keys()
    for name, entry in {**locked, **entries(LOCKS[1])}.items():
        (pinned,) = PIN.findall(entry)
        assert tested.get(name, pinned[1]) == pinned[1], name


def install(folder: Path, requirements: str) -> subprocess.CompletedProcess[str]:
    """Install by hashes into a folder; skip the test where no index answers."""
    lock = folder / "some.lock"
    lock.write_text(requirements, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--retries", "1"]
    command = [
        *pip,
        "--no-cache-dir",
        "--no-deps",
        "--require-hashes",
        "--target",
        folder / "there",
        "-r",
        lock,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PIP_NO_INPUT": "1"})
    if done.returncode and UNREACHABLE.search(done.stdout + done.stderr):
        pytest.skip("no package index answers")
    return done


def test_what_the_index_has_is_installed_by_these_hashes(tmp_path: Path) -> None:
    locked = entries(LOCKS[0])
    done = install(tmp_path, "".join(locked[name] for name in SMALL))
    assert done.returncode == 0, done.stderr
    assert {name for name in SMALL if (tmp_path / "there" / name).is_dir()} == set(SMALL)


def test_what_has_another_hash_is_not_installed(tmp_path: Path) -> None:
    forged = re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", entries(LOCKS[0])["segno"])
    done = install(tmp_path, forged)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "there" / "segno").exists()
