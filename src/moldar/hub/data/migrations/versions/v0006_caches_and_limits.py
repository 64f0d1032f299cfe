"""What is kept and for how long: use of manifests, caches of other registries, retention, immutable tags, quotas."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

DIGEST = sa.String(140)
NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "manifest_use",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("pulled", sa.BigInteger(), nullable=True),
        sa.Column("untagged", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("repository_id", "digest", name="pk_manifest_use"),
        sa.ForeignKeyConstraint(
            ["repository_id", "digest"],
            ["manifests.repository_id", "manifests.digest"],
            name="fk_manifest_use_manifest",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "cached_repositories",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("upstream", NAME, nullable=False),
        sa.PrimaryKeyConstraint("repository_id", name="pk_cached_repositories"),
        _repository("cached_repositories"),
    )
    op.create_table(
        "retention_rules",
        sa.Column("name", NAME, nullable=False),
        sa.Column("keep_last", sa.Integer(), nullable=True),
        sa.Column("pushed_days", sa.Integer(), nullable=True),
        sa.Column("pulled_days", sa.Integer(), nullable=True),
        sa.Column("patterns", sa.Text(), nullable=False),
        sa.Column("untagged_days", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_retention_rules"),
    )
    op.create_table(
        "immutable_tags",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("patterns", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", name="pk_immutable_tags"),
        _repository("immutable_tags"),
    )
    op.create_table(
        "quotas",
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", name="pk_quotas"),
    )


def _repository(table: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_repository_id"
    return sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=name, ondelete="CASCADE")
