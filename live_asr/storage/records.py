"""What the database keeps of sessions and deliveries, as the rest of the server sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from live_asr.core.urls import receiver_of

OPEN = "open"
OVER = ("done", "failed")
"""The states that a session does not leave."""
PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"
DELIVERY_STATES = (PENDING, DELIVERED, DEAD)


@dataclass(frozen=True, slots=True)
class StoredSession:
    """What is kept of a session besides its audio and messages."""

    id: str
    state: str
    """`open`, `streaming`, `draining`, `finalizing`, `done` or `failed`."""
    created_at: float
    """Unix time in seconds."""
    ended_at: float | None
    """Unix time in seconds; None while it is not over."""
    duration: float | None
    """Seconds of audio; None while it is not over."""
    language: str | None
    revision: int
    """1 for the result; 0 for the live record of a session that goes on, or failed."""
    labels: str | None
    """Where the speakers come from: `full`, `live` or None."""
    speakers: Sequence[Mapping[str, Any]]
    """As in the message `final`."""
    error: Mapping[str, str] | None
    """`code` and `message` of a failed session."""
    start: Mapping[str, Any] = field(repr=False)
    """The client's message `start`. Its webhook's URL may hold a secret."""
    names: Mapping[str, str]
    """Names that people typed in, by speaker label."""
    title: str | None
    """What people call it; None where nobody has."""
    owner: str | None = None
    """The id of the token that opened it; None where it was the server's own, or nobody was asked."""


@dataclass(frozen=True, slots=True)
class Edition:
    """What people made of a session's result by hand."""

    number: int
    """1 after the first change, raised by each; also by taking all of them back."""
    final: bytes | None
    """The result as they left it, as the message `final`; None where they took all back."""
    turns: Sequence[Mapping[str, Any]] | None
    """Who speaks when: `start` and `end` in seconds, and `speaker`."""


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What is to be told, and to whom."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    id: str | None = None
    """The `webhook-id`, where several servers may come to tell of the same; None makes one."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One row of the outbox."""

    id: str
    """The `webhook-id`: made once, the same on every try."""
    session_id: str
    url: str = field(repr=False)
    """May hold a secret; `receiver` is what may be shown."""
    body: bytes = field(repr=False)
    state: str
    """`pending`, `delivered` or `dead`."""
    attempts: int
    """Tries so far, ever."""
    tries: int
    """Tries so far in this round; `retry` begins a new one."""
    next_at: float
    """Unix time in seconds of the next try, where it is pending; else of the last change."""
    created_at: float
    """Unix time in seconds."""
    last_status: int | None
    """HTTP status of the last answer; None where there was none."""
    last_error: str | None
    """Why the last try failed, as a sentence; None where it did not."""

    @property
    def receiver(self) -> str:
        """Scheme, host and port of the URL: what may be logged of it."""
        return receiver_of(self.url)
