"""Organisations, teams, roles, robot accounts, the audit log, and what garbage collections did."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("accounts", sa.Column("kind", sa.String(16), nullable=False, server_default="person"))
    op.create_table(
        "members",
        sa.Column("organisation_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("is_owner", sa.Boolean(), nullable=False),
        sa.Column("invited", sa.BigInteger(), nullable=False),
        sa.Column("joined", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("organisation_id", "account_id", name="pk_members"),
        _goes_with("members", "organisation_id"),
        _goes_with("members", "account_id"),
    )
    op.create_index("ix_members_account_id", "members", ["account_id"])
    op.create_table(
        "teams",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("organisation_id", sa.Integer(), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_teams"),
        _goes_with("teams", "organisation_id"),
    )
    op.create_index("ix_teams_name", "teams", ["organisation_id", "name"], unique=True)
    op.create_table(
        "team_members",
        sa.Column("team_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("team_id", "account_id", name="pk_team_members"),
        _goes_with("team_members", "team_id", "teams.id"),
        _goes_with("team_members", "account_id"),
    )
    op.create_index("ix_team_members_account_id", "team_members", ["account_id"])
    _roles_and_robots()
    _audit_and_collections()


def _roles_and_robots() -> None:
    op.create_table(
        "roles",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("namespace_id", sa.Integer(), nullable=False),
        sa.Column("team_id", sa.Integer(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("pattern", NAME, nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_roles"),
        _goes_with("roles", "namespace_id"),
        _goes_with("roles", "team_id", "teams.id"),
        _goes_with("roles", "account_id"),
    )
    for column in ("namespace_id", "team_id", "account_id"):
        op.create_index(f"ix_roles_{column}", "roles", [column])
    op.create_table(
        "robots",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("description", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_robots"),
        _goes_with("robots", "account_id"),
        _goes_with("robots", "owner_id"),
    )
    op.create_index("ix_robots_owner_id", "robots", ["owner_id"])


def _audit_and_collections() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("target", sa.String(300), nullable=False),
        sa.Column("detail", sa.String(300), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_namespace", "audit", ["namespace", "id"])
    op.create_table(
        "collections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("uploads", "holds", "blobs")),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("strays", sa.Integer(), nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_collections"),
    )


def _goes_with(table: str, column: str, owner: str = "accounts.id") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [owner], name=f"fk_{table}_{column}", ondelete="CASCADE")
