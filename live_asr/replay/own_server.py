"""A server for one occasion: started, waited for, used, ended."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from pydantic import SecretStr

from live_asr.config.settings import Settings, known_keys, variable
from live_asr.core.errors import LiveAsrError

_READY_TIMEOUT = 300.0
"""Seconds: a large model on a slow disk takes a minute."""
_END_TIMEOUT = 10.0
_FOR_THE_OCCASION = {variable("storage.database"): "", variable("webhook.url"): ""}
"""What outlives a server that is gone in a minute is no place for its sessions, and nobody's news."""


class ServerStartError(LiveAsrError):
    """The server that was to be started did not get ready."""

    code = "server_start"


@asynccontextmanager
async def own_server(
    settings: Settings,
    say: Callable[[str], None],
    enough: asyncio.Event | None = None,
    *,
    started: Callable[[int], None] = lambda _: None,
) -> AsyncIterator[str]:
    """Start a server with these settings on a free port, yield its address, and end it.

    Its data is in a temporary folder and goes with it. `say` gets progress in words; `enough` gives up
    waiting; `started` is called with the id of its process. Raises ServerStartError when it does not get
    ready; the hint is the last that it logged.
    """
    with tempfile.TemporaryDirectory(prefix="live-asr-replay-") as folder:
        port = _free_port()
        log = Path(folder) / "server.log"
        command = [sys.executable, "-m", "live_asr.cli", "serve", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--data", str(Path(folder) / "data")]
        with log.open("wb") as output:
            # A process group of its own: Ctrl-C is for us, who still need it to finish what was heard.
            process = subprocess.Popen(  # noqa: ASYNC220  it takes a millisecond, and ends in a thread
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **as_environment(settings), **_FOR_THE_OCCASION},
                process_group=0 if os.name == "posix" else None,
            )
        url = f"http://127.0.0.1:{port}"
        started(process.pid)
        try:
            say("Starting a server; its models are being loaded …")
            await _until_ready(process, url, log, enough or asyncio.Event())
            yield url
        finally:
            await asyncio.shield(asyncio.to_thread(_end, process))


async def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path, enough: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _READY_TIMEOUT
    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:  # never through a proxy
        while not enough.is_set():
            if process.poll() is not None:
                raise ServerStartError("The server ended before it was ready.", _last_words(log))
            try:
                if (await http.get(f"{url}/readyz")).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            if loop.time() > deadline:
                raise ServerStartError(
                    f"The server was not ready within {_READY_TIMEOUT:.0f} s.", _last_words(log)
                )
            await asyncio.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return "\n".join([line for line in lines if line.strip()][-3:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def as_environment(settings: Settings) -> Mapping[str, str]:
    """Write all settings as environment variables, which win over any configuration file."""
    variables = {}
    for key in known_keys():
        section, name = key.split(".")
        value = getattr(getattr(settings, section), name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        variables[variable(key)] = (
            "" if value is None else ",".join(value) if isinstance(value, tuple) else str(value)
        )
    return variables
