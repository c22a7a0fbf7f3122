"""A Ray cluster that all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.ray_cluster import Cluster, ray_cluster


@pytest.fixture(scope="session")
def cluster(models_dir: Path) -> Iterator[Cluster]:
    """One node with four places for workers, whatever the machine has."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed: there is none for this Python")
    with ray_cluster(4, LIVE_ASR_MODELS__DIR=str(models_dir)) as cluster:
        yield cluster


@pytest.fixture
def joined(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, with what this process's children need to join it."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster
