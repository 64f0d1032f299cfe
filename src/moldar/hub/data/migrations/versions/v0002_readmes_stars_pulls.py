"""What the pages keep beside the registry: READMEs, stars, pulls by day."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "readmes",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", name="pk_readmes"),
        _owner("readmes", "repository_id", "repositories.id"),
    )
    op.create_table(
        "stars",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "account_id", name="pk_stars"),
        _owner("stars", "repository_id", "repositories.id"),
        _owner("stars", "account_id", "accounts.id"),
    )
    op.create_index("ix_stars_account_id", "stars", ["account_id"])
    op.create_table(
        "pulls",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "day", name="pk_pulls"),
        _owner("pulls", "repository_id", "repositories.id"),
    )


def _owner(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"fk_{table}_{column}", ondelete="CASCADE")
