"""`live-asr cluster up`: everything on one machine, to see and to try."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.server.talking import recite

PATIENCE = 120
"""Seconds that all of it gets to end."""


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: there is none for this Python")
def test_gateways_and_workers_come_up_caption_and_end_together(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    command = [sys.executable, "-m", "live_asr.cli", "cluster", "up", "--gateways", "2", "--workers", "1"]
    up = subprocess.Popen(
        [*command, "--port", "0", "--model", "tiny.en", "--data", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "LIVE_ASR_MODELS__DIR": str(models_dir), "LIVE_ASR_SERVER__ADMISSION": "count"},
    )
    assert up.stdout is not None
    addresses, said = [], []
    try:
        for line in up.stdout:
            said.append(line)
            addresses += re.findall(r"serving at http://localhost(:\d+)", line)
            if len(addresses) == 2:
                break
        assert len(addresses) == 2, "".join(said)
        urls = [f"ws://127.0.0.1{port}/v1/stream" for port in addresses]
        callers = [asyncio.run(recite(url, sample_pcm)) for url in urls]
        assert callers[0].text == callers[1].text
        assert "New Jersey" in callers[0].text
        assert {path.name for path in tmp_path.glob("gateway-*")} == {"gateway-1", "gateway-2"}
        started = psutil.Process(up.pid).children(recursive=True)
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            assert up.wait(PATIENCE) == 0
        finally:
            up.kill()
            up.stdout.close()
    gone, alive = psutil.wait_procs(started, PATIENCE)
    assert gone and not alive
