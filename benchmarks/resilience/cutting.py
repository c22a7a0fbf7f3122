"""A proxy that cuts connections, the ways networks do; neither side is asked."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

Cut = Literal["reset", "close", "half-open", "torn"]
CUTS: tuple[Cut, ...] = ("reset", "close", "half-open", "torn")


class Proxy:
    """Passes bytes on between clients and one server, until told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self.port = 0
        self.accepts = True
        """Whether new connections are passed on; else they are closed at once."""

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream(self) -> str:
        """The address of the WebSocket behind it."""
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    def retarget(self, url: str) -> None:
        """Pass new connections on to another server."""
        host, port = url.removeprefix("http://").split(":")
        self._target = (host, int(port))

    async def cut(self, how: Cut) -> None:
        """Cut all connections.

        `reset` aborts both sides, `close` ends them in good order; `half-open` ends the client's side while
        the server's stays, silent; `torn` closes them in the middle of a frame of the client's.
        """
        for link in list(self._links):
            await link.cut(how)

    def silence(self) -> None:
        """Swallow everything that comes from now on, in both directions, on connections that there are."""
        for link in self._links:
            link.is_silent = True

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._listener is not None
        self._listener.close()
        for link in list(self._links):
            link.end()
        await asyncio.gather(*(link.done.wait() for link in list(self._links)))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.accepts:
            writer.close()
            return
        try:
            to_server = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        link = _Link((reader, writer), to_server)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            link.done.set()


class _Link:
    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._client, self._server = client, server
        self.is_silent = False
        self._tear = False
        self._torn = asyncio.Event()
        self._over = asyncio.Event()
        self.done = asyncio.Event()

    async def run(self) -> None:
        pumps = [
            asyncio.create_task(self._pump(self._client[0], self._server[1], tears=True)),
            asyncio.create_task(self._pump(self._server[0], self._client[1])),
        ]
        await self._over.wait()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for _, writer in (self._client, self._server):
            writer.close()

    def end(self) -> None:
        self._over.set()

    async def cut(self, how: Cut) -> None:
        if how == "torn":
            self._tear = True
            with suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._torn.wait()
        self.is_silent = True
        if how == "half-open":
            _abort(self._client[1])
            return  # the server hears nothing, not even an end
        if how == "reset":
            for _, writer in (self._client, self._server):
                _abort(writer)
        self._over.set()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tears: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if tears and self._tear:
                    # Several frames may come as one piece: its middle is none of their ends.
                    writer.write(data[: len(data) // 2 + 1])
                    await writer.drain()
                    self.is_silent = True
                    self._torn.set()
                if not self.is_silent:
                    writer.write(data)
                    await writer.drain()
        if not self.is_silent:
            self._over.set()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Reset a connection rather than end it."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """Stand between clients and the server at `url`."""
    host, port = url.removeprefix("http://").split(":")
    between = Proxy(host, int(port))
    await between.start()
    try:
        yield between
    finally:
        await between.close()
