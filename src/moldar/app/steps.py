"""The runners of build steps, put together when the first step must really run."""

import os

from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.app.requests import BuildRequest, SecretSource
from moldar.builder.copied_trees import StoredTrees
from moldar.builder.executor import StepRunner
from moldar.builder.graph import CopyOp, RunOp, WorkdirOp
from moldar.builder.ops import CopyRunner, WorkdirRunner, Workshop
from moldar.builder.read_sets import Kept, Lookup, ReadSets
from moldar.builder.run import RunRunner
from moldar.builder.run_mounts import RunSettings, StepSecrets
from moldar.builder.sources import Sources
from moldar.errors import UserMistake
from moldar.sandbox.runtime import Streams


class LazyRunners:
    """Runners by kind of step. That of RUN, which needs a runtime, is made only when there is a RUN."""

    def __init__(
        self, engine: Engine, request: BuildRequest, sources: Sources, build: str, *, kept: Kept, lookup: Lookup
    ) -> None:
        self._engine = engine
        self._request = request
        self._build = build
        self._kept = kept
        self._lookup = lookup
        parts = machinery(engine)
        self._shop = Workshop(
            engine.blobs,
            engine.layers,
            parts.snapshots,
            parts.forms,
            sources,
            engine.lease.protect,
            engine.home.ingest,
        )
        self._runners: dict[type, StepRunner] = {
            CopyOp: CopyRunner(self._shop),
            WorkdirOp: WorkdirRunner(self._shop),
        }

    def get(self, kind: type) -> StepRunner:
        """The runner for steps of that kind."""
        if kind not in self._runners:
            assert kind is RunOp, f"no runner for {kind}"
            self._runners[kind] = RunRunner(self._shop, self._settings(), self._read_sets())
        return self._runners[kind]

    def _read_sets(self) -> ReadSets | None:
        if self._request.exact_cache:
            return None
        return ReadSets(self._kept, self._lookup, StoredTrees(self._shop))

    def _settings(self) -> RunSettings:
        home = self._engine.home
        logs = f"{home.builds}/{self._build}"
        os.makedirs(logs, mode=0o700, exist_ok=True)
        return RunSettings(
            machinery(self._engine).runtime,
            home.cachemounts,
            logs,
            f"{home.snapshots}/work",
            StepSecrets({secret.id: _value(secret) for secret in self._request.secrets}, dict(self._request.ssh)),
            Streams(0, 2, 2) if self._request.debug_shell else None,
        )


def _value(secret: SecretSource) -> bytes:
    if secret.value is not None:
        return secret.value
    try:
        with open(secret.file, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserMistake(f"cannot read secret {secret.id} from {secret.file}: {error.strerror}") from error
