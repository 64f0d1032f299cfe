"""The first schema: accounts, tokens, repositories, blobs, manifests, tags, uploads."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

DIGEST = sa.String(140)
NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")


def _required(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _owner(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"fk_{table}_{column}", ondelete="CASCADE")


def upgrade() -> None:
    _accounts()
    _repositories()
    _manifests()


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer, nullable=False),
        _required("name", NAME),
        _required("password_hash", sa.Text()),
        _required("is_admin", sa.Boolean()),
        _required("is_disabled", sa.Boolean()),
        _required("created", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("name", name="uq_accounts_name"),
    )
    op.create_table(
        "sessions",
        _required("token_hash", sa.String(64)),
        _required("account_id", sa.Integer()),
        _required("created", sa.BigInteger()),
        _required("expires", sa.BigInteger()),
        sa.PrimaryKeyConstraint("token_hash", name="pk_sessions"),
        _owner("sessions", "account_id", "accounts.id"),
    )
    op.create_index("ix_sessions_account_id", "sessions", ["account_id"])
    op.create_table(
        "access_tokens",
        sa.Column("id", sa.Integer, nullable=False),
        _required("account_id", sa.Integer()),
        _required("name", sa.String(100)),
        _required("token_hash", sa.String(64)),
        _required("hint", sa.String(16)),
        _required("actions", sa.String(64)),
        _required("repositories", sa.Text()),
        _required("created", sa.BigInteger()),
        sa.Column("expires", sa.BigInteger),
        sa.Column("last_used", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_access_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_access_tokens_token_hash"),
        _owner("access_tokens", "account_id", "accounts.id"),
    )
    op.create_index("ix_access_tokens_account_id", "access_tokens", ["account_id"])


def _repositories() -> None:
    op.create_table(
        "repositories",
        sa.Column("id", sa.Integer, nullable=False),
        _required("name", NAME),
        _required("is_public", sa.Boolean()),
        _required("description", sa.Text()),
        _required("created", sa.BigInteger()),
        sa.Column("pushed", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_repositories"),
        sa.UniqueConstraint("name", name="uq_repositories_name"),
    )
    op.create_index("ix_repositories_pushed", "repositories", ["pushed"])
    op.create_table(
        "blobs",
        _required("digest", DIGEST),
        _required("size", sa.BigInteger()),
        _required("created", sa.BigInteger()),
        sa.PrimaryKeyConstraint("digest", name="pk_blobs"),
    )
    op.create_table(
        "repository_blobs",
        _required("repository_id", sa.Integer()),
        _required("digest", DIGEST),
        _required("created", sa.BigInteger()),
        sa.PrimaryKeyConstraint("repository_id", "digest", name="pk_repository_blobs"),
        _owner("repository_blobs", "repository_id", "repositories.id"),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name="fk_repository_blobs_digest"),
    )
    op.create_index("ix_repository_blobs_digest", "repository_blobs", ["digest"])
    op.create_table(
        "uploads",
        _required("id", sa.String(36)),
        _required("repository", NAME),
        sa.Column("account_id", sa.Integer),
        _required("algorithm", sa.String(16)),
        _required("started", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )


def _manifests() -> None:
    op.create_table(
        "manifests",
        _required("repository_id", sa.Integer()),
        _required("digest", DIGEST),
        _required("media_type", sa.String(255)),
        _required("size", sa.BigInteger()),
        _required("content", sa.LargeBinary()),
        sa.Column("subject", DIGEST),
        _required("artifact_type", sa.String(255)),
        _required("pushed", sa.BigInteger()),
        sa.PrimaryKeyConstraint("repository_id", "digest", name="pk_manifests"),
        _owner("manifests", "repository_id", "repositories.id"),
    )
    op.create_index("ix_manifests_subject", "manifests", ["repository_id", "subject"])
    op.create_table(
        "manifest_references",
        _required("repository_id", sa.Integer()),
        _required("manifest", DIGEST),
        _required("digest", DIGEST),
        _required("is_manifest", sa.Boolean()),
        sa.PrimaryKeyConstraint("repository_id", "manifest", "digest", name="pk_manifest_references"),
        _owner("manifest_references", "repository_id", "repositories.id"),
    )
    op.create_index("ix_manifest_references_digest", "manifest_references", ["digest"])
    op.create_table(
        "tags",
        _required("repository_id", sa.Integer()),
        _required("name", NAME),
        _required("digest", DIGEST),
        _required("updated", sa.BigInteger()),
        sa.PrimaryKeyConstraint("repository_id", "name", name="pk_tags"),
        _owner("tags", "repository_id", "repositories.id"),
    )
    op.create_index("ix_tags_digest", "tags", ["repository_id", "digest"])
