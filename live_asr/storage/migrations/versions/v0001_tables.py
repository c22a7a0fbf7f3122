"""The tables that there were before revisions: made where they are missing, as each version added some."""

from typing import Any

from alembic import op
from sqlalchemy import JSON, Column, Double, ForeignKey, Integer, LargeBinary, Text

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    _make("live_asr_schema", Column("version", Integer, primary_key=True))
    _make(
        "sessions",
        Column("id", Text, primary_key=True),
        Column("state", Text, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("ended_at", Double),
        Column("duration", Double),
        Column("language", Text),
        Column("revision", Integer, nullable=False),
        Column("labels", Text),
        Column("speakers", JSON, nullable=False),
        Column("error", JSON),
        Column("start", JSON, nullable=False),
        Column("names", JSON, nullable=False),
    )
    _make(
        "texts",
        _of_session(),
        Column("title", Text),
        Column("heading", Text, nullable=False),
        Column("text", Text),
        Column("folded", Text),
    )
    _make(
        "editions",
        _of_session(),
        Column("number", Integer, nullable=False),
        Column("final", LargeBinary),
        Column("turns", JSON),
    )
    _make(
        "tokens",
        Column("id", Text, primary_key=True),
        Column("name", Text, nullable=False),
        Column("digest", Text, nullable=False, unique=True),
        Column("scopes", JSON, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("expires_at", Double),
        Column("revoked_at", Double),
    )
    _make("owners", _of_session(), Column("owner", Text, nullable=False))
    _make(
        "erased",
        Column("session_id", Text, primary_key=True),
        Column("owner", Text, nullable=False),
        Column("ended_at", Double, nullable=False),
        Column("duration", Double, nullable=False),
    )
    _make("links", _of_session(), Column("revoked", Integer, nullable=False))
    _make(
        "deliveries",
        Column("id", Text, primary_key=True),
        Column(
            "session_id", Text, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False, unique=True
        ),
        Column("url", Text, nullable=False),
        Column("receiver", Text, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("state", Text, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("next_at", Double, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("last_status", Integer),
        Column("last_error", Text),
    )
    _make(
        "kept_results",
        Column("key", Text, primary_key=True),
        Column("session_id", Text, nullable=False),
        Column("result", LargeBinary, nullable=False),
        Column("created_at", Double, nullable=False),
    )
    _make(
        "jobs",
        Column("id", Text, primary_key=True),
        Column("job", JSON, nullable=False),
        Column("upload", Text),
        Column("owner", Text),
        Column("attempts", Integer, nullable=False),
        Column("created_at", Double, nullable=False),
    )
    for name, table, *columns in (
        ("sessions_by_age", "sessions", "created_at", "id"),
        ("ix_owners_owner", "owners", "owner"),
        ("ix_erased_owner", "erased", "owner"),
        ("deliveries_by_time", "deliveries", "state", "next_at"),
        ("kept_results_by_session", "kept_results", "session_id"),
        ("jobs_by_age", "jobs", "created_at", "id"),
    ):
        op.create_index(name, table, columns, if_not_exists=True)


def _make(name: str, *columns: Column[Any]) -> None:
    op.create_table(name, *columns, if_not_exists=True)


def _of_session() -> Column[str]:
    return Column("session_id", Text, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)
