"""The hub's tables. A change here needs a migration beside it in `migrations/versions`; a test compares the two.

Times are whole seconds since 1970, sizes are bytes, digests are `algorithm:hex`. Blobs are stored once for all
repositories; a row of `repository_blobs` is what lets a repository (and whoever may pull from it) see one. Its
`created` is when somebody was last told that the blob is there: garbage collection leaves it alone for a while then.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

DIGEST = String(140)
NAME = String(255).with_variant(String(255, collation="C"), "postgresql")
"""Names and tags sort by their bytes everywhere (distribution-spec, "Listing Tags")."""

ACCOUNTS = Table(
    "accounts",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("is_admin", Boolean, nullable=False, default=False),
    Column("is_disabled", Boolean, nullable=False, default=False),
    Column("created", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False, default="person", server_default="person"),
)
"""Who has a namespace or a credential. `kind`: person, organisation or robot."""

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("token_hash", String(64), primary_key=True),
    Column("account_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("address", String(64), nullable=False, default=""),
)
"""`address`: where the session began, as sign-ins are counted by."""

SIGN_IN_FAILURES = Table(
    "sign_in_failures",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("account", String(32), nullable=False),
    Column("address", String(64), nullable=False),
    Index("ix_sign_in_failures_account", "account", "at"),
    Index("ix_sign_in_failures_address", "address", "at"),
)
"""Of the last minutes. `account` is a keyed hash of the name that was tried."""

ACCESS_TOKENS = Table(
    "access_tokens",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("account_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(100), nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    Column("actions", String(64), nullable=False),
    Column("repositories", Text, nullable=False, default=""),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=True),
    Column("last_used", BigInteger, nullable=True),
)

REPOSITORIES = Table(
    "repositories",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("is_public", Boolean, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("created", BigInteger, nullable=False),
    Column("pushed", BigInteger, nullable=True),
    Index("ix_repositories_pushed", "pushed"),
)

BLOBS = Table(
    "blobs",
    METADATA,
    Column("digest", DIGEST, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
)

REPOSITORY_BLOBS = Table(
    "repository_blobs",
    METADATA,
    Column("repository_id", Integer, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", DIGEST, ForeignKey("blobs.digest"), primary_key=True, index=True),
    Column("created", BigInteger, nullable=False),
)

MANIFESTS = Table(
    "manifests",
    METADATA,
    Column("repository_id", Integer, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", DIGEST, primary_key=True),
    Column("media_type", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("subject", DIGEST, nullable=True),
    Column("artifact_type", String(255), nullable=False, default=""),
    Column("pushed", BigInteger, nullable=False),
    Index("ix_manifests_subject", "repository_id", "subject"),
)

MANIFEST_REFERENCES = Table(
    "manifest_references",
    METADATA,
    Column("repository_id", Integer, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("manifest", DIGEST, primary_key=True),
    Column("digest", DIGEST, primary_key=True, index=True),
    Column("is_manifest", Boolean, nullable=False),
)

TAGS = Table(
    "tags",
    METADATA,
    Column("repository_id", Integer, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("name", NAME, primary_key=True),
    Column("digest", DIGEST, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Index("ix_tags_digest", "repository_id", "digest"),
)

UPLOADS = Table(
    "uploads",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("repository", NAME, nullable=False),
    Column("account_id", Integer, nullable=True),
    Column("algorithm", String(16), nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("digest", DIGEST, nullable=True),
)
"""`digest`: the blob that the session is about to become, once that is certain; collection leaves it alone."""

READMES = Table(
    "readmes",
    METADATA,
    Column("repository_id", Integer, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("content", Text, nullable=False),
    Column("updated", BigInteger, nullable=False),
)

STARS = Table(
    "stars",
    METADATA,
    Column("repository_id", Integer, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("account_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("created", BigInteger, nullable=False),
)

PULLS = Table(
    "pulls",
    METADATA,
    Column("repository_id", Integer, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("count", BigInteger, nullable=False),
)
"""`day`: days since 1970-01-01 UTC."""

SECRETS = Table(
    "secrets",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""The hub's own keys, where several hubs share a database; see `access.keys`."""

