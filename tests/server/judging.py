"""Official clients, brought once and kept between runs: they say whether we speak their protocols."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "clients"
WHISPERLIVEKIT = "whisperlivekit==0.2.26"
JAVASCRIPT = ("openai@7.59.0", "@deepgram/sdk@5.13.0")
"""What snippets in JavaScript import."""


PYTHON = ("openai", "deepgram-sdk", "wyoming")
"""Clients for Python; constraints.txt says which versions."""


def whisperlivekit_client() -> ModuleType:
    """Return WhisperLiveKit's `test_client`: that file alone, since the package wants torch and a model."""
    folder = CACHE / WHISPERLIVEKIT.replace("==", "-")
    if not folder.is_dir():
        command = [*(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")]
        command += ["--no-deps", "--no-compile", "--target", str(folder), WHISPERLIVEKIT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{WHISPERLIVEKIT} cannot be brought: {done.stderr.strip()[-200:]}")
    file = folder / "whisperlivekit" / "test_client.py"
    spec = importlib.util.spec_from_file_location("whisperlivekit_test_client", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def node_modules() -> Path:
    """Return the folder of what snippets in JavaScript import; skip the test where there is no node."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not here")
    folder = CACHE / "-".join(package.replace("/", "+") for package in JAVASCRIPT)
    if not (folder / "node_modules").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]
        done = subprocess.run(
            [*command, str(folder), *JAVASCRIPT], capture_output=True, text=True, check=False
        )
        if done.returncode:
            shutil.rmtree(folder)
            pytest.skip(f"{JAVASCRIPT} cannot be brought: {done.stderr.strip()[-200:]}")
    return folder / "node_modules"
