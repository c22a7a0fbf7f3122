"""What several servers have in PostgreSQL together: who is there, what each is at, the journal, uploads.

Some of it was there before revisions, made by the first server that was given a journal.
"""

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    Text,
    func,
    text,
)

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables, in PostgreSQL alone."""
    if op.get_bind().dialect.name != "postgresql":
        return
    _make(
        "gateways",
        Column("id", Text, primary_key=True),
        Column("alive_until", DateTime(timezone=True), nullable=False),
    )
    _make("delivery_claims", _of("delivery_id", "deliveries.id"), Column("gateway", Text, nullable=False))
    _make("job_claims", _of("job_id", "jobs.id"), Column("gateway", Text, nullable=False))
    _make(
        "job_uploads",
        Column("upload", Text, primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("data", LargeBinary, nullable=False),
        Column("kept_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )
    _make("heard_audio", _of("session_id", "sessions.id"), Column("seconds", Double, nullable=False))
    op.create_table(
        "journal_sessions",
        Column("session_id", Text, primary_key=True),
        Column("epoch", BigInteger, nullable=False),
        Column("gateway", Text),
        Column("about", LargeBinary, nullable=False),
        Column("audio_bytes", BigInteger, nullable=False),
        Column("message_count", Integer, nullable=False),
        Column("state", LargeBinary),
        Column("turns", LargeBinary),
        Column("live_turns", LargeBinary),
        Column("condemned", Boolean, nullable=False),
        postgresql_with={"fillfactor": 50},
        if_not_exists=True,
    )
    _make(
        "journal_audio",
        Column("session_id", Text, primary_key=True),
        Column("end_bytes", BigInteger, primary_key=True),
        Column("data", LargeBinary, nullable=False),
    )
    _make(
        "journal_messages",
        Column("session_id", Text, primary_key=True),
        Column("seq", Integer, primary_key=True),
        Column("data", LargeBinary, nullable=False),
    )
    # Audio is kept as it comes: it is compressed already, or cannot be by what the database does.
    for table in ("journal_audio", "job_uploads"):
        kept = "attrelid = CAST(:name AS regclass) AND attname = 'data' AND attstorage = 'e'"
        found = text(f"SELECT count(*) FROM pg_attribute WHERE {kept}")
        if not op.get_bind().scalar(found, {"name": table}):  # others write there, and would have to wait
            op.execute(f"ALTER TABLE {table} ALTER COLUMN data SET STORAGE EXTERNAL")


def _make(name: str, *columns: Column[Any]) -> None:
    op.create_table(name, *columns, if_not_exists=True)


def _of(name: str, other: str) -> Column[str]:
    return Column(name, Text, ForeignKey(other, ondelete="CASCADE"), primary_key=True)