MEMBERS = Table(
    "members",
    METADATA,
    Column("organisation_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("account_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("is_owner", Boolean, nullable=False),
    Column("invited", BigInteger, nullable=False),
    Column("joined", BigInteger, nullable=True),
)
"""`joined` is None until the one who was invited says yes; until then the row gives nothing."""

TEAMS = Table(
    "teams",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("organisation_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("name", NAME, nullable=False),
    Column("created", BigInteger, nullable=False),
    Index("ix_teams_name", "organisation_id", "name", unique=True),
)

TEAM_MEMBERS = Table(
    "team_members",
    METADATA,
    Column("team_id", Integer, ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True),
    Column("account_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True),
)

ROLES = Table(
    "roles",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("namespace_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("team_id", Integer, ForeignKey("teams.id", ondelete="CASCADE"), nullable=True, index=True),
    Column("account_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=True, index=True),
    Column("pattern", NAME, nullable=False),
    Column("level", String(16), nullable=False),
    Column("created", BigInteger, nullable=False),
)
"""A role of either a team or an account. `pattern` lies below the namespace; `level`: read, write or admin."""

ROBOTS = Table(
    "robots",
    METADATA,
    Column("account_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("owner_id", Integer, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("description", String(200), nullable=False, default=""),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("actor", String(100), nullable=False),
    Column("address", String(64), nullable=False),
    Column("action", String(32), nullable=False),
    Column("namespace", NAME, nullable=False),
    Column("target", String(300), nullable=False),
    Column("detail", String(300), nullable=False),
    Index("ix_audit_namespace", "namespace", "id"),
)
"""Names, not numbers: a line outlives what it tells of."""

COLLECTIONS = Table(
    "collections",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("uploads", Integer, nullable=False),
    Column("holds", Integer, nullable=False),
    Column("blobs", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("strays", Integer, nullable=False),
    Column("milliseconds", BigInteger, nullable=False),
)
"""What the last garbage collections did."""

WEBHOOKS = Table(
    "webhooks",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("repository_id", Integer, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=True, index=True),
    Column("namespace", NAME, nullable=False, default="", index=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("events", String(64), nullable=False),
    Column("is_active", Boolean, nullable=False, default=True),
    Column("created", BigInteger, nullable=False),
)
"""Either of one repository, or of all repositories below `namespace`."""

WEBHOOK_DELIVERIES = Table(
    "webhook_deliveries",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("webhook_id", Integer, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("event", String(16), nullable=False),
    Column("payload", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("status", Integer, nullable=False, default=0),
    Column("error", String(200), nullable=False, default=""),
    Column("milliseconds", Integer, nullable=False, default=0),
    Index("ix_webhook_deliveries_due", "state", "due"),
)
"""The outbox and the log of it. `due`: when to send (again); whoever sends moves it into the future first."""

MANIFEST_USE = Table(
    "manifest_use",
    METADATA,
    Column("repository_id", Integer, primary_key=True),
    Column("digest", DIGEST, primary_key=True),
    Column("pulled", BigInteger, nullable=True),
    Column("untagged", BigInteger, nullable=True),
    ForeignKeyConstraint(
        ["repository_id", "digest"],
        ["manifests.repository_id", "manifests.digest"],
        name="fk_manifest_use_manifest",
        ondelete="CASCADE",
    ),
)
"""When a manifest was pulled last, and when its last tag went elsewhere."""

CACHED_REPOSITORIES = Table(
    "cached_repositories",
    METADATA,
    Column("repository_id", Integer, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("upstream", NAME, nullable=False),
)
"""Repositories that hold copies of another registry's content, which may be forgotten."""

RETENTION_RULES = Table(
    "retention_rules",
    METADATA,
    Column("name", NAME, primary_key=True),
    Column("keep_last", Integer, nullable=True),
    Column("pushed_days", Integer, nullable=True),
    Column("pulled_days", Integer, nullable=True),
    Column("patterns", Text, nullable=False, default=""),
    Column("untagged_days", Integer, nullable=True),
)
"""`name`: a repository, or a namespace (`alice`) for all below it that have no rule of their own."""

IMMUTABLE_TAGS = Table(
    "immutable_tags",
    METADATA,
    Column("repository_id", Integer, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("patterns", Text, nullable=False),
)

QUOTAS = Table(
    "quotas",
    METADATA,
    Column("namespace", NAME, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)
"""Quotas other than the hub's default; 0 bytes: no limit."""
