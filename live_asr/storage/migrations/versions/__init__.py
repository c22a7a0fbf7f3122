"""The revisions, a file each; `alembic` finds them here."""
