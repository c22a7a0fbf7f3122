"""The command `live-asr tokens`, as somebody types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

from tests.started import ROOT, StartServer


def run(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "live_asr.cli", "tokens", *arguments, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    made = run(tmp_path, "create", "Anna", "--scope", "caption", "--scope", "read", "--expires", "30d")
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert secret.startswith("la_") and len(secret) > 30
    assert run(tmp_path, "create", "hall", "--scope", "watch").returncode == 0
    listed = run(tmp_path, "list").stdout
    assert secret not in listed
    rows = {line.split()[0]: line for line in listed.splitlines()[1:]}
    assert "caption, read" in rows["Anna"] and "never" not in rows["Anna"]
    assert "never" in rows["hall"]

    assert "Anna" in run(tmp_path, "revoke", "Anna").stdout
    assert "revoked" in run(tmp_path, "list").stdout
    assert run(tmp_path, "create", "Anna").returncode == 0, "the name is free again"


def test_mistakes_are_told(tmp_path: Path) -> None:
    assert run(tmp_path, "create", "one").returncode == 0
    for arguments, said in (
        (("create", "one"), "There is a token one already."),
        (("create", "two", "--scope", "all"), "'all' is not one of"),
        (("create", "two", "--expires", "soon"), "soon is no span of time."),
        (("create", ""), "A token needs a name"),
        (("revoke", "nobody"), "There is no token nobody to revoke."),
    ):
        told = run(tmp_path, *arguments)
        assert told.returncode == 2, arguments
        assert said in told.stderr
        assert "Traceback" not in told.stderr


def test_a_server_that_runs_notices_within_moments(start_server: StartServer) -> None:
    server = start_server()
    secret = run(server.data, "create", "Anna", "--scope", "read").stdout.strip()
    while (answer := httpx.get(f"{server.url}/v1/sessions")).status_code == 200:
        pass  # until it has looked
    assert answer.status_code == 401
    right = {"Authorization": f"Bearer {secret}"}
    assert httpx.get(f"{server.url}/v1/sessions", headers=right).status_code == 200
    run(server.data, "revoke", "Anna")
    while (answer := httpx.get(f"{server.url}/v1/sessions", headers=right)).status_code == 200:
        pass
    assert answer.status_code == 401
