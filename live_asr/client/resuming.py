"""Coming back to a session whose connection was lost: when, how often, and what the program hears of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from live_asr.client.connection import SessionError
from live_asr.core.messages import ServerMessage

RESUMABLE = ("connection_lost", "cannot_connect", "shutting_down", "slow_client", "loading", "server_full")
"""After an error with one of these codes it is worth coming back; all else stays as it is."""
HELD_BYTES = 8 * 1024 * 1024
"""Live audio that is held while it cannot be sent: four minutes of 16 kHz PCM."""
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0
"""Seconds between two tries."""
LOST_AFTER = 10.0
"""Seconds without a word from the server, while one is due every second, after which a connection is lost."""
STABLE = 5.0
"""Seconds after which a connection counts as made."""


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The connection is lost and is being made again; audio is held meanwhile, nothing is lost."""

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
        pause = min(2 * pause, LONGEST_PAUSE)


def is_resumable(error: SessionError) -> bool:
    """Tell whether the session may go on over another connection."""
    return error.code in RESUMABLE
