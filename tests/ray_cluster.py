"""A Ray cluster of our own for tests: one node with two CPUs, which ends with the block."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

NODE = """
import sys, ray

def start(tries):
    try:
        return ray.init(
            num_cpus=int(sys.argv[2]), include_dashboard=False, object_store_memory=100 * 2**20,
            log_to_driver=False, configure_logging=False, _temp_dir=sys.argv[1],
        )
    except Exception:  # on a busy machine a node takes longer than the half minute that Ray gives it
        if tries == 1:
            raise
    ray.shutdown()
    return start(tries - 1)

node = start(4)
print("address", node.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


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
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        node = subprocess.Popen(
            [sys.executable, "-c", NODE, folder, str(cpus)],
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
