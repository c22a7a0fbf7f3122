"""What a session may ask of the models that a server has, and the refusal where it has no place."""

from __future__ import annotations

import math
from dataclasses import dataclass

from live_asr.core.errors import ClientError, Unavailable
from live_asr.core.languages import check_known
from live_asr.core.messages import RecognizerInfo, Start

RETRY_AFTER = 15.0
"""Seconds after which a client may try again that has all its places: its own talks end at any time."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who opens a session."""

    owner: str | None = None
    """The id of the token that they presented; None for the server's own, and where nobody is asked."""
    address: str | None = None
    """Where they come from, as far as that is known."""
    is_known: bool = False
    """Whether they presented a token."""
    may_name_receivers: bool = True
    """Whether that one is for webhooks, too."""


SOMEBODY = Client()


def check_start(start: Start, recognizer: RecognizerInfo) -> None:
    """Refuse a language or a task that the recogniser does not know. Raises ClientError."""
    check_known((start.language, *start.languages), recognizer.name, recognizer.languages)
    if start.task == "translate" and recognizer.languages == ("en",):
        raise ClientError(
            "task_unsupported",
            f"The model {recognizer.name} knows only English and can't translate.",
            "Ask for `transcribe`, or run the server with a multilingual model.",
        )


def quota_reached(hours: float) -> Unavailable:
    """Return the refusal of a token that has had its day's audio."""
    unit = "hour" if hours == 1 else "hours"
    return Unavailable(
        "quota_reached",
        f"This token has used its {hours:g} {unit} of audio for the last 24 hours.",
        "Come back later, or ask the operator for more.",
        retry_after=3600.0,
        close_code=1008,
    )


def server_full(places: int, whose: str = "", *, retry_after: float = RETRY_AFTER) -> Unavailable:
    """Return the refusal of a server whose places are taken, or those that `whose` may have.

    `retry_after` is in seconds, and told in whole ones.
    """
    seconds = math.ceil(retry_after)
    of_it = f" that one {whose} may have" if whose else ""
    return Unavailable(
        "server_full",
        f"All {places} places{of_it} are taken." if places > 1 else f"The only place{of_it} is taken.",
        f"Try again in {seconds} second{'s' if seconds > 1 else ''}.",
        retry_after=float(seconds),
    )
