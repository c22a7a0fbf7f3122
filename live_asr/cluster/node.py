"""A Ray cluster of one machine, for as long as this process has a standard input: to see one, and for tests.

It prints `address …` once it is up. Whoever starts it sets RAY_AUTH_MODE and RAY_AUTH_TOKEN, and gives those
who join it the same.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading

OBJECT_STORE_BYTES = 200 * 2**20
"""Windows stay for a moment, and recordings come in pieces."""
TRIES = 4
"""Ray gives a node half a minute to start, and busy machines take longer."""
NOT_STARTED = 3
"""Exit status of a process in which it did not; what it had started ends with it."""
BROKEN = 4
"""The same where one of Ray's processes has ended: those that are left notice it after up to a minute."""
LOOK_INTERVAL = 0.5


def start(cpus: int, folder: str) -> str:
    """Start the node, and return its address. Raises what Ray raises."""
    import ray

    node = ray.init(
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        configure_logging=False,
        logging_level=logging.WARNING,
        _temp_dir=folder,
    )
    return str(node.address_info["gcs_address"])


def run(cpus: int, folder: str) -> int:
    """Run a node with so many places until the standard input ends; return the exit status."""
    import ray

    try:
        address = start(cpus, folder)
    except Exception as error:  # Ray raises many kinds
        print(f"the Ray node did not start: {error}", flush=True)
        return NOT_STARTED
    print("address", address, flush=True)
    asked = threading.Thread(target=sys.stdin.read, name="asked to end", daemon=True)
    asked.start()
    while asked.is_alive():
        asked.join(LOOK_INTERVAL)
        if _has_lost_one():
            print("a process of the Ray node has ended", flush=True)
            os._exit(BROKEN)  # what is left ends with its parent, and in good order would wait for the one
    ray.shutdown()
    return 0


def _has_lost_one() -> bool:
    """Tell whether a process that Ray has started here ended; how it did is left for Ray to ask."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13: Ray notices it in its own time
        return False
    return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(cpus: str, *once: str) -> int:
    """Run a node in a process of its own, which is tried again where it does not start."""
    if once:
        return run(int(cpus), *once)
    status = NOT_STARTED
    for _ in range(TRIES):
        # Here, so that it goes where that process is killed. The path of a socket may have 107 bytes only.
        with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
            status = subprocess.call([sys.executable, "-m", "live_asr.cluster.node", cpus, folder])
        if status != NOT_STARTED:
            break
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
