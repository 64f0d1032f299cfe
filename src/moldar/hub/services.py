"""The services of one hub, put together; and the threads in which what may wait for a disk or a hash is done."""

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy.exc import DatabaseError

from moldar.errors import CorruptData, HostTrouble, UserMistake
from moldar.hub.access.accounts import Accounts
from moldar.hub.access.audit import AuditLog
from moldar.hub.access.bearer import BearerTokens
from moldar.hub.access.decisions import Policy
from moldar.hub.access.keys import FileKeys, SharedKeys, load_form_secret, load_signing_key
from moldar.hub.access.organisations import Organisations
from moldar.hub.access.passwords import Passwords
from moldar.hub.access.principals import Principals
from moldar.hub.access.rates import make_rates
from moldar.hub.access.robots import Robots
from moldar.hub.access.teams import Teams
from moldar.hub.access.throttle import Throttle
from moldar.hub.clock import Clock, system_clock
from moldar.hub.data.connecting import connect, shown
from moldar.hub.data.database import Database, make_private_directory
from moldar.hub.data.upgrade import upgrade
from moldar.hub.metrics import Metrics
from moldar.hub.registry.blobs import Blobs
from moldar.hub.registry.copies import Copies
from moldar.hub.registry.events import Outbox
from moldar.hub.registry.figures import Figures
from moldar.hub.registry.garbage import Collected, Collector
from moldar.hub.registry.immutable import ImmutableTags
from moldar.hub.registry.manifests import Manifests
from moldar.hub.registry.overview import Overview
from moldar.hub.registry.quotas import Quotas
from moldar.hub.registry.readmes import Readmes
from moldar.hub.registry.repositories import Repositories
from moldar.hub.registry.retaining import Retention
from moldar.hub.settings import SERVICE, HubSettings
from moldar.hub.storage.opening import open_storage
from moldar.hub.upstreams import Upstreams
from moldar.hub.webhooks.courier import Courier
from moldar.hub.webhooks.hooks import Hooks

T = TypeVar("T")


class Hub:
    """Everything that the API and the pages stand on. Opening one makes or upgrades its data directory."""

    def __init__(self, settings: HubSettings, clock: Clock = system_clock) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = Metrics()
        make_private_directory(settings.data)
        self.database = open_database(settings)
        try:
            self.storage = open_storage(settings, self.database)
        except BaseException:
            self.database.close()
            raise
        self.upstreams = settings.upstreams()
        self.policy = Policy(settings.allow_anonymous_push, _openness(settings, self.upstreams))
        self.passwords = Passwords(clock)
        self.rates = make_rates(settings.rate_pulls, settings.rate_pushes, settings.rate_tokens, settings.rate_logins)
        names = frozenset(upstream.name for upstream in self.upstreams)
        self.accounts = Accounts(self.database, self.passwords, clock, names)
        self._refuse_shared_names(names)
        keys = SharedKeys(self.database) if self.database.is_remote else FileKeys(settings.path("keys"))
        self.bearer = BearerTokens(load_signing_key(keys), SERVICE, settings.token_lifetime, clock)
        self.form_secret = load_form_secret(keys)
        self.throttle = Throttle(self.database, clock, self.form_secret)
        self.principals = Principals(self.database)
        self.organisations = Organisations(self.database, clock, names)
        self.teams = Teams(self.database, clock)
        self.robots = Robots(self.database, clock)
        self.audit = AuditLog(self.database, clock)
        self.repositories = Repositories(self.database, clock, new_are_public=settings.new_repositories_public)
        self.quotas = Quotas(self.database, settings.quota)
        self.blobs = Blobs(self.database, self.storage, self.repositories, clock, self.quotas.admit)
        self.immutable_tags = ImmutableTags(self.database, clock)
        self.outbox = Outbox(clock, settings.external_url)
        self.hooks = Hooks(self.database, self.outbox, clock)
        self.courier = Courier(self.database, self.outbox, clock, self.metrics, in_thread=self.in_thread)
        self.manifests = Manifests(
            self.database,
            self.repositories,
            clock,
            self.outbox,
            limit=settings.manifest_limit,
            allow_sparse=settings.allow_sparse,
        )
        self.copies = Copies(self.database, self.storage, clock, limit=settings.manifest_limit, outbox=self.outbox)
        self.retention = Retention(self.database, clock)
        self.collector = Collector(self.database, self.storage, self.blobs, clock)
        self.readmes = Readmes(self.database, clock)
        self.figures = Figures(self.database, clock)
        self.overview = Overview(self.database, clock)
        self._threads = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) * 8), "hub")
        self._hashing = ThreadPoolExecutor(2, "hub-passwords")
        self.layer_thread = ThreadPoolExecutor(1, "hub-layers")
        self.closing = threading.Event()

    def _refuse_shared_names(self, upstreams: frozenset[str]) -> None:
        for name in upstreams:
            if self.accounts.find(name):
                self.database.close()
                raise UserMistake(
                    f"there is an account {name}", hint="give the upstream another name: --proxy NAME=URL"
                )

    async def in_thread(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What waits for the disk: fsync, transactions, reading an upload again."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, functools.partial(function, *args, **kwargs)
        )

    async def in_hashing_thread(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What hashes passwords; apart, so that a flood of sign-ins leaves the pushes alone."""
        return await asyncio.get_running_loop().run_in_executor(
            self._hashing, functools.partial(function, *args, **kwargs)
        )

    def collect_garbage(self) -> Collected:
        """One garbage collection by the settings; ends early when the hub closes."""
        self.figures.flush()
        copies = self.copies.forget(self.settings.proxy_keep, self.closing)
        retained = self.retention.run(self.closing)
        found = self.collector.collect(self.settings.gc_grace, self.settings.upload_lifetime, self.closing)
        with contextlib.suppress(HostTrouble):  # a disk that is full
            self.overview.note_collection(found)
        self.metrics.count("gc_runs")
        self.metrics.count("gc_seconds", amount=found.seconds)
        self.metrics.count("gc_blobs", amount=found.blobs)
        self.metrics.count("gc_bytes", amount=found.size)
        self.metrics.set("gc_last", self.clock())
        return found._replace(tags=retained.tags, manifests=retained.manifests + copies)

    def close(self) -> None:
        self.closing.set()
        self.layer_thread.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)
        self._hashing.shutdown(cancel_futures=True)
        self.storage.close()
        self.database.close()


def _openness(settings: HubSettings, upstreams: Upstreams) -> dict[str, bool]:
    """Whether everyone may pull through: by the settings, else where nobody's credentials are shown for it."""
    if settings.proxy_pull:
        return {upstream.name: settings.proxy_pull == "everyone" for upstream in upstreams}
    return {upstream.name: not upstream.username for upstream in upstreams}


def open_database(settings: HubSettings) -> Database:
    """The hub's database, at this version's schema. CorruptData, HostTrouble, Unavailable, Unsupported."""
    database = connect(settings.sqlalchemy_url)
    try:
        upgrade(database)
    except DatabaseError as error:
        database.close()
        where = f"at {shown(settings.database_url)}" if database.is_remote else f"in {settings.data}"
        raise CorruptData(f"cannot use the hub's database {where}: {error.orig}") from error
    except BaseException:
        database.close()
        raise
    return database
