"""Coming back to a session whose connection was lost: when, how often, and what the program hears of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from live_asr.client.connection import SessionError
from live_asr.core.messages import ServerMessage

NETWORK = ("connection_lost", "cannot_connect")
"""What this side says where nobody else can."""
NOT_YET = ("loading", "server_full")
"""The server will take the session up, and only then begins to count how long it waits for the client."""
FAULTS = ("internal", "storage_full")
"""The server's trouble, which the session may have survived."""
RESUMABLE = (*NETWORK, *NOT_YET, *FAULTS, "shutting_down", "start_timeout", "slow_client", "overrun")
"""After an error with one of these codes it is worth coming back; all else stays as it is.

The last three tell of a connection that was too slow, or had more on its way than its server took: the next
begins from what the server has. `web/connection.js` has the same list.
"""
HELD_BYTES = 8 * 1024 * 1024
"""Live audio that is held while it cannot be sent: four minutes of 16 kHz PCM."""
FIRST_PAUSE = 0.25
MAX_PAUSE = 10.0
"""Seconds between two tries."""
LOST_AFTER = 10.0
"""Seconds without a word from the server, while one is due every second, after which a connection is lost."""
STABLE = 5.0
"""Seconds after which a connection counts as made."""
MAX_FRUITLESS = 5
"""How many such connections on end may have led to nothing before patience runs out."""


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The connection is lost and is being made again; audio is held meanwhile."""

    type: ClassVar[str] = "reconnecting"
    reason: str
    """Why, as a sentence."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The session goes on; the messages that were missed follow."""

    type: ClassVar[str] = "resumed"
    attempts: int
    """How many tries it took."""


SessionMessage: TypeAlias = ServerMessage | Reconnecting | Resumed
"""What a session's iterator yields."""


def pauses(chance: random.Random | None = None) -> Iterator[float]:
    """Yield seconds to wait before each try: twice as long each time, less up to a half of it by chance.

    So that a thousand clients of a server that restarts do not come back at the same instant.
    """
    chance = chance or random.Random()
    pause = FIRST_PAUSE
    while True:
        yield pause * chance.uniform(0.5, 1.0)
        pause = min(2 * pause, MAX_PAUSE)


class Patience:
    """When to try to come back, and until when; the times are the caller's."""

    def __init__(self, reconnect_for: float, now: float) -> None:
        self._reconnect_for = reconnect_for
        self._fruitless = 0
        self._renew(now)

    def lose(self, now: float, lasted: float, *, got_on: bool) -> None:
        """Take note that a connection is lost that lasted so long; `got_on` tells whether it was of any use.

        One that is lost at once is no better than none, and so is one over which the same goes wrong each
        time: patience then goes on running out.
        """
        if lasted < STABLE:
            return
        self._fruitless = 0 if got_on else self._fruitless + 1
        if self._fruitless <= MAX_FRUITLESS:
            self._renew(now)

    def pause(self, now: float, error: SessionError) -> float | None:
        """Return the seconds to wait, after this error, before the next try; None for no more tries.

        The last try is made when the time is up, whatever the server asked for.
        """
        if error.code in NOT_YET:
            self._deadline = now + self._reconnect_for
        left = self._deadline - now
        return min(max(next(self._pauses), error.retry_after or 0.0), left) if left > 0 else None

    def _renew(self, now: float) -> None:
        self._pauses = pauses()
        self._deadline = now + self._reconnect_for


def is_resumable(error: SessionError) -> bool:
    """Tell whether the session may go on over another connection."""
    return error.code in RESUMABLE
