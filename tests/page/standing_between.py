"""The proxy that cuts connections, for tests that are not asynchronous: it works in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.cutting import Cut, Proxy, proxy

TIMEOUT = 10.0


class Between:
    """Passes bytes on between a browser and one server, until told otherwise."""

    def __init__(self, between: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self._between = between
        self._loop = loop
        self.url = between.url

    def cut(self, how: Cut) -> None:
        """Cut all connections."""
        self._do(self._between.cut(how))

    def silence(self) -> None:
        """Swallow everything that comes from now on over the connections that there are."""
        self._loop.call_soon_threadsafe(self._between.silence)

    def accept(self, accepts: bool) -> None:
        """Pass new connections on, or close them at once."""
        self._between.accepts = accepts

    def _do(self, doing: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(doing, self._loop).result(TIMEOUT)


@contextmanager
def standing_between(url: str) -> Iterator[Between]:
    """Stand between a browser and the server at `url`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    opening = proxy(url)
    try:
        between = asyncio.run_coroutine_threadsafe(opening.__aenter__(), loop).result(TIMEOUT)
        try:
            yield Between(between, loop)
        finally:
            closing = opening.__aexit__(None, None, None)
            asyncio.run_coroutine_threadsafe(closing, loop).result(TIMEOUT)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
