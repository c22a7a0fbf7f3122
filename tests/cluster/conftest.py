"""A Ray cluster that all tests of this folder share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.ray_cluster import Cluster, ray_cluster


@pytest.fixture(scope="session")
def cluster(models_dir: Path) -> Iterator[Cluster]:
    """One node with places for all tests' workers: those of a test that is over stay for two minutes."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed: there is none for this Python")
    with ray_cluster(24, LIVE_ASR_MODELS__DIR=str(models_dir)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def client_address(cluster: Cluster) -> Iterator[str]:
    """The cluster's address for those who do not belong to it: what `ray start --head` serves by itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ray.util.client.server", "--mode=proxy", "--host=127.0.0.1"]
    server = subprocess.Popen(
        [*command, f"--port={port}", f"--address={cluster.address}"],
        env={**os.environ, **cluster.environment},
    )
    while not listens(port):
        assert server.poll() is None, "it has ended"
        time.sleep(0.1)  # between two looks at another process
    yield f"ray://127.0.0.1:{port}"
    server.terminate()
    server.wait(60)


def listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def joined(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, with what this process's children need to join it."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster
