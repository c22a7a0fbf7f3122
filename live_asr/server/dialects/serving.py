"""What ends a foreign client's connection, whatever its protocol."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from live_asr.core.errors import LiveAsrError
from live_asr.server.sockets import GONE
from live_asr.server.state import ServerState

log = logging.getLogger(__name__)


@asynccontextmanager
async def served(
    state: ServerState, path: str, refuse: Callable[[LiveAsrError], Awaitable[None]]
) -> AsyncIterator[None]:
    """Serve one connection for as long as the block lasts; a broken peer is nobody else's trouble.

    `refuse` tells the client why it must go: what is raised as LiveAsrError, or, where that is anything else,
    that it is our fault. One that is gone is told nothing.
    """
    try:
        yield
    except LiveAsrError as error:
        state.metrics.refused.labels(error.code).inc()
        await refuse(error)
    except (TimeoutError, *GONE) as error:
        log.debug("a client of %s went away: %s", path, error)
    except Exception:  # the client is told so rather than left with a closed socket
        log.exception("a client of %s could not be served", path)
        await refuse(LiveAsrError("Something went wrong in the server."))
