"""What the workers of a pool are called, so that servers find them."""

from __future__ import annotations

import hashlib
import json
import re

from live_asr.inference.ipc import Pool

PROTOCOL = 1
"""Of what servers and workers say to each other: to be raised where one of an earlier version would not
understand. Both then have a pool of their own, while one replaces the other."""


class Names:
    """Names of a pool's workers: `recognizer-DIGEST-0`, `-1` and so on.

    The digest is of all that decides which words come out: servers whose settings differ in that share no
    worker.
    """

    def __init__(self, pool: Pool) -> None:
        decides = [PROTOCOL, pool.settings, pool.device, pool.cpus, pool.gpus, repr(pool.simulated)]
        digest = hashlib.sha256(json.dumps(decides, default=str).encode()).hexdigest()[:8]
        self._prefix = f"recognizer-{digest}-"

    def of(self, slot: int) -> str:
        """Return the name of a pool's worker with this number, from 0."""
        return f"{self._prefix}{slot}"

    def slot_of(self, name: str) -> int | None:
        """Return a worker's number; None for what is none of this pool."""
        found = re.fullmatch(re.escape(self._prefix) + r"(\d+)", name)
        return int(found[1]) if found else None
