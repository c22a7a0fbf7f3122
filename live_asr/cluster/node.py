"""A Ray cluster of one machine, for as long as this process has a standard input: to see one, and for tests.

It prints `address …` once it is up. Whoever starts it sets RAY_AUTH_MODE and RAY_AUTH_TOKEN, and gives those
who join it the same.
"""

from __future__ import annotations

import logging
import sys
import tempfile

OBJECT_STORE_BYTES = 200 * 2**20
"""Windows stay for a moment, and recordings come in pieces."""
TRIES = 4
"""Ray gives a node half a minute to start, and busy machines take longer."""


def start(cpus: int, folder: str, tries: int = TRIES) -> str:
    """Start the node, and return its address. Raises what Ray raises."""
    import ray

    try:
        node = ray.init(
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            configure_logging=False,
            logging_level=logging.WARNING,
            _temp_dir=folder,
        )
    except Exception:
        if tries == 1:
            raise
    else:
        return str(node.address_info["gcs_address"])
    ray.shutdown()
    return start(cpus, folder, tries - 1)


def main(cpus: int) -> None:
    """Run a node with so many places until the standard input ends."""
    import ray

    # The path of a socket may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        print("address", start(cpus, folder), flush=True)
        sys.stdin.read()
        ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
