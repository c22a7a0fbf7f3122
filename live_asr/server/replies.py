"""What the routes answer and take, as types: for readers of the code and of `/docs`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from live_asr.core.fields import parse_json
from live_asr.errors import ClientError
from live_asr.sessions.catalogue import Status
from live_asr.sessions.finalizer import links_of

MOST_NAMES = 64
LONGEST_NAME = 80
LARGEST_NAMES_BYTES = 64 * 1024
"""No names that are allowed take more than that."""
LABEL = re.compile(r"[A-Za-z0-9_]{1,32}")
UNSHOWN = ("Cc", "Cs", "Zl", "Zp")
"""Categories of characters that no line of a caption may hold; joiners, which some scripts need, are none."""


class Problem(BaseModel):
    """What was wrong with a request."""

    detail: str = Field(description="A sentence for people.")


class Summary(BaseModel):
    """A session in a list."""

    session: str = Field(description="Its id.")
    state: str = Field(description="open, streaming, draining, finalizing, done or failed.")
    created: str = Field(description="When it was opened: ISO 8601, UTC.")
    duration: float | None = Field(description="Seconds of audio, so far; null where that is not known.")
    language: str | None = Field(description="Language spoken, as Whisper spells it.")
    revision: int = Field(description="1: the result; 0: the live transcript, while there is none.")
    labels: str | None = Field(description="Where the speakers come from: full, live, or null for none.")
    links: dict[str, str] = Field(description="Its transcript, by format.")


class SessionList(BaseModel):
    """One page of sessions, newest first."""

    sessions: list[Summary]
    next: str | None = Field(description="`before` for the next page; null on the last.")


class Speaker(BaseModel):
    """Somebody who speaks in a session."""

    label: str = Field(description="SPEAKER_00 for the first one heard.")
    live_labels: list[str] = Field(description="The labels that became this speaker.")
    duration: float = Field(description="Seconds of speech.")
    turns: int


class FullPassProgress(BaseModel):
    """How far the full pass is."""

    stage: str = Field(description="loading, segmentation, embeddings, clustering or recognition.")
    fraction: float = Field(description="Of the whole pass, 0 to 1.")


class Fault(BaseModel):
    """Why a session failed."""

    code: str
    message: str


class DeliveryState(BaseModel):
    """What became of the webhook so far."""

    state: str = Field(description="pending, delivered or dead.")
    attempts: int
    last_status: int | None = Field(description="HTTP status of the last answer.")
    last_error: str | None = Field(description="Why the last try failed.")


class SessionInfo(Summary):
    """All that is known of a session but its words."""

    start: dict[str, Any] = Field(description="What its client asked for, without the webhook.")
    metadata: dict[str, Any] = Field(description="What its client wants handed back.")
    speakers: list[Speaker]
    names: dict[str, str] = Field(description="Names that people gave to speakers, by label.")
    progress: FullPassProgress | None = Field(description="null where no full pass is under way.")
    watch: str = Field(description="Path of the page for its audience, with the token that they need.")
    error: Fault | None = Field(description="null unless it failed.")
    webhook: DeliveryState | None = Field(description="null where nobody is told, or not yet.")


class Names(BaseModel):
    """The names of a session's speakers."""

    names: dict[str, str]


def summary_of(status: Status, root_path: str = "") -> Summary:
    """Return a session as a list shows it; `root_path` is the path before the server's own."""
    return Summary(**_summary(status, root_path))


def info_of(status: Status, watch: str, root_path: str = "") -> SessionInfo:
    """Return all that is known of a session but its words; `watch` is where its audience reads along."""
    stored, delivery = status.stored, status.delivery
    hidden = ("type", "webhook", "metadata", "resume")
    return SessionInfo(
        **_summary(status, root_path),
        start={key: value for key, value in stored.start.items() if key not in hidden},
        metadata=dict(stored.start.get("metadata") or {}),
        speakers=[Speaker(**speaker) for speaker in stored.speakers],
        names=dict(stored.names),
        watch=watch,
        progress=FullPassProgress(stage=status.progress.stage, fraction=status.progress.fraction)
        if status.progress
        else None,
        error=Fault(**stored.error) if stored.error else None,
        webhook=DeliveryState(
            state=delivery.state,
            attempts=delivery.attempts,
            last_status=delivery.last_status,
            last_error=delivery.last_error,
        )
        if delivery
        else None,
    )


def _summary(status: Status, root_path: str) -> dict[str, Any]:
    stored = status.stored
    created = datetime.fromtimestamp(stored.created_at, UTC).isoformat(timespec="milliseconds")
    return {
        "session": stored.id,
        "state": status.state,
        "created": created.replace("+00:00", "Z"),
        "duration": status.duration,
        "language": status.language,
        "revision": stored.revision,
        "labels": stored.labels,
        "links": {name: root_path + path for name, path in links_of(stored.id).items()},
    }


def read_names(body: bytes) -> dict[str, str]:
    """Read names by label; an empty one stands for none. Raises ValueError with a sentence why not."""
    try:
        given = parse_json(body)
    except ClientError:
        given = None
    if not isinstance(given, Mapping):
        raise ValueError('Send a JSON object of names by label, such as {"SPEAKER_00": "Anna"}.')
    if len(given) > MOST_NAMES:
        raise ValueError(f"At most {MOST_NAMES} names can be kept.")
    names = {}
    for label, name in given.items():
        if not LABEL.fullmatch(label):
            raise ValueError("A label has 1 to 32 letters, digits and underscores, such as SPEAKER_00.")
        if not isinstance(name, str) or len(name.strip()) > LONGEST_NAME:
            raise ValueError(f"The name of {label} must be a text of at most {LONGEST_NAME} characters.")
        if any(unicodedata.category(character) in UNSHOWN for character in name):
            raise ValueError(f"The name of {label} holds line breaks or characters that cannot be shown.")
        if name.strip():
            names[label] = name.strip()
    return names
