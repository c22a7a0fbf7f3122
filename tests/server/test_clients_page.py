"""The snippets of docs/clients.md, run as they stand against the real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import pytest
from judging import node_modules
from talking import PATIENCE

from tests.started import ROOT, Server

PAGE = (ROOT / "docs" / "clients.md").read_text()
SNIPPETS = re.findall(r"```(python|js|sh)\n(.+?)```", PAGE, re.DOTALL)
SECOND_FRAMES = 16_000


@pytest.mark.parametrize(("language", "snippet"), SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_prints_what_was_said(
    server: Server, sample_wav: Path, tmp_path: Path, language: str, snippet: str
) -> None:
    with wave.open(str(sample_wav)) as call, wave.open(str(tmp_path / "talk.wav"), "wb") as talk:
        call.setpos(14 * SECOND_FRAMES)
        talk.setparams(call.getparams())
        talk.writeframes(call.readframes(5 * SECOND_FRAMES))
    host = server.url.removeprefix("http://")
    code = snippet.replace("localhost:8765", host)
    if language == "js":
        (tmp_path / "node_modules").symlink_to(node_modules())
        (tmp_path / "snippet.mjs").write_text(code)
    commands = {
        "python": [sys.executable, "-c", code],
        "js": ["node", "snippet.mjs"],
        "sh": ["sh", "-c", code],
    }
    done = subprocess.run(
        commands[language],
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Chicago" in done.stdout
