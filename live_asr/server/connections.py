"""How many connections one address may have: each costs a descriptor, and a process has few of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

from live_asr.server.access import line_of
from live_asr.server.proxies import is_among, networks_of

log = logging.getLogger(__name__)

MAX_OF_AN_ADDRESS = 500
"""Unless the operator says otherwise. A hall full of phones behind one address has as many."""
COMPLAINT = b"This address has too many connections already.\n"
REFUSAL = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Retry-After: 5\r\nContent-Length: %d\r\n\r\n%b" % (len(COMPLAINT), COMPLAINT)
)


class Connections:
    """The connections of a server, by the address that they come from, of IPv6 the network of its line.

    Those of proxies are not counted.
    """

    def __init__(self, most: int | None = None, proxies: Sequence[str] = ()) -> None:
        self._most = most or MAX_OF_AN_ADDRESS
        self._proxies = networks_of(proxies)
        self._open: Counter[str] = Counter()
        self._refused: set[str] = set()

    def enter(self, transport: asyncio.Transport) -> str | None:
        """Count a new connection; return what `leave` needs, or None where it was refused and closed."""
        peer = transport.get_extra_info("peername")
        host = str(peer[0]) if peer else ""
        address = line_of(host)
        if address is None or is_among(host, self._proxies):
            return ""
        if self._open[address] >= self._most:
            if address not in self._refused:  # once, until it has room again
                log.warning("%s has %d connections; no more are accepted", address, self._most)
                self._refused.add(address)
            transport.write(REFUSAL)
            transport.close()
            return None
        self._open[address] += 1
        return address

    def leave(self, address: str) -> None:
        """Take note that a connection that was counted is gone."""
        if not address:
            return
        self._open[address] -= 1
        self._refused.discard(address)
        if not self._open[address]:
            del self._open[address]
