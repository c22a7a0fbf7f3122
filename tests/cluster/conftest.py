"""A Ray cluster that all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.ray_cluster import Cluster, door, free_port, ray_cluster


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
    with door(cluster.address, cluster.environment, free_port()) as address:
        yield address


@pytest.fixture
def joined(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, with what this process's children need to join it."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster
