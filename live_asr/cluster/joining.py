"""Joins a Ray cluster: by processes of their own alone, which import Ray."""

from __future__ import annotations

import logging
import socket
import time
from dataclasses import replace

from live_asr.core.errors import EngineError
from live_asr.inference.ipc import Pool

AUTO = "ray"
"""The cluster that this machine belongs to."""
TRIES = 3
"""The head of a busy cluster may not have a process for this server at once."""
CONNECT_TIMEOUT = 10.0
"""Seconds in which the cluster's head answers."""


class Unreachable(EngineError):
    """The cluster cannot be joined."""


def join(pool: Pool) -> Pool:
    """Join the cluster, and return the pool with its device decided. Blocks. Raises Unreachable."""
    try:
        import ray
    except ImportError as error:
        raise Unreachable(f"Ray is not installed: {error}.", 'pip install "live-asr[server,ray]"') from error
    connect(pool.address, pool.namespace)
    device = pool.device
    if device == "auto":
        device = "cuda" if ray.cluster_resources().get("GPU", 0) > 0 else "cpu"
    return replace(pool, device=device, settings=(*pool.settings, ("inference.device", device)))


def connect(address: str, namespace: str) -> None:
    """Join the cluster at an address, as `inference.engine` names it. Blocks. Raises Unreachable."""
    import ray

    for attempt in range(TRIES):
        try:
            _try_to_connect(address, namespace)
            return
        except Exception as error:  # many kinds: no cluster, another version of Ray or Python, a wrong token
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
            ray.shutdown()
        if attempt + 1 < TRIES:
            time.sleep(1.0)
    raise Unreachable(
        f"The Ray cluster {address} cannot be joined: {reason}.",
        "Is it up (`ray status`), of the same versions of Ray and Python, and is its token here "
        "(RAY_AUTH_TOKEN)? See docs/cluster.md.",
    )


def _try_to_connect(address: str, namespace: str) -> None:
    import ray

    if address != AUTO:  # where nobody listens, Ray would try for minutes
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT).close()
    ray.init(
        address="auto" if address == AUTO else address,
        namespace=namespace,
        log_to_driver=False,
        configure_logging=False,
        logging_level=logging.ERROR,
    )
