"""`live-asr cluster up`: everything on one machine, to see and to try."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.server.talking import call, plain_words

PATIENCE = 120
"""Seconds that all of it gets to end."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may look into, since PostgreSQL does not run as root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: there is none for this Python")
def test_a_session_goes_on_at_the_other_gateway_when_its_own_is_killed_and_all_end_together(
    folder: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    command = [sys.executable, "-m", "live_asr.cli", "cluster", "up", "--gateways", "2", "--workers", "1"]
    up = subprocess.Popen(
        [*command, "--port", "0", "--model", "tiny.en", "--data", str(folder)],
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
        started = psutil.Process(up.pid).children(recursive=True)
        port = int(addresses[0][1:])
        text = asyncio.run(cut_and_go_on(urls, listener_on(port, started), sample_pcm))
        assert {"new", "jersey"} <= set(plain_words(text))
        for name in ("links.key", "webhook.secret", "server.token"):
            one, other = (path.read_text() for path in folder.glob(f"gateway-*/{name}"))
            assert one == other == (folder / name).read_text()
        started += psutil.Process(up.pid).children(recursive=True)
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            assert up.wait(PATIENCE) == 0
        finally:
            up.kill()
            said += up.stdout
            up.stdout.close()
    assert len([line for line in said if "was killed; it is started again" in line]) == 1
    gone, alive = psutil.wait_procs(set(started), PATIENCE)
    assert gone and not alive


def listener_on(port: int, processes: list[psutil.Process]) -> psutil.Process:
    """Return the process that takes connections there."""
    return next(
        process
        for process in processes
        for socket in process.net_connections("tcp")
        if socket.status == psutil.CONN_LISTEN and socket.laddr.port == port
    )


async def cut_and_go_on(urls: list[str], gateway: psutil.Process, recording: bytes) -> str:
    """Begin a session, kill its gateway in the middle, go on at the other; return all that was committed."""
    async with call(urls[0]) as first:
        ready = await first.start(pace="fast")
        await first.send(recording[: len(recording) // 2])
        await first.until("commit")
        gateway.kill()
        await first.closed()
    last_seq = max(message.get("seq", 0) for message in first.heard)
    async with call(urls[1]) as second:
        resume = {"session": ready["session"], "token": ready["token"], "last_seq": last_seq}
        again = await second.start(resume=resume)
        assert first.acks[-1][0] <= again["received_bytes"] <= first.sent_bytes
        second.sent_bytes = again["received_bytes"]
        await second.send(recording[again["received_bytes"] :])
        final = await second.finished()
    kept = [message for message in [*first.heard, *second.heard] if "seq" in message]
    assert [message["seq"] for message in kept] == list(range(1, len(kept) + 1))
    assert final["duration"] == len(recording) / 32_000
    assert final["text"].split() == f"{first.text}{second.text}".split()
    return str(final["text"])
