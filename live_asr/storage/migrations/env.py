"""Where Alembic is told what to run revisions on: the transaction that it is called in."""

from alembic import context

if not __package__:  # Alembic runs it as a file; who imports it wants nothing
    context.configure(connection=context.config.attributes["connection"])
    context.run_migrations()
