"""The services of one hub, put together; and the threads in which what may wait for a disk or a hash is done."""

import asyncio
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy.exc import DatabaseError

from moldar.errors import CorruptData, UserMistake
from moldar.hub.access.accounts import Accounts
from moldar.hub.access.bearer import BearerTokens
from moldar.hub.access.decisions import Policy
from moldar.hub.access.keys import load_form_secret, load_signing_key
from moldar.hub.access.passwords import Passwords, Throttle
from moldar.hub.access.rates import make_rates
from moldar.hub.clock import Clock, system_clock
from moldar.hub.data.database import Database, make_private_directory
from moldar.hub.data.upgrade import upgrade
from moldar.hub.registry.blobs import Blobs
from moldar.hub.registry.copies import Copies
from moldar.hub.registry.figures import Figures
from moldar.hub.registry.garbage import Collected, Collector
from moldar.hub.registry.immutable import ImmutableTags
from moldar.hub.registry.manifests import Manifests
from moldar.hub.registry.quotas import Quotas
from moldar.hub.registry.readmes import Readmes
from moldar.hub.registry.repositories import Repositories
from moldar.hub.registry.retaining import Retention
from moldar.hub.settings import SERVICE, HubSettings
from moldar.hub.storage.files import BlobStorage, FileStorage
from moldar.hub.upstreams import Upstreams

T = TypeVar("T")


class Hub:
    """Everything that the API and the pages stand on. Opening one makes or upgrades its data directory."""

    def __init__(self, settings: HubSettings, clock: Clock = system_clock) -> None:
        self.settings = settings
        self.clock = clock
        make_private_directory(settings.data)
        self.database = open_database(settings)
        self.storage: BlobStorage = FileStorage(settings.data)
        self.upstreams = settings.upstreams()
        self.policy = Policy(settings.allow_anonymous_push, _openness(settings, self.upstreams))
        self.passwords = Passwords(clock)
        self.throttle = Throttle(clock)
        self.rates = make_rates(settings.rate_pulls, settings.rate_pushes, settings.rate_tokens, settings.rate_logins)
        names = frozenset(upstream.name for upstream in self.upstreams)
        self.accounts = Accounts(self.database, self.passwords, clock, names)
        self._refuse_shared_names(names)
        self.bearer = BearerTokens(load_signing_key(settings.path("keys")), SERVICE, settings.token_lifetime, clock)
        self.form_secret = load_form_secret(settings.path("keys"))
        self.repositories = Repositories(self.database, clock, new_are_public=settings.new_repositories_public)
        self.quotas = Quotas(self.database, settings.quota)
        self.blobs = Blobs(self.database, self.storage, self.repositories, clock, self.quotas.admit)
        self.immutable_tags = ImmutableTags(self.database)
        self.manifests = Manifests(
            self.database,
            self.repositories,
            clock,
            limit=settings.manifest_limit,
            allow_sparse=settings.allow_sparse,
        )
        self.copies = Copies(self.database, self.storage, clock, limit=settings.manifest_limit)
        self.retention = Retention(self.database, clock)
        self.collector = Collector(self.database, self.storage, self.blobs, clock)
        self.readmes = Readmes(self.database, clock)
        self.figures = Figures(self.database, clock)
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
        return found._replace(tags=retained.tags, manifests=retained.manifests + copies)

    def close(self) -> None:
        self.closing.set()
        self.layer_thread.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)
        self._hashing.shutdown(cancel_futures=True)
        self.database.close()


def _openness(settings: HubSettings, upstreams: Upstreams) -> dict[str, bool]:
    """Whether everyone may pull through: by the settings, else where nobody's credentials are shown for it."""
    if settings.proxy_pull:
        return {upstream.name: settings.proxy_pull == "everyone" for upstream in upstreams}
    return {upstream.name: not upstream.username for upstream in upstreams}


def open_database(settings: HubSettings) -> Database:
    """The hub's database, at this version's schema. CorruptData, HostTrouble, Unsupported."""
    database = Database(settings.sqlalchemy_url)
    try:
        upgrade(database)
    except DatabaseError as error:
        database.close()
        raise CorruptData(f"cannot use the hub's database in {settings.data}: {error.orig}") from error
    return database
