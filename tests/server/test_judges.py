"""Whether newer versions of other programs' clients are out: told only if asked, by NEWER_CLIENTS=1."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from judging import JAVASCRIPT, PYTHON, WHISPERLIVEKIT

from tests.started import ROOT

pytestmark = pytest.mark.skipif("NEWER_CLIENTS" not in os.environ, reason="asked for by NEWER_CLIENTS=1")


def printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("package", JAVASCRIPT)
def test_the_newest_client_for_javascript_judges(package: str) -> None:
    name, _, version = package.rpartition("@")
    assert json.loads(printed("npm", "view", name, "version", "--json")) == version


@pytest.mark.parametrize("name", [*PYTHON, WHISPERLIVEKIT])
def test_the_newest_client_for_python_judges(name: str) -> None:
    pins = (ROOT / "constraints.txt").read_text()
    name, _, version = name.partition("==")
    pinned = version or re.findall(rf"(?m)^{name}==(.+)$", pins)[0]
    told = printed(sys.executable, "-m", "pip", "index", "versions", name, "--disable-pip-version-check")
    assert told.split("(")[1].split(")")[0] == pinned
