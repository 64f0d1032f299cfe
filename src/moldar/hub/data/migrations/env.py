"""What alembic executes to run migrations: always inside the transaction that `hub.upgrade` opened."""

from alembic import context

from moldar.hub.data.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
