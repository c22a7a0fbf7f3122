"""A Ray cluster of our own for tests: one node, which ends with the block."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up."""

    address: str
    environment: Mapping[str, str]
    """What reaches it needs, its token among it."""


@contextmanager
def ray_cluster(cpus: int = 2, **environment: str) -> Iterator[Cluster]:
    """Run a node for as long as the block lasts; its workers see `environment`.

    Raises RuntimeError with what it said where it does not start.
    """
    own = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        **environment,
    }
    node = subprocess.Popen(
        [sys.executable, "-m", "live_asr.cluster.node", str(cpus)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **own},
    )
    assert node.stdin is not None and node.stdout is not None
    said = []
    try:
        for line in node.stdout:
            said.append(line)
            if line.startswith("address "):
                yield Cluster(line.split()[1], own)
                break
        else:
            raise RuntimeError("Ray did not start:\n" + "".join(said))
    finally:
        node.stdin.close()
        node.wait(120)
        node.stdout.close()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listens(port: int) -> bool:
    """Tell whether somebody does."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def door(address: str, environment: Mapping[str, str], port: int) -> Iterator[str]:
    """Let those in who do not belong to a cluster, as `ray start --head` does; yield its address."""
    command = [sys.executable, "-m", "ray.util.client.server", "--mode=proxy", "--host=127.0.0.1"]
    server = subprocess.Popen(
        [*command, f"--port={port}", f"--address={address}"], env={**os.environ, **environment}
    )
    try:
        while not listens(port):
            assert server.poll() is None, "it has ended"
            time.sleep(0.1)  # between two looks at another process
        yield f"ray://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)
