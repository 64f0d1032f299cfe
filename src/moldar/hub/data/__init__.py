"""The hub's tables: transactions, schema, migrations, and what is remembered of answers."""
