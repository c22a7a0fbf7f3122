"""Whether a session's client is there, and how long one that is lost is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from live_asr.errors import ClientError
from live_asr.sessions.outbox import Outbox

PAUSE_WINDOW = 3600.0
"""Seconds for which a client is waited for that is lost while its talk is paused: a break, or a lunch."""


class Presence:
    """The one connection that a session has at a time, or none.

    A client that is lost is waited for as many seconds as `window` says then; after that, or at once where
    `is_awaited` says that there is nothing to wait for, `on_given_up` is called.
    """

    def __init__(
        self, window: Callable[[], float], is_awaited: Callable[[], bool], on_given_up: Callable[[], None]
    ) -> None:
        self._window = window
        self._is_awaited = is_awaited
        self._on_given_up = on_given_up
        self._expiry: asyncio.TimerHandle | None = None
        self.outbox: Outbox | None = Outbox()
        """What the client is to hear; None while there is none."""

    def attach(self, kept_count: int) -> Outbox:
        """Return what a client that comes back is to hear; one that seems to be there still is let go.

        `kept_count` kept messages are on disk.
        """
        if self.outbox is not None:
            self.outbox.dismiss(
                ClientError(
                    "resumed_elsewhere",
                    "This session was resumed over another connection.",
                    "Use that one and close this one.",
                )
            )
        self.close()
        self.outbox = Outbox(is_resumed=True)
        self.outbox.release(kept_count)
        return self.outbox

    def is_other(self, outbox: Outbox | None) -> bool:
        """Tell whether nobody is there, or somebody else than who has `outbox`; None stands for anybody."""
        return self.outbox is None or outbox not in (None, self.outbox)

    def lose(self) -> None:
        """Take note that the client is gone, or has never been there, and wait for it. Idempotent."""
        if self.outbox is not None:
            self.outbox.close()
            self.outbox = None
        window = self._window()
        if window and self._is_awaited():
            if self._expiry is None:
                self._expiry = asyncio.get_running_loop().call_later(window, self.give_up)
        else:
            self.give_up()

    def expires_within(self) -> float | None:
        """Return for how many seconds a client is still waited for; None where it is there."""
        if self._expiry is None:
            return None
        return max(0.0, self._expiry.when() - asyncio.get_running_loop().time())

    def give_up(self) -> None:
        """Wait no longer."""
        self.close()
        self._on_given_up()

    def close(self) -> None:
        """Forget the time that is running. Idempotent."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
