"""What is in the object store, and what is to go there or to be erased there."""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "objects",
        Column("session_id", Text, primary_key=True),
        Column("kind", Text, primary_key=True),
        Column("state", Text, nullable=False),
        Column("store", Text),
        Column("name", Text),
        Column("media_type", Text),
        Column("size_bytes", BigInteger),
        Column("next_at", Double, nullable=False),
        Column("gateway", Text),
    )
    op.create_index("objects_by_time", "objects", ["state", "next_at"])
