"""`live-asr doctor --security` says what a server does with its settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from live_asr.cli.doctor_security import examine_security
from live_asr.config.settings import load_settings
from live_asr.storage.lock import held
from tests.started import ROOT


def states(**flags: object) -> dict[str, str]:
    given = {key.replace("__", "."): value for key, value in flags.items()}
    found = examine_security(load_settings(flags=given, environment={}).settings)
    return {finding.subject: finding.state for finding in found}


GOOD = {
    "server__host": "0.0.0.0",
    "server__token": "0123456789abcdef",
    "server__tls_cert": "/etc/ssl/x.pem",
    "server__audit_log": "-",
    "storage__keep_transcripts_days": 30,
}


def test_a_server_that_is_set_up_well_is_told_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with held(data):  # which makes it
        found = states(**GOOD, storage__data=str(data))
    assert found["data folder"] == "ok"
    del found["user"]  # which is whoever runs the tests
    assert set(found.values()) == {"ok"}


@pytest.mark.parametrize(
    ("subject", "flags"),
    [
        ("token", {"server__token": None, "server__insecure": True}),
        ("token", {"server__token": "too-short"}),
        ("TLS", {"server__tls_cert": None}),
        ("Wyoming", {"server__wyoming_port": 10300}),
        ("server.allowed_origins", {"server__allowed_origins": "*"}),
        ("server.allowed_hosts", {"server__allowed_hosts": "*"}),
        ("server.trusted_proxies", {"server__trusted_proxies": "*"}),
        ("idle clients", {"server__idle_timeout": 0}),
        ("webhooks", {"webhook__allow_private": True}),
        ("webhooks", {"webhook__client_urls": "any"}),
        ("transcripts", {"storage__keep_transcripts_days": None}),
        ("audio", {"storage__keep_audio": True}),
        ("audit log", {"server__audit_log": None}),
        ("data folder", {"storage__data": "/"}),
    ],
)
def test_what_is_open_is_named(subject: str, flags: dict[str, object]) -> None:
    assert states(**{**GOOD, **flags})[subject] == "warn"


def test_the_command_prints_it_and_never_the_token(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "live_asr.cli", "doctor", "--security", "--data", str(tmp_path)]
    environment = {"LIVE_ASR_SERVER__TOKEN": "0123456789abcdef", "HOME": str(tmp_path)}
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert told.returncode == 0, told.stderr
    assert "ok    token: set" in told.stdout
    assert "0123456789abcdef" not in told.stdout
