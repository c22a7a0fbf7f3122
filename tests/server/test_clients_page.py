"""The snippets of docs/clients.md, run as they stand against the real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from judging import node_modules
from recordings import put_recordings
from secured import secured
from talking import TIMEOUT

from tests.started import ROOT, Server, StartServer

PAGE = (ROOT / "docs" / "clients.md").read_text()
SNIPPETS = [
    (section.split("\n")[0], language, code)
    for section in PAGE.split("\n## ")
    for language, code in re.findall(r"```(python|js|sh)\n(.+?)```", section, re.DOTALL)
]


@pytest.fixture(scope="module")
def snippets_server(launch: StartServer) -> Server:
    return launch(LIVE_ASR_SERVER__WYOMING_PORT="0")


@pytest.mark.parametrize(
    ("language", "snippet"),
    [snippet[1:] for snippet in SNIPPETS],
    ids=[f"{section}-{language}-{number}" for number, (section, language, _) in enumerate(SNIPPETS)],
)
def test_a_snippet_prints_what_was_said(
    snippets_server: Server, sample_wav: Path, tmp_path: Path, language: str, snippet: str
) -> None:
    put_recordings(sample_wav, tmp_path)
    code = snippet.replace("localhost:8765", snippets_server.url.removeprefix("http://"))
    code = code.replace("localhost:10300", f"127.0.0.1:{snippets_server.wyoming_port}")
    if language == "js":
        (tmp_path / "node_modules").symlink_to(node_modules())
    with secured(snippets_server.url, tmp_path) as tls:
        printed = run(language, code.replace("https://captions.example", tls.url), tmp_path, tls.authority)
    assert "Chicago" in printed


def run(language: str, code: str, folder: Path, authority: Path) -> str:
    """Run a snippet in a folder; return what it prints."""
    (folder / "snippet.mjs").write_text(code)
    commands = {
        "python": [sys.executable, "-c", code],
        "js": ["node", "snippet.mjs"],
        "sh": ["sh", "-c", code],
    }
    done = subprocess.run(
        commands[language],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "*", "NODE_EXTRA_CA_CERTS": str(authority)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_client_of_a_language_has_a_snippet_in_it() -> None:
    shown = {(section, language) for section, language, _ in SNIPPETS}
    for section in ("OpenAI, for files", "OpenAI Realtime", "Deepgram"):
        assert {(section, "python"), (section, "js")} <= shown
    assert ("Deepgram", "sh") in shown and ("OpenAI, for files", "sh") in shown
