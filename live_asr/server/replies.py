"""What the routes answer and take, as types: for readers of the code and of `/docs`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from live_asr.core.editing import UNSHOWN, Edit, EditError, Merge, Reassign, Reword
from live_asr.core.errors import ClientError
from live_asr.core.fields import parse_json
from live_asr.core.messages import MAX_TITLE
from live_asr.sessions.catalogue import Status
from live_asr.sessions.finalizer import links_of

MAX_NAMES = 64
MAX_NAME = 80
LARGEST_NAMES_BYTES = 64 * 1024
"""No names that are allowed take more than that."""
LARGEST_EDITS_BYTES = 1024 * 1024
MAX_EDITS = 1000
MAX_TEXT = 5000
"""Characters that a segment may be given: it lasts half a minute."""
LABEL = re.compile(r"[A-Za-z0-9_]{1,32}")


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
    title: str | None = Field(description="What people call it; null where nobody has.")
    revision: int = Field(
        description="2: corrected by hand; 1: the result; 0: the live transcript, while there is none."
    )
    labels: str | None = Field(description="Where the speakers come from: full, live, or null for none.")
    links: dict[str, str] = Field(description="Its transcript, by format.")


class Listed(Summary):
    """A session in a list, with a little of what was said."""

    excerpt: str | None = Field(description="Around the first word searched for; null while it is not over.")


class SessionList(BaseModel):
    """One page of sessions, newest first."""

    sessions: list[Listed]
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


UNREACHED = "It could not be delivered; the server's operator can see why."


class SessionInfo(Summary):
    """All that is known of a session but its words."""

    start: dict[str, Any] = Field(description="What its client asked for, without the webhook.")
    metadata: dict[str, Any] = Field(description="What its client wants handed back.")
    speakers: list[Speaker]
    names: dict[str, str] = Field(description="Names that people gave to speakers, by label.")
    progress: FullPassProgress | None = Field(description="null where no full pass is under way.")
    watch: str = Field(description="Path of the page for its audience, with the token that they need.")
    error: Fault | None = Field(description="null unless it failed.")
    may_change: bool = Field(description="Whether who asks may name, correct and erase it.")
    audio: str | None = Field(
        description="Path of its audio, for who may change it; null where none is kept, and while it goes on."
    )
    webhook: DeliveryState | None = Field(description="null where nobody is told, or not yet.")


class Names(BaseModel):
    """The names of a session's speakers."""

    names: dict[str, str]


class Title(BaseModel):
    """What people call a session."""

    title: str | None


class EditModel(BaseModel):
    """One change: with `segment` and `text` of what is said there, or of its `word`; with `segment` and
    `speaker` of who says it; with `speaker` and `into`, all of one speaker is another's."""

    model_config = ConfigDict(extra="forbid", strict=True)

    segment: int | None = Field(default=None, ge=0)
    word: int | None = Field(default=None, ge=0)
    text: str | None = Field(default=None, max_length=MAX_TEXT)
    speaker: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]{1,32}$")
    into: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]{1,32}$")

    def read(self) -> Edit:
        """Return the change that is meant. Raises EditError where none is."""
        match self:
            case EditModel(segment=int(segment), text=str(text), speaker=None, into=None):
                return Reword(segment, text, self.word)
            case EditModel(segment=int(segment), word=None, text=None, speaker=str(speaker), into=None):
                return Reassign(segment, speaker)
            case EditModel(segment=None, word=None, text=None, speaker=str(speaker), into=str(into)):
                return Merge(speaker, into)
        raise EditError(
            "A change has `segment` and `text`, with or without `word`; or `segment` and `speaker`; or "
            "`speaker` and `into`."
        )


class EditRequest(BaseModel):
    """Changes to a transcript, made in their order."""

    model_config = ConfigDict(extra="forbid", strict=True)

    edits: list[EditModel] = Field(min_length=1, max_length=MAX_EDITS)

    def read(self) -> list[Edit]:
        """Return the changes that are meant. Raises EditError."""
        return [edit.read() for edit in self.edits]


class Corrected(BaseModel):
    """What a transcript is after a change; its `ETag` comes with it."""

    revision: int
    segments: int = Field(description="How many there are.")


def listed_of(status: Status, root_path: str = "") -> Listed:
    """Return a session as a list shows it; `root_path` is the path before the server's own."""
    return Listed(**_summary(status, root_path), excerpt=status.excerpt)


def info_of(
    status: Status, watch: str, root_path: str = "", *, may_change: bool, audio: str | None
) -> SessionInfo:
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
        may_change=may_change,
        audio=audio,
        progress=FullPassProgress(stage=status.progress.stage, fraction=status.progress.fraction)
        if status.progress
        else None,
        error=Fault(**stored.error) if stored.error else None,
        webhook=DeliveryState(
            state=delivery.state,
            attempts=delivery.attempts,
            last_status=delivery.last_status,
            # What became of the connection would tell what hosts there are behind this server.
            last_error=UNREACHED
            if delivery.last_error is not None and delivery.last_status is None
            else delivery.last_error,
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
        "title": stored.title,
        "revision": stored.revision,
        "labels": stored.labels,
        "links": {name: root_path + path for name, path in links_of(stored.id).items()},
    }


def sentence_of(finding: Mapping[str, Any]) -> str:
    """Return what is wrong with a request as a sentence."""
    name = ".".join(map(str, finding["loc"])) or "body"
    return f"`{name}`: {finding['msg']}."


def read_title(body: bytes) -> str | None:
    """Read a title; None where it is empty. Raises ValueError with a sentence why not."""
    try:
        given = parse_json(body)
    except ClientError:
        given = None
    if not isinstance(given, Mapping) or set(given) != {"title"}:
        raise ValueError('Send a JSON object with a title, such as {"title": "Town meeting"}.')
    title = given["title"]
    if title is None:
        return None
    if not isinstance(title, str) or len(title.strip()) > MAX_TITLE:
        raise ValueError(f"`title` must be a text of at most {MAX_TITLE} characters, or null.")
    if any(unicodedata.category(character) in UNSHOWN for character in title):
        raise ValueError("`title` holds line breaks or characters that cannot be shown.")
    return title.strip() or None


def read_names(body: bytes) -> dict[str, str]:
    """Read names by label; an empty one stands for none. Raises ValueError with a sentence why not."""
    try:
        given = parse_json(body)
    except ClientError:
        given = None
    if not isinstance(given, Mapping):
        raise ValueError('Send a JSON object of names by label, such as {"SPEAKER_00": "Anna"}.')
    if len(given) > MAX_NAMES:
        raise ValueError(f"At most {MAX_NAMES} names can be kept.")
    names = {}
    for label, name in given.items():
        if not LABEL.fullmatch(label):
            raise ValueError("A label has 1 to 32 letters, digits and underscores, such as SPEAKER_00.")
        if not isinstance(name, str) or len(name.strip()) > MAX_NAME:
            raise ValueError(f"The name of {label} must be a text of at most {MAX_NAME} characters.")
        if any(unicodedata.category(character) in UNSHOWN for character in name):
            raise ValueError(f"The name of {label} holds line breaks or characters that cannot be shown.")
        if name.strip():
            names[label] = name.strip()
    return names
