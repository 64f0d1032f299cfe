"""The history of the hub's schema, for alembic; `hub.upgrade` runs it."""
