"""How a hub is set up: one frozen value, made by the command line or a test and handed to everything else."""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from moldar.errors import HostTrouble, UserMistake
from moldar.hub.upstreams import Upstreams, parse_upstreams

LOG_FORMATS = ("none", "plain", "json")
METRICS_READERS = ("local", "token", "public", "off")
PULLERS = ("", "everyone", "signed-in")
SERVICE = "moldar-hub"
"""The `service` of the token protocol, and the audience of the tokens."""


@dataclass(frozen=True, slots=True)
class HubSettings:
    """`data` is a directory that belongs to the hub alone; it is made when missing.

    `database_url`: `postgresql://…`, empty for SQLite in `data`; `storage`: `s3://bucket/prefix` or a directory,
    empty for `data`; `redirect_blobs`: who pulls a blob is sent to the storage, where it can serve by itself.
    `external_url`: how clients reach the hub when it stands behind a proxy (`https://hub.example.org`), whose
    X-Forwarded-For is then believed; empty means that the Host header of each request says it. `upload_patience`:
    how long a request waits for an earlier one of the same upload. `body_silence`: how long a client may say nothing
    in the middle of a request before it counts as gone. `allow_sparse`: a manifest may refer to blobs and
    manifests that its repository does not hold. `tls_certificate` and `tls_key` are PEM files.
    `metrics`: who may read /metrics: "local" (programs on this machine, and administrators), "token"
    (administrators), "public" (anyone), "off".
    `webhook_networks`: networks, as 10.0.0.0/8, that webhooks may point into though they are not public;
    `webhook_pause`: between the first try of a delivery and the second.
    `gc_interval`: the pause between two garbage collections, 0 for none;
    `gc_grace`: how long a blob that nothing refers to is kept. `audit_days`: for how many days lines of the audit log
    are kept, 0 for ever. Times are in seconds, sizes in bytes.

    `proxies`: upstream registries, each `NAME` or `NAME=URL`; `mirror_of`: the upstream that answers for names
    which are not here; `proxy_credentials`: a file as docker login writes it. `proxy_pull`: who may pull through,
    everyone or signed-in; empty means everyone, where the hub shows no credentials. `proxy_fresh`: how long a tag is
    believed before the upstream is asked again; `proxy_keep`: how long content is kept that nobody pulls, 0 for ever.
    `proxy_timeout`: how long an upstream may be silent; `proxy_via`: what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say.

    `quota`: bytes that a namespace may hold unless it has a quota of its own, 0 for no limit. `rate_…`: how often an
    account or address may do something, as `100/6h`; empty for no limit.
    """

    data: str
    host: str = "127.0.0.1"
    port: int = 5050
    database_url: str = field(default="", repr=False)
    storage: str = ""
    s3_endpoint: str = ""
    s3_region: str = ""
    s3_key_id: str = ""
    s3_secret: str = field(default="", repr=False)
    s3_session_token: str = field(default="", repr=False)
    redirect_blobs: bool = False
    external_url: str = ""
    new_repositories_public: bool = True
    allow_anonymous_push: bool = False
    allow_sign_up: bool = True
    allow_sparse: bool = False
    access_log: str = "none"
    metrics: str = "local"
    webhook_networks: tuple[str, ...] = ()
    webhook_timeout: float = 10
    webhook_pause: int = 10
    manifest_limit: int = 4 * 1024 * 1024
    token_lifetime: int = 300
    session_lifetime: int = 30 * 24 * 3600
    upload_lifetime: int = 7 * 24 * 3600
    upload_patience: float = 5
    body_silence: float = 60
    tls_certificate: str = ""
    tls_key: str = ""
    tls_self_signed: bool = False
    gc_interval: float = 3600
    gc_grace: int = 24 * 3600
    stop_timeout: int = 10
    audit_days: int = 180
    proxies: Sequence[str] = ()
    mirror_of: str = ""
    proxy_credentials: str = ""
    proxy_pull: str = ""
    proxy_fresh: int = 300
    proxy_keep: int = 30 * 24 * 3600
    proxy_timeout: float = 30
    proxy_via: Sequence[str] = ("", "", "")
    quota: int = 0
    rate_pulls: str = ""
    rate_pushes: str = ""
    rate_tokens: str = ""
    rate_logins: str = ""

    def __post_init__(self) -> None:
        if self.access_log not in LOG_FORMATS:
            raise UserMistake(f"unknown log format {self.access_log!r}", hint=f"one of {', '.join(LOG_FORMATS)}")
        if self.metrics not in METRICS_READERS:
            raise UserMistake(f"unknown --metrics {self.metrics!r}", hint=f"one of {', '.join(METRICS_READERS)}")
        for network in self.webhook_networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise UserMistake(f"not a network: {network!r}", hint="for example 10.0.0.0/8 or fd00::/8") from error
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise UserMistake("a certificate and its key belong together", hint="give --tls-cert and --tls-key")
        if self.tls_self_signed and self.tls_certificate:
            raise UserMistake("either a certificate of your own or a self-signed one")
        if self.proxy_pull not in PULLERS:
            raise UserMistake(f"unknown --proxy-pull {self.proxy_pull!r}", hint="everyone or signed-in")
        if self.mirror_of and (self.allow_anonymous_push or self.allow_sign_up):
            # Whoever could take a name of the upstream's would answer for it: names must be the operator's to give.
            raise UserMistake(
                "a mirror's names must not be anybody's to take",
                hint="with --mirror-of, leave out --allow-anonymous-push and make the accounts yourself",
            )

    @property
    def sqlalchemy_url(self) -> str:
        return self.database_url or f"sqlite:///{os.path.join(os.path.abspath(self.data), 'hub.db')}"

    def upstreams(self) -> Upstreams:
        """The upstream registries. UserMistake when they make no sense, HostTrouble without their credentials."""
        text = ""
        if self.proxy_credentials:
            try:
                with open(self.proxy_credentials, encoding="utf-8") as file:
                    text = file.read()
            except (OSError, UnicodeDecodeError) as error:
                raise HostTrouble(f"cannot read the credentials in {self.proxy_credentials}: {error}") from error
        return parse_upstreams(self.proxies, self.mirror_of, text)

    @property
    def secure_cookies(self) -> bool:
        return self.external_url.startswith("https:") or self.speaks_tls

    @property
    def speaks_tls(self) -> bool:
        return self.tls_self_signed or bool(self.tls_certificate)

    def path(self, *parts: str) -> str:
        """A path within the data directory."""
        return os.path.join(self.data, *parts)


Where = str | HubSettings
"""Which hub a command means: its data directory, or all of its settings."""


def settings_of(where: Where) -> HubSettings:
    return where if isinstance(where, HubSettings) else HubSettings(where)


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `:PORT` or `[IPV6]:PORT`; UserMistake when it is none."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UserMistake(f"invalid address {text!r}", hint="expected HOST:PORT, for example 127.0.0.1:5050")
    return host or "0.0.0.0", int(port)
