"""How many requests one address and one token may send: some at once, then so many a minute."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from live_asr.core.errors import Unavailable
from live_asr.server.access import address_of
from live_asr.server.proxies import route_of
from live_asr.sessions.places import is_this_machine

MAX_KEYS = 10_000
"""Addresses and tokens that are counted; who has been quiet longest is forgotten first."""


class Rate:
    """Buckets that fill with the time: one for each key, `a_minute` requests large.

    A library would bring storage and strategies of which one is needed; that is these lines.
    """

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_minute = a_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What is left of each, and when that was so."""

    def take(self, key: str) -> float:
        """Take one; return for how many seconds to wait where there is none, else 0."""
        now = self._clock()
        left, at = self._left.pop(key, (float(self._a_minute), now))
        left = min(float(self._a_minute), left + (now - at) * self._a_minute / 60)
        is_left = left >= 1
        self._left[key] = (left - 1 if is_left else left, now)
        if len(self._left) > MAX_KEYS:
            self._left.popitem(last=False)
        return 0.0 if is_left else (1 - left) * 60 / self._a_minute


class BoundedRate:
    """Answer 429 to an address from elsewhere that sends more requests below `/v1` than it may."""

    def __init__(self, app: ASGIApp, *, rate: Rate) -> None:
        self._app = app
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and route_of(scope).startswith("/v1/"):
            address = address_of(HTTPConnection(scope))
            if address is not None and not is_this_machine(address):
                wait = self._rate.take(f"address {address}")
                if wait:
                    refusal = too_many_requests(wait)
                    headers = {"Retry-After": f"{refusal.retry_after:.0f}"}
                    await JSONResponse({"detail": str(refusal)}, 429, headers)(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def too_many_requests(wait: float) -> Unavailable:
    """Return the refusal of who sends too many requests."""
    return Unavailable(
        "too_many_requests",
        "Too many requests.",
        "Send fewer, or ask the operator for more: server.requests_per_minute.",
        retry_after=max(1.0, round(wait + 0.5)),
        close_code=1008,
    )
